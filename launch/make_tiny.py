"""Pretrains the embedded tiny base and writes it to pefomed_jax/assets/tiny (see docs/tiny.md).

python launch/make_tiny.py          # half an hour on two cores; started again, it goes on

--workdir=FOLDER     drawings and checkpoints; default runs/make_tiny
--out=FOLDER         where the base goes
--seed, --phantoms, --vision_steps, --decoder_steps   the recipe
"""

import json
import pathlib
from typing import Any

from absl import flags

from pefomed_jax import base, cli, config
from pefomed_jax.errors import UserError
from pefomed_jax.pretrain import decoder, drawings, tokenizer, vision

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "runs/make_tiny", "drawings and checkpoints")
flags.DEFINE_string("out", str(base.ASSETS), "where the base goes")
flags.DEFINE_integer("seed", 0, "of everything")
flags.DEFINE_integer("phantoms", 24_000, "drawn for the vision tower", lower_bound=1)
flags.DEFINE_integer("vision_steps", 1200, "of the vision tower, 32 pictures each", lower_bound=1)
flags.DEFINE_integer("decoder_steps", 2000, "of the decoder, 32 texts each", lower_bound=1)
RECIPE = ("seed", "phantoms", "vision_steps", "decoder_steps")


def main() -> None:
    workdir, out, seed = pathlib.Path(FLAGS.workdir), pathlib.Path(FLAGS.out), FLAGS.seed
    recipe = {name: FLAGS[name].value for name in RECIPE}
    claim(workdir, recipe)
    model = config.make("mrg").model
    tokenizer.write(out)
    drawn = drawings.prepare(FLAGS.phantoms, model.vision.image_size, workdir / "drawings")
    tower, seen = vision.train(model, drawn, FLAGS.vision_steps, workdir / "vision", seed)
    words = base.read_tokenizer(out)
    folder = workdir / "decoder"
    tree, said = decoder.train(model, tower, drawn, words, FLAGS.decoder_steps, folder, seed)
    base.write(out, tree, recipe | {"vision": seen, "decoder": said})


def claim(workdir: pathlib.Path, recipe: dict[str, Any]) -> None:
    """Notes the recipe in the folder. Errors: UserError where another was begun there."""
    path = workdir / "recipe.json"
    begun = json.loads(path.read_text()) if path.exists() else recipe
    other = [f"{name}={begun.get(name)}" for name in recipe if begun.get(name) != recipe[name]]
    if other:
        raise UserError(
            f"{workdir} was begun with {', '.join(other)}: give the same, or another --workdir"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(recipe, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
