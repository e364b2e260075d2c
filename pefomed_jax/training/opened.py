"""The config of weights that are only used: a run's, or a folder's, with fields set over it."""

import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax import config as config_lib
from pefomed_jax.errors import UserError, nearest
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.training import folder as run_folder
from pefomed_jax.weights import bundle


def config(path: str | pathlib.Path, fields: Mapping[str, Any]) -> ConfigDict:
    """As `weights.bundle` reads it; a mesh that does not fit here becomes fsdp over all devices.

    `fields` are dotted. Errors: UserError for what is not there, or fits no field.
    """
    out = with_fields(bundle.config(path), fields)
    if not any(name.startswith("mesh.") for name in fields):
        _fit_mesh(out)
    return out


def has_data(path: str | pathlib.Path) -> bool:
    """Whether the config of these weights names data: a run's does, and those that are embedded."""
    folder = pathlib.Path(path).expanduser()
    return str(path) in bundle.EMBEDDED or (folder / run_folder.CHECKPOINTS).is_dir()


def with_fields(config: ConfigDict, fields: Mapping[str, Any]) -> ConfigDict:
    """A copy with these fields set. Errors: UserError for an unknown one, or another type."""
    out = config.copy_and_resolve_references()
    known = config_lib.fields(out)
    for field, value in fields.items():
        if field not in known:
            raise UserError(f"the config has no field '{field}'{nearest(field, known)}")
        try:
            out.update_from_flattened_dict({field: value})
        except TypeError:
            kind = type(known[field]).__name__
            raise UserError(f"{field}={value!r} is no {kind}, as the field is") from None
    return out


def _fit_mesh(config: ConfigDict) -> None:
    """The mesh of a run of other devices becomes one of all that are here, split for storage."""
    try:
        mesh_lib.make(config.mesh)
    except UserError:
        print(f"the run's mesh {dict(config.mesh)} does not fit here: fsdp over all devices")
        config.mesh.update(data=1, fsdp=-1, tensor=1)
