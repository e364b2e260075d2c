"""Wrong command lines: one line, the nearest right name, exit code 2, no traceback."""

import pathlib
import subprocess
import sys

import pytest

from pefomed_jax import config as configs

ROOT = pathlib.Path(__file__).parents[2]
MRG = "--config=configs/mrg.py"

# one process for all lines: starting Python costs more than what is tested
CHECK = """
import sys
from absl import flags
from ml_collections import config_flags
from pefomed_jax import cli
config_flags.DEFINE_config_file("config")
flags.DEFINE_string("workdir", "", "")
flags.DEFINE_bool("dry_run", False, "")
for line in sys.stdin.read().splitlines():
    try:
        cli.check_names(["train.py", *line.split()])
        print("fine")
    except cli.UserError as error:
        print(error)
"""

LINES = [
    (f"{MRG} --config.train.step=3", "'train.step' is unknown (did you mean train.steps?)"),
    (f"{MRG} --config.trian.steps=3", "'trian.steps' is unknown (did you mean train.steps?)"),
    (f"{MRG} --config.model.vision.wdth=3", "(did you mean model.vision.width?)"),
    (f"{MRG} --config.train=3", "--config.train is a group; set one of its fields: train.acc"),
    (f"{MRG} --wrkdir=x", "flag --wrkdir is unknown (did you mean workdir?)"),
    (f"{MRG} --dryrun", "(did you mean dry_run?)"),
    (f"{MRG}:foo", "preset 'foo' is not one of tiny, small, 7b"),
    (f"{MRG}:tiny,dta=x", "config argument 'dta' is unknown"),
    ("--config=configs/nope.py", "there is no file 'configs/nope.py'; try --config=configs/mrg"),
    ("--config=README.md", "README.md"),
    ("--config.train.steps=3", "needs a config: add --config=configs/mrg.py"),
    ("--config configs/mrg.py --config.lora.rnk=3", "(did you mean lora.rank?)"),
    (f"{MRG} --config.train.steps=3 --dry_run", "fine"),
    (f"{MRG} --nodry_run", "fine"),
    (f"{MRG} -config.train.stepz=3", "'train.stepz' is unknown (did you mean train.steps?)"),
    (f"{MRG} --config.mesh.data -1", "fine"),
]


@pytest.fixture(scope="module")
def answers():
    lines = "\n".join(line for line, _ in LINES)
    done = subprocess.run(
        [sys.executable, "-c", CHECK], input=lines, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(zip((line for line, _ in LINES), done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize(("line", "words"), LINES)
def test_check_names(answers, line, words):
    assert words in answers[line]


def train(*args):
    return subprocess.run(
        [sys.executable, "launch/train.py", *args], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([MRG, "--config.train.steps=abc"], 2, "invalid literal for int"),
        ([MRG, "--config.train.stps=1"], 2, "did you mean train.steps"),
        ([MRG, "stray"], 2, "'stray' is not a flag"),
        ([], 1, "--config is needed"),
        ([MRG, "--config.lora.rank=0"], 1, "lora.rank=0 is too small"),
    ],
)
def test_exit_code_and_one_line(args, code, words):
    done = train(*args)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_lists_flags_and_fields():
    done = train("--help")
    assert done.returncode == 0
    steps = f"--config.train.steps {configs.make('mrg').train.steps}"
    said = " ".join(done.stdout.split())
    for word in ("--dry_run", "--workdir", steps, "--config.lora.rank"):
        assert word in said


def ends(body, *args):
    """What `cli.run` makes of a main() with this body."""
    code = f"from pefomed_jax import cli\ndef main():\n    {body}\ncli.run(main)"
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)


def test_ctrl_c_and_a_path_that_does_not_serve_are_one_line(tmp_path):
    done = ends("raise KeyboardInterrupt")
    assert (done.returncode, done.stderr) == (75, "interrupted; the same command goes on\n")
    done = ends("import os; os.kill(os.getpid(), 15)")
    assert (done.returncode, done.stderr) == (75, "interrupted; the same command goes on\n")
    done = ends(f"open({str(tmp_path)!r}, 'w')")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}: Is a directory;")
    assert len(done.stderr.splitlines()) == 1
