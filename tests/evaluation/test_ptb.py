"""Words against the output of the Stanford tokeniser 3.4.1 without the marks COCO drops."""

import doctest

import pytest

from pefomed_jax.evaluation import ptb

# text: what the Stanford tokeniser made of it (-lowerCase), marks of COCO's list left out
STANFORD = {
    "The heart is normal in size. No pleural effusion or pneumothorax.": (
        "the heart is normal in size no pleural effusion or pneumothorax"
    ),
    "There is a 1.2 cm nodule (left upper lobe), unchanged since 12/3/2020.": (
        "there is a 1.2 cm nodule -lrb- left upper lobe -rrb- unchanged since 12/3/2020"
    ),
    "Dr. Smith's patient doesn't have and/or cannot show well-defined consolidation; see": (
        "dr. smith 's patient does n't have and/or can not show well-defined consolidation see"
    ),
    "Patient's T-12 vertebra: mild compression -- unchanged... What? Yes! approx. 3.5x4.0 cm.": (
        "patient 's t-12 vertebra mild compression unchanged what yes approx 3.5 x4 .0 cm"
    ),
    "XXXX. 1. Cardiomegaly 2. Effusion. ___ year-old woman. 50% loss, >3 mm, < 5 mm, +/- 2.": (
        "xxxx 1 cardiomegaly 2 effusion ___ year-old woman 50 % loss > 3 mm < 5 mm + / 2"
    ),
    "[deidentified] {brace} 'quoted' it's they're I'd we'll I've can't won't": (
        "-lsb- deidentified -rsb- -lcb- brace -rcb- quoted it 's they 're i 'd we 'll i 've"
        " ca n't wo n't"
    ),
    "No. 3 rib e.g. p.m. a.m. U.S. vs. etc. Mr. Jones, M.D. was seen at 10:30 a.m.": (
        "no. 3 rib e.g. p.m. a.m. u.s. vs. etc. mr. jones m.d. was seen at 10:30 a.m."
    ),
    "C5-C6 disc space narrowing & L4/L5 @ 3pm #1 *star* 1,000 ml $5 ~2 cm = 20 mm x^2": (
        "c5-c6 disc space narrowing & l4/l5 @ 3pm # 1 * star * 1,000 ml $ 5 ~ 2 cm = 20 mm x ^ 2"
    ),
    "right-sided PICC line;tip in SVC/RA junction.Heart normal": (
        "right-sided picc line tip in svc/ra junction.heart normal"
    ),
    "a.b.c x.y 3. 4.5.6 -5 -0.5 --3 1-2 T2-weighted 2-3cm 3cm 1/2": (
        "a.b.c x.y 3 4.5.6 -5 -0.5 3 1-2 t2-weighted 2-3cm 3cm 1/2"
    ),
    "a mass. a 3.5-year-old seen on CT. The type B. There, type B. the": (
        "a mass a 3.5-year-old seen on ct. the type b there type b. the"
    ),
    "“curly” ‘single’ – en — em … dots µm 5° ½": "curly single en em dots µm 5 ° 1/2",
    "end. see http://a.b/c or me@x.org.": "end see http://a.b/c or me@x.org",
    "": "",
    " .,; ": "",
}


@pytest.mark.parametrize("text", STANFORD)
def test_words_of(text):
    assert ptb.tokenise(text) == STANFORD[text].split()


def test_example_in_the_docstring():
    assert doctest.testmod(ptb).failed == 0
