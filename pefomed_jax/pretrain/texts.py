"""What the decoder reads in its pretraining, as rows: pictures named in plain words, and text.

Rows have the very layout of a run's rows (`data/tokens.py`), with words in the place of the image
where there is none.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from pefomed_jax.batch import Batch, Case
from pefomed_jax.data import tokens
from pefomed_jax.data.prompts import INSTRUCTIONS, Prompts, Text
from pefomed_jax.data.quirks import Quirks
from pefomed_jax.data.sources.phantom import questions, scene, text
from pefomed_jax.pretrain import plain

PICTURE, PAIR = 0.35, 0.5  # shares of the rows; the rest is text on its own
ASKED, REPORTED = 0.6, 0.34  # shares of the cases: questions, reports; the rest are captions
ANSWER = 4.0  # weight of a target in an answer: answers are short, and would drown among reports
NAME_IT = "[caption] Say in plain words what can be seen here."
PLAINLY = 4  # questions in plain words beside it
LENGTH, ANSWERS = 104, 64  # the bucket (T, A) of every batch


@dataclasses.dataclass(frozen=True)
class Writer:
    """Makes global batches of `rows` rows; `features` are the frozen tower's, in order of seed."""

    encoder: tokens.Encoder
    features: Float[np.ndarray, "N P E"]
    rows: int
    seed: int

    def batch(self, k: int) -> Batch:
        """Global batch k, a pure function of the seed and k."""
        rng = np.random.default_rng((self.seed, k))
        index = rng.integers(len(self.features), size=self.rows)
        seeds = [scene.FIRST_SEED["base"] + int(i) for i in index]
        made = [self._row(scene.sample(seed), rng) for seed in seeds]
        batch = self.collate([row for row, _ in made], index)
        scale = np.asarray([[weight] for _, weight in made], np.float32)
        return batch.replace(weights=batch.weights * scale)

    def collate(self, rows: list[tokens.Row], index: np.ndarray) -> Batch:
        """Rows with the features of the phantoms `index`; rows of text never look at them."""
        images = np.zeros((len(rows), 1, 1, 1, 3), np.uint8)
        batch = tokens.collate(rows, LENGTH, ANSWERS, images, self.encoder.pad)
        return batch.replace(images=None, features=self.features[index][:, None]).validate()

    def picture_row(
        self, content: scene.Scene, rng: np.random.Generator | None = None
    ) -> tokens.Row:
        """A picture and its plain words, and with rng also questions in them; no word of a line."""
        words = plain.words(content, line=False)
        said = [Text("[INST] <Img>", f"</Img> {NAME_IT} [/INST]", words)]
        if rng is not None:
            asked = plain.questions(content)
            chosen = [asked[int(i)] for i in rng.permutation(len(asked))[:PLAINLY]]
            said += [Text("[INST] <Img>", f"</Img> [vqa] {q} [/INST]", a) for q, a in chosen]
        return self.encoder.rows([said], training=True)[0]

    def _row(self, content: scene.Scene, rng: np.random.Generator) -> tuple[tokens.Row, float]:
        """A row of any kind, and the weight of its targets."""
        kind = rng.random()
        if kind < PICTURE:
            return self.picture_row(content, rng), 1.0
        cases = self._cases(content, rng)
        if kind < PICTURE + PAIR:
            weight = ANSWER if cases[0].question else 1.0
            return self._pair(plain.words(content, rng), cases, rng), weight
        chosen = cases[int(rng.integers(len(cases)))]
        return self._plain(f"{chosen.question} {chosen.answer}".strip()), 1.0

    def _cases(self, content: scene.Scene, rng: np.random.Generator) -> list[Case]:
        """The report, a caption, or all questions of a scene, as cases."""
        name, asked = f"base-{content.seed}", questions.ask(content)
        kind = rng.random()
        if kind < ASKED and asked:
            # shuffled, because the bucket may not hold all
            order = [asked[int(i)] for i in rng.permutation(len(asked))]
            return [Case(name, ("",), q.question, q.answer, "base") for q in order]
        short = kind >= ASKED + REPORTED
        answer = text.caption(content) if short else text.report(content)
        return [Case(name, ("",), "", answer, "base", {"caption": short})]

    def _pair(self, words: str, cases: list[Case], rng: np.random.Generator) -> tokens.Row:
        """Plain words in the place of the image, then what a run would ask and its answers."""
        task = "vqa" if cases[0].question else "report"
        task = "caption" if cases[0].fields.get("caption") else task
        prompts = Prompts(task, INSTRUCTIONS[task], Quirks(), int(rng.integers(2**31)))
        texts = [prompts.train(case, epoch=0) for case in cases]
        pieces = self.encoder.encode([texts[0].before, words])
        head = [int(self.encoder.tokenizer.bos_token_id), *pieces[0], *pieces[1]]
        return tokens.build(head, self._branches(texts), self.encoder.pad)

    def _branches(self, texts: list[Text]) -> list[tuple[list[int], list[int]]]:
        """(prompt, answer with its end) of each text, as many as the bucket holds."""
        after = self.encoder.encode([t.after for t in texts])
        answers = self.encoder.encode([t.answer for t in texts])
        branches, room = [], LENGTH - 20
        for prompt, answer in zip(after, answers, strict=True):
            room -= len(prompt) + len(answer) + 1
            if room >= 0:
                branches.append((prompt, [*answer, self.encoder.eos]))
        return branches

    def _plain(self, line: str) -> tokens.Row:
        """Text on its own, every token a target."""
        target = [*self.encoder.encode([line])[0], self.encoder.eos]
        bos = int(self.encoder.tokenizer.bos_token_id)
        return tokens.build([bos], [([], target)], self.encoder.pad)


def writer(tokenizer: Any, features: Float[np.ndarray, "N P E"], concat: int, seed: int) -> Writer:
    """A writer of batches of 32 rows."""
    encoder = tokens.Encoder(tokenizer, features.shape[1] // concat)
    return Writer(encoder, features, 32, seed)
