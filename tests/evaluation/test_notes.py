"""Warnings about answers, and where there are none."""

import pytest

from pefomed_jax.evaluation import notes


def rows(pairs):
    return [
        {"id": f"c{i}", "prediction": answer, "reference": reference}
        for i, (answer, reference) in enumerate(pairs)
    ]


GOOD = [(f"the left lung shows {i}", f"a nodule of {i} mm here") for i in range(60)]


def warned(pairs):
    return notes.notes(rows(pairs))


def test_good_answers_have_none():
    assert warned(GOOD) == []


def test_few_cases():
    assert warned(GOOD[:49]) == ["only 49 cases: the intervals are wide, and rough themselves"]
    assert warned(GOOD[:50]) == []
    assert warned(GOOD[:1])[0].startswith("only 1 case:")


def test_empty_texts_are_counted_and_named():
    empty = [("", "x y z a"), (" \n", "x y z b"), ("a b c d", ["", " "]), ("e", ["", "x y"])]
    made = warned(GOOD + empty)
    assert made == [
        "2 of 64 answers are empty and score as such (c60, c61)",
        "1 of 64 references are empty: nothing can match them (c62)",
    ]
    assert "(c0, c1, c2, ...)" in warned([("", "x")] * 60)[0]


def test_answers_at_the_limit():
    given = rows(GOOD)
    given[3]["cut"] = True
    (said,) = notes.notes(given)
    assert said.startswith("1 of 60 answers ended at the limit of tokens, not by themselves (c3)")


@pytest.mark.parametrize(("words", "ratio"), [(2, "0.40"), (11, "2.20")])
def test_lengths(words, ratio):
    pairs = [(" ".join(f"w{i}{k}" for k in range(words)), "v w x y z") for i in range(60)]
    (said,) = warned(pairs)
    assert said.startswith(f"answers are {ratio} times as long as their references ({words}.0 and")
    assert warned([(a, ["v w x y z", a]) for a, _ in pairs]) == []  # the nearest one counts


def test_repeated_runs():
    # 12 words, 9 runs of four, of which "a b c d", "b c d a", "c d a b", "d a b c" are new
    assert notes.repeated("a b c d a b c d A B C D") == pytest.approx(1 - 4 / 9)
    assert notes.repeated("a b c d e f g h") == 0
    assert notes.repeated("no no no no no no no") == 0  # below eight words
    loop = "no effusion is seen " * 6
    made = warned([*GOOD, (loop, " ".join(f"w{i}" for i in range(24)))])
    assert made == [
        "1 of 61 answers repeat themselves: over 30% of their runs of 4 words were there before "
        "(c60)"
    ]
    assert warned([*GOOD, (loop, loop)]) == []  # as its reference does


def test_constant_answers():
    same = [("Yes", f"other {i} x") for i in range(60)]
    assert "60 of 60 answers are the same ('yes'); references are not" in warned(same)
    half = [("yes" if i % 2 else f"no {i}", f"is it {i}") for i in range(60)]
    assert any("30 of 60 answers are the same" in note for note in warned(half))
    # yes/no questions of which half are yes
    closed = [("yes", "yes" if i % 2 else "no") for i in range(60)]
    assert any("60 of 60 answers are the same" in note for note in warned(closed))
    fine = [("yes" if i % 2 else "no", "yes" if i % 3 else "no") for i in range(60)]
    assert warned(fine) == []


def test_huge_answers():
    made = warned([*GOOD, ("ab " * 40_000, "ab " * 40_000)])
    assert made == ["1 of 61 answers have more than 100,000 characters (c60)"]


def test_what_was_passed_over_in_a_file():
    assert notes.file_notes("p.jsonl", 0, 0) == []
    assert notes.file_notes("p.jsonl", 2, 3) == [
        "p.jsonl: 2 blank lines passed over",
        "p.jsonl: 3 rows twice to the letter, counted once",
    ]
