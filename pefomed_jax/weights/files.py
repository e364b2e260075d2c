"""Tensors in files, described first and read one by one: safetensors, and PyTorch's .pth and .bin.

Nothing in a file is ever executed: PyTorch's pickles are read with `weights_only`.
"""

import json
import pathlib
import pickle
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from pefomed_jax.errors import UserError

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
}
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")


class Tensor(NamedTuple):
    """A tensor that is not read yet; `read` may give a view of the file that is mapped."""

    file: pathlib.Path
    shape: tuple[int, ...]
    dtype: Any
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


Tensors = dict[str, Tensor]


def open_file(path: pathlib.Path) -> Tensors:
    """The tensors of one file, by its suffix. Errors: UserError names the file."""
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        return open_safetensors(path)
    if path.suffix in TORCH_SUFFIXES:
        return open_torch(path)
    known = ", ".join((".safetensors", *TORCH_SUFFIXES))
    raise UserError(f"{path}: weights are read from {known} files")


def open_safetensors(path: pathlib.Path) -> Tensors:
    """Tensors mapped from the file one at a time: memory is that of the tensor being read."""
    try:
        # the library checks the header against the size of the file
        with safe_open(path, "numpy"), path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged or cut short ({error}); copy it again") from None
    header.pop("__metadata__", None)
    return {name: _mapped(path, name, row, 8 + size) for name, row in header.items()}


def _mapped(path: pathlib.Path, name: str, row: Mapping[str, Any], start: int) -> Tensor:
    if row["dtype"] not in DTYPES:
        raise UserError(f"{path}: '{name}' is of type {row['dtype']}, not {', '.join(DTYPES)}")
    dtype, shape = DTYPES[row["dtype"]], tuple(row["shape"])
    offset = start + row["data_offsets"][0]

    def read() -> np.ndarray:
        # mapped for itself, so that its pages leave memory with it
        return np.memmap(path, dtype, "r", offset, shape)

    return Tensor(path, shape, dtype, read)


def metadata(path: pathlib.Path) -> dict[str, str]:
    """The text fields of a safetensors file."""
    with safe_open(path, "numpy") as file:
        return file.metadata() or {}


def open_torch(path: pathlib.Path) -> Tensors:
    """The tensors of a PyTorch file: of its 'model' where it has one, else of the whole dict."""
    content = load_torch(path)
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path} holds no dict of tensors")
    import torch

    if odd := [name for name in content if not isinstance(name, str)]:
        raise UserError(f"{path}: {odd[0]!r} is no name of a tensor; save a dict of names")
    if odd := [name for name, value in content.items() if not isinstance(value, torch.Tensor)]:
        raise UserError(f"{path}: '{odd[0]}' is {type(content[odd[0]]).__name__}, not a tensor")
    return {name: _from_torch(path, name, value) for name, value in content.items()}


def load_torch(path: pathlib.Path) -> Any:
    """What a PyTorch file holds, its tensors mapped. A pickle with code is refused."""
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: PyTorch files need torch: pip install 'pefomed_jax[convert]', or give a "
            f".safetensors file"
        ) from None
    options = {"map_location": "cpu", "weights_only": True}
    try:
        with warnings.catch_warnings(action="ignore"):  # what matters of them is said below
            try:
                return torch.load(path, mmap=True, **options)
            except RuntimeError:  # files from before PyTorch 1.6 cannot be mapped
                return torch.load(path, **options)
    except pickle.UnpicklingError as error:
        said = " ".join(str(error).split())
        if "Unsupported global" in said or "GLOBAL" in said:
            named = said.partition("GLOBAL ")[2].split(" ")[0] or "code"
            raise UserError(
                f"{path} holds code ({named}), which is never run; save its tensors alone with "
                f"torch.save"
            ) from None
        if "Unsupported oper" in said and _is_pickle(path):  # of another protocol, and maybe code
            raise UserError(
                f"{path} is pickled in a way that is never run, as it may hold code; save its "
                f"tensors alone with torch.save"
            ) from None
        raise UserError(f"{path} is damaged or no PyTorch file; copy it again") from None
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        if "TorchScript" in str(error):
            raise UserError(
                f"{path} is a TorchScript program, which is never run; save its state_dict()"
            ) from None
        reason = str(error).split("\n")[0][:120]
        raise UserError(f"{path} is damaged or cut short ({reason}); copy it again") from None


def _is_pickle(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _from_torch(path: pathlib.Path, key: str, tensor: Any) -> Tensor:
    import torch

    name = str(tensor.dtype).removeprefix("torch.")
    if name not in {dtype.name for dtype in DTYPES.values()} or tensor.is_quantized:
        raise UserError(f"{path}: '{key}' is of type {name}, not {', '.join(DTYPES)}")
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = "without values (meta)" if tensor.is_meta else "sparse"
        raise UserError(f"{path}: '{key}' is {kind}; save it dense, with its values")
    half = name == "bfloat16"

    def read() -> np.ndarray:
        if half:  # NumPy knows no bfloat16 of torch's
            return tensor.detach().contiguous().view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
        return tensor.detach().numpy()

    return Tensor(path, tuple(tensor.shape), np.dtype(name), read)


def open_folder(folder: pathlib.Path, stem: str = "model") -> Tensors:
    """A Hugging Face folder: one file or several with an index, safetensors before .bin.

    Of a single file and an index the single file counts, as it does for transformers.
    """
    for name in (f"{stem}.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return open_file(folder / name)
        if (index := folder / f"{name}.index.json").is_file():
            return _indexed(index)
    raise UserError(
        f"{folder} has no weights: {stem}.safetensors or pytorch_model.bin, or one of them with "
        f".index.json"
    )


def _indexed(index: pathlib.Path) -> Tensors:
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(places.values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index} is damaged ({error}); copy it again") from None
    if absent := [name for name in names if not (index.parent / name).is_file()]:
        raise UserError(
            f"{index} names {absent[0]}, which is not there ({len(absent)} of {len(names)} "
            f"files are absent); copy what is missing"
        )
    tensors: Tensors = {}
    for name in names:
        tensors |= open_file(index.parent / name)
    for key, name in places.items():
        if key not in tensors or tensors[key].file.name != name:
            raise UserError(f"{index}: '{key}' is not in {name}; copy that file again")
    return tensors
