"""Compare this model with a reference file that PyTorch wrote, number by number.

python launch/verify.py --weights=DIR --reference=FILE.npz

Prints the largest difference, max|a - b| / max|b|, of every tensor: vision tower, visual tokens,
logits, loss, gradients, and the parameters after some optimizer steps. Adam makes whole steps of
gradients near 0, whose sign is rounding; so there only what goes beyond the effect of PyTorch's own
rounding counts, which a second run here measures (training/rounding.py), and both figures are
printed. Exit code 1 where one is above the tolerance.

--weights=DIR       llama/, adapter/, vision_proj.safetensors or .pth and preset.json; or a folder
                    of launch/convert.py, or a run's folder
--reference=FILE    an .npz file of inputs and of what PyTorch made of them
--tolerance=NUMBER  default 5e-5
--all               a line for every tensor, not for the worst of each kind alone
"""

import pathlib

from absl import flags

from pefomed_jax import cli
from pefomed_jax.errors import UserError

WEIGHTS = flags.DEFINE_string("weights", "", "folder of the weights")
REFERENCE = flags.DEFINE_string("reference", "", "the .npz file")
TOLERANCE = flags.DEFINE_float("tolerance", 5e-5, "largest difference that passes")
ALL = flags.DEFINE_bool("all", False, "a line for every tensor")


def main() -> int:
    if not (WEIGHTS.value and REFERENCE.value):
        raise UserError("--weights=DIR and --reference=FILE.npz are needed; see --help")
    # imported late: a wrong flag should not wait for JAX
    from pefomed_jax.training import agree
    from pefomed_jax.weights import bundle

    arrays = agree.read(pathlib.Path(REFERENCE.value))
    found = list(agree.differences(bundle.config(WEIGHTS.value), arrays))
    shown = found if ALL.value else agree.worst_of_kinds(found)
    width = max(len(each.name) for each in shown)
    for name, value, largest in shown:
        note = "" if value <= TOLERANCE.value else "  TOO FAR"
        aside = "" if largest is None else f"  ({largest:.1e} with the effect of rounding)"
        print(f"{name:<{width}}  {value:.1e}{note}{aside}")
    far = sum(not each.value <= TOLERANCE.value for each in found)
    said = f"{far} of {len(found)} tensors are further than" if far else f"all {len(found)} within"
    print(f"{said} {TOLERANCE.value:g}")
    return 1 if far else 0


if __name__ == "__main__":
    cli.run(main)
