"""Before jax is imported: eight simulated CPU devices, and every shape annotation checked.

Programs are compiled without optimisation, and once for all tests and what they start: most compile
for longer than they compute.
"""

# ruff: noqa: E402
import atexit
import contextlib
import io
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
).strip()
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="programs-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import pytest
from jaxtyping import install_import_hook
from ml_collections import ConfigDict

# imported before the hook: a pytree is rebuilt around specs and shapes, which are no arrays
import pefomed_jax.batch  # noqa: F401

install_import_hook("pefomed_jax", "beartype.beartype")

import runs
import samples

from pefomed_jax.data import cache
from pefomed_jax.training import logging, loop

SHARED = pathlib.Path(__file__).parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder `shared` beside the checkout; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("no folder 'shared' beside the checkout")
    return SHARED.resolve()


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory) -> pathlib.Path:
    """What tests prepare without naming a cache does not end up in the person's own."""
    cache.DEFAULT = str(tmp_path_factory.mktemp("cache"))
    return pathlib.Path(cache.DEFAULT)


@pytest.fixture(scope="session", autouse=True)
def undrawn() -> Iterator[None]:
    """No loss.png, which takes longer than a few steps, but inside `runs.drawn()`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "draw_loss", lambda rows, path: None)
        yield


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> pathlib.Path:
    """The folder of `runs.write_pictures`; not to be changed."""
    return runs.write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def trained_run(pictures, tmp_path_factory) -> pathlib.Path:
    """The folder of a finished run on `pictures` whose answers differ; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "vqa-run"
    assert loop.run(runs.config(pictures, **runs.LEARNS), folder) == 0
    assert len({row["prediction"] for row in runs.questions(pictures, folder)}) > 1
    return folder


@pytest.fixture(scope="session")
def whole_run(pictures, tmp_path_factory) -> tuple[pathlib.Path, str]:
    """(folder, what it printed) of an uninterrupted run of 6 steps; not to be changed."""
    folder, said = tmp_path_factory.mktemp("whole") / "run", io.StringIO()
    with contextlib.redirect_stdout(said), runs.drawn():
        assert loop.run(runs.config(pictures), folder) == 0
    return folder, said.getvalue()


@pytest.fixture
def model_config() -> ConfigDict:
    """A model that compiles in a second: 2 + 2 layers, grouped queries, 4 visual tokens."""
    return samples.small()
