"""The PyTorch peer's files come in, compute the same, train, and go back to PyTorch."""

import functools

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="the comparisons with PyTorch need torch")
pytest.importorskip("peft", reason="the comparisons with PyTorch need peft")

import forked
import peer as peer_lib
import torch
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from transformers import LlamaForCausalLM

from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.training import agree, convert, restore
from pefomed_jax.weights import bundle

TOLERANCE = 5e-5
# raised inside peft
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def module(shared):
    return peer_lib.load(shared)


@pytest.fixture(scope="module")
def made(module, tmp_path_factory):
    """(folder of files, reference, preset): grouped queries, several shards."""
    preset, kv_heads, tied = peer_lib.draw(1)
    folder = tmp_path_factory.mktemp("peer")
    with pytest.MonkeyPatch.context() as patch:
        files, reference = peer_lib.write(module, patch, folder, preset, kv_heads, tied, 1)
    return files, reference, preset


@pytest.fixture
def verify(tmp_path):
    """verify(files, reference, *flags): exit code and output of `launch/verify.py`."""

    def run(files, reference, *flags):
        args, log = [f"--weights={files}", f"--reference={reference}", *flags], tmp_path / "log"
        process = forked.start("launch/verify.py", args, log)
        process.join()
        return process.exitcode, log.read_text()

    return run


@pytest.mark.parametrize("seed", [0, 3, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_files_of_random_sizes_compute_the_same(module, monkeypatch, tmp_path, seed):
    preset, kv_heads, tied = peer_lib.draw(seed)
    files, reference = peer_lib.write(module, monkeypatch, tmp_path, preset, kv_heads, tied, seed)
    assert (files / "llama" / "model.safetensors.index.json").is_file()  # in several shards
    config = bundle.config(files)
    found = list(agree.differences(config, agree.read(reference)))
    assert restore_sizes(config) == (kv_heads, tied)
    grads = [name for name, *_ in found if name.startswith("grad/")]
    assert len(grads) == 4 * preset["num_layers"] + 2
    assert len(found) == 4 + 1 + 1 + 2 * len(grads)
    assert max(each.value for each in found) < TOLERANCE, found


@pytest.mark.slow
@pytest.mark.parametrize("change", [(0, 1.02), (1, 0.0), (4, 10.0)])
def test_another_optimizer_is_not_taken_for_rounding(made, change):
    """lr a little off, no weight decay, another eps."""
    files, reference, _ = made
    arrays, (which, factor) = agree.read(reference), change
    arrays["train_lr_wd_b1_b2_eps"][which] *= factor
    found = list(agree.differences(bundle.config(files), arrays))
    far = [each.name for each in found if not each.value < TOLERANCE]
    assert far
    assert all(name.startswith(("after/", "train_losses")) for name in far)


def restore_sizes(config):
    llm = restore.base_lib.adopt(config).model.llm
    return llm.kv_heads, llm.tie_embeddings


def test_the_command_says_yes_and_no(made, verify):
    files, reference, _ = made
    code, said = verify(files, reference)
    assert code == 0, said
    assert "within 5e-05" in said
    path = files / "adapter" / "adapter_model.safetensors"
    whole, arrays = path.read_bytes(), load_file(path)
    name = next(key for key in arrays if "v_proj.lora_B" in key)
    arrays[name].flat[0] += 0.02
    save_file(arrays, path, {"format": "pt"})
    code, said = verify(files, reference, "--all")
    path.write_bytes(whole)
    assert code == 1
    assert "TOO FAR" in said
    assert all("TOO FAR" not in line for line in said.splitlines() if "vit_out" in line)


# fewer optimizer steps where one takes long: what they add to shows at `tiny`
@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("tiny", 10),
        pytest.param("small", 10, marks=pytest.mark.slow),
        pytest.param("medium", 2, marks=pytest.mark.slow),
    ],
)
def test_the_presets_of_the_bench(module, tmp_path, verify, name, steps):
    preset, parse = module.load_preset(name), module.parser().parse_args
    files, reference = tmp_path / "files", tmp_path / "reference.npz"
    module.cmd_export(parse(["export", f"--preset={name}", f"--out={files}"]), preset)
    options = [f"--preset={name}", f"--out={reference}", f"--steps={steps}", "--new=1"]
    module.cmd_reference(parse(["reference", *options]), preset)
    code, said = verify(files, reference)
    assert code == 0, said


