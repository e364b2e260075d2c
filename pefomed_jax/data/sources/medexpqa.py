"""MedExpQA (Alonso, Oronoz and Agerri 2024, arXiv 2404.05590): exam questions, text alone.

Spanish exams for resident physicians with doctors' explanations, in English, Spanish, French and
Italian: 622 documents in each, 434 / 63 / 125 for training, validation and test; CC BY 4.0. The
four are translations of one another, and `study_id` is the document, so that no document trains in
one language and is asked in another. Lists as they are published, one a split and language,

    {train,dev,test}.<lang>.casimedicos[.rag].jsonl

in the folder, in its <lang>/, data/<lang>/, data/casimedicos/ or casimedicos/. Cases have no image.
Options that are null, or NaN (some lists were never repaired), are no options.

`language`: en, es, fr, it, or all. `grounding` is what the question is given beside its options,
with the paper's letter and the name in its code:

    none        nothing
    full        the whole explanation (E, `full`); it gives the answer away: an upper bound
    incorrect   the explanation without what is said of the correct option (EI, `other`)
    hidden      the explanation with its references to options masked (H, `clean`)
    rag7, rag32 the first 7 or 32 retrieved texts (RAG-7, RAG-32; `ragcc`, `ragccmax`). The paper
                takes as many as fit 2048 and 8000 tokens, up to 7 and up to 32

The answer to learn is "3. its text": the paper scores the first character after its prefix.
"""

import collections
import functools
import pathlib
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files, tables
from pefomed_jax.errors import UserError

LISTS = {"train": "train", "val": "dev", "test": "test"}
EXPLANATIONS = {"full": "full_answer", "hidden": "full_answer_no_ref"}
RETRIEVED = {"rag7": 7, "rag32": 32}
RETRIEVAL = ("rag", "clinical_case_options", "MedCorp", "RRF-2")


class Words(NamedTuple):
    """What stands between the parts of a question."""

    options: str
    explanation: str
    documents: str
    request: str


