"""ImageCLEF VQA-Med of 2019, 2020 and 2021, the task of answering questions (Ben Abacha et al.,
VQA-Med: Overview of the Medical Visual Question Answering Task at ImageCLEF 2019, CEUR-WS 2380;
2020, CEUR-WS 2696; 2021, CEUR-WS 2936).

The lists as distributed, wherever they lie in config.data.dir; cells are parted by |:

    2019   All_QA_Pairs_train.txt, All_QA_Pairs_val.txt                     image|question|answer
           QAPairsByCategory/C1_Modality_train.txt and the like             tell question_type
           VQAMed2019_Test_Questions_w_Ref_Answers.txt             image|category|question|answer
    2020   VQAnswering_2020_Train_QA_pairs.txt, VQAnswering_2020_Val_QA_Pairs.txt
           VQAMed2020-Task1-VQAnswering-Test-Questions.txt and ...-Test-ReferenceAnswers.txt
    2021   VQA-Med-2021-VQAnswering-Task1-New-ValidationSet.txt
           Task1-VQA-2021-TestSet-Questions.txt and Task1-VQA-2021-TestSet-ReferenceAnswers.txt

All years that are there are read together; the training list of 2021 is that of 2020. Images are
found by their name, first below the folder of the list (Train_images, Val_images, ...). Of several
reference answers (parted by # in 2019, by | later) the first is the answer, the field answers holds
all. PeFoMed's JSON lists are read as well. Known defects: years share images, so a test image of
one may be a training image of another; parentheses in answers of 2019 may mark optional words. The
lists of the task of writing questions (VQG) are not read.
"""

import functools
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files, pefomed, tables
from pefomed_jax.data.sources.vqa_med import lists
from pefomed_jax.data.sources.vqa_med.lists import ASKED, LISTS, Answers, Found


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: no training list, a list twice, no images, no reference answers."""
    root = files.folder_of(config, "vqa_med")
    if pefomed.holds(root):
        return pefomed.read("vqa_med", root, config)
    found = lists.find(root)
    source = files.ListSource("vqa_med", "vqa", str(root))
    for key in LISTS:
        if key in found.lists:
            _add(source, found, key)
    _say_counts(source)
    return source


def _add(source: files.ListSource, found: Found, key: str) -> None:
    year, split, columns = LISTS[key]
    path = found.lists[key]
    rows = tables.read(found.root / path, columns, "|", header=False, quotes=False)
    image = functools.partial(_image, found, path.rpartition("/")[0])
    if columns == ASKED:
        known = lists.answers(source, found, key)
        source.add(split, path, rows, functools.partial(_asked, year, image, known, {}))
        _add_unasked(source, found, path, known)
    else:
        kinds = lists.categories(found, split) if year == "2019" else {}
        source.add(split, path, rows, functools.partial(_pair, year, image, kinds))


def _add_unasked(source: files.ListSource, found: Found, path: str, known: Answers) -> None:
    """Answers without a question are bad rows of theirs."""
    rows = tables.read(found.root / path, ASKED, "|", header=False, quotes=False)
    asked = {row["image"].strip() for row in rows if isinstance(row, dict)}
    for image, number in known.rows.items():
        if image not in asked:
            problem = f"no question about {image} in {path}"
            row = files.BadRow(known.file, number, "image", problem, "add it or delete the row")
            source.bad_rows.append(row)


def _image(found: Found, folder: str, name: str) -> str:
    """The image of a row: one below the folder of its list before any other."""
    if not (paths := found.files.images(name)):
        problem = f"no image {name}.jpg below {found.root}"
        raise files.RowError("image", problem, "unpack the images or delete the row")
    return min(paths, key=lambda path: not path.startswith(f"{folder}/" if folder else ""))


def _pair(
    year: str, image: Any, kinds: dict[tuple[str, str], str], row: Any, number: int, split: str
) -> Case:
    name, question = files.text(row, "image"), files.text(row, "question")
    kind = row["category"].strip() if "category" in row else kinds.get((name, question), "")
    texts = [files.text(row, "answer")]
    if "category" in row:  # only these have several
        texts = [part.strip() for part in texts[0].split("#") if part.strip()] or texts
    return _case(year, image(name), question, texts, kind, number, split)


def _asked(
    year: str, image: Any, known: Answers, seen: dict[str, int],
    row: Any, number: int, split: str,
) -> Case:  # fmt: skip
    name, question = files.text(row, "image"), files.text(row, "question")
    if (first := seen.setdefault(name, number)) != number:
        problem = f"{name} is asked about in row {first} already; answers go by image"
        raise files.RowError("image", problem, "delete one of the rows")
    if name not in known.texts:
        raise files.RowError("answer", f"no answer for {name} in {known.file}", "add its row")
    return _case(year, image(name), question, known.texts[name], "", number, split)


def _case(
    year: str, image: str, question: str, texts: list[str], kind: str, number: int, split: str
) -> Case:
    closed = texts[0].lower() in ("yes", "no")
    fields: dict[str, Any] = {"year": year, "answer_type": "CLOSED" if closed else "OPEN"}
    # from 2020 on all questions are about abnormality
    if kind := kind or ("" if year == "2019" else "abnormality"):
        fields["question_type"] = kind
    if len(texts) > 1:
        fields["answers"] = texts
    name = f"{split}-{year}-row{number}"
    return Case(name, (image,), question, texts[0], split, fields)


def _say_counts(source: files.ListSource) -> None:
    years = sorted({year for year, _, _ in LISTS.values()})
    for year in years:
        of_year = [[c for c in source.cases(s) if c.fields["year"] == year] for s in source.splits]
        parts = [f"{len(c)} {s}" for s, c in zip(source.splits, of_year, strict=True) if c]
        if parts:
            print(f"vqa_med {year}: {', '.join(parts)}")
