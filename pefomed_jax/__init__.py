"""Parameter-efficient fine-tuning of multimodal language models on medical images, in JAX."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Model", "load"]

if TYPE_CHECKING:
    from pefomed_jax.api import Model, load


def __getattr__(name: str) -> Any:
    # late: a command line with a wrong flag should not wait for JAX
    if name not in __all__:
        raise AttributeError(f"module 'pefomed_jax' has no attribute '{name}'")
    from pefomed_jax import api

    return getattr(api, name)
