"""The text around an image: `[INST] <Img>` image `</Img> [task] instruction [/INST]` answer `</s>`.

Every further image stands in marks of its own; a case of text alone has none.
Training draws one of several instructions, a pure function of (seed, epoch, case); evaluation
always uses the first. `config.data.instructions` names a text file of one's own, one a line.
"""

import dataclasses
import pathlib
import zlib

from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data import quirks as quirks_lib
from pefomed_jax.data.quirks import Quirks
from pefomed_jax.errors import UserError

TAGS = {"vqa": "vqa", "caption": "caption", "mrg": "report"}  # of config.task
SLOT = "{question}"

INSTRUCTIONS = {
    "vqa": (
        "Based on the image, respond to this question with a short answer: {question}",
        "{question}",
    ),
    "caption": (
        "Write a caption for this image.",
        "What does this picture show?",
        "Say in a sentence or two what can be seen here.",
        "Give a short description of the image.",
        "Summarise the content of this medical image.",
        "Which modality and which findings does the image show?",
        "Caption this figure as in a case report.",
        "Explain briefly what the reader should see in this image.",
        "State what is depicted.",
        "Provide a concise legend for the picture.",
    ),
    "report": (
        "Write the radiology report of this image.",
        "Report what you find in this radiograph.",
        "Read this film and dictate the report.",
        "Give the findings and the impression for this study.",
        "As the reporting radiologist, write up this examination.",
        "Compose a radiology report for the image above.",
        "List the findings of this examination in report form.",
        "What would the written report of this image say?",
        "Draft the report for the referring physician.",
        "Interpret this study and document the result.",
    ),
}


# for questions without an image; the tiny tokenizer was made without these words
BLIND = ("Answer this question: {question}", "{question}")

# of the layouts of PeFoMed's lists; a stage 1 mixes captions with chest reports
KINDS = {"caption": "caption", "iuxray": "report", "mimiccxr": "report"}


@dataclasses.dataclass(frozen=True)
class Text:
    """One case in words; the pieces are tokenised one by one, in this order."""

    before: str  # up to the first image
    after: str  # from the last image to the end of the prompt
    answer: str  # without the end symbol
    images: int = 1
    between: str = "</Img><Img>"  # two images

    @property
    def pieces(self) -> tuple[str, str, str, str]:
        """What is tokenised, the answer last."""
        return self.before, self.between, self.after, self.answer


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Turns cases into text. `task` is a tag: vqa, caption or report."""

    task: str
    instructions: tuple[str, ...]
    quirks: Quirks
    seed: int
    own: bool = False  # instructions of the user's, for all cases

    def train(self, case: Case, epoch: int) -> Text:
        """The text of a case in one epoch of training."""
        return self._text(case, self._draw(case, str(epoch)), training=True)

    def train_variants(self, case: Case) -> list[Text]:
        """Every text that training may give this case."""
        return [self._text(case, line, training=True) for line in self._lines(case)]

    def evaluate(self, case: Case) -> Text:
        """The text of a case in evaluation."""
        line = self._lines(case)[0]
        if self.quirks.random_instruction and self.task != "vqa":
            line = self._draw(case, "evaluation")
        return self._text(case, line, training=False)

    def ask(self, case: Case) -> Text:
        """The text of a case whose question, if it has one, is all of the instruction."""
        line = SLOT if self.task != "vqa" and case.question.strip() else self._lines(case)[0]
        return self._text(case, line, training=False)

    def _draw(self, case: Case, when: str) -> str:
        # crc32, not hash(): the same in every process and every run
        number = zlib.crc32(f"{self.seed}/{when}/{case.id}".encode())
        lines = self._lines(case)
        return lines[number % len(lines)]

    def _lines(self, case: Case) -> tuple[str, ...]:
        """What may be asked about this case: captions and reports each keep their own words."""
        kind = KINDS.get(str(case.fields.get("layout", "")), self.task)
        if self.own:
            return self.instructions
        if self.task == "vqa" and not case.images:
            return BLIND
        return self.instructions if kind == self.task else INSTRUCTIONS[kind]

    def _text(self, case: Case, line: str, training: bool) -> Text:
        layout = case.fields.get("layout", "")
        tag = quirks_lib.tag(self.task, layout, training, self.quirks)
        # the official training text counts the image marker as the first of its 50 words
        limit = quirks_lib.MAX_WORDS - training
        body = f"[{tag}] {line.replace(SLOT, case.question.strip())}"
        body = quirks_lib.process(body, self.quirks, limit)
        head, tail = ("<Img>", "</Img>")
        if self.quirks.prompt_case and training:
            head, tail = head.lower(), tail.lower()
        answer = quirks_lib.process(case.answer.strip(), self.quirks)
        if not case.images:
            return Text("[INST]", f"{body} [/INST]", answer, 0)
        before, after = f"[INST] {head}", f"{tail} {body} [/INST]"
        return Text(before, after, answer, len(case.images), tail + head)


def make(config: ConfigDict) -> Prompts:
    """The prompts of a run. Errors: an instructions file missing, empty or without a slot."""
    task = TAGS[config.task]
    lines = INSTRUCTIONS[task]
    if config.data.instructions:
        lines = _read(pathlib.Path(config.data.instructions).expanduser(), task)
    own = bool(config.data.instructions)
    return Prompts(task, lines, quirks_lib.resolve(config.quirks), config.seed, own)


def _read(path: pathlib.Path, task: str) -> tuple[str, ...]:
    if not path.is_file():
        raise UserError(
            f"data.instructions: no file {path}; give a text file, one instruction a line"
        )
    try:
        raw = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    lines = tuple(line.strip() for line in raw if line.strip())
    if not lines:
        raise UserError(f"{path} holds no instruction; write at least one line")
    for number, line in enumerate(raw, 1):
        if task == "vqa" and line.strip() and SLOT not in line:
            raise UserError(
                f"{path}, line {number}: no {SLOT} in it; put it where the question goes"
            )
    return lines
