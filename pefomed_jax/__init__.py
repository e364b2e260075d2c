"""Parameter-efficient fine-tuning of multimodal language models on medical images, in JAX."""

__version__ = "0.1.0"
