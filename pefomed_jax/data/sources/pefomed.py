"""PeFoMed's own JSON lists: train.json, val.json and test.json in config.data.dir.

What a list holds is seen from its keys:

    vqa        list of {image_name, question, answer, qid, answer_type, question_type}
    iuxray     list of {image_path, report}
    caption    list of {image, caption}         (ROCO, CLEF, MedICaT)
    mimiccxr   object: image path -> [report, ...]; the first text is the report

Images are looked for under the folder, under its images/, and there by base name alone.
A folder without lists of its own may hold folders with lists; they are read together, each
weighing what it counts, or as `config.data.ratios` says. None is left out in silence: a folder with
JSON files has a training list, and no file under another name. vqa lists serve configs/vqa.py, the
others configs/{caption,mrg}.py.
"""

import collections
import functools
import os
import pathlib
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files, texts
from pefomed_jax.errors import UserError

LISTS = {
    "train": ("train.json", "trainset.json"),
    "val": ("val.json", "valid.json", "validate.json"),
    "test": ("test.json", "testset.json"),
}
KEYS = {  # of a layout: (image, question, answer)
    "vqa": ("image_name", "question", "answer"),
    "iuxray": ("image_path", "", "report"),
    "caption": ("image", "", "caption"),
}
SEEN = 100  # rows that tell whose a list is
FIELDS = ("qid", "answer_type", "question_type", "phrase_type", "image_id")


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: no training list, or lists for another task."""
    return read("pefomed", files.folder_of(config, "pefomed"), config)


def holds(root: pathlib.Path) -> bool:
    """Whether a folder has lists in PeFoMed's form; other releases have a train.json as well."""
    try:
        found = next(iter(_lists(root).values()), None)
    except UserError:  # JSON of another release beside them
        return False
    content = None if found is None else files.read_json(found)
    if isinstance(content, list):
        keys = [[key for key in layout if key] for layout in KEYS.values()]
        rows = [row for row in content[:SEEN] if isinstance(row, dict)]
        return any(set(each) <= row.keys() for each in keys for row in rows)
    return isinstance(content, dict) and any(isinstance(v, list) for v in content.values())


def read(name: str, root: pathlib.Path, config: ConfigDict) -> files.ListSource:
    """The source `name` from PeFoMed's lists in a folder. Errors: see `load`."""
    if not root.is_dir():
        raise UserError(f"data.dir: {root} is a file; name the folder that holds train.json")
    inside = sorted(p for p in root.iterdir() if p.is_dir())
    folders = [root] if _lists(root) else [folder for folder in inside if _lists(folder)]
    task = {"vqa": "vqa", "caption": "caption", "mrg": "report"}[config.task]
    source = files.ListSource(name, task, str(root))
    for folder in folders:
        for split, path in _lists(folder).items():
            _add(source, split, path, config.task)
    if "train" not in source.splits:
        names = ", ".join(LISTS["train"])
        raise UserError(f"data.dir: {root} holds no training list; looked for {names}")
    if len(folders) > 1:
        _say_counts(source, folders)
    return source


def _lists(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The lists of a folder by split, {} where it has no JSON. Errors: see the module."""
    there = {path.name: path for path in sorted(folder.glob("*.json"))}
    found = {s: [there.pop(n) for n in names if n in there] for s, names in LISTS.items()}
    wanted = "; ".join(f"{split}: {' or '.join(names)}" for split, names in LISTS.items())
    if there:
        raise UserError(f"{next(iter(there.values()))} has no name of a list ({wanted})")
    for names in found.values():
        if len(names) > 1:
            raise UserError(f"{names[0]} and {names[1].name} are the same split: keep one")
    if not found["train"] and any(found.values()):
        raise UserError(f"data.dir: {folder} holds lists but no training list ({wanted})")
    return {split: paths[0] for split, paths in found.items() if paths}


def _say_counts(source: files.ListSource, folders: list[pathlib.Path]) -> None:
    for folder in folders:
        name = folder.name
        counts = {
            split: sum(case.id.startswith(f"{name}/") for case in source.cases(split))
            for split in source.splits
        }
        print(f"{name}: {', '.join(f'{n} {split}' for split, n in counts.items())}")


def _add(source: files.ListSource, split: str, path: pathlib.Path, task: str) -> None:
    content = files.read_json(path)
    if content == []:  # no keys to know a layout by
        return source.add(split, path.name, (), _case)
    layout = layout_of(content, path)
    if (layout == "vqa") != (task == "vqa"):
        other = "vqa" if layout == "vqa" else "mrg or caption"
        raise UserError(f"{path}: a {layout} list does not serve configs/{task}.py; use {other}")
    root = pathlib.Path(source.root)
    folder = path.parent.relative_to(root)
    file = (folder / path.name).as_posix()
    if layout == "mimiccxr":
        read = functools.partial(_mimic_case, root, folder)
        source.add(split, file, content.items(), read)
    else:
        source.add(split, file, content, functools.partial(_case, root, folder, layout))


def layout_of(content: Any, path: pathlib.Path) -> str:
    """The layout whose keys most rows have most of. Errors: rows of no known layout."""
    if isinstance(content, dict):
        return "mimiccxr"
    if not isinstance(content, list):
        raise UserError(
            f"{path}: a {type(content).__name__}; expected a list of rows, or an object"
        )
    seen = collections.Counter(k for row in content if isinstance(row, dict) for k in row)
    score = {name: sum(seen[key] for key in keys if key) for name, keys in KEYS.items()}
    best = max(score, key=score.__getitem__)
    if content and not score[best]:
        known = "; ".join(f"{name}: {', '.join(filter(None, k))}" for name, k in KEYS.items())
        there = texts.one_line(", ".join(seen)) or "none"
        raise UserError(f"{path}: keys {there} are of no known layout ({known})")
    return best


def _image(root: pathlib.Path, folder: pathlib.Path, name: str, field: str) -> str:
    places = (str(folder), str(folder / "images"))
    try:
        return files.find_image(root, name, places, field)
    except files.RowError:
        base = pathlib.PurePath(name).name
        if base != name and os.path.isfile(root / folder / "images" / base):
            return (folder / "images" / base).as_posix()
        raise


def _case(
    root: pathlib.Path, folder: pathlib.Path, layout: str, row: Any, number: int, split: str
) -> Case:
    image_key, question_key, answer_key = KEYS[layout]
    question = files.text(row, question_key) if question_key else ""
    answer = files.text(row, answer_key)
    image = _image(root, folder, files.text(row, image_key), image_key)
    fields = {"layout": layout, **files.own_fields(row, FIELDS)}
    # a report list may name an image twice, a question list numbers its rows
    name = (folder / f"{split}-{files.own_id(row, 'qid', number)}").as_posix()
    return Case(name, (image,), question, answer, split, fields)


def _mimic_case(
    root: pathlib.Path, folder: pathlib.Path, item: tuple[str, Any], number: int, split: str
) -> Case:
    name, reports = item
    if not isinstance(reports, list) or not reports:
        found = "an empty list" if reports == [] else f"a {type(reports).__name__}"
        raise files.RowError(name, f"{found} where a list of reports belongs", "write [report]")
    answer = files.text({name: reports[0]}, name)
    image = _image(root, folder, name, name)
    case_id = (folder / f"{split}-row{number}").as_posix()
    return Case(case_id, (image,), "", answer, split, {"layout": "mimiccxr"})
