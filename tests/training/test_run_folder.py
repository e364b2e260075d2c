"""The run's folder: whole files, rows cut back, configs compared, one run at a time."""

import json
import subprocess
import sys

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.errors import UserError
from pefomed_jax.training import folder


def test_rows_after_the_checkpoint_and_broken_lines_go(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')
    assert folder.cut_rows(path, 2) == [{"step": 1}, {"step": 2}]
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert folder.cut_rows(path, 5) == [{"step": 1}]
    assert folder.cut_rows(tmp_path / "none.jsonl", 5) == []


def test_kept_rows_keep_their_bytes(tmp_path):
    path = tmp_path / "metrics.jsonl"
    line = json.dumps({"step": 1, "loss": 0.1 + 0.2, "tiny": 1e-45}) + "\n"
    path.write_text(line)
    folder.cut_rows(path, 1)
    assert path.read_text() == line


def test_latest_step_ignores_what_is_not_complete(tmp_path):
    assert folder.latest_step(tmp_path / "none") is None
    for name in ("2", "10", "12.orbax-checkpoint-tmp"):
        (tmp_path / name).mkdir()
    assert folder.latest_step(tmp_path) == 10


def test_config_may_change_only_where_nothing_is_learnt_from_it(tmp_path):
    config = config_lib.make("mrg")
    folder.settle(tmp_path, config, goes_on=False)
    config.train.steps, config.data.workers, config.mesh.fsdp = 500, 2, 2
    config.train.log_every = 1
    folder.settle(tmp_path, config, goes_on=True)
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 500
    config.lora.dropout = 0.5
    with pytest.raises(UserError, match=r"lora\.dropout was 0\.05, is 0\.5; set it back") as caught:
        folder.settle(tmp_path, config, goes_on=True)
    assert "\n" not in str(caught.value)
    folder.settle(tmp_path, config, goes_on=False)


def test_results_go_when_a_change_makes_them_stale(tmp_path):
    config, path = config_lib.make("mrg"), tmp_path / "results.json"
    folder.settle(tmp_path, config, goes_on=False)
    path.write_text("{}")
    answers = tmp_path / "predictions.jsonl"
    answers.write_text("")
    config.data.workers = 1
    folder.settle(tmp_path, config, goes_on=True)
    assert path.exists()
    assert answers.exists()
    config.eval.limit = 7
    folder.settle(tmp_path, config, goes_on=True)
    assert not path.exists()
    assert not answers.exists()


def test_a_damaged_config_and_a_workdir_that_is_a_file_are_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"train": ')
    with pytest.raises(UserError, match=r"config\.json is damaged .*repair or remove this file$"):
        folder.settle(tmp_path, config_lib.make("mrg"), goes_on=True)
    for path in (tmp_path / "config.json", tmp_path / "config.json" / "run"):
        with pytest.raises(UserError, match=r"--workdir=.* is no folder to write in"):
            folder.lock(path)


def test_the_lock_names_its_owner_and_ends_with_the_process(tmp_path):
    code = (
        "import pathlib, sys, time; from pefomed_jax.training.folder import lock;"
        "held = lock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"in use by another run .process {owner.pid}"):
            folder.lock(tmp_path)
    finally:
        owner.kill()
        owner.communicate()
    folder.lock(tmp_path).close()


def test_what_all_hosts_must_see_is_a_new_file_that_is_closed(tmp_path, monkeypatch):
    """A mounted bucket shows others neither what is still open, as the lock is, nor half a file."""
    with folder.lock(tmp_path):
        folder.check_shared(tmp_path)
        first = (tmp_path / ".shared").read_text()
        folder.check_shared(tmp_path)
        assert (tmp_path / ".shared").read_text() != first, "an older start's says nothing"
        monkeypatch.setattr(folder.hosts, "first_says", lambda value: "another")
        monkeypatch.setattr(folder, "SEEN_SECONDS", 0)
        with pytest.raises(UserError, match=r"--workdir=.* is not one folder: .*all hosts share"):
            folder.check_shared(tmp_path)
