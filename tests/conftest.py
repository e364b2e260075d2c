"""Before jax is imported: eight simulated CPU devices, and every shape annotation checked."""

import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()

import pytest
from jaxtyping import install_import_hook
from ml_collections import ConfigDict

# imported before the hook: a pytree is rebuilt around specs and shapes, which are no arrays
import pefomed_jax.batch  # noqa: F401

install_import_hook("pefomed_jax", "beartype.beartype")

import samples  # noqa: E402

SHARED = pathlib.Path(__file__).parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder `shared` beside the checkout; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("no folder 'shared' beside the checkout")
    return SHARED.resolve()


@pytest.fixture
def model_config() -> ConfigDict:
    """A model that compiles in a second: 2 + 2 layers, grouped queries, 4 visual tokens."""
    return samples.small()
