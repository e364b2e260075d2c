"""The progress line, its speeds, and what survives a restart."""

import io
import json

import numpy as np
import pytest
import runs
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pefomed_jax.training import figure, logging


def row(step, **more):
    return {"step": step, "loss": 2.0 / step, "lr": 1e-3, "tokens": 100, **more}


def steps_of(folder, tag):
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [event.step for event in events.Scalars(tag)]


def test_going_on_cuts_rows_and_events(tmp_path):
    log = logging.Log(tmp_path, 0, 10, 5)
    for step in range(1, 9):
        log.step(row(step))
    log.close()
    log = logging.Log(tmp_path, 4, 10, 5)
    for step in range(5, 11):
        log.step(row(step, **({"val_loss": 1.0} if step == 10 else {})))
    with runs.drawn():
        log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 10
    assert steps_of(tmp_path, "train/loss") == list(range(1, 11))
    assert steps_of(tmp_path, "val/loss") == [10]
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.width > 300


def test_rows_that_a_checkpoint_relies_on_lie_in_a_file_that_was_closed(tmp_path, monkeypatch):
    """A bucket that is mounted as a folder takes over nothing before."""
    log, closed = logging.Log(tmp_path, 0, 10, 5), []
    log.step(row(1))
    monkeypatch.setattr(logging.os, "fsync", lambda number: closed.append(log._file))
    log.keep()
    assert [file.closed for file in closed] == [True]
    log.step(row(2))
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_progress_line_counts_useful_tokens_and_mfu(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(logging.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = logging.Progress(100, stream)
    for _ in range(4):
        progress.add(tokens=500, flops=1e9)
    now[0] = 2.0
    speeds = progress.show(row(40), peak=1e10)
    assert speeds == {
        "step_s": 0.5,
        "tokens_per_s": 1000.0,
        "data_wait": 0.0,
        "mfu": pytest.approx(0.2),
    }
    assert stream.getvalue() == (
        "step  40/100  loss 0.0500  lr 1.00e-03  1,000 tok/s  MFU 20.0 %  ETA 0:30\n"
    )
    progress.add(tokens=500, flops=None)
    now[0] = 13.0
    progress.skip(10.0)
    assert progress.show(row(41), peak=None)["step_s"] == 1.0
    progress.add(tokens=500, flops=None)
    assert "mfu" not in progress.show(row(42), peak=None)


def test_waiting_for_data_is_told(tmp_path, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(logging.time, "monotonic", lambda: now[0])

    def batches():
        for k in range(4):
            now[0] += 0.5  # the time until the batch is there
            yield k

    log = logging.Log(tmp_path, 0, 4, 2)
    for k in log.timed(batches()):
        now[0] += 1.5 if k < 2 else 49.5  # the step
        log.step(row(k + 1))
    log.close()
    said = capsys.readouterr().out.splitlines()
    assert "25% waiting for data" in said[0]
    assert "waiting" not in said[1]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shares = [event.value for event in events.Scalars("speed/data_wait")]
    assert shares == [pytest.approx(0.25), pytest.approx(0.01)]


def test_a_step_that_compiled_tells_no_speed(tmp_path, capsys):
    log = logging.Log(tmp_path, 0, 10, 1)
    log.step(row(1), compiled=True)
    log.step(row(2))
    log.close()
    first, second = capsys.readouterr().out.splitlines()
    assert first == "step  1/10  loss 2.0000  lr 1.00e-03"
    assert "tok/s" in second


def test_a_terminal_gets_one_line_that_is_overwritten():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    progress = logging.Progress(10, stream)
    progress.add(1, None)
    progress.show(row(1), None)
    assert stream.getvalue().startswith("\r")
    assert "\n" not in stream.getvalue()
    progress.line("validation")
    assert stream.getvalue().endswith("\nvalidation\n")


def test_clock():
    assert [logging.clock(s) for s in (5.0, 65.2, 7265.0)] == ["0:05", "1:05", "2:01:05"]


def test_smoothing_is_the_mean_of_the_last_values():
    values = [1.0, 2.0, 3.0, 10.0]
    np.testing.assert_allclose(figure.smooth(values, span=2), [1.0, 1.5, 2.5, 6.5])
