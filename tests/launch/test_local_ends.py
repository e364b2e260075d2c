"""launch/local.py over small programs: who decides its code, what it restarts, stops and kills."""

import os
import pathlib
import signal
import sys
import time

import pytest
from standins import NOTE, begin, gone, numbers, run, wait_for


def test_who_failed_first_decides_and_the_others_get_their_time():
    code, out, err = run(
        "if me: sys.exit(1)\ntime.sleep(.5); print('left'); sys.exit(76)", "--restarts=2"
    )
    assert code == 1
    assert "[0] left" in out
    assert "process 1 of 2 ended with 1: something to put right" in err
    assert "process 0 of 2 ended with 76: another process of the run was lost" in err
    assert "start again" not in err


@pytest.mark.parametrize(
    ("first", "second", "code"), [("sys.exit(76)", "sys.exit(2)", 2), ("pass", "sys.exit(76)", 76)]
)
def test_76_counts_last(first, second, code):
    assert run(f"if me == 0:\n    {first}\nelse:\n    time.sleep(.3)\n    {second}")[0] == code


def test_who_hangs_is_killed_after_the_grace():
    began = time.monotonic()
    code, _, err = run("if me: sys.exit(76)\ntime.sleep(100)", "--grace=0.5")
    assert code == 76
    assert "process 0 still runs 0.5 s after another has failed: killed" in err
    assert "process 0 of 2 was killed by SIGKILL" in err
    assert time.monotonic() - began < 10


def test_a_process_that_is_done_leaves_the_others_all_their_time():
    code, out, _ = run("if me == 0: time.sleep(.6); print('written')", "--grace=0.1")
    assert code == 0
    assert out == "[0] written\n"


@pytest.mark.parametrize("end", ["sys.exit(75)", "sys.exit(76)", "os.kill(os.getpid(), 9)"])
def test_restarts_until_it_is_done(tmp_path, end):
    mark = str(tmp_path / "ports")
    port = "int(os.environ['JAX_COORDINATOR_ADDRESS'].split(':')[1])"
    program = f"n = os.path.exists({mark!r})\nif me: " + NOTE.format(path=mark, what=port)
    code, _, err = run(program + f"if me and not n: {end}", "--restarts=2")
    assert code == 0
    assert "all start again; 1 restarts left" in err
    assert len(numbers(tmp_path / "ports", 2)) == 2


def test_restarts_end_and_the_code_says_why(tmp_path):
    mark = tmp_path / "starts"
    code, _, err = run(
        NOTE.format(path=str(mark), what="me") + "os.kill(os.getpid(), signal.SIGSEGV)",
        "--restarts=2",
        processes=1,
    )
    assert code == 128 + signal.SIGSEGV
    assert err.count("was killed by SIGSEGV") == 3
    assert len(numbers(mark, 3)) == 3


SAVES = (
    "signal.signal({name}, lambda *_: (time.sleep(.2), print('saved'), sys.exit(75)))\n"
    + NOTE
    + "time.sleep(100)"
)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_stop_is_passed_on_and_nothing_restarts(tmp_path, name):
    heard = "SIGTERM" if name == "SIGHUP" else name
    path = tmp_path / "pids"
    program = SAVES.format(name=f"signal.{heard}", path=str(path), what="os.getpid()")
    old = signal.signal(signal.Signals[name], signal.SIG_DFL)  # nohup has it ignored by all below
    process = begin(program, "--restarts=5")
    signal.signal(signal.Signals[name], old)
    numbers(path, 2)
    process.send_signal(signal.Signals[name])
    out, err = process.communicate(timeout=20)
    assert process.returncode == 75
    assert sorted(out.splitlines()) == ["[0] saved", "[1] saved"]
    assert f"local: {heard} to all processes" in err
    assert "start again" not in err


def test_a_stop_spares_the_workers_until_the_process_has_saved(tmp_path):
    path = tmp_path / "pids"
    worker = f"import subprocess; w = subprocess.Popen([{sys.executable!r}, '-c', {'input()'!r}], "
    program = (
        worker + "stdin=subprocess.PIPE)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75 if w.poll() is None else 1))\n"
        + NOTE.format(path=str(path), what="w.pid")
        + "time.sleep(100)"
    )
    process = begin(program, processes=1)
    (pid,) = numbers(path, 1)
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 75
    wait_for(lambda: gone(pid), "the worker lives on")


def test_a_stop_in_the_pause_ends_it(tmp_path):
    process = begin("sys.exit(76)", "--restarts=3", "--pause=60")
    for line in process.stderr:
        if "process 1" in line:
            break
    time.sleep(0.5)
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 76


def test_a_second_stop_kills(tmp_path):
    path = tmp_path / "pids"
    program = "signal.signal(signal.SIGTERM, lambda *_: None)\n"
    program += NOTE.format(path=str(path), what="os.getpid()") + "while True: time.sleep(100)"
    process = begin(program)
    pids = numbers(path, 2)
    process.terminate()
    time.sleep(0.3)
    assert not any(map(gone, pids))
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("forks", [True, False], ids=["with a worker", "alone"])
def test_nothing_is_left_when_local_is_killed(tmp_path, forks):
    """Neither the processes nor what they have started, and even if they ignore SIGTERM."""
    path = tmp_path / "pids"
    note = NOTE.format(path=str(path), what="os.getpid()")
    # as the supervisor of a run of several forks its child
    fork = "if os.fork() == 0: os.setpgid(0, 0)\n" if forks else ""
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    process = begin(fork + ignore + note + "time.sleep(1000)")
    pids = numbers(path, 4 if forks else 2)
    process.kill()
    process.communicate()  # the pipes are closed once no one is left to write
    wait_for(lambda: all(map(gone, pids)), f"of {pids} some live on")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_left_of_a_process_that_has_ended(tmp_path):
    path = tmp_path / "pids"
    program = "if os.fork() == 0:\n    os.setpgid(0, 0)\n    " + NOTE.format(
        path=str(path), what="os.getpid()"
    )
    code, _, _ = run(program + "    time.sleep(1000)\ntime.sleep(.3)")
    assert code == 0
    pids = numbers(path, 2)
    wait_for(lambda: all(map(gone, pids)), f"of {pids} some live on")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at a parent's death")
def test_nothing_is_left_even_if_the_guard_is_killed_first(tmp_path):
    path = tmp_path / "pids"
    process = begin(NOTE.format(path=str(path), what="os.getpid()") + "time.sleep(1000)")
    pids = numbers(path, 2)
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    (guard,) = set(map(int, children.split())) - set(pids)
    os.kill(guard, signal.SIGKILL)
    process.kill()
    process.communicate()
    wait_for(lambda: all(map(gone, pids)), f"of {pids} some live on")
