"""MEDIQA-M3G 2024 (Yim et al., NAACL ClinicalNLP 2024), the iiyi part of DermaVQA (MICCAI 2024).

Patients' questions to dermatologists with photographs; 842 / 56 / 100 encounters. The lists,

    train.json, valid_ht.json, test_ht.json (also valid.json, test.json), df_userinfo.csv,

lie in the folder or at most three folders below it (data/iiyi/ of the release,
mediqa-m3-clinicalnlp2024/ of the starting kit), the images anywhere under it
(images_final/images_{train,valid,test}/). An encounter is a case with all its photographs, or the
first `max_images` of them (0: all); its title and text are the question, in `language` en, zh or
es (what is not Chinese in training was translated by machine). Lists without answers
(valid_inputonly.json, input.json) are not read.

A release has a second test list with the Spanish corrected: `test` names it,
test_ht_spanishtestsetcorrected.json; what the challenge scored is test_ht.json.

The answer to learn is the most complete response (`completeness` 0, 0.5, 1), of these one that
gives the most frequent answer (`contains_freq_ans`), of these the first. All responses are in
`fields["responses"]` with what weights them in deltaBLEU: those two, and the author's
`validation_level` and `rank_level` where df_userinfo.csv is there.
"""

import collections
import functools
import pathlib
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files, pefomed, tables
from pefomed_jax.data.sources.listing import Listing
from pefomed_jax.errors import UserError

