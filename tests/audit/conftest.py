"""The planted set, audited once."""

import planted
import pytest

from pefomed_jax.audit import command


@pytest.fixture(scope="session")
def planted_set(tmp_path_factory):
    """(folder, cache, ids of the planted cases); not to be changed."""
    root = tmp_path_factory.mktemp("planted") / "set"
    ids = planted.write(root)
    return root, tmp_path_factory.mktemp("cache"), ids


@pytest.fixture(scope="session")
def made(planted_set):
    root, cache, _ = planted_set
    return command.make(planted.config(root, cache, data__max_bad_fraction=1.0))
