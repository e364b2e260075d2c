"""The model card that goes with an export, filled from the run."""

import datetime
import json
import pathlib
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from pefomed_jax import __version__
from pefomed_jax.parallel import paths
from pefomed_jax.weights import bundle, hub, names

# as their distributors state them; credentialed sets have terms of their own
DATA_LICENCES = {
    "phantom": "drawn by this package (Apache-2.0)",
    "vqa_rad": "CC0 1.0 (VQA-RAD)",
    "pefomed": "those of the data sets in your folder",
}
USES = {
    "adapter": """    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    base = AutoModelForCausalLM.from_pretrained("BASE")
    model = PeftModel.from_pretrained(base, "THIS_FOLDER")

`connector.safetensors` holds what trained beside the adapter, under the names of MiniGPT-v2.""",
    "merged": """    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER")

`connector.safetensors` holds the connector, under the names of MiniGPT-v2. The adapter is in the
decoder's weights.""",
    "native": """    model = pefomed_jax.load("THIS_FOLDER")

To train on: `--config.weights.base=THIS_FOLDER`, and where LoRA is in it, to begin with that,
`--config.weights.checkpoint=THIS_FOLDER` too.""",
    "pth": """The layout of MiniGPT-v2 and PeFoMed: give it as `model.ckpt`.""",
}


class Run(NamedTuple):
    """Where an export was trained."""

    folder: pathlib.Path
    step: int  # of the checkpoint that was taken


def write(config: ConfigDict, to: str, held: list[str], run: Run | None = None) -> str:
    """Markdown with a front matter. `held`: lines of what the export holds."""
    library = {"adapter": "peft", "merged": "transformers"}.get(to, "pefomed_jax")
    front = {"license": "other", "library_name": library}
    front |= {"tags": ["pefomed_jax", "medical", "radiology", config.task]}
    if hub.is_id(config.weights.llm):
        front["base_model"] = config.weights.llm
    lines = ["---", *(f"{k}: {json.dumps(v)}" for k, v in front.items()), "---", ""]
    lines += [f"# {config.task} model of pefomed_jax {__version__}", ""]
    lines += [f"Written on {datetime.date.today().isoformat()} as `{to}`.", ""]
    lines += ["> Research software. Not a medical device; not for clinical decisions.", ""]
    lines += ["## Use", "", USES[to], "", "## What it holds", ""]
    lines += [*(f"- `{line}`" for line in held), "", "## Base", ""]
    lines += [f"- `weights.{k}`: {hub.public(v)}" for k, v in config.weights.items() if v]
    lines += [f"- sizes: `{json.dumps(config.model.to_dict())}`", ""]
    lines += ["## Licences", "", f"- base: {_base_licence(config.weights)}"]
    lines += _training(run) if run else []
    return "\n".join(lines).rstrip() + "\n"


def _base_licence(weights: ConfigDict) -> str:
    if weights.base == "tiny" and not (weights.llm or weights.vision):
        return "embedded in this package (Apache-2.0)"
    return (
        "the licence of its own weights goes on to hold (for LLaMA-2 the LLAMA 2 Community License)"
    )


def _training(run: Run) -> list[str]:
    """The rest of the licences, and how it was trained: as the run's own config says."""
    config = bundle.run_config(bundle.read_json(run.folder / "config.json"), run.folder)
    source, train, lora = config.data.source, config.train, config.lora
    return [
        f"- data: {DATA_LICENCES.get(source, 'those of ' + source)}",
        *("", "## Training", "", f"- data: `{source}`, task `{config.task}`"),
        f"- step {run.step} of {train.steps}, {train.batch_size} rows each, seed {config.seed}",
        f"- LoRA rank {lora.rank}, alpha {lora.alpha:g}, targets `{lora.targets}`",
        f"- trainable: `{json.dumps(config.trainable)}`",
        *(f"- optimizer: `{json.dumps(config.optimizer.to_dict())}`", ""),
        *_scores(run.folder / "results.json"),
    ]


def _scores(path: pathlib.Path) -> list[str]:
    if not path.is_file():
        return ["No results.json: this run was exported before its evaluation."]
    results = bundle.read_json(path)
    test, shuffled = results["test"], results.get("test_shuffled") or {}
    rows = ["## Scores", "", "| score | test | images shuffled |", "| --- | --- | --- |"]
    for name, value in test.items():
        cells = ("-" if v is None else f"{v:.3f}" for v in (value, shuffled.get(name)))
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    said = [f"Counts: `{json.dumps(results['counts'])}`"]
    if signature := results.get("signature"):
        said += ["", f"Signature: `{signature}`"]
    return [*rows, "", *said]


def kinds(tree: dict[str, Any]) -> list[str]:
    """What a tree holds, one line for the same leaf of all layers."""
    rows: dict[tuple[str, str], int] = {}
    for path, leaf in flatten_dict(tree, sep="/").items():
        layers = leaf.shape[0] if paths.is_stacked(path) else 1
        shape = ",".join(map(str, leaf.shape[1:] if paths.is_stacked(path) else leaf.shape))
        key = paths.collapse(names.canonical(path, leaf)[0]), f"{leaf.dtype.name}[{shape}]"
        rows[key] = rows.get(key, 0) + layers
    return [f"{path} {shape} × {count}" for (path, shape), count in rows.items()]
