"""Answer the cases of a data set, or one prompt about a folder of images.

python launch/predict.py --weights=runs/vqa-tiny-phantom --out=predictions.jsonl --shuffled
python launch/predict.py --weights=runs/vqa-tiny-phantom --data=vqa_rad --data_dir=VQA-RAD \\
    --out=rad.jsonl
python launch/predict.py --weights=runs/mrg-tiny-phantom --images=FOLDER --out=reports.jsonl
python launch/predict.py --config=configs/vqa.py:7b --config.data.dir=path/to/VQA-RAD \\
    --config.weights.llm=LLAMA --config.weights.vision=eva_vit_g.pth \\
    --config.weights.checkpoint=minigptv2_checkpoint.pth --out=predictions.jsonl

What answers:
--weights=DIR        a run's folder (its best checkpoint), a folder of launch/convert.py, or llama/
                     + adapter/ + vision_proj.safetensors + preset.json; or demo (tiny, trained)
--config=FILE[:PRESET,data=SOURCE]   or what the config names: its fields weights.*
--set=FIELD=VALUE    with --weights, a field of their config; may be repeated: --set=mesh.fsdp=4
                     --set=model.dtype=bfloat16 (with --config: --config.FIELD=VALUE)

What is asked:
--data=SOURCE        phantom, vqa_rad or pefomed; default: the run's or the config's own
--data_dir=FOLDER    where it lies
--split=test         or val, train: as a run of the same config calls them
--images=PATH        instead: a folder with all below it, a text file of paths, or one image.
                     DICOM files need no suffix; of several frames the first is shown, a list
                     may name others: FILE#5 (from 0). Images that do not open are listed, and the
                     exit code is then 1; hidden files, dead links and files that are no images
                     are counted
--prompt=TEXT        the question about --images; of a report or caption the whole instruction
                     (default: the one that evaluation gives)
--limit=N            the first N cases; 0: all (default: the config's limit of that split)

How it is answered (names and meanings of transformers; greedy by default):
--max_new_tokens=N   default eval.max_new_tokens
--min_new_tokens=0   no end before
--eos=ID,ID          tokens that end an answer, besides the tokenizer's and those of the decoder's
                     generation_config.json
--beams=1            beam search, with
--length_penalty=1   and --early_stopping=false, true or never
--sample             draw, with --temperature=1 --top_k=0 (all) --top_p=1 --seed=0; a case's answer
                     depends on the seed and on its id, not on the other cases
--repetition_penalty=1
--[no]merge          LoRA merged into the weights, or beside them (default: merged where all is
                     float32; in bfloat16 merging rounds most of a LoRA away)
--branches=1         questions about one image in a row, at most: its tokens are computed once
--batch_size=N       rows at once; default eval.batch_size

What is written:
--out=FILE.jsonl     one line a case, in the order of the data: id, image (not of a case of text
                     alone), images (all, where it has several), prompt, reference, prediction,
                     n_tokens (of the answer, without its end), log_prob (mean natural
                     log-probability that the model gives a token of the answer, its end included),
                     cut (true: the limit came before the end), split, and the source's fields.
                     Until all are there the rows are in FILE.jsonl.part; after a kill the same
                     command goes on. FILE.jsonl.meta.json says what made them
--shuffled           also FILE_shuffled.jsonl: the same questions about other images, the control
                     that launch/evaluate.py looks for
--save_images=FOLDER  the images of the cases, each once, named as in the rows: files as they
                     are; as PNG what is drawn, DICOM, and parts of files (frames, boxes, rows of
                     tables). launch/evaluate.py finds them there and shows them on its page
--overwrite          begin anew where --out is there
"""

import ast
import pathlib

from absl import flags
from ml_collections import ConfigDict, config_flags

from pefomed_jax import cli
from pefomed_jax.errors import UserError
from pefomed_jax.parallel import join

