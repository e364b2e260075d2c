"""METEOR: its scores from recorded counts, the real program beside us, and all that can fail."""

import importlib.util
import json
import os
import pathlib
import stat
import sys
import textwrap

import coco
import numpy as np
import pytest

from pefomed_jax.evaluation.measure import Measure, Skipped
from pefomed_jax.evaluation.text import java, meteor, meteor_nltk

RECORDED = json.loads(
    pathlib.Path(__file__).with_name("golden_reports.json").read_text(encoding="utf-8")
)


def recorded():
    """(hypotheses, references, what the program answers)."""
    found = RECORDED["pairs"]
    references = [[text.split() for text in row["reference_words"]] for row in found]
    return (
        [row["answer_words"].split() for row in found],
        references,
        [row["meteor"] for row in found],
    )


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a program of a few lines of Python in the place of java; returns how to."""
    folder = tmp_path / "site packages" / "meteor"
    (folder / "data").mkdir(parents=True)
    for name in meteor._FILES:
        (folder / name).touch()
    monkeypatch.setattr(meteor, "_started", [])

    def put(code):
        path = tmp_path / "java"
        path.write_text(f"#!{sys.executable}\nimport sys, time\n{textwrap.dedent(code)}")
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setattr(meteor, "located", lambda: (str(path), folder))

    yield put
    for running in meteor._started:
        running.close()


ANSWERS = """
for line in sys.stdin:
    sys.stdout.write(ANSWER + "\\n")
    sys.stdout.flush()
