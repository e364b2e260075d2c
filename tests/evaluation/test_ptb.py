"""Words against what the Stanford tokeniser 3.4.1 puts out, recorded and beside us."""

import doctest
import json
import pathlib
import random

import coco
import made_up
import pytest

from pefomed_jax.evaluation.text import ptb

RECORDED = json.loads(
    pathlib.Path(__file__).with_name("golden_reports.json").read_text(encoding="utf-8")
)

# text: what the Stanford tokeniser made of it (-lowerCase), marks of COCO's list left out
STANFORD = {
    "The heart is normal in size. No pleural effusion or pneumothorax.": (
        "the heart is normal in size no pleural effusion or pneumothorax"
    ),
    "There is a 1.2 cm nodule (left upper lobe), unchanged since 12/3/2020.": (
        "there is a 1.2 cm nodule -lrb- left upper lobe -rrb- unchanged since 12/3/2020"
    ),
    "Patient's T-12 vertebra: mild compression -- unchanged... What? Yes! approx. 3.5x4.0 cm.": (
        "patient 's t-12 vertebra mild compression unchanged what yes approx 3.5 x4 .0 cm"
    ),
    "XXXX. 1. Cardiomegaly 2. Effusion. ___ year-old woman. 50% loss, >3 mm, < 5 mm, +/- 2.": (
        "xxxx 1 cardiomegaly 2 effusion ___ year-old woman 50 % loss > 3 mm < 5 mm + / 2"
    ),
    "a mass. a 3.5-year-old seen on CT. The type B. There, type B. There is": (
        "a mass a 3.5-year-old seen on ct. the type b. there type b there is"
    ),
    "": "",
    " .,; ": "",
    "no.\nclear\r\nlungs\u2028end": "no clear lungs end",
}


@pytest.mark.parametrize("text", STANFORD)
def test_words_of(text):
    assert ptb.tokenise(text) == STANFORD[text].split()


def test_recorded_lines():
    texts, wanted = zip(*RECORDED["texts"], strict=True)
    assert len(texts) >= 34
    assert [" ".join(words) for words in ptb.tokenise_lines(texts)] == list(wanted)


def test_recorded_reports():
    rows = RECORDED["pairs"]
    answers = ptb.tokenise_lines([row["answer"] for row in rows])
    assert [" ".join(words) for words in answers] == [row["answer_words"] for row in rows]
    references = ptb.tokenise_lines([text for row in rows for text in row["references"]])
    wanted = [words for row in rows for words in row["reference_words"]]
    assert [" ".join(words) for words in references] == wanted


def test_what_the_next_line_decides():
    assert ptb.tokenise("see no.", "3 films") == ["see", "no."]
    assert ptb.tokenise("see no.", "three films") == ["see", "no"]
    assert ptb.tokenise("type B.", "There") == ["type", "b"]
    assert ptb.tokenise_lines(["type B.", "there"]) == [["type", "b."], ["there"]]
    assert ptb.tokenise_lines([]) == []


def test_example_in_the_docstring():
    assert doctest.testmod(ptb).failed == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *(("lung " * 100_000, 100_000), ("x" * 2_000_000, 1), ("a,b;" * 5_000, 10_000)),
        *(("😀 " * 50_000, 0), (" " * 2_000_000, 0), ("1.2/" * 5_000, 10_000)),
    ],
)
def test_long_texts(text, words):
    assert len(ptb.tokenise(text)) == words


@pytest.mark.slow
def test_made_up_texts_beside_java(tmp_path):
    rng = random.Random(1)
    texts = [made_up.text(rng) for _ in range(5000)]
    texts += [_torn(rng.choice(texts), rng) for _ in range(5000)]
    _agree(texts, tmp_path)


def _torn(text, rng):
    """The text with marks put into words and words drawn together."""
    words = text.split(" ")
    for _ in range(3):
        i = rng.randrange(len(words))
        at = rng.randint(0, len(words[i]))
        words[i] = words[i][:at] + rng.choice(".,;:-/'()’°½–…“”%<>=+") + words[i][at:]
    return "".join(word + rng.choice((" ", " ", " ", "", "  ")) for word in words)


@pytest.mark.slow
def test_real_texts_beside_java(shared, tmp_path):
    texts = coco.real_texts(shared / "data")
    assert len(texts) > 10_000
    _agree(texts, tmp_path)


def _agree(texts, folder):
    wanted = coco.tokenised(texts, folder)
    made = [" ".join(words) for words in ptb.tokenise_lines(texts)]
    apart = [row for row in zip(texts, wanted, made, strict=True) if row[1] != row[2]]
    assert not apart
