"""An answer while it is made: its tokens as an iterator, and its text in pieces that stay."""

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from pefomed_jax.batch import Batch
from pefomed_jax.decoding.generate import make_generate
from pefomed_jax.decoding.options import Options
from pefomed_jax.decoding.text import to_text

MARKS = ("<s>", "</s>", "[/INST]")  # what `to_text` looks for, which may come letter by letter
BROKEN = "\ufffd"  # stands for the bytes of a character that is not whole


class Streaming:
    """One program that streams, compiled at its first call; one device, one row, no beams."""

    def __init__(self, model: Any, options: Options):
        self._generate = make_generate(model, options, stream=self._hear)
        self._heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._running: threading.Thread | None = None

    def tokens(
        self, mesh: jax.sharding.Mesh, params: Any, batch: Batch, key: jax.Array | None
    ) -> Iterator[int]:
        """The tokens of the answer, without its end.

        An answer whose iterator is left early is made to its end; the next one waits for that.
        """
        if self._running is not None:
            self._running.join()
        self._heard = queue.SimpleQueue()
        arguments = (mesh, params, batch, key)
        self._running = threading.Thread(target=self._run, args=arguments, daemon=True)
        self._running.start()
        while (heard := self._heard.get()) is not None:
            if isinstance(heard, BaseException):
                raise heard
            yield heard

    def _run(self, mesh: jax.sharding.Mesh, *arguments: Any) -> None:
        try:
            with jax.set_mesh(mesh):
                jax.block_until_ready(self._generate(*arguments))
                jax.effects_barrier()
        except BaseException as error:  # whatever it is belongs to whoever waits for the answer
            self._heard.put(error)
        finally:
            self._heard.put(None)

    def _hear(self, tokens: Any, ended: Any) -> None:
        # as NumPy: an operation of JAX would wait for the program that calls
        if not np.asarray(ended)[0]:
            self._heard.put(int(np.asarray(tokens)[0]))


class Pieces:
    """Text of a growing answer: `add` gives what a token settles, `rest` what is left at the end.

    All pieces together are `to_text` of all tokens, except that a `[/INST]` which the model spells
    out cannot take back the pieces before it. What a later token may change is held back: blanks
    at the end, characters whose bytes are not all there, and what may become a mark.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer, self._tokens = tokenizer, []
        self._special = set(tokenizer.all_special_ids)
        self._said = ""

    def add(self, token: int) -> str:
        """What can be shown with one more token; '' where nothing can."""
        self._tokens.append(token)
        spelled = self._tokenizer.convert_ids_to_tokens(token)
        # bytes in a row are read together: one more may undo a character
        if token in self._special or (spelled.startswith("<0x") and spelled.endswith(">")):
            return ""
        return self._settle(_settled(self._text()))

    def rest(self) -> str:
        """What `add` has held back."""
        return self._settle(self._text())

    def _text(self) -> str:
        return to_text(self._tokenizer, np.asarray(self._tokens, np.int32))

    def _settle(self, text: str) -> str:
        if self._said.startswith(text):
            return ""
        new = text.removeprefix(self._said) if text.startswith(self._said) else text
        self._said = text
        return new


def _settled(text: str) -> str:
    """The text without an end that more tokens may change."""
    text = text.rstrip(BROKEN)
    for mark in MARKS:
        for n in range(len(mark) - 1, 0, -1):
            if text.endswith(mark[:n]):
                return text[:-n].rstrip()
    return text.rstrip()


def pieces(tokenizer: Any, tokens: Iterator[int]) -> Iterator[str]:
    """The text of these tokens, piece by piece; none is empty."""
    made = Pieces(tokenizer)
    with contextlib.closing(tokens):
        for token in tokens:
            if piece := made.add(token):
                yield piece
    if piece := made.rest():
        yield piece