""".replace("ANSWER", repr(" ".join(["1.0"] * 4 + ["0.0"] * 16 + ["0.0"] * 3)))


def test_scores_from_recorded_counts():
    stats = np.array([meteor._counts(answer) for answer in recorded()[2]])
    made = meteor.combine(stats.sum(axis=0))["meteor"]
    assert made == pytest.approx(RECORDED["coco"]["meteor"], abs=1e-11)
    by_case = meteor.combine(stats)["meteor"]
    np.testing.assert_allclose(by_case[:20], RECORDED["cases"]["meteor"], atol=1e-11)


def test_measure_from_answers(program, tmp_path):
    hypotheses, references, answers = recorded()
    (tmp_path / "answers.txt").write_text("\n".join(answers))
    program(
        f"""
        answers = iter(open({str(tmp_path / "answers.txt")!r}).read().splitlines())
        for line in sys.stdin.buffer:
            assert line.startswith(b"SCORE ||| ")
            print(next(answers), flush=True)
        """
    )
    made = meteor.measure(hypotheses, references)
    assert isinstance(made, Measure)
    assert made.scores() == pytest.approx({"meteor": RECORDED["coco"]["meteor"]}, abs=1e-11)
    some = made.scores([0, 1, 1])["meteor"]
    assert some == pytest.approx(meteor.combine(made.stats[[0, 1, 1]].sum(axis=0))["meteor"])


def test_lines_cannot_be_broken():
    line = meteor.line(["a", "|||", "b"], [["c|||d"], [], ["e"]])
    assert line == "SCORE ||| cd |||  ||| e ||| a b"
    assert meteor.line([], [[]]) == "SCORE |||  ||| "


def skipped(why):
    found = meteor.measure([["a"], ["b"]], [[["a"]], [["b"]]])
    assert isinstance(found, Skipped), found
    assert found.name == "meteor"
    assert why in found.why
    assert "\n" not in found.why


def test_what_the_program_says_when_it_ends(program):
    program("print('Error: no room for 2048M', file=sys.stderr); sys.exit(1)")
    skipped("METEOR ended at case 1 with 1: Error: no room for 2048M")
    program("sys.exit(3)")
    skipped("METEOR ended at case 1 with 3: it said nothing")
    program("print(sys.stdin.readline() and ' '.join(['0.0'] * 23), flush=True); sys.exit(0)")
    skipped("METEOR ended at case 2 with 0")


def test_answers_that_are_none(program):
    program("sys.stdin.readline(); print('Error occurred during initialization', flush=True)")
    skipped("METEOR ended at case 2")
    program(ANSWERS.replace("1.0", "x"))
    skipped("METEOR answered 'x x x x 0.0")


def test_a_program_that_never_answers(program, monkeypatch):
    monkeypatch.setattr(java, "FIRST", 0.5)
    program("time.sleep(60)")
    skipped("METEOR gave no answer to case 1 in 0.5 s")
    assert not meteor._started[0].running


def test_a_program_that_is_none(program, tmp_path):
    program("")
    (tmp_path / "java").chmod(0o600)
    skipped("METEOR did not start (Permission denied)")


def test_much_is_said_and_much_is_asked(program):
    """More than a pipe holds on every side, and the program is started once."""
    program("sys.stderr.write('loading\\n' * 100_000); sys.stderr.flush()\n" + ANSWERS)
    long = ["word"] * 50_000
    found = [meteor.measure([long] * 20, [[long]] * 20) for _ in range(2)]
    assert all(isinstance(made, Measure) and len(made.stats) == 20 for made in found)
    assert len({id(running) for running in meteor._started}) == 1
    first = meteor._started[0]
    first.close()
    assert isinstance(meteor.measure([["a"]], [[["a"]]]), Measure)
    assert meteor._started[0] is not first


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(java.JavaError, match=r"needs pycocoevalcap: pip install 'pefomed_jax\[c"):
        meteor.located()
    spec = importlib.util.spec_from_loader("pycocoevalcap", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(java.JavaError, match=r"meteor-1.5.jar is missing; install"):
        meteor.located()
    (tmp_path / "meteor/data").mkdir(parents=True)
    for name in meteor._FILES:
        (tmp_path / "meteor" / name).touch()
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(java.JavaError, match="needs java, which is not on the PATH"):
        meteor.located()
    assert meteor.versions() == {}
    monkeypatch.setattr(meteor, "_started", [])
    skipped("needs java, which is not on the PATH")


def test_nltk_without_its_data_is_skipped(monkeypatch):
    from nltk import corpus

    class Wordnet:
        def ensure_loaded(self):
            raise LookupError("Resource wordnet not found")

    monkeypatch.setattr(corpus, "wordnet", Wordnet())
    found = meteor_nltk.measure([["a"]], [[["a"]]])
    assert found == Skipped(
        "meteor_nltk", "needs nltk's wordnet: python -m nltk.downloader wordnet"
    )


def test_nltk_with_data(monkeypatch):
    from nltk import corpus

    class Wordnet:
        def ensure_loaded(self):
            pass

        def synsets(self, word):
            return []

    monkeypatch.setattr(corpus, "wordnet", Wordnet())
    made = meteor_nltk.measure([["a", "b"], ["x"]], [[["a", "c"], ["a", "b"]], [["y"]]])
    # two matches in one chunk: 1 - 0.5 · (1 / 2)³
    np.testing.assert_allclose(made.cases["meteor_nltk"], [1 - 0.5 / 8, 0])
    assert made.scores() == pytest.approx({"meteor_nltk": (1 - 0.5 / 8) / 2})
    long = meteor_nltk.measure([["a"] * 6000], [[["a"]]])
    assert long == Skipped("meteor_nltk", "a text has 6,000 words; it takes too long above 5,000")


@pytest.mark.slow
def test_the_program_beside_pycocoevalcap(shared):
    """Counts and scores of the real program: recorded ones, published ones, and odd texts."""
    folder = coco.needed() / "meteor"
    assert os.access(folder / "meteor-1.5.jar", os.R_OK)
    hypotheses, references, answers = recorded()
    made = meteor.measure(hypotheses, references)
    assert isinstance(made, Measure), made
    np.testing.assert_array_equal(made.stats, [meteor._counts(answer) for answer in answers])
    assert made.scores()["meteor"] == pytest.approx(RECORDED["coco"]["meteor"], abs=1e-12)

    example = shared / "data" / "nlg-eval-example"
    found = json.loads((example / "expected_scores.json").read_text(encoding="utf-8"))
    hyp, ref1, ref2 = (
        [line.split() for line in (example / f"{name}.txt").read_text().splitlines()]
        for name in ("hyp", "ref1", "ref2")
    )
    made = meteor.measure(hyp, list(zip(ref1, ref2, strict=True)))
    wanted = found["corpus_example"]["scores"]["METEOR"]
    assert made.scores()["meteor"] == pytest.approx(wanted, abs=1e-5)
    for row in found["single"]:
        refs = [text.split() for text in row["references"]]
        made = meteor.measure([row["hypothesis"].split()], [refs])
        assert made.scores()["meteor"] == pytest.approx(row["scores"]["METEOR"], abs=1e-5)

    odd = [[], ["|||"], ["😀", "é\x1c"], ["a\xa0b"], ["-lrb-"], ["SCORE"], ["EVAL", "|||", "1.0"]]
    made = meteor.measure(odd, [[text, ["x"]] for text in odd])
    assert isinstance(made, Measure), made
    assert len(made.stats) == len(odd)
