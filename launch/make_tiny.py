"""Pretrains the embedded tiny base and writes it to pefomed_jax/assets/tiny (see docs/tiny.md).

python launch/make_tiny.py --workdir=/tmp/tiny          # started again, it goes on where it was
"""

import pathlib

from absl import app, flags

from pefomed_jax import base, config
from pefomed_jax.pretrain import decoder, drawings, tokenizer, vision

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "/tmp/make_tiny", "drawings and checkpoints")
flags.DEFINE_string("out", str(base.ASSETS), "where the base goes")
flags.DEFINE_integer("seed", 0, "of everything")
flags.DEFINE_integer("phantoms", 24_000, "drawn for the vision tower")
flags.DEFINE_integer("vision_steps", 3000, "of the vision tower, 32 pictures each")
flags.DEFINE_integer("decoder_steps", 1200, "of the decoder, 32 texts each")


def main(_: list[str]) -> None:
    workdir, out = pathlib.Path(FLAGS.workdir), pathlib.Path(FLAGS.out)
    model = config.make("mrg").model
    tokenizer.write(out)
    drawn = drawings.prepare(FLAGS.phantoms, model.vision.image_size, workdir / "drawings")
    tower, seen = vision.train(model, drawn, FLAGS.vision_steps, workdir / "vision", FLAGS.seed)
    words = base.read_tokenizer(out)
    tree, said = decoder.train(
        model, tower, drawn, words, FLAGS.decoder_steps, workdir / "decoder", FLAGS.seed
    )
    names = ("seed", "phantoms", "vision_steps", "decoder_steps")
    made = {name: FLAGS[name].value for name in names} | {"vision": seen, "decoder": said}
    base.write(out, tree, made)


if __name__ == "__main__":
    app.run(main)
