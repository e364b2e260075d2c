"""The model card that goes with an export, filled from the run."""

import datetime
import json
import pathlib
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from pefomed_jax import __version__
from pefomed_jax.parallel import paths
from pefomed_jax.weights import names

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
    "native": """    python launch/train.py --config=… --config.weights.base=THIS_FOLDER""",
    "pth": """The layout of MiniGPT-v2 and PeFoMed: give it as `model.ckpt`.""",
}


def write(config: ConfigDict, to: str, held: list[str], run: pathlib.Path | None = None) -> str:
    """Markdown with a front matter. `held`: lines of what the export holds; `run`: its folder."""
    trained = run is not None
    front = {"license": "other", "library_name": "peft" if to == "adapter" else "transformers"}
    front |= {"tags": ["pefomed_jax", "medical", "radiology", config.task]}
    if config.weights.llm:
        name = config.weights.llm
        front["base_model"] = pathlib.Path(name).name if pathlib.Path(name).exists() else name
    named = {k: v for k, v in config.weights.items() if v and k != "checkpoint"}
    # a folder of this machine says nothing to others: its name is enough
    base = {k: pathlib.Path(v).name if pathlib.Path(v).exists() else v for k, v in named.items()}
    lines = ["---", *(f"{k}: {json.dumps(v)}" for k, v in front.items()), "---", ""]
    lines += [f"# {config.task} model of pefomed_jax {__version__}", ""]
    lines += [f"Written on {datetime.date.today().isoformat()} as `{to}`.", ""]
    lines += ["> Research software. Not a medical device; not for clinical decisions.", ""]
    lines += ["## Use", "", USES[to], "", "## What it holds", ""]
    lines += [*(f"- `{line}`" for line in held), ""]
    lines += ["## Base", "", *(f"- `weights.{k}`: {v}" for k, v in base.items())]
    lines += [f"- sizes: `{json.dumps(config.model.to_dict())}`", ""]
    lines += ["## Licences", "", "- base: the licence of its own weights goes on to hold "]
    lines[-1] += "(for LLaMA-2 the LLAMA 2 Community License)"
    if trained:
        source = config.data.source
        lines += [f"- data: {DATA_LICENCES.get(source, 'those of ' + source)}"]
        lines += ["", "## Training", "", f"- data: `{source}`, task `{config.task}`"]
        lines += [f"- {config.train.steps} steps of {config.train.batch_size} rows"]
        lines += [f"- LoRA rank {config.lora.rank}, alpha {config.lora.alpha:g}"]
        lines += [f"- optimizer: `{json.dumps(config.optimizer.to_dict())}`", ""]
        lines += _scores(run)
    return "\n".join(lines).rstrip() + "\n"


def _scores(run: pathlib.Path) -> list[str]:
    path = run / "results.json"
    if not path.is_file():
        return ["No results.json: this run was exported before its evaluation."]
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    test, shuffled = results["test"], results.get("test_shuffled") or {}
    rows = ["## Scores", "", "| score | test | images shuffled |", "| --- | --- | --- |"]
    for name, value in test.items():
        other = f"{shuffled[name]:.3f}" if name in shuffled else "-"
        rows.append(f"| `{name}` | {value:.3f} | {other} |")
    return [*rows, "", f"Counts: `{json.dumps(results['counts'])}`"]


def kinds(tree: dict[str, Any]) -> list[str]:
    """What a tree holds, one line for the same leaf of all layers."""
    rows: dict[tuple[str, str], int] = {}
    for path, leaf in flatten_dict(tree, sep="/").items():
        layers = leaf.shape[0] if paths.is_stacked(path) else 1
        shape = ",".join(map(str, leaf.shape[1:] if paths.is_stacked(path) else leaf.shape))
        key = paths.collapse(names.canonical(path, leaf)[0]), f"{leaf.dtype.name}[{shape}]"
        rows[key] = rows.get(key, 0) + layers
    return [f"{path} {shape} × {count}" for (path, shape), count in rows.items()]
