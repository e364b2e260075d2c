"""Cases to rows for one run: the prompts, the tokenizer and the slots of an image together."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data import prompts as prompts_lib
from pefomed_jax.data.prompts import Prompts
from pefomed_jax.data.tokens import Encoder, Row, count
from pefomed_jax.models import mllm


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Of each case: tokens of its branch (prompt, answer, EOS) and its targets (answer, EOS)."""

    lengths: Int[np.ndarray, " n"]
    answers: Int[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Rows of cases in training and in evaluation."""

    prompts: Prompts
    encoder: Encoder

    @classmethod
    def of(cls, tokenizer: Any, config: ConfigDict) -> "Encoding":
        """What config says, with this tokenizer."""
        prompts = prompts_lib.make(config)
        n_visual = mllm.visual_tokens(config.model)
        return cls(prompts, Encoder(tokenizer, n_visual, prompts.quirks.double_bos))

    def n_prefix(self, images: int = 1) -> int:
        """Tokens of the longest shared prefix before so many images, their slots included."""
        case = Case("", ("",) * images, "", "", "train")
        shown = (*self.prompts.train_variants(case), self.prompts.evaluate(case))
        return max(len(self.encoder.prefix(text, training=False)) for text in shown)

    def prefixes(self, cases: Sequence[Case]) -> Int[np.ndarray, " n"]:
        """`n_prefix` of each case."""
        counts = np.asarray([len(case.images) for case in cases], np.int64)
        distinct, which = np.unique(counts, return_inverse=True)
        return np.asarray([self.n_prefix(int(n)) for n in distinct], np.int64)[which]

    def measure(self, cases: Sequence[Case]) -> Lengths:
        """The lengths of branches, the longest of what the epochs of training may show."""
        variants = [self.prompts.train_variants(case) for case in cases]
        pieces = (p for texts in variants for text in texts for p in (text.after, text.answer))
        n = count(self.encoder, pieces)
        answers = np.asarray([n[texts[0].answer] + 1 for texts in variants], np.int64)
        heads = np.asarray([max(n[t.after] for t in texts) for texts in variants], np.int64)
        return Lengths(heads + answers, answers)

    def train_rows(self, rows: Sequence[Sequence[Case]], epochs: Sequence[int]) -> list[Row]:
        """Images with their cases, as training shows them in the epoch of each row."""
        texts = [
            [self.prompts.train(case, epoch) for case in cases]
            for cases, epoch in zip(rows, epochs, strict=True)
        ]
        return self.encoder.rows(texts, training=True)

    def eval_rows(self, cases: Sequence[Case]) -> list[Row]:
        """Cases with their answers under the prompt of evaluation: for the validation loss."""
        return self.encoder.rows([[self.prompts.evaluate(case)] for case in cases], training=False)

    def prompt_rows(self, cases: Sequence[Case]) -> list[Row]:
        """Cases to be answered."""
        return self.question_rows([[case] for case in cases])

    def question_rows(self, rows: Sequence[Sequence[Case]]) -> list[Row]:
        """Images with their cases, to be answered."""
        return self.encoder.question_rows([[self.prompts.evaluate(c) for c in row] for row in rows])
