"""MedICaT (Subramanian et al., Findings of EMNLP 2020, arXiv:2010.06000).

217,060 figures of 131,410 open papers, all outside ROCO, as the archive unpacks (release/):

    s2_full_figures_oa_nonroco_combined_medical_top4_public.jsonl    a figure a line
    subcaptions_public.jsonl    2,069 compound figures: boxes, and the words of each one's caption
    figures/<pdf_hash>_<fig_uri>

roco_references/ (passages about figures of ROCO) is not read. The folder sample/ of the release's
repository has the same form. A caption is `s2_caption`, or `s2orc_caption` where that is empty,
and begins as in the paper ("Figure 2."); three quarters of the figures are compound.

`data.medicat.radiology_only`: only figures that the release marks `radiology`, as public
pre-training recipes do (M3AE); the others are endoscopy, histology and other medical pictures.
`data.medicat.images`: "figures", or "subfigures": the annotated boxes, cropped, each with the words
of its own; some boxes are a line without height, and bad rows. A crop's name carries its box in
pixels, as media fragments do: figures/x.png#xywh=1,2,30,40.

The figures have no official split. A paper's hash decides, so that no paper is on two sides, and
whatever is read, a paper is on the same: 90 of 100 papers train, 5 validate, 5 test.
"""

import functools
import pathlib

from ml_collections import ConfigDict

from pefomed_jax.data.sources import captions, files, pefomed, tables
from pefomed_jax.data.sources.medicat import boxes, figures
from pefomed_jax.errors import UserError

SUBCAPTIONS = "subcaptions_public.jsonl"
FIGURES = "figures"
INSIDE = (".", "release", "*")  # where the lists may lie
SPLIT_LINE = (
    "medicat: no official split; 90 of 100 papers train, 5 validate, 5 test, by the hash of "
    "pdf_hash, so that none is on two sides"
)


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: the list or the figures are not in the folder, or flags are missing."""
    root = files.folder_of(config, "medicat")
    if pefomed.holds(root):
        return pefomed.read("medicat", root, config)
    base = _base(root)
    whole = config.data.medicat.images == "figures"
    listed = _list(base) if whole else base / SUBCAPTIONS
    wanted = figures.Wanted(functools.partial(_list, base), config.data.medicat.radiology_only)
    images = captions.Images(root, captions.folders(base / FIGURES, 0), str(base / FIGURES))
    kind = files.ListSource if whole else boxes.Source
    source = kind("medicat", "caption", str(root))
    name = listed.relative_to(root).as_posix()
    if whole:
        read = functools.partial(figures.case, images)
        source.add("train", name, tables.read_jsonl(listed), read, wanted)
    else:
        boxes.add(source, name, images, tables.read_jsonl(listed), wanted)
    wanted.say()
    print(SPLIT_LINE)
    return source


def _base(root: pathlib.Path) -> pathlib.Path:
    """The folder that holds figures/."""
    tried = (path for place in INSIDE for path in sorted(root.glob(f"{place}/{FIGURES}")))
    found = next((path for path in tried if path.is_dir()), None)
    if found is None:
        raise UserError(
            f"data.dir: no folder {FIGURES} in {root} nor one folder deeper; set --config.data.dir "
            "to where medicat_release.tar.gz was unpacked"
        )
    return found.parent


def _list(base: pathlib.Path) -> pathlib.Path:
    """The list of figures. Errors: none, or several."""
    there = [path for path in sorted(base.glob("*.jsonl")) if path.name != SUBCAPTIONS]
    if len(there) == 1:
        return there[0]
    problem = f"both {there[0].name} and {there[1].name}" if there else "no list of figures"
    raise UserError(
        f"data.dir: {base} has {problem}; keep s2_full_figures_oa_nonroco_….jsonl there, which "
        "also says what is radiology"
    )
