"""A Hugging Face hub id or a folder → a folder."""

import pathlib
import re

from pefomed_jax.errors import UserError

ID = re.compile(r"[\w.-]+/[\w.-]+")
SMALL = ["*.json", "tokenizer*", "*.model"]  # all but the weights


def is_id(name: str) -> bool:
    """Whether this is no path here, and could be 'owner/name' on the hub."""
    return not pathlib.Path(name).expanduser().exists() and ID.fullmatch(name) is not None


def folder(name: str, weights: bool = True) -> pathlib.Path:
    """The folder, downloaded (once, into the hub's own cache) where `name` is a hub id.

    Without `weights` only configs and tokenizers come. Errors: UserError, where there is neither.
    """
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        return path
    if not is_id(name):
        raise UserError(f"there is no folder {path}; give a Hugging Face LLaMA folder or hub id")
    # imported here: it takes half a second
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = [*SMALL, "*.safetensors"] if weights else SMALL
    try:
        path = pathlib.Path(snapshot_download(name, allow_patterns=wanted))
        if weights and not any(path.glob("*.safetensors")):  # some hold PyTorch's files alone
            snapshot_download(name, allow_patterns=["*.bin"])
        return path
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:160]
        raise UserError(
            f"'{name}' is no folder here and cannot be fetched from the hub ({reason}); give the "
            f"path of a downloaded folder, or see to network, name and login"
        ) from None


def public(name: str) -> str:
    """A name for others: of a path on this machine, which says nothing to them, its last part."""
    path = pathlib.Path(name).expanduser()
    return path.resolve().name if name and path.exists() else name
