"""The notebook runs as it stands, without a network, on this checkout."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOK = ROOT / "launch" / "evaluate_colab.ipynb"


@pytest.fixture
def notebook():
    nbformat = pytest.importorskip("nbformat", reason="reads the notebook with nbformat")
    return nbformat.read(NOTEBOOK, as_version=4)


def settings(notebook):
    return next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))


def printed(cell):
    return "".join(out.get("text", "") for out in cell.outputs)


def shown(cell, kind):
    found = (out.get("data", {}) for out in cell.outputs)
    return [data[kind] for data in found if kind in data]


def test_it_is_handed_on_without_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert 'CHECKPOINT = "demo"' in settings(notebook).source


@pytest.mark.slow
def test_it_runs_from_the_first_cell_to_the_page(notebook, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="runs the notebook with nbclient")
    pytest.importorskip("ipykernel", reason="runs the notebook with ipykernel")
    # what is needed is installed, with setuptools: pip has nothing to fetch
    for name in ("NO_INDEX", "NO_DEPS", "IGNORE_INSTALLED"):
        monkeypatch.setenv(f"PIP_{name}", "1")
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")
    monkeypatch.setenv("PIP_PREFIX", str(tmp_path / "installed"))  # not over what is tested here
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cell = settings(notebook)
    cell.source += f"\nSOURCE, LIMIT = {str(ROOT)!r}, 6\n"
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    films = next(c for c in notebook.cells if "model.generate" in c.source)
    answers = shown(films, "text/markdown")
    assert len(answers) == 3
    assert all(text.startswith("FINDINGS:") for text in answers)
    assert list(tmp_path.glob("installed/lib/python*/site-packages/*pefomed_jax*"))
    out = tmp_path / "evaluation"
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 6
    scored = next(c for c in notebook.cells if "evaluate.py" in c.source)
    assert "finding_f1" in printed(scored)
    assert "finding_f1" in (out / "report.html").read_text()
    pictures = list((out / "images").iterdir())
    assert 1 < len(pictures) <= 6
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == len(pictures)
    (page,) = shown(notebook.cells[-1], "text/html")
    assert "srcdoc=" in page
