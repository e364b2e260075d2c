"""Workers: a script in its own process that answers, fails, hangs, or talks too much."""

import os
import re
import sys
import tempfile
import textwrap
import time

import numpy as np
import pytest

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation.clinical import metric, pairs, process
from pefomed_jax.evaluation.measure import mean
from pefomed_jax.evaluation.plugins import Given

SCRIPT = """
    import os, sys, time
    sys.path.insert(0, {folder!r})
    from worker_io import Unfit, serve

    def load(settings):
        print("what a package prints is no answer")
        fault = settings["fault"]
        if fault == "unfit":
            raise Unfit("weights has no tensor\\n 'a.b'")
        if fault == "import":
            import no_such_package
        if fault == "slow_load":
            time.sleep(60)
        if fault == "noise":
            for _ in range(20000):
                print("x" * 100, file=sys.stderr)

        def score(items):
            for item in items:
                if fault == "dies" and item == "b":
                    print("loading", file=sys.stderr)
                    raise MemoryError("no memory left")
                if fault == "killed" and item == "b":
                    os.kill(os.getpid(), 9)
                if fault == "hangs" and item == "b":
                    time.sleep(60)
                yield [item, len(item), os.getpid(), os.environ["HF_HUB_OFFLINE"]]

        return score, {{"package": "1.2"}}

    serve(load)
"""


class Probe(metric.WorkerMetric):
    """probe: the length of an answer times that of its reference, by a worker."""

    name = "probe"
    about = "a worker of a test"
    modules = ("json",)
    install = "nothing"
    weights = "any folder"
    files = ("model.bin",)
    options = {"fault": "", "batch": "2"}  # noqa: RUF012

    def score(self, rows):
        def values(found):
            return [{"probe": float(self.ask([own])[0][1] * len(ref))} for own, ref in found]

        return [mean(pairs.best(rows, values, "probe"))]


@pytest.fixture
def probe(tmp_path):
    """Makes the metric with options, its weights in place."""
    (tmp_path / "model.bin").touch()
    folder = str(metric.WORKERS)
    script = tmp_path / "run_probe.py"
    script.write_text(textwrap.dedent(SCRIPT).format(folder=folder))
    Probe.script = script

    def make(python=sys.executable, weights=str(tmp_path), **options):
        return Probe(Given(weights, python, options))

    return make


def test_answers_come_in_order_and_each_text_is_asked_once(probe, capfd):
    own = probe()
    assert own.check() == ""
    assert re.fullmatch(r"probe\(weights=[0-9a-f]{8},package=1\.2\)", own.label())
    first = own.ask(["b", "a", "b", ""])
    assert [found[:2] for found in first] == [["b", 1], ["a", 1], ["b", 1], ["", 0]]
    again = own.ask(["a", "c"])
    assert again[0] == first[1]
    assert again[1][2] == first[0][2]  # the same process, its weights loaded once
    assert {found[3] for found in first} == {"1"}
    said = capfd.readouterr()
    assert "probe: 3 texts in" in said.err
    assert "probe: 1 texts in" in said.err
    assert said.out == ""


def test_any_character_and_ten_megabytes_pass(probe):
    own = probe()
    texts = ["é\u2028\x00\U0001f600\n", "x" * 10_000_000]
    assert [found[0] for found in own.ask(texts)] == texts


def test_much_on_stderr_does_not_hold_it_up(probe):
    assert probe(fault="noise").check() == ""


