"""A model for notebooks: answers and likelihoods from images and words, without a run.

import pefomed_jax
model = pefomed_jax.load("runs/mrg-tiny-phantom")
model.generate(["film.png", ("frontal.dcm", "lateral.dcm"), ()], ["...", "...", "Text alone?"])
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax.batch import Batch, Case
from pefomed_jax.data import given
from pefomed_jax.data import prompts as prompts_lib
from pefomed_jax.data.given import Pictures, Shown
from pefomed_jax.data.pipeline import row_length
from pefomed_jax.data.prompts import Text
from pefomed_jax.data.tokens import Encoder, Row, collate
from pefomed_jax.decoding import merge, options, streaming
from pefomed_jax.decoding.generate import Generate, make_generate
from pefomed_jax.decoding.text import to_text
from pefomed_jax.errors import UserError
from pefomed_jax.models import mllm
from pefomed_jax.parallel.share import place
from pefomed_jax.training import opened, restore


class Model:
    """What `load` returns: `params` (all leaves), `config`, and the tokenizer they belong to."""

    def __init__(self, whole: restore.Restored):
        self.config: ConfigDict = whole.pieces.config
        self.mesh = whole.pieces.mesh
        self.params = whole.params
        self._model = whole.pieces.model
        self._prompts = prompts_lib.make(self.config)
        self._tokenizer: Any = None
        self._prepared: tuple[Any, Any] | None = None  # what it was made of, and for decoding
        self._programs: dict[options.Options, Generate] = {}
        self._streams: dict[options.Options, streaming.Streaming] = {}
        self._score = jax.jit(self._log_likelihood)

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer. Errors: UserError where the weights came without one."""
        if self._tokenizer is None:
            self._tokenizer = base_lib.tokenizer(self.config)
        return self._tokenizer

    def generate(
        self,
        images: Pictures,
        prompts: Sequence[str] | str = "",
        max_new_tokens: int = 0,
        batch_size: int = 8,
        decoding: Mapping[str, Any] = MappingProxyType({}),
        seed: int = 0,
    ) -> list[str]:
        """One answer for each item of `images`, greedy unless `decoding` asks for something else.

        `images`: Pillow images, arrays [H, W] or [H, W, 3] of uint8, or paths (also of DICOM files;
        "x.dcm#5" is a frame). An item may be a list or tuple of them, as of two views of a chest:
        [("frontal.png", "lateral.png")]; () is a prompt of text alone. `prompts`: one for each, or
        one for all; '' asks what the task asks (its first instruction), which VQA has not.
        `max_new_tokens`: 0: as in the config. `decoding`: fields of `decoding.options.Options`, as
        {"beams": 3} or {"sample": True, "top_p": 0.9}; `seed` is that of sampling, to which goes
        the number of the item in the list. Errors: UserError for lengths that differ, an image
        that cannot be opened, or a wrong setting.
        """
        generate = self._program(self._options(max_new_tokens, decoding))
        shown = given.listed(images)
        texts = self._texts(shown, prompts, [""] * len(shown))
        rows = self._encoder.prompt_rows(texts)
        answers: list[str] = []
        with jax.set_mesh(self.mesh):
            for batch, count in self._batches(rows, shown, batch_size):
                keys = _keys(seed, len(answers), len(batch.tokens))
                tokens, lengths, _ = generate(self._decoding_params(), batch, keys)
                pairs = zip(np.asarray(tokens), np.asarray(lengths), strict=True)
                answers += [to_text(self.tokenizer, t[:n]) for t, n in list(pairs)[:count]]
        return answers

    def stream(
        self,
        image: Shown,
        prompt: str = "",
        max_new_tokens: int = 0,
        decoding: Mapping[str, Any] = MappingProxyType({}),
        seed: int = 0,
    ) -> Iterator[str]:
        """The answer to one prompt in pieces of text, while it is made; no beams.

        `image` may be several, or (). Together they are what `generate` gives for [image].
        Errors: as there; and UserError where the model lies on several devices.
        """
        if self.mesh.size > 1:
            raise UserError(
                f"a stream comes from one device, this model is on {self.mesh.size}: start with "
                "one, as by CUDA_VISIBLE_DEVICES=0, or call generate"
            )
        asked = self._options(max_new_tokens, decoding)
        if asked not in self._streams:
            self._streams[asked] = streaming.Streaming(self._model, asked)
        shown = given.listed([image])
        (row,) = self._encoder.prompt_rows(self._texts(shown, prompt, [""]))
        with jax.set_mesh(self.mesh):
            ((batch, _),) = self._batches([row], shown, 1)
            params, keys = self._decoding_params(), _keys(seed, 0, 1)
        tokens = self._streams[asked].tokens(self.mesh, params, batch, keys)
        return streaming.pieces(self.tokenizer, tokens)

    def log_likelihood(
        self,
        images: Pictures,
        prompts: Sequence[str] | str,
        answers: Sequence[str],
        batch_size: int = 8,
    ) -> np.ndarray:
        """float32 [n]: log p(answer and its end | image, prompt) in nats, over all its tokens.

        `images`, `prompts`: as of `generate`.
        """
        if isinstance(answers, str):
            raise UserError("answers is a text; give a list, one for each image")
        shown = given.listed(images)
        if len(answers) != len(shown):
            raise UserError(f"{len(shown)} images, {len(answers)} answers: give one each")
        texts = self._texts(shown, prompts, answers)
        rows = self._encoder.rows([[text] for text in texts], training=False)
        out: list[np.ndarray] = []
        with jax.set_mesh(self.mesh):
            for batch, count in self._batches(rows, shown, batch_size):
                out.append(np.asarray(self._score(self.params, batch))[:count])
        return np.concatenate(out) if out else np.zeros(0, np.float32)

    @property
    def _encoder(self) -> Encoder:
        quirks = self._prompts.quirks
        n_visual = mllm.visual_tokens(self.config.model)
        return Encoder(self.tokenizer, n_visual, quirks.double_bos)

    def _texts(
        self, shown: Sequence[Sequence[Any]], prompts: Sequence[str] | str, answers: Sequence[str]
    ) -> list[Text]:
        asked = [prompts] * len(shown) if isinstance(prompts, str) else list(prompts)
        if len(asked) != len(shown):
            raise UserError(f"{len(shown)} images, {len(asked)} prompts: give one each, or one")
        for i, (prompt, pictures) in enumerate(zip(asked, shown, strict=True)):
            _check_prompt(i, prompt, self.config.task, len(pictures))
        cases = [
            Case(str(i), ("",) * len(pictures), question, answer, "test")
            for i, (pictures, question, answer) in enumerate(
                zip(shown, asked, answers, strict=True)
            )
        ]
        return [self._prompts.ask(case) for case in cases]

    def _batches(
        self, rows: Sequence[Row], shown: Sequence[Sequence[Any]], size: int
    ) -> Iterator[tuple[Batch, int]]:
        """(batch, how many of its rows are meant); the last repeats its last row."""
        _at_least("batch_size", size, 1)
        size = min(size, max(1, len(rows)))
        shards = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
        size = -(-size // shards) * shards
        length, pad = row_length(rows) if rows else 0, self._encoder.pad
        most = max(map(len, shown), default=0)  # over all batches, which share one compilation
        longest = max((len(row.targets) for row in rows), default=0) or 1
        for start in range(0, len(rows), size):
            mine = list(range(start, min(start + size, len(rows))))
            filled = mine + [mine[-1]] * (size - len(mine))
            opened = {i: given.squares(shown[i], most, self.config) for i in mine}
            pixels = np.stack([opened[i] for i in filled])
            batch = collate([rows[i] for i in filled], length, longest, pixels, pad)
            yield place(batch, self.mesh), len(mine)

    def _options(self, max_new_tokens: int, decoding: Mapping[str, Any]) -> options.Options:
        _at_least("max_new_tokens", max_new_tokens, 0)
        limit = max_new_tokens or self.config.eval.max_new_tokens
        return options.make(limit, base_lib.ends(self.config, self.tokenizer), decoding)

    def _program(self, asked: options.Options) -> Generate:
        if asked not in self._programs:
            self._programs[asked] = make_generate(self._model, asked)
        return self._programs[asked]

    def _decoding_params(self) -> Any:
        if self._prepared is None or self._prepared[0] is not self.params:
            alpha, dtype = self.config.lora.alpha, self._model.compute.dtype
            self._prepared = self.params, merge.prepare(self.params, alpha, dtype)
        return self._prepared[1]

    def _log_likelihood(self, params: Any, batch: Batch) -> jax.Array:
        logp = jax.nn.log_softmax(self._model.apply({"params": params}, batch))
        each = jnp.take_along_axis(logp, batch.targets[..., None], axis=-1)[..., 0]
        return jnp.sum(each * batch.weights, axis=1)


def load(path: str | pathlib.Path | ConfigDict, **fields: Any) -> Model:
    """A model from a run's folder (its best checkpoint) or a folder of launch/convert.py.

    'demo' is the embedded one, 'tiny' its base alone. Or from a config, whose `weights` say where
    all comes from. `fields` are set over the config, dots as double underscores:
    load(path, model__dtype="bfloat16", mesh__fsdp=4). A run's mesh that does not fit the devices
    here becomes fsdp over all of them. Errors: UserError for what is not there or does not fit.
    """
    named = {name.replace("__", "."): value for name, value in fields.items()}
    if isinstance(path, ConfigDict):
        return Model(restore.restore(opened.with_fields(path, named)))
    return Model(restore.restore(opened.config(path, named)))


def _keys(seed: int, first: int, count: int) -> jax.Array:
    """Keys [count] of the answers from number `first` on, which no batch size changes."""
    numbers = jnp.arange(first, first + count)
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), numbers)


def _check_prompt(number: int, prompt: str, task: str, n_images: int) -> None:
    if prompt.strip():
        return
    if task == "vqa":
        raise UserError(f"prompt {number} is empty: this model answers questions, so ask one")
    if not n_images:
        raise UserError(f"prompt {number} is empty and without an image: say what is asked")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"{name}={value} is too small: at least {least}")
