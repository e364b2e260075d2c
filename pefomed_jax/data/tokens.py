"""Rows: one image with its branches as arrays, and rows put together to a `Batch`.

A row is the prefix (BOS, the piece before the images, the slots of each image with a piece between
two of them) and n >= 1 branches (the piece after the images, the answer, EOS). Pieces are
tokenised one by one, as the official code does, so that SentencePiece puts its dummy blank at the
front of each.
Letters: B rows, T tokens, A answer positions.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from pefomed_jax.batch import Batch
from pefomed_jax.data.prompts import Text

Branch = tuple[list[int], list[int]]  # token ids of the prompt, and of the answer with its EOS
SLOT = -1  # in a prefix: here goes the next visual token


@dataclasses.dataclass(frozen=True)
class Row:
    """Arrays of one row before padding; int32. See docs/architecture.md for what they mean."""

    tokens: Int[np.ndarray, " t"]
    positions: Int[np.ndarray, " t"]
    branch: Int[np.ndarray, " t"]
    image_slot: Int[np.ndarray, " t"]
    target_pos: Int[np.ndarray, " a"]
    targets: Int[np.ndarray, " a"]


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Text to rows. `n_visual` slots an image; `double_bos` is the official evaluation."""

    tokenizer: Any  # of Hugging Face
    n_visual: int
    double_bos: bool = False

    @property
    def eos(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def pad(self) -> int:
        """The id under padding and image slots; neither is ever read."""
        pad = self.tokenizer.pad_token_id
        return self.eos if pad is None else int(pad)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each piece, without special tokens."""
        if not texts:
            return []
        return self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]

    def n_bos(self, training: bool) -> int:
        """BOS tokens at the front of a row."""
        return 2 if self.double_bos and not training else 1

    def rows(self, rows: Sequence[Sequence[Text]], training: bool) -> list[Row]:
        """Images with their cases, answers included."""
        ids = self._ids(p for texts in rows for t in texts for p in t.pieces)
        made = []
        for texts in rows:
            branches = [(ids[text.after], [*ids[text.answer], self.eos]) for text in texts]
            made.append(build(self._prefix(texts[0], ids, training), branches, self.pad))
        return made

    def prompt_rows(self, texts: Sequence[Text]) -> list[Row]:
        """Images with one question each, to be answered: no answer, no targets."""
        return self.question_rows([[text] for text in texts])

    def question_rows(self, rows: Sequence[Sequence[Text]]) -> list[Row]:
        """Images with their questions, to be answered: no answers, no targets."""
        ids = self._ids(p for texts in rows for t in texts for p in t.pieces[:-1])
        made = []
        for texts in rows:
            branches = [(ids[text.after], []) for text in texts]
            made.append(build(self._prefix(texts[0], ids, training=False), branches, self.pad))
        return made

    def prefix(self, text: Text, training: bool) -> list[int]:
        """Token ids of the shared prefix, SLOT where visual tokens go."""
        return self._prefix(text, self._ids(text.pieces[:2]), training)

    def _ids(self, pieces: Iterable[str]) -> dict[str, list[int]]:
        distinct = list(dict.fromkeys(pieces))
        return dict(zip(distinct, self.encode(distinct), strict=True))

    def _prefix(self, text: Text, ids: dict[str, list[int]], training: bool) -> list[int]:
        image = [SLOT] * self.n_visual
        shown = [image, *[[*ids[text.between], *image]] * (text.images - 1)][: text.images]
        bos = [int(self.tokenizer.bos_token_id)] * self.n_bos(training)
        return [*bos, *ids[text.before], *(token for each in shown for token in each)]


def build(prefix: Sequence[int], branches: Sequence[Branch], pad: int) -> Row:
    """A row from token ids: the prefix, SLOT for visual tokens, then (prompt, target) by branch.

    The target of position i is the token at i + 1, so targets start at the last prompt token.
    """
    n_prefix = len(prefix)
    tokens, positions = [pad if i == SLOT else i for i in prefix], [*range(n_prefix)]
    branch = [0] * n_prefix
    target_pos, targets = [], []
    for number, (prompt, target) in enumerate(branches, 1):
        first = len(tokens) + len(prompt) - 1
        target_pos += range(first, first + len(target))
        targets += target
        length = len(prompt) + len(target)
        tokens += prompt + target
        positions += range(n_prefix, n_prefix + length)
        branch += [number] * length
    slot = np.full(len(tokens), -1, np.int32)
    visual = np.flatnonzero(np.asarray(prefix) == SLOT)
    slot[visual] = np.arange(len(visual))
    arrays = (np.asarray(x, np.int32) for x in (tokens, positions, branch))
    return Row(*arrays, slot, np.asarray(target_pos, np.int32), np.asarray(targets, np.int32))


def collate(
    rows: Sequence[Row | None],
    length: int,
    answers: int,
    visual: Shaped[np.ndarray, "B I ..."],
    pad: int,
) -> Batch:
    """Rows padded to (T, A) = (length, answers); None is a row of padding only.

    `visual` are images, uint8 [B, I, H, W, 3], or features, float [B, I, P, E].

    Errors: ValueError when a row does not fit (nothing is ever cut).
    """
    size = len(rows)
    tokens = np.full((size, length), pad, np.int32)
    positions = np.tile(np.arange(length, dtype=np.int32), (size, 1))
    branch, slot = np.full((size, length), -1, np.int32), np.full((size, length), -1, np.int32)
    target_pos, targets = (np.zeros((size, answers), np.int32) for _ in range(2))
    weights = np.zeros((size, answers), np.float32)
    for i, row in enumerate(rows):
        if row is None:
            continue
        t, a = len(row.tokens), len(row.targets)
        if t > length or a > answers:
            raise ValueError(f"a row of {t} tokens, {a} targets is not in ({length}, {answers})")
        tokens[i, :t], positions[i, :t] = row.tokens, row.positions
        branch[i, :t], slot[i, :t] = row.branch, row.image_slot
        target_pos[i, :a], targets[i, :a] = row.target_pos, row.targets
        weights[i, :a] = 1.0
    arrays = (tokens, positions, branch, slot, target_pos, targets, weights)
    kind = "images" if visual.ndim == 5 else "features"
    return Batch(*arrays, **{kind: visual}).validate()


def count(encoder: Encoder, pieces: Iterable[str], chunk: int = 4096) -> dict[str, int]:
    """Number of tokens of each distinct piece; `chunk` pieces are held as ids at a time."""
    distinct = list(dict.fromkeys(pieces))
    lengths: dict[str, int] = {}
    for start in range(0, len(distinct), chunk):
        part = distinct[start : start + chunk]
        lengths.update(zip(part, map(len, encoder.encode(part)), strict=True))
    return lengths
