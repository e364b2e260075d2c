"""A file of predictions that grows under another name until it is whole.

    FILE.jsonl             every case once, in the source's order; there only when it is whole
    FILE.jsonl.part        the rows so far, in the order in which the cases are answered
    FILE.jsonl.meta.json   what they were made with, and by

After a kill the same command goes on behind the last whole line of FILE.jsonl.part; another one is
refused, so that no file holds answers of two.
"""

import contextlib
import io
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pefomed_jax import whole
from pefomed_jax.errors import UserError

# {"command": {name: value}, "versions": {…}}; only the command is compared
Made = Mapping[str, Any]
WAY = "give another --out, or --overwrite to begin anew"


class Journal:
    """The rows of one file, locked inside `with`.

    `made`: what determines the rows, JSON values. `order`: the ids of the cases as they are
    answered. Errors: UserError for a file of another command, one that is damaged or in use.
    """

    def __init__(
        self, path: pathlib.Path, made: Made, order: Sequence[str], overwrite: bool = False
    ):
        self.path, self._order = path, order
        self._part = path.with_name(path.name + ".part")
        self._meta = meta_path(path)
        self._file = _locked(self._part)
        self.finished, self.done = False, 0
        try:
            self._begin(made, overwrite)
        except BaseException:
            if not self._part.stat().st_size:
                self._drop_part()
            self._file.close()
            raise

    def _begin(self, made: Made, overwrite: bool) -> None:
        """Finds what is there already."""
        if overwrite:
            self.path.unlink(missing_ok=True)
            self._file.truncate(0)
        there = self.path if self.path.exists() else self._part
        if there == self._part and not self._part.stat().st_size:
            _write_meta(self._meta, made)
            return
        check_same(there, self._meta, made)
        self.finished = there == self.path
        self.done = len(self._order) if self.finished else self._cut()
        if self.finished:
            self._drop_part()

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Appends the rows of the next cases in the order that have none yet."""
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        rest = memoryview("".join(lines).encode("utf-8"))
        with _told(self._part):
            while rest:
                rest = rest[self._file.write(rest) :]
        self.done += len(rows)

    def finish(self, ids: Sequence[str]) -> None:
        """Writes the whole file, its rows in the order of `ids`."""
        held = dict(zip(self._order, self._lines(), strict=True))
        _replace(self.path, "".join(held[name] for name in ids))
        self._drop_part()
        self.finished = True

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the lock back; a part without rows goes."""
        if not self.finished and self.done == 0:
            self._drop_part()
        self._file.close()

    def _drop_part(self) -> None:
        self._part.unlink(missing_ok=True)

    def _lines(self) -> list[str]:
        text = self._part.read_bytes().decode("utf-8")
        return [line + "\n" for line in text.split("\n")[:-1]]  # other breaks may be in an answer

    def _cut(self) -> int:
        """Cuts a half-written last line off; how many rows are left, all of them as expected."""
        data = self._part.read_bytes()
        kept = data[: data.rfind(b"\n") + 1]
        self._file.truncate(len(kept))
        lines = kept.split(b"\n")[:-1]
        for number, line in enumerate(lines, 1):
            want = self._order[number - 1] if number <= len(self._order) else None
            if want is None or _id(line) != want:
                raise UserError(
                    f"{self._part}:{number} is not the row of case {want}: the file is damaged; "
                    f"{WAY}"
                )
        return len(lines)


class Follower:
    """Another process's `Journal`: knows how far it is, and writes nothing."""

    def __init__(self, path: pathlib.Path, finished: bool, done: int):
        self.path, self.finished, self.done = path, finished, done

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Counts the rows."""
        self.done += len(rows)

    def finish(self, ids: Sequence[str]) -> None:
        """Knows that the file is whole."""
        self.finished = True


def meta_path(path: pathlib.Path) -> pathlib.Path:
    """Where it is written what a file of predictions was made with."""
    return path.with_name(path.name + ".meta.json")


def note(path: pathlib.Path, name: str, value: Any) -> None:
    """Adds to what is written about a file of predictions; a note is not compared."""
    meta = meta_path(path)
    _write_meta(meta, json.loads(meta.read_text(encoding="utf-8")) | {name: value})


def noted(path: pathlib.Path, name: str) -> Any:
    """What `note` wrote; None where there is no such note."""
    try:
        return json.loads(meta_path(path).read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError, AttributeError):
        return None


def _write_meta(meta: pathlib.Path, made: Made) -> None:
    _replace(meta, json.dumps(made, indent=1, ensure_ascii=False) + "\n")


def check_same(path: pathlib.Path, meta: pathlib.Path, made: Made) -> None:
    """Raises UserError, which names the difference, where `path` is of another command."""
    try:
        old = json.loads(meta.read_text(encoding="utf-8"))["command"]
    except (OSError, ValueError, LookupError, TypeError):
        raise UserError(f"{path} is there, but not what made it ({meta.name}); {WAY}") from None
    new = json.loads(json.dumps(made["command"]))
    changed = [name for name in {**new, **old} if new.get(name) != old.get(name)]
    if changed:
        said = "; ".join(f"{name} was {old.get(name)}, is {new.get(name)}" for name in changed[:4])
        raise UserError(f"{path} is of another command: {said}; {WAY}")


def _id(line: bytes) -> Any:
    try:
        return json.loads(line)["id"]
    except (ValueError, LookupError, TypeError):
        return None


def _locked(part: pathlib.Path) -> io.FileIO:
    import fcntl  # which Windows has not, where notes can be read all the same

    part.parent.mkdir(parents=True, exist_ok=True)
    handle = part.open("ab", buffering=0)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise UserError(f"{part} is being written by another process; wait for it") from None
    return handle


def _replace(path: pathlib.Path, text: str) -> None:
    with _told(path):
        whole.write(path, text)


@contextlib.contextmanager
def _told(path: pathlib.Path) -> Iterator[None]:
    """A full disk in one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; once that is put right, the same command goes on"
        ) from None
