"""The lists of data sets in every format, small and whole, for tests that damage them."""

import gzip
import json
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .conftest import write_image

N = 5  # rows of a list
SPARE = N  # the number of a further row, whose image is there as well
PATIENT = "10000032"
MEDICAT = "s2_full_figures_oa_nonroco_combined_medical_top4_public.jsonl"
METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"


class Form(NamedTuple):
    """A list of a set: `file` is damaged, `beside` are the others by name."""

    source: str
    task: str
    file: str
    row: Callable[[int], dict[str, Any]]
    image: str  # its key in a row, "" for a set without
    text: str
    id: str  # "" where rows are numbered
    place: str  # of image i, as "images/{}.png"
    beside: Mapping[str, bytes] = types.MappingProxyType({})
    several: bool = False  # the image is a list of them
    split: str = ""  # the list is under this key of an object
    mark: str = ""  # between the cells of a table
    header: bool = True
    quotes: bool = True

    def raw(self, rows: list[Any]) -> bytes:
        """The list before it is packed; bytes stand for a row as they are."""
        if self.mark:
            head = [self.mark.join(self.row(0)).encode()] * self.header
            body = [r if isinstance(r, bytes) else self.cells(r) for r in rows]
            return b"\n".join([*head, *body, b""])
        body = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in rows]
        if self.file.endswith("jsonl"):
            return b"\n".join([*body, b""])
        whole = b"[" + b",\n".join(body) + b"]"
        return b'{"%s": %s}' % (self.split.encode(), whole) if self.split else whole

    def cells(self, row: dict[str, Any]) -> bytes:
        return self.mark.join(map(str, row.values())).encode("utf-8", "surrogateescape")

    def write(self, root: pathlib.Path, raw: bytes) -> pathlib.Path:
        """The set with this content of the list; returns the list."""
        for i in range(N + 1):
            write_image(root / self.place.format(i))
        for name, content in self.beside.items():
            _put(root / name, content)
        return _put(root / self.file, gzip.compress(raw) if self.file.endswith("gz") else raw)


def _put(path: pathlib.Path, content: bytes) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def question(i: int, **more: Any) -> dict[str, Any]:
    return dict(qid=i, image_name=f"{i}.png", question="What?", answer=f"a {i}", **more)


def slake(i: int) -> dict[str, Any]:
    row = dict(qid=i, img_name=f"x{i}/source.jpg", question="What?", answer=f"a {i}")
    return row | dict(q_lang="en", answer_type="OPEN", content_type="Organ", triple=["a", "b"])


def encounter(i: int) -> dict[str, Any]:
    row = dict(encounter_id=f"E{i}", image_ids=[f"{i}.png"], query_title_en="")
    said = dict(author_id="U", content_en=f"a {i}", completeness=1.0, contains_freq_ans=1.0)
    return row | dict(query_content_en=f"Itches {i}", responses=[said])


def exam(i: int) -> dict[str, Any]:
    options = {"1": "Gout.", "2": "Flu."}
    return dict(id=i, full_question=f"Fever {i}?", lang="en", correct_option=2, options=options)


def figure(i: int) -> dict[str, Any]:
    row = dict(pdf_hash=f"p{i}", fig_uri="1.png", s2_caption=f"CT {i}.", s2orc_caption=None)
    return row | dict(radiology=True, scope=False, oa_info={"doi": "10.1/x"})


def views(i: int) -> dict[str, Any]:
    return dict(id=f"CXR{i}", report=f"Clear {i}.", image_path=[f"{i}/0.png"], split="train")


def report(i: int) -> dict[str, Any]:
    return dict(id=f"r{i}", image=f"{i}.png", report=f"Clear {i}.", age=40 + i)


def caption(i: int) -> dict[str, Any]:
    return dict(ID=f"fig_{i}", Caption=f"CT {i}.")


def study(i: int) -> dict[str, Any]:
    return dict(dicom_id=f"d-{i}", study_id=f"{50000000 + i}", subject_id=PATIENT, split="train")


def pair(i: int) -> dict[str, Any]:
    return dict(image=f"syn{i}", question=f"What is {i}?", answer=f"a {i}")


