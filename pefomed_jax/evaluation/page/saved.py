"""The images of cases in a folder, under names by which the page finds them again."""

import io
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from pefomed_jax import whole
from pefomed_jax.batch import Case
from pefomed_jax.data import facts, reading
from pefomed_jax.data.images import to_rgb
from pefomed_jax.data.sources import Source
from pefomed_jax.errors import UserError

SUFFIX = ".png"  # of images that were no files
NOTE = "save_images"  # beside a file of predictions: where the images of its cases are
_UNSAFE = re.compile(r'[\x00-\x1f<>:"\\|?*%]|^\.+$')  # in a part of a path, on any system
_PNG_MODES = {"1", "L", "LA", "I;16", "P", "RGB", "RGBA"}


def file_name(image: str) -> str:
    """The path below the folder of an image's name, which cannot lead out of it.

    What no system takes in a name is written as %XX; the slash of an absolute path goes.
    """
    parts = (part for part in image.split("/") if part)
    return "/".join(_UNSAFE.sub(_escaped, part) for part in parts)


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"%{ord(letter):02X}" for letter in found.group())


def save(source: Source, cases: Sequence[Case], folder: pathlib.Path) -> int:
    """Each distinct image of the cases, once; returns how many.

    Files are copied under their own names. What is drawn, a part of a file (a frame, a box, a row
    of a table), or DICOM, whose file names the patient, becomes a PNG with `.png` added. What is
    there already is left. Errors: UserError where another image is there, two would be one file,
    or the folder cannot be written.
    """
    places = facts.places(source, cases)
    by_path: dict[pathlib.Path, str] = {}
    for image, where in tqdm(places.items(), desc="images", delay=2, disable=None, leave=False):
        data, suffix = _encoded(source.image(*where), image)
        name = file_name(image)
        path = folder / (name if name.lower().endswith(suffix) else name + suffix)
        if path in by_path:
            raise UserError(
                f"--save_images: the images '{by_path[path]}' and '{image}' would both be {path}; "
                "rename one of them in the data, or leave the flag out"
            )
        by_path[path] = image
        _write(path, data)
    return len(places)


def place(folder: pathlib.Path, predictions: pathlib.Path) -> str:
    """The folder as it is noted: from where the predictions are, if they can move together."""
    folder, beside = folder.resolve(), predictions.parent.resolve()
    return (folder.relative_to(beside) if folder.is_relative_to(beside) else folder).as_posix()


def _encoded(picture: Image.Image | np.ndarray, image: str) -> tuple[bytes, str]:
    """(content, suffix to add): of a file as it is and '', else a PNG and '.png'."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    with picture:
        file = getattr(picture, "filename", "")
        if file and _is_whole(pathlib.Path(file), image):
            return pathlib.Path(file).read_bytes(), ""
        data = io.BytesIO()
        plain = picture if picture.mode in _PNG_MODES else to_rgb(picture)
        plain.save(data, "PNG")
    return data.getvalue(), SUFFIX


def _is_whole(file: pathlib.Path, image: str) -> bool:
    """Whether a file holds the image of this name and no other."""
    if file.name != pathlib.PurePosixPath(image).name:
        return False
    with reading.quiet(), Image.open(file) as found:
        # MPO: a photograph with previews of itself
        return found.format == "MPO" or getattr(found, "n_frames", 1) == 1


def _write(path: pathlib.Path, data: bytes) -> None:
    """Leaves what is there already, if it is the same."""
    try:
        if path.exists():
            if path.read_bytes() == data:
                return
            raise UserError(
                f"--save_images: {path} is there and is another image; give another folder"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.write(path, data)
    except OSError as error:
        raise UserError(
            f"--save_images: {path} cannot be written ({error.strerror}); give another folder"
        ) from None
