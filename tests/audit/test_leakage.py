"""What cases of two splits, and of one, have in common, without files."""

from pefomed_jax.audit import counts, leakage, rows
from pefomed_jax.audit.twins import Near, Twins
from pefomed_jax.batch import Case


def case(name, split, images=("a.png",), question="", answer="clear", **fields):
    return Case(name, tuple(images), question, answer, split, fields)


def parts(*cases):
    return {s: [it for it in cases if it.split == s] for s in ("train", "val", "test")}


def twins(*names, near=(), **first_of):
    return Twins({name: name for name in names} | first_of, list(near), 0, 0)


def test_patients_and_studies():
    held = parts(
        case("1", "train", ["a"], answer="x", patient_id="p1", study_id="s1"),
        case("2", "train", ["b"], answer="y", patient_id="p1", study_id="s2"),
        case("3", "test", ["c"], answer="z", patient_id="p1", study_id="s2"),
        case("4", "test", ["d"], answer="w", patient_id="p2"),
        case("5", "test", ["e"], answer="v"),
    )
    found = leakage.find(held, twins("a", "b", "c", "d", "e"))
    assert found.records == [
        {
            "kind": "patient",
            "splits": ("train", "test"),
            "value": "p1",
            "cases": [["1", "2"], ["3"]],
        },
        {"kind": "study", "splits": ("train", "test"), "value": "s2", "cases": [["2"], ["3"]]},
    ]
    assert found.counts == {"train/test": {"patient": (1, (2, 1)), "study": (1, (1, 1))}}
    made = counts.splits(held, dict.fromkeys(held, 0))
    assert [made[split]["patients"] for split in held] == [1, None, 2]
    assert made["train"]["studies"] == 2


def test_patients_of_two_sets_are_two():
    """In a mixture, numbers of patients are each set's own."""
    held = parts(
        case("one/1", "train", ["one/a"], answer="x", patient_id="7"),
        case("two/1", "test", ["two/a"], answer="y", patient_id="7"),
        case("one/2", "test", ["one/b"], answer="z", patient_id="7"),
    )
    (record,) = leakage.find(held, twins("one/a", "one/b", "two/a")).records
    assert record["cases"] == [["one/1"], ["one/2"]]
    by_source = counts.sources(held)
    assert by_source == {
        "one": {"train": 1, "val": 0, "test": 1},
        "two": {"train": 0, "val": 0, "test": 1},
    }


def test_reports_word_for_word():
    held = parts(
        case("1", "train", ["a"], answer="No acute  findings."),
        case("2", "train", ["a2"], answer="no acute findings"),
        case("3", "val", ["b"], answer="NO ACUTE FINDINGS"),
        case("4", "test", ["c"], answer="Large effusion."),
    )
    (record,) = leakage.find(held, twins("a", "a2", "b", "c")).records
    assert (record["kind"], record["cases"]) == ("text", [["1", "2"], ["3"]])


def test_a_copy_of_an_image_is_that_image():
    held = parts(
        case("1", "train", ["a"], "is it big?", "yes"),
        case("2", "test", ["copy"], "Is it big", "no"),
        case("3", "test", ["other"], "is it big?", "no"),
    )
    found = leakage.find(held, twins("a", "other", copy="a"))
    assert [it["kind"] for it in found.records] == ["exact copy", "question"]
    assert found.records[1]["cases"] == [["1"], ["2"]]
    assert found.images == {"train/test": (1, 1)}
    assert found.questions == 1.0


def test_a_near_duplicate_counts_for_all_copies_of_either():
    """Names are told by split: b is in training only by its copy."""
    held = parts(case("1", "train", ["b2"], answer="x"), case("2", "test", ["a"], answer="y"))
    close = Near("a", "b", 9, 0.99)
    found = leakage.find(held, twins("a", "b", near=[close], b2="b"))
    assert found.records == [
        {"kind": "near-duplicate", "splits": ("train", "test"), "images": [["b2"], ["a"]]}
        | {"distance": 9, "likeness": 0.99}
    ]
    assert rows.find(held, twins("a", "b", near=[close], b2="b")).records == []


def test_several_views_are_one_question():
    held = parts(
        case("1", "train", ["a", "b"], "big?", "yes"),
        case("2", "train", ["a"], "big?", "no"),
        case("3", "train", ["a", "b"], "big?", "Yes."),
        case("4", "train", ["a", "b"], "big?", "no"),
    )
    found = rows.find(held, twins("a", "b"))
    assert [(it["kind"], it["cases"]) for it in found.records] == [
        ("duplicate row", [["1", "3"]]),
        ("contradiction", [["1", "3"], ["4"]]),
    ]
    assert found.counts["train"] == {"duplicate row": (1, 2), "contradiction": (1, 3)}


def test_cases_of_text_alone():
    held = parts(
        case("1", "train", [], "a vignette. Which?", "A"),
        case("2", "test", [], "a vignette. Which?", "A"),
        case("3", "test", [], "a vignette. Which?", "B"),
    )
    found = leakage.find(held, twins())
    assert [it["kind"] for it in found.records] == ["question"]
    assert found.counts["train/test"]["question"].cases == (1, 2)
    assert [it["kind"] for it in rows.find(held, twins()).records] == ["contradiction"]


def test_one_image_twice_within_a_split():
    held = parts(case("1", "train", ["a"], answer="x"), case("2", "train", ["a2"], answer="y"))
    found = rows.find(held, twins("a", a2="a"))
    assert found.records[0] == {"kind": "exact copy", "splits": ["train"], "images": [["a", "a2"]]}
    assert found.records[1]["kind"] == "contradiction"  # one picture, two reports