WORDS = {
    "en": Words(
        *("Options", "Explanation", "Documents"),
        "Answer with the number of the correct option, then its text.",
    ),
    "es": Words(
        *("Opciones", "Explicación", "Documentos"),
        "Responde con el número de la opción correcta y después su texto.",
    ),
    "fr": Words(
        *("Options", "Explication", "Documents"),
        "Réponds par le numéro de la bonne option, puis par son texte.",
    ),
    "it": Words(
        *("Opzioni", "Spiegazione", "Documenti"),
        "Rispondi con il numero dell'opzione corretta, poi con il suo testo.",
    ),
}


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: no list of a language, or none with retrieved texts."""
    root, own = files.folder_of(config, "medexpqa"), config.data.medexpqa
    source = files.ListSource("medexpqa", "vqa", str(root))
    wanted = tuple(WORDS) if own.language == "all" else (own.language,)
    ungrounded: collections.Counter[str] = collections.Counter()
    for language in wanted:
        lists = _lists(root, language, own.grounding in RETRIEVED)
        if not lists:
            raise UserError(_nothing(root, language, own.grounding))
        if missing := [f"{LISTS[split]}.{language}" for split in LISTS if split not in lists]:
            print(f"medexpqa: no list {' nor '.join(missing)} in {root}")
        for split, path in lists.items():
            read = functools.partial(_case, language, own.grounding, ungrounded)
            source.add(split, path.relative_to(root).as_posix(), tables.read_jsonl(path), read)
    _say(root, wanted, source, ungrounded)
    return source


def _folders(root: pathlib.Path, language: str) -> list[pathlib.Path]:
    inside = ("", language, f"data/{language}", "data/casimedicos", "casimedicos")
    return [root / name for name in inside]


def _lists(root: pathlib.Path, language: str, retrieved: bool) -> dict[str, pathlib.Path]:
    """The lists of a language by split; those with retrieved texts are large, and taken last."""
    endings = (".rag.jsonl",) if retrieved else (".jsonl", ".rag.jsonl")
    found = {}
    for split, name in LISTS.items():
        stem = f"{name}.{language}.casimedicos"
        paths = [folder / (stem + end) for end in endings for folder in _folders(root, language)]
        if there := next((path for path in paths if path.is_file()), None):
            found[split] = there
    return found


def _nothing(root: pathlib.Path, language: str, grounding: str) -> str:
    middle, why = ("", "")
    if grounding in RETRIEVED:
        middle, why = ".rag", f" (data.medexpqa.grounding='{grounding}' needs the .rag lists)"
    return (
        f"medexpqa: {root} holds no train.{language}.casimedicos{middle}.jsonl, nor do its "
        f"{language}/, data/{language}/, data/casimedicos/{why}; set --config.data.medexpqa.dir"
    )


def _say(
    root: pathlib.Path,
    wanted: tuple[str, ...],
    source: files.ListSource,
    ungrounded: collections.Counter[str],
) -> None:
    """One line about what was left out by choice, one about questions without a grounding."""
    others = [name for name in WORDS if name not in wanted and _lists(root, name, False)]
    if others:
        print(
            f"medexpqa: read in {', '.join(wanted)}; left out by data.medexpqa.language: "
            f"{', '.join(others)}"
        )
    for split, n in ungrounded.items():
        total = len(source.cases(split))
        print(f"medexpqa: {n} of {total} {split} questions have no text of this grounding")


def _case(
    language: str,
    grounding: str,
    ungrounded: collections.Counter[str],
    row: Any,
    number: int,
    split: str,
) -> Case:
    document = files.text(row, "id")
    if row.get("lang", language) != language:
        problem = f"'{row['lang']}' in a list of '{language}'"
        raise files.RowError("lang", problem, "correct it or move the row")
    options = _options(row)
    correct = _correct(row, options)
    given = "" if grounding == "none" else _grounding(row, grounding, correct)
    question = _question(files.text(row, "full_question"), options, given, language, grounding)
    if grounding != "none" and not given:
        ungrounded[split] += 1
    fields: dict[str, Any] = {"language": language, "answer_type": "CLOSED", "study_id": document}
    if isinstance(kind := row.get("type"), str) and kind.strip():
        fields["question_type"] = kind.strip()
    own = files.own_fields(row, ("year", "question_id_specific"))
    fields |= {key: value for key, value in own.items() if value == value}  # not NaN
    fields |= {"options": options, "correct_option": int(correct), "grounding": grounding}
    answer = f"{correct}. {options[correct]}"
    return Case(f"{split}-{language}-{document}", (), question, answer, split, fields)


def _options(row: Any) -> dict[str, str]:
    """The options by number; null and NaN are none."""
    found = files.value(row, "options")
    if not isinstance(found, dict):
        raise files.RowError("options", f"a {type(found).__name__}", 'write {"1": "text", ...}')
    texts = {str(k): v.strip() for k, v in found.items() if isinstance(v, str) and v.strip()}
    if len(texts) < 2:
        raise files.RowError("options", f"{len(texts)} options", "write two or more, as texts")
    return texts


def _correct(row: Any, options: dict[str, str]) -> str:
    """The number of the correct option. Lists through pandas have it as 3.0."""
    correct = files.text(row, "correct_option").removesuffix(".0")
    if correct not in options or not correct.isdecimal():
        known = ", ".join(options)
        raise files.RowError("correct_option", f"{correct} is no option", f"write one of {known}")
    return correct


def _question(case: str, options: dict[str, str], given: str, language: str, grounding: str) -> str:
    words = WORDS[language]
    lines = [case, f"{words.options}:", *(f"{k}. {text}" for k, text in options.items())]
    if given:
        head = words.documents if grounding in RETRIEVED else words.explanation
        lines += [f"{head}:", given]
    return "\n".join([*lines, words.request])


def _grounding(row: Any, grounding: str, correct: str) -> str:
    if grounding in EXPLANATIONS:
        return files.text(row, EXPLANATIONS[grounding])
    if grounding == "incorrect":
        return _of_others(row, correct)
    found = row
    for key in RETRIEVAL:
        found = files.value(found, key)
    if not isinstance(found, list):
        raise files.RowError("rag", f"a {type(found).__name__}", "make it a list of texts")
    texts = [files.text(document, "content") for document in found[: RETRIEVED[grounding]]]
    return "\n".join(dict.fromkeys(texts))


def _of_others(row: Any, correct: str) -> str:
    """The explanation without the ranges [start, end) of characters about the correct option.

    The official code cuts them one by one and so moves what the next range points at.
    """
    left = list(files.text(row, "full_answer"))
    own = files.value(files.value(row, "explanations"), correct)
    try:
        for start, end in (own or {}).get("char_ranges") or []:
            left[start:end] = " " * len(left[start:end])
    except (AttributeError, TypeError, ValueError):
        problem = f"no ranges of characters at option {correct}"
        remedy = 'write {"char_ranges": [[start, end], ...]}'
        raise files.RowError("explanations", problem, remedy) from None
    return " ".join("".join(left).split())
