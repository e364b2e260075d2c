"""Pieces of a growing text: together the whole, and none that is taken back."""

import numpy as np
import pytest

from pefomed_jax import base
from pefomed_jax import config as config_lib
from pefomed_jax.decoding.streaming import Pieces, pieces
from pefomed_jax.decoding.text import to_text

TEXTS = [
    "The heart is enlarged. No pneumothorax.",
    "  blanks   inside\n\nand after  ",
    "µg/ml, 5 × 3 €, 肺炎 🫁🫀, naïve",
    "a <s> b < 3 </ s [/INS and [ <",
    "ends</s> here",
    "",
]


@pytest.fixture(scope="module", params=["tiny", "llama"])
def tokenizer(request):
    if request.param == "tiny":
        return base.tokenizer(config_lib.make("vqa"))
    return base.read_tokenizer(request.getfixturevalue("shared") / "data" / "llama-tokenizer")


def spoken(tokenizer, tokens):
    return pieces(tokenizer, (token for token in tokens))


def whole(tokenizer, tokens):
    return to_text(tokenizer, np.asarray(tokens, np.int32))


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_the_text(tokenizer, text):
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    made = list(spoken(tokenizer, tokens))
    assert "".join(made) == whole(tokenizer, tokens)
    assert all(made)


def test_pieces_of_tokens_at_random(tokenizer):
    """Bytes that are no characters, special tokens, marks in letters."""
    rng = np.random.default_rng(0)
    marks = [
        token
        for text in ("<s>", "</s>", "<", "</", "s", ">", "[/")
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]
    ]
    for _ in range(300):
        tokens = rng.integers(0, 400, 12)  # special tokens, bytes, then pieces of text
        swap = rng.random(12) < 0.3
        tokens = np.where(swap, rng.choice(marks, 12), tokens).tolist()
        if "[/INST]" in tokenizer.decode(tokens):
            continue
        assert "".join(spoken(tokenizer, tokens)) == whole(tokenizer, tokens), tokens


def test_words_come_as_they_are_made(tokenizer):
    tokens = tokenizer("No nodule is seen. No line.", add_special_tokens=False)["input_ids"]
    made, shown = Pieces(tokenizer), ""
    for n, token in enumerate(tokens, 1):
        shown += made.add(token)
        assert shown == whole(tokenizer, tokens[:n])


def test_a_spelled_end_of_prompt_begins_anew(tokenizer):
    tokens = tokenizer("one [/INST] two", add_special_tokens=False)["input_ids"]
    assert "".join(spoken(tokenizer, tokens)) == "onetwo"
    assert whole(tokenizer, tokens) == "two"


def test_an_error_in_the_middle_reaches_the_reader(tokenizer):
    def broken():
        yield tokenizer("one two", add_special_tokens=False)["input_ids"][0]
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        list(pieces(tokenizer, broken()))