ASKED = dict(image="image_name", text="answer", id="qid", place="images/{}.png")
OWN = dict(image="image", text="report", id="id", place="images/{}.png")
FIGURES = dict(image="ID", text="Caption", id="ID")
CAPTIONS = b"ID,Caption\n"
METADATA_ROWS = b"dicom_id,ViewPosition\n" + b"".join(b"d-%d,PA\n" % i for i in range(N + 1))
FOLDER = f"files/p10/p{PATIENT}"
REPORTS = {f"{FOLDER}/s{50000000 + i}.txt": b"\n FINDINGS:  Clear.\n" for i in range(N + 1)}
MARKS = {split: f"data/{split}/radiology" for split in ("train", "validation", "test")}
PARTS = [MARKS["validation"], MARKS["test"]]
EMPTY = {f"{part}/{name}": b"" for part in PARTS for name in ("captions.txt", "images/x")}
NONE = {f"{s}_{n}": CAPTIONS for s in ("valid", "test") for n in ("captions.csv", "images/x")}

OBJECTS = {  # lists of JSON
    "pefomed": Form("pefomed", "vqa", "train.json", question, **ASKED),
    "vqa_rad": Form(
        "vqa_rad", "vqa", "trainset.json", question, **ASKED, beside={"testset.json": b"[]"}
    ),
    "vqa_rad public": Form(
        "vqa_rad", "vqa", "VQA_RAD Dataset Public.json",
        lambda i: question(i, phrase_type="freeform", answer_type="OPEN"), **ASKED,
    ),
    "slake": Form(
        "slake", "vqa", "train.json", slake, "img_name", "answer", "qid", "imgs/x{}/source.jpg",
        {"validate.json": b"[]", "test.json": b"[]"},
    ),
    "iu_xray": Form(
        "iu_xray", "mrg", "annotation.json", views, "image_path", "report", "id",
        "images/{}/0.png", several=True, split="train",
    ),
    "mediqa": Form(
        "mediqa_m3g", "vqa", "train.json", encounter,
        "image_ids", "query_content_en", "encounter_id", "images_final/images_train/{}.png",
        several=True,
    ),
    "folder json": Form("folder", "mrg", "train.json", report, **OWN),
}  # fmt: skip
LINES = {  # of JSON
    "medicat": Form(
        "medicat", "caption", MEDICAT, figure, "fig_uri", "s2_caption", "pdf_hash",
        "figures/p{}_1.png",
    ),
    "medexpqa": Form(
        "medexpqa", "vqa", "train.en.casimedicos.jsonl", exam, "", "full_question", "id", "{}.png"
    ),
    "folder jsonl": Form("folder", "mrg", "train.jsonl", report, **OWN),
}  # fmt: skip
TABLES = {
    "roco 1": Form(
        "roco", "caption", f"{MARKS['train']}/captions.txt", caption, **FIGURES,
        place=MARKS["train"] + "/images/fig_{}.jpg", beside=EMPTY, mark="\t", header=False,
        quotes=False,
    ),
    "roco 2": Form(
        "roco", "caption", "train_captions.csv", caption, **FIGURES,
        place="train_images/fig_{}.jpg", mark=",",
        beside=NONE,
    ),
    "clef": Form(
        "clef", "caption", "train_captions.csv", caption, **FIGURES, place="train/fig_{}.jpg",
        mark=",",
    ),
    "clef tabs": Form(
        "clef", "caption", "train_captions.csv", caption, **FIGURES, place="train/fig_{}.jpg",
        mark="\t", quotes=False,
    ),
    "mimic": Form(
        "mimic_cxr", "mrg", "mimic-cxr-2.0.0-split.csv.gz", study, "", "split", "dicom_id",
        FOLDER + "/s5000000{0}/d-{0}.jpg", {METADATA: gzip.compress(METADATA_ROWS), **REPORTS},
        mark=",",
    ),
    "folder csv": Form("folder", "mrg", "train.csv", report, **OWN, mark=","),
    "folder tsv": Form("folder", "mrg", "train.tsv", report, **OWN, mark="\t"),
    "folder gz": Form("folder", "mrg", "train.csv.gz", report, **OWN, mark=","),
    "vqa_med": Form(
        "vqa_med", "vqa", "All_QA_Pairs_train.txt", pair, "image", "answer", "", "imgs/syn{}.jpg",
        mark="|", header=False, quotes=False,
    ),
}  # fmt: skip
FORMS = OBJECTS | LINES | TABLES