join.define_flags()
CONFIG = config_flags.DEFINE_config_file("config", None, "the config: FILE[:PRESET,data=SOURCE]")
WEIGHTS = flags.DEFINE_string("weights", "", "folder of a run, or of weights")
SET = flags.DEFINE_multi_string("set", [], "a field of the config of --weights")
DATA = flags.DEFINE_string("data", "", "data set")
DATA_DIR = flags.DEFINE_string("data_dir", "", "folder of the data set")
SPLIT = flags.DEFINE_enum("split", None, ["test", "val", "train"], "split")
IMAGES = flags.DEFINE_string("images", "", "folder or list of images")
PROMPT = flags.DEFINE_string("prompt", "", "what is asked about --images")
LIMIT = flags.DEFINE_integer("limit", None, "cases", lower_bound=0)
DECODING = (
    flags.DEFINE_integer("max_new_tokens", None, "tokens of an answer, at most"),
    flags.DEFINE_integer("min_new_tokens", None, "no end before"),
    flags.DEFINE_integer("beams", None, "beams of a beam search"),
    flags.DEFINE_float("length_penalty", None, "of beams"),
    flags.DEFINE_enum("early_stopping", None, ["true", "false", "never"], "of beams"),
    flags.DEFINE_bool("sample", None, "draw tokens"),
    flags.DEFINE_float("temperature", None, "of sampling"),
    flags.DEFINE_integer("top_k", None, "of sampling; 0: all"),
    flags.DEFINE_float("top_p", None, "of sampling"),
    flags.DEFINE_float("repetition_penalty", None, "on tokens that were there"),
)
EOS = flags.DEFINE_list("eos", [], "further tokens that end an answer")
MERGE = flags.DEFINE_bool("merge", None, "LoRA merged into the weights")
BRANCHES = flags.DEFINE_integer("branches", 1, "questions in a row", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 0, "rows at once", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "seed of sampling", lower_bound=0)
OUT = flags.DEFINE_string("out", "", "file of predictions")
SHUFFLED = flags.DEFINE_bool("shuffled", False, "also with images shuffled")
SAVE_IMAGES = flags.DEFINE_string("save_images", "", "folder for the images")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "begin anew")


def main() -> int:
    if not OUT.value or bool(WEIGHTS.value) == (CONFIG.value is not None):
        raise UserError("--out=FILE and one of --config=FILE, --weights=DIR are needed; see --help")
    if pathlib.Path(OUT.value).suffix != ".jsonl":
        raise UserError(f"--out={OUT.value}: name it FILE.jsonl, one JSON object a line")
    try:
        return _predict()
    except UserError as error:
        way = "--set=" if WEIGHTS.value else "--config."
        raise UserError(str(error).replace("--config.", way)) from None


def _predict() -> int:
    # imported late: a wrong flag should not wait for JAX
    from pefomed_jax.training import answer
    from pefomed_jax.training.cases import Wanted

    return answer.run(
        answer.Request(
            config=_config(),
            out=pathlib.Path(OUT.value),
            wanted=Wanted(
                split=SPLIT.value or "",
                images=IMAGES.value,
                prompt=PROMPT.value,
                branches=BRANCHES.value,
                batch_size=BATCH_SIZE.value,
                limit=LIMIT.value,
            ),
            shuffled=SHUFFLED.value,
            decoding=_decoding(),
            merge=MERGE.value,
            seed=SEED.value,
            overwrite=OVERWRITE.value,
            save_images=pathlib.Path(SAVE_IMAGES.value) if SAVE_IMAGES.value else None,
        )
    )


def _config() -> ConfigDict:
    from pefomed_jax.training import opened

    data = {"data.source": DATA.value, "data.dir": DATA_DIR.value}
    given = {name: value for name, value in data.items() if value}
    if not WEIGHTS.value:
        if SET.value:
            raise UserError("--set belongs to --weights; set fields as --config.FIELD=VALUE")
        return opened.with_fields(CONFIG.value, given)
    if not (given or IMAGES.value or opened.has_data(WEIGHTS.value)):
        raise UserError(
            f"{WEIGHTS.value} is no run, so it has no data of its own: add --data=SOURCE "
            "--data_dir=FOLDER, or --images=FOLDER"
        )
    return opened.config(WEIGHTS.value, dict(map(_field, SET.value)) | given)


def _field(text: str) -> tuple[str, object]:
    """FIELD=VALUE; a value that is no Python literal is text."""
    name, sign, value = text.partition("=")
    if not sign:
        raise UserError(f"--set={text}: write --set=FIELD=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, {"true": True, "false": False}.get(value.lower(), value)


def _decoding() -> dict[str, object]:
    given = {flag.name: _plain(flag.value) for flag in DECODING if flag.value is not None}
    if EOS.value:
        if wrong := [text for text in EOS.value if not text.isdecimal()]:
            raise UserError(f"--eos: '{wrong[0]}' is no token id; write --eos=2,128009")
        given["eos"] = [int(text) for text in EOS.value]
    return given


def _plain(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


if __name__ == "__main__":
    cli.run(main)