def test_a_worker_ends_with_its_metric_and_leaves_no_file(probe, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = probe()
    pid = own.ask(["a"])[0][2]
    assert list(tmp_path.glob("probe-*"))
    os.kill(pid, 0)
    del own
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not list(tmp_path.glob("probe-*"))


def test_the_label_tells_one_files_weights_from_anothers(tmp_path):
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "a.bin"
    file.write_bytes(b"x" * 200_000)
    first = metric.fingerprint(tmp_path)
    assert metric.fingerprint(tmp_path) == first
    file.write_bytes(b"x" * 199_999 + b"y")
    assert metric.fingerprint(tmp_path) != first
    assert metric.fingerprint(file) != metric.fingerprint(tmp_path)


def test_weights_that_do_not_fit_are_told_in_the_workers_words(probe):
    assert probe(fault="unfit").check() == "weights has no tensor 'a.b'"


def test_a_worker_that_does_not_come_up_is_told_with_its_last_lines(probe):
    said = probe(fault="import").check()
    assert said.startswith("its worker ended with code 1 while it loaded its weights (it last said")
    assert "ModuleNotFoundError: No module named 'no_such_package'" in said


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("dies", r"ended with code 1 at text 2 of 3 \(it last said: .*MemoryError: no memory left"),
        ("killed", "ended with code -9 at text 2 of 3"),
    ],
)
def test_a_worker_that_dies_is_told_with_where(probe, fault, says):
    own = probe(fault=fault)
    with pytest.raises(UserError, match=f"--metrics=probe: its worker {says}"):
        own.ask(["a", "b", "c"])


def test_a_worker_that_hangs_is_ended_after_its_time(probe):
    start = time.monotonic()
    own = probe(fault="hangs", timeout="1")
    says = (
        r"its worker said nothing for 1 s at text 2 of 3.*"
        r"--metric_options=probe\.timeout=SECONDS"
    )
    with pytest.raises(UserError, match=says):
        own.ask(["a", "b", "c"])
    assert "said nothing for 1 s while it loaded" in probe(fault="slow_load", timeout="1").check()
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"weights": ""}, r"nothing is downloaded.*--metric_weights=probe=PATH names any folder"),
        ({"weights": "/no/such"}, "there is no '/no/such'"),
        ({"weights": os.path.dirname(__file__)}, "has no 'model.bin'"),
        ({"python": "/no/such/python"}, "there is no interpreter '/no/such/python'"),
        ({"python": "/bin/cat"}, "'/bin/cat' does not run as Python"),
        ({"device": "gpu"}, "device=gpu is not one of auto, cpu, cuda"),
        ({"timeout": "soon"}, "timeout=soon is no whole number above 0"),
        ({"batch": "0"}, "batch=0 is no whole number above 0"),
    ],
)
def test_what_is_not_given_right_is_told_before_a_worker_starts(probe, made, says):
    own = probe(**made)
    said = own.check()
    assert own._worker is None
    assert re.search(says, said)


def test_all_that_is_missing_is_told_at_once(probe, monkeypatch):
    monkeypatch.setattr(Probe, "modules", ("json", "no_such_package"))
    said = probe(weights="/no/such").check()
    assert "there is no '/no/such'" in said
    assert f"; and {sys.executable} lacks no_such_package: " in said
    assert f"{sys.executable} -m pip install nothing" in said


def test_another_interpreter_does_not_get_our_paths(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/ours")
    assert process.environment(sys.executable)["PYTHONPATH"] == "/ours"
    assert "PYTHONPATH" not in process.environment("/other/bin/python")


def test_of_several_references_the_best_counts(probe):
    rows = [
        {"id": "a", "prediction": "xx", "reference": ["yyy", "y"]},
        {"id": "b", "prediction": "", "reference": "y"},
    ]
    (measure,) = probe().score(rows)
    np.testing.assert_array_equal(measure.cases["probe"], [6.0, 0.0])
    assert measure.scores() == {"probe": 3.0}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"id": "a", "reference": "x"}, "case 'a' has no text under 'prediction'"),
        ({"id": "a", "prediction": "x"}, "case 'a' has no text under 'reference'"),
        ({"id": "a", "prediction": "x", "reference": []}, "no text under 'reference'"),
        ({"id": "a", "prediction": "x", "reference": ["y", None]}, "no text under 'reference'"),
    ],
)
def test_a_row_without_text_is_named(probe, row, says):
    with pytest.raises(UserError, match=says):
        probe().score([row])
