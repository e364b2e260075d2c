"""The tiny base's tokenizer: whole words of the phantom reports, common pieces, letters, bytes.

A unigram model whose scores make the segmentation with the fewest pieces win. Like Llama's it puts
a blank before the text and falls back to bytes, so any text goes in and comes back. A word's piece
holds its leading blank itself.
"""

import collections
import json
import pathlib
import re

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from pefomed_jax.data import prompts
from pefomed_jax.data.sources.phantom import questions, scene, text
from pefomed_jax.pretrain import plain

SIZE = 640
SPECIAL = ("<unk>", "<s>", "</s>")
MARKS = (" [INST]", " [/INST]", " <Img>", " </Img>", " [vqa]", " [report]", " [caption]")
SCENES = 2000  # whose text gives the words
# Frequent pieces of English and of radiology, for text that is not about phantoms.
COMMON = (
    "ing tion ment ness able ical ular ology graph scope ectomy itis osis emia oma er ed es ly al "
    "ic ous ive ity ist th he in an re on at en or it is st nd ar te se ro ra me de co ti ri li la "
    "ne ve le ll ch sh ou ea ee ai qu pl tr pr br cr"
)
SPACED = (
    "it that from by at was were has have been which who why when where how many more than other "
    "patient hand head brain abdomen pelvis spine bone mass tumor fluid blood contrast scan MRI CT "
    "artery vein liver kidney bowel colon ventricle diaphragm rib located evidence acute chronic "
    "fracture lesion organ type taken view PA AP lateral axial what's s t"
)


def build() -> Tokenizer:
    """The tokenizer, from the words of SCENES phantoms of the base's seeds."""
    pieces = [(piece, -0.0) for piece in SPECIAL]
    # below all other scores, so that a literal "<0x41>" in a text is six letters
    pieces += [(f"<0x{byte:02X}>", -1000.0) for byte in range(256)]
    pieces += [(chr(code), -12.0) for code in (*range(32, 127), 10)]
    known = {piece for piece, _ in pieces}
    wanted = [*MARKS, *_words(), *(f" {w}" for w in SPACED.split()), *COMMON.split()]
    wanted = [piece for piece in dict.fromkeys(wanted) if piece not in known]
    # a slight preference for frequent pieces settles ties
    pieces += [(piece, -10.0 - 1e-4 * rank) for rank, piece in enumerate(wanted)][
        : SIZE - len(pieces)
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def _words() -> list[str]:
    """Words with the blank before them, punctuation as it stands, most frequent first."""
    counts: collections.Counter[str] = collections.Counter()
    for line in _corpus():
        counts.update(re.findall(r" ?[A-Za-z]+", f" {line}"))
    return [piece for piece, _ in counts.most_common()]


def _corpus() -> list[str]:
    lines = [line.format(question="") for task in prompts.INSTRUCTIONS.values() for line in task]
    lines.append(" ".join(plain.WORDS.values()))
    for seed in range(scene.FIRST_SEED["base"], scene.FIRST_SEED["base"] + SCENES):
        content = scene.sample(seed)
        lines += [text.report(content), text.caption(content)]
        lines += [f"{q.question} {q.answer}" for q in questions.ask(content)]
    return lines


def write(folder: pathlib.Path) -> None:
    """tokenizer.json and tokenizer_config.json, as Hugging Face reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    build().save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 4096,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
