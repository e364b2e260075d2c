"""A sheet of phantoms with what was drawn: python -m pefomed_jax.pretrain.grid FILE.png"""

import pathlib
import sys

import numpy as np
from PIL import Image, ImageDraw

from pefomed_jax.data.sources.phantom import draw, scene

SIZE, LABEL, COLUMNS, ROWS = 192, 30, 4, 2


def sheet(first_seed: int) -> Image.Image:
    """ROWS × COLUMNS pictures of as many different findings as the seeds from here on offer."""
    chosen = _various(first_seed)
    image = Image.new("L", (COLUMNS * SIZE, ROWS * (SIZE + LABEL)), 255)
    pen = ImageDraw.Draw(image)
    for place, content in enumerate(chosen):
        left, top = place % COLUMNS * SIZE, place // COLUMNS * (SIZE + LABEL)
        image.paste(Image.fromarray(draw.render(content, SIZE)[0]), (left, top))
        pen.multiline_text((left + 4, top + SIZE + 2), _label(content), fill=0, font_size=11)
    return image


def _various(seed: int) -> list[scene.Scene]:
    """A normal chest, then scenes that each show a finding not yet shown, two findings at least."""
    scenes = [scene.sample(number) for number in range(seed, seed + 400)]
    chosen = [next(s for s in scenes if not s.findings)]
    shown: dict[str, int] = dict.fromkeys(scene.FINDINGS, 0)
    while len(chosen) < ROWS * COLUMNS:
        rest = [s for s in scenes if s not in chosen and len(s.findings) in (1, 2)]
        best = min(rest, key=lambda s: np.mean([shown[name] for name in s.findings]))
        chosen.append(best)
        for name in best.findings:
            shown[name] += 1
    return chosen


def _label(content: scene.Scene) -> str:
    return ",\n".join(content.findings) or "no finding"


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet(scene.FIRST_SEED["test"]).save(target, optimize=True)
