"""Metrics by entry point: those of others, broken ones, clashes, and checks before any score."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import command, plugins

ROWS = [
    {"id": "a", "prediction": "no effusion", "reference": "no effusion"},
    {"id": "b", "prediction": "", "reference": "normal"},
]
LENGTH = """
    import numpy as np
    from pefomed_jax.evaluation.measure import Skipped, mean

    class Length:
        about = "how many characters an answer has"
        scored = []

        def __init__(self, given):
            self.given = given

        def check(self):
            return self.given.options.get("fault", "")

        def label(self):
            return "length(v=1)"

        def score(self, rows):
            self.scored.append(len(rows))
            values = np.array([float(len(row["prediction"])) for row in rows])
            return [mean({"length": values}), Skipped("length_max", "not asked for")]

    def fails(given):
        raise RuntimeError("no luck")

    def list_of(given):
        return [given]

    class CheckFails(Length):
        def check(self):
            return 1 / 0

    class Odd(Length):
        def score(self, rows):
            return [mean({"length": np.ones(len(rows) + 1)})]

    class Bare(Length):
        def score(self, rows):
            return [1.0]
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lays out a package with entry points as an installer would."""

    def make(package: str, points: dict[str, str], source: str = LENGTH) -> None:
        folder = tmp_path / package
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {package}_code:{value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{plugins.GROUP}]", *lines, ""]))
        (folder / f"{package}_code.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, f"{package}_code", raising=False)

    return make


def predictions(folder: pathlib.Path) -> pathlib.Path:
    path = folder / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_those_of_the_package_are_registered_like_those_of_others(install):
    install("third", {"length": "Length"})
    known = plugins.available()
    assert list(known)[:4] == ["bertscore", "chexbert", "radgraph", "ratescore"]
    assert known["length"].about == "how many characters an answer has"


def test_a_metric_of_others_is_scored_with_intervals_and_stands_in_the_signature(
    install, tmp_path, capsys
):
    install("third", {"length": "Length"})
    request = command.Request(
        predictions(tmp_path), tmp_path / "out", "strict", metrics=["length"], resamples=50
    )
    command.evaluate(request)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["test"]["length"] == 5.5
    assert results["intervals"]["test"]["length"] == [0.0, 11.0]
    assert results["skipped"]["length_max"] == "not asked for"
    assert "|metrics:length(v=1)|" in results["signature"]
    lines = (tmp_path / "out" / "cases.jsonl").read_text().splitlines()
    cases = [json.loads(line) for line in lines]
    assert [case["length"] for case in cases] == [11.0, 0.0]
    assert "length" in capsys.readouterr().out


def test_one_that_cannot_be_imported_is_listed_with_its_error_and_harms_no_other(install):
    install("third", {"length": "Length"})
    install("broken", {"crash": "Metric", "lost": "Nothing"}, "import no_such_module_here\n")
    lines = plugins.table().splitlines()
    at = lines.index("crash      -")
    assert "missing: broken_code:Metric of package broken fails" in lines[at + 1]
    assert "No module named 'no_such_module_here'" in lines[at + 1]
    assert lines[lines.index("length     how many characters an answer has") + 1].endswith(
        "available"
    )
    scores = plugins.chosen(["length"])
    assert scores["length(v=1)"](ROWS)[0].scores() == {"length": 5.5}
    with pytest.raises(UserError, match="crash cannot run: broken_code:Metric of package broken"):
        plugins.chosen(["length", "crash"])


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("missing_name", "AttributeError: module 'third_code' has no attribute 'missing_name'"),
        ("fails", "third_code:fails of package third fails .RuntimeError: no luck."),
        ("list_of", "third_code:list_of of package third makes no metric: it needs about, check"),
        ("CheckFails", "its check fails .ZeroDivisionError: division by zero."),
    ],
)
def test_any_other_fault_of_anothers_code_is_one_line_too(install, made, says):
    install("third", {"odd": made})
    with pytest.raises(UserError, match=f"--metrics=odd cannot run: .*{says}.*leave odd out"):
        plugins.chosen(["odd"])
    assert "missing: " in plugins.table()


@pytest.mark.parametrize(
    ("made", "says"), [("Odd", "scored 3 of 2 cases"), ("Bare", "returned float, neither")]
)
def test_scores_of_another_shape_are_refused(install, made, says):
    install("third", {"odd": made})
    (score,) = plugins.chosen(["odd"]).values()
    with pytest.raises(UserError, match=f"--metrics=odd {says}"):
        score(ROWS)


def test_two_packages_with_one_name_are_both_named(install):
    install("first", {"length": "Length"})
    install("second", {"length": "Length", "other": "Length"})
    with pytest.raises(UserError, match=r"packages (first and second|second and first) both"):
        plugins.chosen(["length"])
    assert plugins.chosen(["other"])


def test_ours_cannot_be_replaced_without_a_word(install):
    install("third", {"chexbert": "Length"})
    with pytest.raises(UserError, match=r"pefomed_jax.*third|third.*pefomed_jax"):
        plugins.chosen(["chexbert"])


def test_all_are_checked_before_any_is_scored(install, tmp_path):
    install("third", {"length": "Length", "late": "Length"})
    out = tmp_path / "out"
    flags = plugins.Flags(options=["late.fault=no weights"])
    request = command.Request(
        predictions(tmp_path), out, "coco", metrics=["length", "late"], metric_flags=flags
    )
    with pytest.raises(UserError, match="--metrics=late cannot run: no weights; or leave late out"):
        command.evaluate(request)
    assert not out.exists()
    known = plugins.available()
    assert type(known["length"]).scored == []


@pytest.mark.parametrize(
    ("names", "flags", "says"),
    [
        (["chexbrt"], {}, r"--metrics: 'chexbrt' is not one of .*did you mean chexbert\?"),
        ([], {"weights": ["chexbrt=x"]}, r"--metric_weights: .*'chexbrt'.*did you mean chexbert"),
        ([], {"python": ["radgraf=x"]}, r"--metric_python: .*'radgraf'.*did you mean radgraph"),
        ([], {"weights": ["chexbert"]}, "--metric_weights=chexbert: write NAME=PATH"),
        ([], {"weights": ["chexbert="]}, "--metric_weights=chexbert=: write NAME=PATH"),
        ([], {"options": ["batch=3"]}, "--metric_options=batch=3: write NAME.OPTION=VALUE"),
        ([], {"options": ["chexbert.=3"]}, "write NAME.OPTION=VALUE"),
        ([], {"weights": ["chexbert=x", "chexbert=y"]}, "chexbert is there twice"),
        (
            ["chexbert"],
            {"options": ["chexbert.bach=3"]},
            r"chexbert has no option 'bach' \(batch, device, timeout\).*did you mean batch",
        ),
    ],
)
def test_wrong_names_and_flags_are_told_with_the_nearest_right_one(names, flags, says):
    with pytest.raises(UserError, match=says):
        plugins.chosen(names, plugins.Flags(**flags))


def test_a_flag_with_an_equals_sign_in_its_path_is_taken_whole(install):
    install("third", {"length": "Length"})
    flags = plugins.Flags(["length=/a=b"], ["length=/usr/bin/python"], ["length.x=1=2"])
    given = plugins.available(flags)["length"].given
    assert given == plugins.Given("/a=b", "/usr/bin/python", {"x": "1=2"})


def test_the_list_says_all_that_is_missing_and_how_to_mend_it():
    said = plugins.table()
    assert "--metric_weights=chexbert=PATH names the folder that holds chexbert.pth" in said
    assert "nothing is downloaded" in said
    if importlib.util.find_spec("radgraph") is None:
        assert "lacks radgraph" in said
        assert "python -m venv radgraph-env && radgraph-env/bin/pip install radgraph==" in said
        assert "--metric_python=radgraph=radgraph-env/bin/python" in said


def test_scores_of_a_measure_follow_from_sums(install):
    install("third", {"length": "Length"})
    (score,) = plugins.chosen(["length"]).values()
    measure = score(ROWS)[0]
    np.testing.assert_array_equal(measure.stats.sum(axis=0), [11.0, 2.0])


@pytest.mark.slow
def test_the_program_lists_and_checks_with_its_flags(install, tmp_path):
    install("third", {"length": "Length"})

    def run(*given):
        program = pathlib.Path(__file__).parents[2] / "launch" / "evaluate.py"
        path = {"PYTHONPATH": str(tmp_path / "third")}
        line, env = [sys.executable, str(program), *given], os.environ | path
        return subprocess.run(line, env=env, capture_output=True, text=True)

    fault = "--metric_options=length.fault=no luck"
    listed = run("--metrics=list", fault)
    assert listed.stdout.splitlines()[-2:] == [
        "length     how many characters an answer has",
        "           missing: no luck",
    ]
    asked = [f"--predictions={predictions(tmp_path)}", "--protocol=strict", "--metrics=length"]
    assert "5.500" in run(*asked, f"--out={tmp_path / 'out'}").stdout
    refused = run(*asked, f"--out={tmp_path / 'no'}", fault)
    assert refused.returncode == 1
    assert refused.stderr.endswith("--metrics=length cannot run: no luck; or leave length out\n")