LISTS = {  # of a split, the first that is there
    "train": ("train.json",),
    "val": ("valid_ht.json", "valid_ht_v2.json", "valid.json"),
    "test": ("test_ht.json", "test.json", "test_ht_spanishtestsetcorrected.json"),
}
OTHER_TEST = LISTS["test"][-1]
USERS = "df_userinfo.csv"
PROFILE = ("validation_level", "rank_level")
DEPTH = 3  # folders below the root
FOLDERS = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: no training list, a `test` that is not there, max_images below 0."""
    root, own = files.folder_of(config, "mediqa_m3g"), config.data.mediqa_m3g
    if own.max_images < 0:
        raise UserError(f"data.mediqa_m3g.max_images={own.max_images}: 0 for all, or how many")
    if pefomed.holds(root):
        return pefomed.read("mediqa_m3g", root, config)
    listing = Listing(root)
    lists = _lists(root, listing, own.test)
    reader = _Reader(listing, own.language, own.max_images, _users(root, listing))
    source = files.ListSource("mediqa_m3g", "vqa", str(root))
    for split, name in lists.items():
        rows = files.read_json(root / name)
        if not isinstance(rows, list):
            kind = type(rows).__name__
            raise UserError(f"{root / name}: a {kind} where MEDIQA-M3G has a list of encounters")
        source.add(split, name, rows, reader.case)
    reader.say(source)
    return source


def _lists(root: pathlib.Path, listing: Listing, test: str) -> dict[str, str]:
    """The list of each split, and a line about those that are not read."""
    wanted = LISTS | ({"test": (test,)} if test else {})
    found = {split: _first(listing, names) for split, names in wanted.items()}
    if test and not found["test"]:
        raise UserError(f"data.mediqa_m3g.test: no {test} in {root}; name the file of a test list")
    if not found["train"]:
        raise UserError(
            f"mediqa_m3g: {root} holds no train.json, nor does a folder up to {DEPTH} below it; "
            "set --config.data.mediqa_m3g.dir"
        )
    lists = {split: name for split, name in found.items() if name}
    if absent := [" or ".join(wanted[split]) for split in LISTS if split not in lists]:
        print(f"mediqa_m3g: {root} has no {', no '.join(absent)}")
    if not test and _first(listing, (OTHER_TEST,)) not in ("", lists.get("test")):
        print(
            f"mediqa_m3g: the test split is {lists['test']}, as the challenge scored it; "
            f"--config.data.mediqa_m3g.test={OTHER_TEST} reads the one with the Spanish corrected"
        )
    return lists


def _first(listing: Listing, names: Iterable[str]) -> str:
    """The first of the names that is there, where it lies least deep; '' where none is."""
    for name in names:
        near = [path for path in listing.named(name) if path.count("/") <= DEPTH]
        if near:
            return min(near, key=lambda path: (path.count("/"), path))
    return ""


def _users(root: pathlib.Path, listing: Listing) -> dict[str, dict[str, str]]:
    """The validation and rank of authors; {} where their table is missing, and a line says so."""
    name = _first(listing, (USERS,))
    if not name:
        print(f"mediqa_m3g: {root} has no {USERS}; deltaBLEU in Chinese weights by it")
        return {}
    rows = [*tables.read(root / name, ("author_id", *PROFILE))]
    whole = [row for row in rows if not isinstance(row, files.Broken)]
    if len(whole) < len(rows):
        print(f"mediqa_m3g: {len(rows) - len(whole)} of {len(rows)} rows of {name} cannot be read")
    return {r["author_id"].strip(): {key: r[key].strip() for key in PROFILE} for r in whole}


class _Reader:
    """Reads encounters, and counts what was left out by `max_images`."""

    def __init__(self, listing: Listing, language: str, most: int, users: dict[str, Any]):
        self.listing, self.language, self.most, self.users = listing, language, most, users
        self.left: collections.Counter[str] = collections.Counter()

    def case(self, row: Any, number: int, split: str) -> Case:
        """One encounter."""
        encounter = files.text(row, "encounter_id")
        names = files.value(row, "image_ids")
        if not isinstance(names, list) or not names:
            raise files.RowError("image_ids", "no list of images", 'write ["IMG_….jpg", ...]')
        find = functools.partial(_image, self.listing, split)
        images = tuple(find(files.text({"image_ids": name}, "image_ids")) for name in names)
        kept = images[: self.most or None]
        responses, best = self._responses(row)
        fields = {"answer_type": "OPEN", "study_id": encounter, "language": self.language}
        question = self._question(row)
        self.left[split] += len(images) - len(kept)
        more = {"responses": responses, "n_images": len(images)}
        return Case(f"{split}-{encounter}", kept, question, best, split, fields | more)

    def _question(self, row: Any) -> str:
        parts = [_blank_or_text(row, f"query_{p}_{self.language}") for p in ("title", "content")]
        found = [part for part in dict.fromkeys(parts) if part]
        if not found:
            field = f"query_content_{self.language}"
            raise files.RowError(field, "empty, and so is the title", "fill it in")
        return "\n".join(found)

    def _responses(self, row: Any) -> tuple[list[dict[str, Any]], str]:
        """All responses in their order, and the text of the best that has one."""
        found = files.value(row, "responses")
        if not isinstance(found, list):
            raise files.RowError("responses", f"a {type(found).__name__}", "write a list")
        read = [self._response(response) for response in found]
        said = [response for response in read if response["content"]]
        if not said:
            remedy = "add one, or delete the row"
            raise files.RowError("responses", f"none with a content_{self.language}", remedy)
        return read, max(said, key=_rank)["content"]  # the first of equals

    def _response(self, response: Any) -> dict[str, Any]:
        content = _blank_or_text(response, f"content_{self.language}")
        author = str(response.get("author_id", "")).strip()
        numbers = {k: _number(response, k) for k in ("completeness", "contains_freq_ans")}
        return {"author_id": author, "content": content, **numbers, **self.users.get(author, {})}

    def say(self, source: files.ListSource) -> None:
        """A line about images left out, one about authors without a profile."""
        if sum(self.left.values()):
            counts = ", ".join(f"{n} in {split}" for split, n in self.left.items())
            print(f"mediqa_m3g: images left out by max_images={self.most}: {counts}")
        cases = [case for split in source.splits for case in source.cases(split)]
        authors = {r["author_id"] for case in cases for r in case.fields["responses"]}
        if self.users and (unknown := authors - self.users.keys()):
            print(f"mediqa_m3g: {len(unknown)} of {len(authors)} authors are not in {USERS}")


def _rank(response: dict[str, Any]) -> tuple[float, float]:
    return response["completeness"], response["contains_freq_ans"]


def _blank_or_text(row: Any, key: str) -> str:
    found = files.value(row, key)
    return files.text(row, key) if found == found and str(found or "").strip() else ""


def _number(response: dict[str, Any], key: str) -> float:
    """A score from 0 to 1; missing, null and NaN count as 0."""
    found = response.get(key) or 0
    try:
        number = float(found)
    except (TypeError, ValueError, OverflowError):
        raise files.RowError(key, f"'{found}' is no number", "write 0, 0.5 or 1") from None
    return 0.0 if number != number else number


def _image(listing: Listing, split: str, name: str) -> str:
    """The path of an image by its id, in the folder of its split where several have it."""
    base = pathlib.PurePosixPath(name.replace("\\", "/")).name
    paths = listing.images(base)
    own = [p for p in paths if any(part in p.rpartition("/")[0] for part in FOLDERS[split])]
    if not paths:
        remedy = "fetch images_final.zip and unpack it here, or delete the row"
        raise files.RowError("image_ids", f"no image {name} anywhere in the folder", remedy)
    return (own or paths)[0]
