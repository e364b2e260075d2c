"""Score predictions, with intervals, groups, a control, and a comparison with others.

python launch/evaluate.py --predictions=runs/vqa-tiny-phantom/predictions.jsonl \\
    --protocol=pefomed --out=scores
python launch/evaluate.py --predictions=mine.jsonl --compare=theirs.jsonl --protocol=coco \\
    --out=scores

--predictions=FILE   one JSON object a line with id, prediction, reference (a text or a list of
                     texts) and any fields, as launch/train.py and launch/predict.py write them; or
                     PeFoMed's .json lists
--references=FILE    annotations with the references by id, where the predictions have none
--protocol=NAME      vqa: pefomed, llava_med, strict; reports: coco, r2gen, r2gen-iu, r2gen-mimic,
                     raw, raw13a
--out=FOLDER         gets results.json, cases.jsonl, report.html, scores.csv, cases.csv
--compare=FILE       other predictions of the same cases: differences, intervals and p
--common_only        compare the cases that both files have; the others are listed
--shuffled=FILE      predictions of the same cases with other images; found by itself when it lies
                     beside FILE.jsonl as FILE_shuffled.jsonl
--split=NAME         the split, for the record; where rows have a field 'split', only those are
                     scored
--group_by=FIELDS    scores by these fields, as field,field (default: answer_type, question_type,
                     organ and the like, where there are few values)
--metrics=NAMES      further metrics, as name,name: --metrics=list shows them and what they need
--metric_weights=NAME=PATH    local weights of a metric; several with commas, as for the next two
--metric_python=NAME=PATH     interpreter with a metric's packages (default: this one)
--metric_options=NAME.OPTION=VALUE    docs/evaluation.md names the options of each metric
--images=FOLDER      images for the page, by the field 'image' (default: where launch/predict.py
                     --save_images has put them, if they are still there)
--resamples=1000     resamples of the intervals; 0: no intervals
--seed=0             of the resamples

docs/evaluation.md says what the protocols do and how to read the files.
"""

import pathlib

from absl import flags

from pefomed_jax import cli
from pefomed_jax.errors import UserError

PREDICTIONS = flags.DEFINE_string("predictions", "", "the file of predictions")
REFERENCES = flags.DEFINE_string("references", "", "annotations with the references")
PROTOCOL = flags.DEFINE_string("protocol", "", "how the texts are compared")
OUT = flags.DEFINE_string("out", "", "folder of what is written")
COMPARE = flags.DEFINE_string("compare", "", "other predictions of the same cases")
COMMON_ONLY = flags.DEFINE_bool("common_only", False, "compare the cases that both have")
SHUFFLED = flags.DEFINE_string("shuffled", "", "predictions with other images")
SPLIT = flags.DEFINE_string("split", "", "the split")
GROUP_BY = flags.DEFINE_list("group_by", None, "fields to group by")
METRICS = flags.DEFINE_list("metrics", [], "further metrics")
METRIC_WEIGHTS = flags.DEFINE_list("metric_weights", [], "local weights of metrics")
METRIC_PYTHON = flags.DEFINE_list("metric_python", [], "interpreters of metrics")
METRIC_OPTIONS = flags.DEFINE_list("metric_options", [], "options of metrics")
IMAGES = flags.DEFINE_string("images", "", "folder of the images")
RESAMPLES = flags.DEFINE_integer("resamples", 1000, "resamples of the intervals")
SEED = flags.DEFINE_integer("seed", 0, "seed of the resamples", lower_bound=0)

NEEDED = {
    "predictions": "try --predictions=runs/vqa-tiny-phantom/predictions.jsonl",
    "protocol": "try --protocol=pefomed for answers, --protocol=coco for reports",
    "out": "try --out=scores",
}


def main() -> int:
    from pefomed_jax.evaluation import command, plugins

    metric_flags = plugins.Flags(METRIC_WEIGHTS.value, METRIC_PYTHON.value, METRIC_OPTIONS.value)
    if METRICS.value == ["list"]:
        print(plugins.table(metric_flags))
        return 0
    for name, way in NEEDED.items():
        if not flags.FLAGS[name].value:
            raise UserError(f"--{name} is needed: {way}, or --help")
    command.evaluate(
        command.Request(
            predictions=pathlib.Path(PREDICTIONS.value),
            out=pathlib.Path(OUT.value),
            protocol=PROTOCOL.value,
            references=_path(REFERENCES.value),
            compare=_path(COMPARE.value),
            common_only=COMMON_ONLY.value,
            shuffled=_path(SHUFFLED.value),
            split=SPLIT.value,
            group_by=GROUP_BY.value,
            metrics=METRICS.value,
            metric_flags=metric_flags,
            images=_path(IMAGES.value),
            resamples=RESAMPLES.value,
            seed=SEED.value,
        )
    )
    return 0


def _path(name: str) -> pathlib.Path | None:
    return pathlib.Path(name) if name else None


if __name__ == "__main__":
    cli.run(main)
