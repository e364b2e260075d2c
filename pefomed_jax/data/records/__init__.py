"""Small public data sets as records: a few files in place of thousands.

    pefomed_records.json        which set this is, with which of its options; written last
    <set>/cases/1.0.0/          TFDS, array_record: a record a case; train, validation, test
    <set>/images/1.0.0/         TFDS, array_record: each distinct image file once, byte by byte
    bad_rows.jsonl              what was left out, where anything was

`launch/records.py` writes it; named as `data.dir` it gives the cases of the folder that it is from.
"""

import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax.data.records.about import SMALL
from pefomed_jax.data.sources import files
from pefomed_jax.errors import UserError

MANIFEST = "pefomed_records.json"
FORM = 1  # of the manifest and the features


def folder_of(config: ConfigDict, name: str) -> pathlib.Path | None:
    """Where a set lies, if it lies there as records."""
    if name not in SMALL:
        return None
    place = files.place_of(config, name)[1]
    path = pathlib.Path(place).expanduser()
    return path if place and (path / MANIFEST).is_file() else None


def options_of(config: ConfigDict, name: str) -> dict[str, Any]:
    """What of a set was chosen, in the values that JSON has."""
    own = {key: value for key, value in config.data[name].items() if key != "dir"}
    return json.loads(json.dumps(own))


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """What the folder says of itself. Errors: it is damaged, or of another form."""
    path = folder / MANIFEST
    found = files.read_json(path)
    if not isinstance(found, dict) or found.get("form") != FORM:
        form = found.get("form") if isinstance(found, dict) else None
        raise UserError(f"{path}: of form {form}, not {FORM}; write the records anew")
    return found


def check(found: dict[str, Any], folder: pathlib.Path, config: ConfigDict, name: str) -> None:
    """Errors: UserError where the records are of another set, or of other options than asked."""
    if found["set"] != name:
        raise UserError(
            f"{folder} holds records of {found['set']}, not of {name}; name another folder"
        )
    asked = options_of(config, name)
    for key, value in found["options"].items():
        if key in asked and asked[key] != value:
            raise UserError(
                f"{folder} was written with data.{name}.{key}={value!r}, now it is {asked[key]!r}; "
                f"set --config.data.{name}.{key}={value}, or name another folder"
            )
