"""fill: tensors of files as leaves on eight simulated devices, against plain NumPy."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.numpy import save_file

from pefomed_jax.errors import UserError
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.parallel import paths
from pefomed_jax.weights import files, load, names
from weights import foreign

MESHES = ((8, 1, 1), (1, 8, 1), (1, 1, 8), (2, 2, 2), (1, 2, 4), (4, 2, 1))


def everything(made, dtype="float32"):
    shapes = foreign.llama_shapes(made.model.llm) | foreign.tower_shapes(made.model.vision)
    shapes |= foreign.norm_shapes(made.model) | foreign.connector_shapes(made.model)
    return foreign.draw(shapes, dtype)


def table(made):
    rest = [names.Entry(*row) for row in (*names.LN_VISION, *names.CONNECTOR)]
    llm, vision = made.model.llm, made.model.vision
    return [*names.llama(llm.depth, llm.tie_embeddings), *names.vision(vision.depth), *rest]


def expected(made, path, leaf, tree):
    """One leaf in plain NumPy: layers stacked where the tree is, and cast at the end."""
    if paths.is_stacked(path):
        tower, group, rest = path.split("/", 2)
        layers = [tree[f"{tower}/{group}/{i}/{rest}"] for i in range(leaf.shape[0])]
        return np.stack(layers).astype(leaf.dtype)
    return tree[path].astype(leaf.dtype)


def check(made, abstract, arrays, folder):
    save_file(arrays, folder / "all.safetensors")
    made_tree = load.fill(abstract, table(made), files.open_file(folder / "all.safetensors"))
    have, want = flatten_dict(made_tree, sep="/"), flatten_dict(abstract, sep="/")
    assert have.keys() == want.keys()
    tree = foreign.as_tree(made, arrays)
    for path, leaf in have.items():
        values = expected(made, path, want[path], tree)
        assert (leaf.dtype, leaf.shape) == (want[path].dtype, values.shape), path
        assert leaf.sharding == want[path].sharding, path
        assert len(leaf.addressable_shards) == len(leaf.sharding.device_set)
        for shard in leaf.addressable_shards:
            part = values[shard.index]
            assert shard.data.shape == leaf.sharding.shard_shape(leaf.shape), path
            assert np.asarray(shard.data).tobytes() == part.tobytes(), (path, shard.device)
    return have


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("mesh", MESHES)
def test_leaves_land_in_their_shards(tmp_path, mesh, scan):
    made = foreign.config(model__scan=scan)
    leaves = check(made, foreign.abstract(made, mesh), everything(made), tmp_path)
    counts = {len(set(map(str, x.sharding.devices_indices_map(x.shape).values())))
              for x in leaves.values()}  # fmt: skip
    assert 1 in counts  # norms: the same on every device
    assert mesh == (8, 1, 1) or max(counts) > 1
    assert all(len(leaf.sharding.device_set) == 8 for leaf in leaves.values())


def test_layers_split_over_devices(tmp_path):
    """No rule does so today; each device is to get its own layers all the same."""
    made = foreign.config(model__scan=True)
    mesh = mesh_lib.make({"data": 2, "fsdp": 2, "tensor": 2})

    def by_layer(path, leaf):
        split = paths.is_stacked(paths.name(path))
        spec = PartitionSpec("fsdp", "tensor") if split else PartitionSpec()
        placed = NamedSharding(mesh, spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed)

    abstract = jax.tree_util.tree_map_with_path(by_layer, foreign.abstract(made))
    check(made, abstract, everything(made), tmp_path)


@pytest.mark.parametrize("wanted", foreign.DTYPES)
@pytest.mark.parametrize("held", foreign.DTYPES)
def test_a_file_of_any_type_into_any_type(tmp_path, held, wanted):
    made = foreign.config(model__scan=True)
    abstract = foreign.abstract(made, (2, 2, 2), wanted)
    check(made, abstract, everything(made, held), tmp_path)


def test_tied_heads_and_sizes_that_devices_do_not_divide(tmp_path):
    made = foreign.config(model__llm__tie_embeddings=True, model__llm__vocab_size=61)
    made.model.llm.update(width=30, heads=3, kv_heads=1, mlp_dim=50)
    leaves = check(made, foreign.abstract(made, (1, 8, 1)), everything(made), tmp_path)
    assert "llm/head/kernel" not in leaves


def test_wide_kernels_are_turned_in_blocks(tmp_path):
    made = foreign.config(model__scan=True)
    made.model.llm.update(width=3 * load.BLOCK, mlp_dim=2 * load.BLOCK + 8)
    check(made, foreign.abstract(made, (1, 2, 2), "bfloat16"), everything(made), tmp_path)


@pytest.mark.parametrize("threads", [1, 7])
def test_threads_do_not_matter(tmp_path, monkeypatch, threads):
    monkeypatch.setattr(load, "THREADS", threads)
    made = foreign.config(model__scan=True)
    check(made, foreign.abstract(made, (2, 4, 1)), everything(made), tmp_path)


def test_replicas_can_be_donated(tmp_path):
    """Copies on several devices begin in one piece of host memory: an update in place is theirs."""
    made = foreign.config()
    arrays = everything(made)
    leaves = check(made, foreign.abstract(made, (8, 1, 1)), arrays, tmp_path)
    leaf = leaves["connector/proj/kernel"]
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    more = add(add(leaf))
    for shard in more.addressable_shards:
        np.testing.assert_array_equal(shard.data, arrays["llama_proj.weight"].T + 1 + 1)


def test_nothing_is_read_before_all_is_checked(tmp_path):
    made = foreign.config()
    save_file(everything(made), tmp_path / "all.safetensors")
    tensors = files.open_file(tmp_path / "all.safetensors")

    def read():
        raise AssertionError("read before names and shapes were checked")

    unread = {key: tensor._replace(read=read) for key, tensor in tensors.items()}
    last = unread["lm_head.weight"]
    unread["lm_head.weight"] = last._replace(shape=(1, 2))
    with pytest.raises(
        UserError, match=r"'lm_head\.weight' is \[1, 2\], this model has \[64, 32\]"
    ):
        load.fill(foreign.abstract(made), table(made), unread)


def test_what_is_left_out_is_said(tmp_path, capsys):
    made = foreign.config()
    extra = "model.layers.0.self_attn.rotary_emb.inv_freq"
    save_file(everything(made) | {extra: np.ones(4, np.float32)}, tmp_path / "all.safetensors")
    tensors = files.open_file(tmp_path / "all.safetensors")
    load.fill(foreign.abstract(made), table(made), tensors, [names.INV_FREQ])
    said = capsys.readouterr().out
    assert said == f"{tmp_path / 'all.safetensors'}: '{extra}' ignored: {names.INV_FREQ[1]}\n"
