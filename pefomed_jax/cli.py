"""Command lines of `launch/`: one-line errors that name the nearest right flag or config key.

Exit codes: 0 done, 1 something to put right, 2 a wrong command line, 75 interrupted and saved, 76
another process of the run is gone (after either the same command goes on).
"""

import itertools
import os
import pathlib
import runpy
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict

from pefomed_jax import config as config_lib
from pefomed_jax.errors import UserError, nearest
from pefomed_jax.parallel import join, together

INTERRUPTED = 75


def run(main: Callable[[], int | None], stops: bool = False) -> NoReturn:
    """Parses the flags, calls `main()`, exits with its code; errors of the user become one line.

    A program with `join.define_flags` joins the other processes of its run first; with `stops`
    it agrees with them on where to end after a SIGTERM (`training/stop.py`).
    """
    # transformers advises to install PyTorch, which nothing here needs
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

    def guarded(_: Sequence[str]) -> NoReturn:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # checkpoints tell a page a save otherwise
        signal.signal(signal.SIGTERM, join.interrupt)
        try:
            code = together.run(join.at_once(), main, stops, said)
        except KeyboardInterrupt as error:
            line, code = said(error)
            print(line, file=sys.stderr, flush=True)
        except (ValueError, OSError) as error:
            if (known := said(error)) is None:
                raise
            fail(*known)
        sys.exit(code or 0)

    app.run(guarded, flags_parser=parse)


def said(error: BaseException) -> tuple[str, int] | None:
    """(line, exit code) of an error that the user can put right; None: it is a fault of ours."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command goes on", INTERRUPTED
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; correct the path or its rights", 1
    if isinstance(error, ValueError) and is_users(error):
        return str(error), 1
    return None


def is_users(error: ValueError) -> bool:
    """True for an error the user can put right: one line, raised in this package on purpose.

    A ValueError out of a library keeps its traceback: it is a fault of ours, not of the input.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    own = pathlib.Path(frame.f_code.co_filename).is_relative_to(pathlib.Path(__file__).parent)
    return isinstance(error, UserError) or (own and "\n" not in str(error).strip())


def fail(message: str, code: int) -> NoReturn:
    """Prints `error: message` and exits."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


def parse(argv: Sequence[str]) -> list[str]:
    """The flags parser of `absl.app.run`; a wrong flag or key exits with 2 and one line."""
    if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(argv[1:]):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # --help | head
        print(help_text(sys.modules["__main__"].__doc__ or ""))
        sys.exit(0)
    try:
        check_names(argv)
        rest = flags.FLAGS(argv)
    except (flags.Error, ValueError) as error:
        fail(" ".join(str(error).split()), code=2)
    if len(rest) > 1:
        fail(f"'{rest[1]}' is not a flag; fields are set as --config.field=value", code=2)
    return rest


def check_names(argv: Sequence[str]) -> None:
    """Raises UserError for an unknown flag or config key, or a config file that cannot be read."""
    config = _load(argv)
    fields = config_lib.fields(config) if config is not None else {}
    flag_names = [name for name in flags.FLAGS if len(name) > 1 and not name.startswith("help")]
    given = (a.lstrip("-").split("=")[0] for a in argv[1:] if a.startswith("-"))
    for name in (n for n in given if n[:1].isalpha()):  # not a value such as -1
        if not name.startswith("config."):
            if name not in flag_names and name.removeprefix("no") not in flag_names:
                raise UserError(f"flag --{name} is unknown{nearest(name, flag_names)}; see --help")
            continue
        key = name.removeprefix("config.")
        if config is None:
            raise UserError(f"--{name} needs a config: add --config=configs/mrg.py")
        if inside := [field for field in fields if field.startswith(key + ".")]:
            raise UserError(f"--{name} is a group; set one of its fields: {', '.join(inside)}")
        if key not in fields:
            raise UserError(f"config key '{key}' is unknown{nearest(key, fields)}; see --help")


def _load(argv: Sequence[str]) -> ConfigDict | None:
    """The config as its file makes it, without overrides; None when there is no --config."""
    values = [a.split("=", 1)[1] for a in argv[1:] if a.startswith(("--config=", "-config="))]
    values += [b for a, b in itertools.pairwise(argv[1:]) if a in ("--config", "-config")]
    if not values:
        return None
    path, _, arg = values[-1].partition(":")
    if not pathlib.Path(path).is_file():
        raise UserError(f"--config: there is no file '{path}'; try --config=configs/mrg.py")
    try:
        return runpy.run_path(path)["get_config"](arg or None)
    except KeyError:
        raise UserError(f"--config: '{path}' defines no get_config(arg)") from None
    except Exception as error:
        raise UserError(f"--config={values[-1]}: {error}") from error


def help_text(doc: str) -> str:
    """The program's own words, then every field of the config with its default at `tiny`."""
    fields = config_lib.fields(config_lib.make("mrg"))
    width = max(map(len, fields))
    lines = [f"  --config.{name:<{width}}  {value!r}" for name, value in fields.items()]
    title = "Fields of the config (values of configs/mrg.py; comments in pefomed_jax/config.py):"
    several = ["", join.HELP] if join.FLAGS[0] in flags.FLAGS else []
    return "\n".join([doc.strip(), *several, "", title, *lines])
