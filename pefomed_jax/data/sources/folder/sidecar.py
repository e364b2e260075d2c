"""Images with a text of the same name beside each: a.png and a.txt."""

import pathlib

from pefomed_jax.batch import Case
from pefomed_jax.data.reading import SUFFIXES
from pefomed_jax.data.sources import texts as texts_lib
from pefomed_jax.data.sources.files import ListSource, RowError
from pefomed_jax.data.sources.folder.table import ENDINGS, SPLITS
from pefomed_jax.data.sources.listing import Listing
from pefomed_jax.errors import UserError

NAMED = 3


def add(source: ListSource, task: str, listing: Listing) -> None:
    """Adds the images of all folders, in the order of names. Errors: no text at all, or vqa."""
    images = sorted(path for path in listing.paths if _is_image(path))
    texts = {path for path in listing.paths if path.lower().endswith(".txt")}
    beside = {image: _text_of(image) for image in images}
    if not texts.intersection(beside.values()):
        raise UserError(
            f"folder: {source.root} holds no table ({', '.join(ENDINGS)}) and no image with a text "
            "beside it (a.png, a.txt); set --config.data.dir or --config.data.folder.table"
        )
    if task == "vqa":
        raise UserError(
            f"folder: the texts beside the images of {source.root} serve configs/caption.py and "
            "configs/mrg.py; for questions write a table with image, question and answer"
        )
    both = sum(text in texts for text in beside.values())
    print(f"folder: {len(images)} images, {both} of them with a text of the same name beside them")
    if left := sorted(texts.difference(beside.values())):
        more = ", …" if len(left) > NAMED else ""
        shown = texts_lib.one_line(", ".join(left[:NAMED]))
        print(f"folder: texts without an image, not read: {shown}{more}")
    parted = any(_split(image) for image in images)
    for split in dict.fromkeys(SPLITS.values()):
        own = [image for image in images if (_split(image) or "train") == split]
        if own:
            read = _Reader(source.root, texts, parted)
            source.add(split, pathlib.Path(source.root).name, own, read.case)


class _Reader:
    def __init__(self, root: str, texts: set[str], parted: bool):
        self.root, self.texts, self.parted = pathlib.Path(root), texts, parted

    def case(self, image: str, number: int, split: str) -> Case:
        if self.parted and not _split(image):
            remedy = "move it into train, val or test"
            raise RowError("image", f"{image} is in no folder of a split, others are", remedy)
        name = _text_of(image)
        if name not in self.texts:
            raise RowError("text", f"no {name} beside {image}", "write it or remove the image")
        try:
            text = (self.root / name).read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError as error:
            problem = f"{name} is not UTF-8 at byte {error.start}"
            raise RowError("text", problem, "save it as UTF-8") from None
        except OSError as error:
            problem = f"{name} cannot be read ({error.strerror})"
            raise RowError("text", problem, "see to its rights") from None
        if not text:
            raise RowError("text", f"{name} is empty", "write it or remove both")
        return Case(f"{split}-{image}", (image,), "", text, split)


def _is_image(path: str) -> bool:
    return pathlib.PurePosixPath(path).suffix.lower() in SUFFIXES


def _text_of(image: str) -> str:
    return pathlib.PurePosixPath(image).with_suffix(".txt").as_posix()


def _split(image: str) -> str:
    """The split whose name a folder on the way to an image has; '' for none."""
    parents = pathlib.PurePosixPath(image).parts[:-1]
    return next((SPLITS[part.lower()] for part in parents if part.lower() in SPLITS), "")
