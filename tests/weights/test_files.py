"""Tensors in files: described without being read, whatever wrote them."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from pefomed_jax.errors import UserError
from pefomed_jax.weights import files
from weights import foreign

SHAPES = {"a.weight": (3, 5), "b.weight": (2, 3, 4), "scalar": (1,)}


def everything(tensors):
    return {key: np.asarray(tensor.read()) for key, tensor in tensors.items()}


def to_torch(torch, arrays):
    return {
        key: torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        if array.dtype == foreign.DTYPES["bfloat16"]
        else torch.from_numpy(array)
        for key, array in arrays.items()
    }


@pytest.mark.parametrize("dtype", foreign.DTYPES)
def test_safetensors(tmp_path, dtype):
    arrays = foreign.draw(SHAPES, dtype)
    path = tmp_path / "x.safetensors"
    save_file(arrays, path, {"format": "pt", "note": "a text"})
    tensors = files.open_file(path)
    foreign.assert_same(everything(tensors), arrays)
    assert {key: tensor.shape for key, tensor in tensors.items()} == SHAPES
    assert all(tensors[key].nbytes == array.nbytes for key, array in arrays.items())
    assert isinstance(tensors["a.weight"].read(), np.memmap)  # pages come when they are touched
    assert files.metadata(path)["note"] == "a text"


def test_whole_numbers_are_read_too(tmp_path):
    arrays = {"ids": np.arange(5), "short": np.arange(3, dtype=np.int32)}
    save_file(arrays, tmp_path / "x.safetensors")
    foreign.assert_same(everything(files.open_file(tmp_path / "x.safetensors")), arrays)


@pytest.mark.parametrize("nested", ["model", "state_dict", ""])
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("dtype", foreign.DTYPES)
def test_torch_files(tmp_path, dtype, new, nested):
    torch = pytest.importorskip("torch", reason="reads what torch writes")
    arrays = foreign.draw(SHAPES, dtype)
    content = to_torch(torch, arrays)
    content = {nested: content, "epoch": 3, "config": {"lr": 1e-3}} if nested else content
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=new)
    foreign.assert_same(everything(files.open_file(path)), arrays)


def test_a_torch_tensor_that_is_a_view(tmp_path):
    torch = pytest.importorskip("torch", reason="reads what torch writes")
    wide = torch.arange(12.0).reshape(3, 4)
    torch.save({"turned": wide.T, "half": wide.bfloat16().T[1:]}, tmp_path / "x.bin")
    read = everything(files.open_file(tmp_path / "x.bin"))
    np.testing.assert_array_equal(read["turned"], wide.numpy().T)
    np.testing.assert_array_equal(read["half"].astype(np.float32), wide.numpy().T[1:])


@pytest.mark.parametrize("shards", [1, 2])
def test_folders_of_safetensors(tmp_path, shards):
    made = foreign.config()
    arrays = foreign.draw(foreign.llama_shapes(made.model.llm))
    foreign.write_llama(tmp_path / "llama", made, arrays, shards)
    tensors = files.open_folder(tmp_path / "llama")
    foreign.assert_same(everything(tensors), arrays)
    assert len({tensor.file for tensor in tensors.values()}) == shards


@pytest.mark.parametrize("shards", [1, 2])
def test_folders_of_bin(tmp_path, shards):
    torch = pytest.importorskip("torch", reason="reads what torch writes")
    arrays = foreign.draw(SHAPES, "bfloat16")
    content = to_torch(torch, arrays)
    if shards == 1:
        torch.save(content, tmp_path / "pytorch_model.bin")
    else:
        places = {}
        for i, key in enumerate(content):
            places[key] = f"pytorch_model-{i + 1:05}-of-00003.bin"
            torch.save({key: content[key]}, tmp_path / places[key])
        index = json.dumps({"weight_map": places})
        (tmp_path / "pytorch_model.bin.index.json").write_text(index)
    foreign.assert_same(everything(files.open_folder(tmp_path)), arrays)


def test_safetensors_come_before_bin(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"not to be opened")
    arrays = foreign.draw(SHAPES)
    save_file(arrays, tmp_path / "model.safetensors")
    foreign.assert_same(everything(files.open_folder(tmp_path)), arrays)


def test_nothing_to_read(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*x\.safetensors"):
        files.open_file(tmp_path / "x.safetensors")
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"x\.gguf: weights are read from \.safetensors, \.pth"):
        files.open_file(tmp_path / "x.gguf")
    with pytest.raises(UserError, match=r"has no weights: model\.safetensors or pytorch_model"):
        files.open_folder(tmp_path)


def test_a_type_that_is_not_known(tmp_path):
    save_file({"flags": np.ones(3, np.bool_)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"x\.safetensors: 'flags' is of type BOOL, not F64, F32"):
        files.open_file(tmp_path / "x.safetensors")


def test_a_single_file_counts_before_an_index(tmp_path):
    """As for transformers: both are there when a folder was saved over another one."""
    save_file({"x": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
    save_file({"x": np.zeros(2, np.float32)}, tmp_path / "model-00001.safetensors")
    index = {"weight_map": {"x": "model-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(files.open_folder(tmp_path)["x"].read(), [1, 1])


ODD = {
    "a name that is a number": (lambda torch: {7: torch.ones(2)}, "7 is no name of a tensor"),
    "sparse": (lambda torch: {"x": torch.eye(3).to_sparse()}, "'x' is sparse; save it dense"),
    "meta": (lambda torch: {"x": torch.ones(2, device="meta")}, "'x' is without values (meta)"),
    "complex": (lambda torch: {"x": torch.ones(2, dtype=torch.cfloat)}, "'x' is of type complex64"),
    "flags": (lambda torch: {"x": torch.ones(2, dtype=torch.bool)}, "'x' is of type bool, not F64"),
}


@pytest.mark.parametrize("kind", ODD)
def test_torch_files_of_other_tensors(tmp_path, kind):
    torch = pytest.importorskip("torch", reason="reads what torch writes")
    make, said = ODD[kind]
    torch.save(make(torch), tmp_path / "x.pth")
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'x.pth'}: {said}")):
        files.open_file(tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_program_of_torch_is_not_run(tmp_path):
    torch = pytest.importorskip("torch", reason="reads what torch writes")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "x.pth"))
    with pytest.raises(UserError, match=r"x\.pth is a TorchScript program, which is never run"):
        files.open_file(tmp_path / "x.pth")
