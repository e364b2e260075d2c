"""pycocoevalcap beside us: its Java tokeniser and its scorers, where they are installed."""

import csv
import importlib.util
import json
import pathlib
import shutil
import subprocess

import numpy as np
import pytest


def needed() -> pathlib.Path:
    """The folder of pycocoevalcap; skips a test where it or java is missing."""
    found = importlib.util.find_spec("pycocoevalcap")
    if found is None:
        pytest.skip("no pycocoevalcap here: pip install 'pefomed_jax[coco]'")
    if shutil.which("java") is None:
        pytest.skip("no java on the PATH")
    return pathlib.Path(next(iter(found.submodule_search_locations)))


def tokenised(texts: list[str], folder: pathlib.Path) -> list[str]:
    """Each text's words in one string, as its PTBTokenizer makes them, in a file of our own."""
    from pycocoevalcap.tokenizer import ptbtokenizer

    file = folder / "lines.txt"
    file.write_text("\n".join(text.replace("\n", " ") for text in texts), encoding="utf-8")
    jar = needed() / "tokenizer" / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    command = ["java", "-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines"]
    ran = subprocess.run([*command, "-lowerCase", file], capture_output=True, check=True)
    lines = ran.stdout.decode("utf-8").split("\n")
    lines += [""] * (len(texts) - len(lines))
    kept = [
        [word for word in line.rstrip().split(" ") if word not in ptbtokenizer.PUNCTUATIONS]
        for line in lines[: len(texts)]
    ]
    return [" ".join(words) for words in kept]


def scored(
    hypotheses: list[str], references: list[list[str]]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Its scores of tokenised texts, and each case's."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    own = {i: [text] for i, text in enumerate(hypotheses)}
    refs = dict(enumerate(references))
    bleus, by_case = Bleu(4).compute_score(refs, own, verbose=0)
    totals = {f"bleu_{n + 1}": value for n, value in enumerate(bleus)}
    cases = {f"bleu_{n + 1}": np.array(values) for n, values in enumerate(by_case)}
    for name, scorer in (("rouge_l", Rouge()), ("cider", Cider())):
        totals[name], cases[name] = scorer.compute_score(refs, own)
    return totals, cases


def real_texts(data: pathlib.Path) -> list[str]:
    """Captions, notes, questions and answers of the sample data."""
    made = []
    for file in (
        *sorted((data / "rocov2-sample").glob("*.csv")),
        data / "chest-notes/metadata.csv",
    ):
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        made += [row[k] for row in rows for k in ("Caption", "clinical_notes") if row.get(k)]
    folders = ("slake-text", "pathvqa-sample", "vqa-rad")
    for file in sorted(file for folder in folders for file in (data / folder).glob("t*.json")):
        for row in json.loads(file.read_text(encoding="utf-8")):
            made += [str(row["question"]), str(row["answer"])]
    return made