@pytest.fixture(scope="module")
def trained(made, tmp_path_factory):
    """(exports, logits [B, T, V], loss, inputs) after two steps of ours from the peer's files."""
    files, reference, _ = made
    arrays = agree.read(reference)
    config = agree.prepare(bundle.config(files), arrays)
    whole = restore.restore(config, mesh_lib.make(config.mesh, jax.devices()[:1]))
    batch, step, state = agree.make_batch(arrays), whole.pieces.jit_step(), whole.state
    with jax.set_mesh(whole.pieces.mesh):
        for _ in range(2):
            state, _ = step(state, whole.frozen, batch)
        moved = restore.Restored(whole.pieces, state, whole.frozen)
        loss = jax.jit(agree.make_loss_and_grad(whole.pieces.model, 1))(
            state.trainable, whole.frozen, batch, jax.random.key(0)
        )[0]
        logits = forward(moved, batch)
    out = tmp_path_factory.mktemp("ours")
    patch = pytest.MonkeyPatch()
    patch.setattr(restore, "restore", lambda *_, **__: moved)
    paths = {}
    for to in ("adapter", "pth", "merged"):
        paths[to] = out / ("ours.pth" if to == "pth" else to)
        convert.convert(bundle.config(files), to, paths[to])
    patch.undo()
    return paths, logits, float(loss), arrays


def forward(whole, batch):
    def run(model, data):
        visual = model.connect(model.encode(data.images))
        x = model.embed(data.tokens, data.image_slot, visual)
        return model.logits(model.hidden(x, data.positions, data.branch)[0])

    apply = functools.partial(whole.pieces.model.apply, method=run)
    return np.asarray(jax.jit(lambda p, b: apply({"params": p}, b))(whole.params, batch))


@pytest.fixture
def shell(module, made):
    """The peer around a decoder: tower and connector of its own export."""
    files, _, preset = made

    def build(llama, connector=None):
        model = module.Peer(preset, llama).eval()
        state = load_file(files / "vision_proj.safetensors")
        state |= load_file(connector) if connector else {}
        rest = model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, False)
        assert not rest.unexpected_keys
        assert all(key.startswith("llama_model.") for key in rest.missing_keys)
        return model

    return build


def near(mine, theirs, arrays):
    valid = arrays["attention_mask"] == 1
    mine, theirs = mine[valid], theirs[valid]
    return np.abs(mine - theirs).max() < TOLERANCE * np.abs(theirs).max()


def test_our_adapter_in_peft(made, trained, shell):
    files, paths = made[0], trained[0]
    llama = LlamaForCausalLM.from_pretrained(files / "llama")
    llama = PeftModel.from_pretrained(llama, paths["adapter"])
    model = shell(llama, paths["adapter"] / "connector.safetensors")
    theirs = peer_lib.logits(model, trained[3])
    assert near(trained[1], theirs, trained[3])
    without = shell(llama.unload(), paths["adapter"] / "connector.safetensors")
    assert not near(trained[1], peer_lib.logits(without, trained[3]), trained[3])


def test_our_merged_folder_without_peft(trained, shell):
    folder = trained[0]["merged"]
    llama, said = LlamaForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not said["missing_keys"]
    assert not said["unexpected_keys"]
    model = shell(llama, folder / "connector.safetensors")
    assert near(trained[1], peer_lib.logits(model, trained[3]), trained[3])


def test_our_official_file_in_the_peer(made, module, trained):
    """All that the peer trains is in the file, and nothing else is."""
    preset = made[2]
    with pytest.MonkeyPatch.context() as patch:
        options = peer_lib.draw(1)[1:]
        peer_lib.patch_llama(patch, *options)
        model = module.build(preset, 1).eval()
    content = torch.load(trained[0]["pth"], weights_only=True)
    rest = model.load_state_dict(content["model"], strict=False)
    assert not rest.unexpected_keys
    assert not set(rest.missing_keys) & module.trainable(model).keys()
    assert set(content["model"]) == module.trainable(model).keys()
    loss = peer_lib.loss(model, trained[3])
    assert abs(loss - trained[2]) < TOLERANCE * loss
