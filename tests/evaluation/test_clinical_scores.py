"""RadGraph's rewards by hand; RadGraph, RaTEScore and BERTScore against their packages.

The packages run where this interpreter has them, or another one that is named, as
PEFOMED_JAX_RADGRAPH_PYTHON=/path/to/python (…_RATESCORE_…, …_BERTSCORE_…).
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from pefomed_jax.evaluation import plugins
from pefomed_jax.evaluation.clinical import bertscore, process, radgraph, ratescore
from pefomed_jax.evaluation.plugins import Given

PAIRS = [
    ["The heart is enlarged. No effusion.", "The heart is normal. No effusion."],
    ["", "The lungs are clear."],
    ["lungs clear", "lungs clear"],
    ["Left effusion, heart normal.", "effusion"],
    ["No left effusion. The lungs are clear.", "Clear lungs, no effusion. Heart normal, enlarged"],
    ["the heart is normal " * 30, "The heart is normal."],
    ["no effusion", ""],
]
METRICS = {"radgraph": radgraph.Radgraph, "ratescore": ratescore.Ratescore}
METRICS["bertscore"] = bertscore.Bertscore


def entity(tokens, label, *relations):
    return {"tokens": tokens, "label": label, "relations": [list(r) for r in relations]}


def test_rewards_by_hand():
    own = {
        "1": entity("Heart", "ANAT", ("modify", "2")),
        "2": entity("enlarged", "OBS"),
        "3": entity("effusion", "OBS"),
        "4": entity("left", "ANAT", ("modify", "1"), ("modify", "3")),
    }
    reference = {
        "1": entity("Heart", "ANAT", ("modify", "2")),
        "2": entity("Enlarged", "OBS"),
        "3": entity("effusion", "OBS", ("located_at", "1")),
        "4": entity("Left", "ANAT", ("modify", "1")),
    }
    found = radgraph.rewards(own, reference)
    # simple: Heart, effusion of 4 and 4; partial: Heart only; complete: (heart modify enlarged)
    # and (left modify heart) of own (heart), enlarged, effusion, (left heart), (left effusion)
    # and of reference (heart), Enlarged, (effusion), (left heart)
    assert found == {
        "radgraph_simple": pytest.approx(2 * 2 / 8),
        "radgraph_partial": pytest.approx(2 * 1 / 8),
        "radgraph_complete": pytest.approx(2 * 2 / 9),
    }
    assert set(radgraph.rewards(own, own).values()) == {1.0}
    assert set(radgraph.rewards(own, {}).values()) == {0.0}
    assert set(radgraph.rewards({}, {}).values()) == {0.0}
    absent = {"1": entity("Heart", "ABSENT")}
    assert set(radgraph.rewards(own, absent).values()) == {0.0}


def test_each_report_is_annotated_once_and_empty_ones_never(monkeypatch):
    asked = []

    def ask(self, texts):
        asked.extend(texts)
        return [{"1": entity(text, "OBS")} for text in texts]

    monkeypatch.setattr(radgraph.Radgraph, "ask", ask)
    metric = radgraph.Radgraph(Given())
    rows = [
        {"id": "a", "prediction": "x", "reference": ["y", "x"]},
        {"id": "b", "prediction": " ", "reference": "y"},
    ]
    (measure,) = metric.score(rows)
    np.testing.assert_array_equal(measure.cases["radgraph_complete"], [1.0, 0.0])
    assert measure.scores()["radgraph_simple"] == 0.5
    assert " " not in asked


def test_which_radgraph_is_chosen_by_what_is_there(tmp_path):
    def check(**options):
        return radgraph.Radgraph(Given(str(tmp_path), options=options)).check()

    assert "has to hold one of radgraph-xl, radgraph, " in check()
    (tmp_path / "radgraph").mkdir()
    assert "has no 'encoder/config.json'" in check()
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    assert "radgraph has no 'config.json': it is no archive of RadGraph's" in check()
    (tmp_path / "radgraph-xl.tar.gz").write_text("no archive")
    assert "(radgraph-xl and radgraph is there); --metric_options=radgraph.model=NAME" in check()
    assert "radgraph-xl.tar.gz is no tar archive" in check(model="radgraph-xl")
    assert "has no echograph.tar.gz or echograph" in check(model="echograph")
    assert "has to hold one of" in check(model="radgraf")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("ratescore", {"matrix": "wide"}, "matrix=wide is not one of long, short"),
        ("ratescore", {}, "has no 'RaTE-NER-Deberta/config.json'"),
        ("bertscore", {"layer": "last"}, "layer=last is no whole number above 0"),
        ("bertscore", {"rescale": "1"}, "rescale=1 is neither yes nor no"),
        ("bertscore", {}, "has no 'config.json'"),
    ],
)
def test_options_and_folders_are_checked(tmp_path, name, options, says):
    assert says in METRICS[name](Given(str(tmp_path), options=options)).check()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Makes (interpreter, folder of random weights, the package's own scores of PAIRS)."""

    def make(name):
        asked = os.environ.get(f"PEFOMED_JAX_{name.upper()}_PYTHON", "")
        lacking = process.missing(asked or sys.executable, METRICS[name].modules)
        if lacking:
            pytest.skip(f"no interpreter with {', '.join(lacking)}")
        python, folder = asked or sys.executable, tmp_path_factory.mktemp(name)
        script = pathlib.Path(__file__).with_name("metric_reference.py")
        ran = subprocess.run(
            [python, str(script), name, str(folder)],
            input=json.dumps(PAIRS),
            env=process.environment(python),
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr[-2000:]
        return python, folder, json.loads(ran.stdout)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_values_are_those_of_the_package(tiny, name):
    python, folder, expected = tiny(name)
    options = [f"{name}.device=cpu", *(["bertscore.layer=2"] * (name == "bertscore"))]
    flags = plugins.Flags([f"{name}={folder}"], [f"{name}={python}"], options)
    ((label, score),) = plugins.chosen([name], flags).items()
    rows = [
        {"id": str(i), "prediction": own, "reference": ref} for i, (own, ref) in enumerate(PAIRS)
    ]
    (measure,) = score(rows)
    found = np.stack(list(measure.cases.values()), axis=1)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert len(np.unique(found.round(4), axis=0)) > 3  # the weights tell the pairs apart
    assert re.search(r"torch=\d", label)


@pytest.mark.slow
def test_bertscore_rescales_by_the_baseline_of_a_named_model(tiny):
    python, folder, expected = tiny("bertscore")

    def metric(**options):
        return bertscore.Bertscore(Given(str(folder), python, {"device": "cpu", **options}))

    assert f"no layer for a model named '{folder.name}'; give --metric_opt" in metric().check()
    rescaled = metric(layer="2", model="roberta-base", rescale="yes")
    assert rescaled.check() == ""
    assert "model=roberta-base,layer=2,rescale=yes" in rescaled.label()
    found = np.array(rescaled.ask(PAIRS), np.float64)
    raw = np.array(expected)
    # x -> (x - b) / (1 - b): one line through all pairs, empty ones too
    slope = (found[0] - found[1]) / (raw[0] - raw[1])
    np.testing.assert_allclose(found, found[1] + slope * raw, atol=1e-4)
    np.testing.assert_allclose(found[1] + slope, 1.0, atol=1e-4)
    assert (slope > 1).all()
