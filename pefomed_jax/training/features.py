"""What the frozen vision tower makes of every image, kept on disk (`data.cache_features`).

Kept under the tower's fingerprint, its arithmetic and the preparation of the images, so that no
other tower and no other picture is ever taken for it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from pefomed_jax.batch import Case
from pefomed_jax.data import cache, facts
from pefomed_jax.data.kept import THREADS, Kept
from pefomed_jax.data.pipeline import Loader
from pefomed_jax.data.store import Store
from pefomed_jax.errors import UserError
from pefomed_jax.parallel import hosts, share
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.peft.masks import FROZEN
from pefomed_jax.training.fingerprint import fingerprint
from pefomed_jax.training.setup import Setup

TOWER = ("vision", "ln_vision")
ROWS = 16  # images that the tower sees at once, at least


def kept(pieces: Setup, frozen: Any, loader: Loader, cases: Sequence[Case]) -> Kept:
    """The loader's source with the features of these cases' images, made now where they are new.

    Call it under `jax.set_mesh(pieces.mesh)`. Of several processes each host keeps its own: they
    are made there, on the devices of one process. Errors: UserError where the tower is trained.
    """
    check(pieces)
    config, tower = pieces.config, {name: frozen[name] for name in TOWER}
    patches = (config.model.vision.image_size // config.model.vision.patch_size) ** 2
    shape = (patches, config.model.vision.width)
    made_by = fingerprint(tower), config.model.dtype, pieces.model.compute.implementation
    key = cache.key(facts.roots(loader.source), *made_by, loader.preparation)
    where = cache.folder(config.data.cache, "features")
    store = Store(where / key, shape, config.model.dtype)
    wanted = facts.places(loader.source, cases)
    stamps = {name: facts.stamp_of(loader.source, *at) for name, at in wanted.items()}
    encode = jax.jit(lambda tower, x: pieces.model.apply({"params": tower}, x, method="encode"))
    mesh = pieces.mesh
    if hosts.several():  # the hosts have not the same images to see, so each works for itself
        mesh = mesh_lib.make(dict.fromkeys(mesh_lib.AXES, 1), jax.local_devices()[:1])
        tower = jax.device_put(share.here(tower), mesh.devices.flat[0])
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    rows = -(-ROWS // shards) * shards

    def make(names: Sequence[str]) -> np.ndarray:
        with ThreadPoolExecutor(THREADS) as pool:
            squares = np.stack([*pool.map(lambda name: loader.square(*wanted[name]), names)])
        images = np.zeros((rows, 1, *squares.shape[1:]), np.uint8)  # one shape, one compilation
        images[: len(names), 0] = squares
        with jax.set_mesh(mesh):
            return np.asarray(encode(tower, share.place(images, mesh)))[: len(names), 0]

    new = store.fill(stamps, make, rows, "features of images")
    size = len(wanted) * store.record / 1e9
    print(
        f"data.cache_features: {len(wanted)} images, {new} new, {size:.2f} GB in {store.path}.bin"
    )
    return Kept(loader.source, features=store)


def check(pieces: Setup) -> None:
    """Raises UserError where the features of an image change from step to step."""
    labels = flatten_dict({name: pieces.labels[name] for name in TOWER}, sep="/")
    trained = next((path for path, group in labels.items() if group != FROZEN), None)
    if trained is not None:
        raise UserError(
            f"data.cache_features: {trained} trains, so features change; freeze the tower (see "
            "config.trainable), or leave the cache off"
        )
