"""`launch/predict.py` from its flags to its files: any weights answer any cases."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

import pefomed_jax
from pefomed_jax import base as base_lib
from pefomed_jax.data.asked import Asked
from pefomed_jax.data.pipeline import Loader
from pefomed_jax.decoding import merge, options
from pefomed_jax.decoding.generate import make_generate
from pefomed_jax.errors import UserError
from pefomed_jax.evaluation.journal import Follower, Journal, Made, check_same, meta_path, note
from pefomed_jax.evaluation.page import saved
from pefomed_jax.evaluation.predict import answer
from pefomed_jax.parallel import hosts, share
from pefomed_jax.training import cases as cases_lib
from pefomed_jax.training import folder as run_folder
from pefomed_jax.training import restore
from pefomed_jax.training.cases import Found, Wanted
from pefomed_jax.training.fingerprint import fingerprint
from pefomed_jax.training.progress import Counter

LISTED = 1  # exit code where images are listed instead of answered


class Request(NamedTuple):
    """The flags of `launch/predict.py`."""

    config: ConfigDict
    out: pathlib.Path
    wanted: Wanted = Wanted()
    shuffled: bool = False
    decoding: Mapping[str, Any] = {}  # fields of decoding.options.Options
    merge: bool | None = None  # None: where decoding.merge says so
    seed: int = 0
    overwrite: bool = False
    save_images: pathlib.Path | None = None  # folder


def run(request: Request) -> int:
    """Answers, writes and says what it did; returns an exit code of `cli`.

    Raises UserError, one line, for whatever the user can put right.
    """
    config = cases_lib.settled(request.config, request.wanted)
    tokenizer = base_lib.tokenizer(config)
    settings = {"max_new_tokens": config.eval.max_new_tokens, **request.decoding}
    eos = base_lib.ends(config, tokenizer)
    asked_for = options.make(settings.pop("max_new_tokens"), eos, settings)
    listed = request.out.with_name(f"{request.out.stem}_bad_rows.jsonl")
    found = cases_lib.find(config, request.wanted, listed if hosts.is_first() else None)
    control = cases_lib.control(found.cases) if request.shuffled else None
    with contextlib.ExitStack() as stack:
        whole = restore.restore(config)
        stack.enter_context(jax.set_mesh(whole.pieces.mesh))
        work = Work(request, whole, tokenizer, asked_for, found)
        return work.all(control, stack)


@dataclasses.dataclass(frozen=True)
class Work:
    """A request with all that it needs opened."""

    request: Request
    whole: restore.Restored
    tokenizer: Any
    options: options.Options
    found: Found

    def all(self, control: list[Any] | None, stack: contextlib.ExitStack) -> int:
        """Answers every case of every file; returns an exit code."""
        sets = {self.request.out: self.found.cases}
        if control is not None:
            sets[shuffled_path(self.request.out)] = control
        asked = {path: self._asked(cases) for path, cases in sets.items()}
        files = self._journals(asked, stack)
        self._save_images(files)
        if all(file.finished for file in files.values()):
            print(f"finished before: {_counts(files)}; --overwrite answers anew")
            return LISTED if self.found.bad else 0
        generate = make_generate(self.whole.pieces.model, self.options, self._lanes)
        params = self._params()
        for path, file in files.items():
            if not file.finished:
                self._answer(asked[path], file, generate, params)
                file.finish([case.id for case in sets[path]])
        print(f"written: {_counts(files)}")
        if self.found.bad:
            print(f"not answered: {len(self.found.bad)} images; the first: {self.found.bad[0]}")
        return LISTED if self.found.bad else 0

    def _journals(
        self, asked: Mapping[pathlib.Path, Asked], stack: contextlib.ExitStack
    ) -> dict[pathlib.Path, Journal | Follower]:
        """The files of answers, opened by process 0, which alone writes.

        Errors: UserError where one is of another command.
        """
        made, files = self._made(asked[self.request.out]), {}
        hosts.check_same(made["command"])

        def opened() -> list[tuple[bool, int]]:
            files.update(self._opened(made, asked, stack))
            return [(file.finished, file.done) for file in files.values()]

        states = hosts.first_says(opened)
        return files or {
            path: Follower(path, *state) for path, state in zip(asked, states, strict=True)
        }

    def _opened(
        self, made: Made, asked: Mapping[pathlib.Path, Asked], stack: contextlib.ExitStack
    ) -> dict[pathlib.Path, Journal]:
        overwrite = self.request.overwrite
        if len(asked) == 1:
            _settle_control(shuffled_path(self.request.out), made, overwrite)
        return {
            path: stack.enter_context(
                Journal(path, made, [case.id for case in each.cases], overwrite)
            )
            for path, each in asked.items()
        }

    def _save_images(self, files: Iterable[pathlib.Path]) -> None:
        """Saves the images, where that is wanted, and notes where for `launch/evaluate.py`."""
        if (folder := self.request.save_images) is not None and hosts.is_first():
            count = saved.save(self.found.source, self.found.cases, folder)
            print(f"{folder}: {count} images", flush=True)
            for path in files:
                note(path, saved.NOTE, saved.place(folder, path))

    @property
    def _lanes(self) -> int:
        return self.request.wanted.branches

    @property
    def _mesh(self) -> Mesh:
        return self.whole.pieces.mesh

    @property
    def _merges(self) -> bool:
        if self.request.merge is not None:
            return self.request.merge
        return merge.merges(self.whole.params, self.whole.pieces.model.compute.dtype)

    def _params(self) -> Any:
        params, alpha = self.whole.params, self.whole.pieces.config.lora.alpha
        return merge.merged(params, alpha, merge.fuses()) if self._merges else params

    def _asked(self, cases: list[Any]) -> Asked:
        config, prompts = self.whole.pieces.config, self.found.prompts
        loader = Loader.of(self.found.source, self.tokenizer, config)
        encoding = dataclasses.replace(loader.encoding, prompts=prompts)
        loader = dataclasses.replace(loader, encoding=encoding)
        size = rows_of_a_batch(config.eval.batch_size, self._mesh, len(cases))
        return Asked.of(loader, cases, size, self._lanes)

    def _answer(self, asked: Asked, file: Journal | Follower, generate: Any, params: Any) -> None:
        """The batches that are not done, each row appended to the file once."""
        first, total = asked.first(file.done), len(asked.cases)
        if file.done:
            print(f"{file.path}: going on after {file.done} of {total} cases", flush=True)
        behind = file.done - sum(len(group) for group in asked.groups[: first * asked.size])
        key = jax.random.key(self.request.seed) if self.options.sample else None
        rest = (self.tokenizer, self.found.prompts, self._mesh, key, self._lanes)
        mine = share.mine(self._mesh, asked.size)
        batches = asked.batches(first, self.whole.pieces.config.data.workers, mine)
        counter = Counter(file.path.name, total, file.done, sys.stdout)
        with contextlib.closing(batches), contextlib.closing(counter):
            for rows in answer(generate, params, batches, *rest):
                new, behind = rows[behind:], 0
                file.add(new)
                counter.add(len(new))

    def _made(self, asked: Asked) -> Made:
        """What the answers depend on, and by what they are computed."""
        config, wanted = self.whole.pieces.config, self.request.wanted
        command = {
            "weights": fingerprint(self.whole.params)[:16],
            "source": self.found.source.name,
            "split": None if wanted.images else wanted.split or "test",
            "cases": len(self.found.cases),
            "contents": cases_lib.digest(self.found),
            **run_folder.flatten({"decoding": dataclasses.asdict(self.options)}),
            "seed": self.request.seed if self.options.sample else None,
            "merge": self._merges,
            "branches": self._lanes,
            "batch_size": asked.size,
            **run_folder.flatten({"mesh": dict(self._mesh.shape)}),
            **run_folder.flatten({"model": config.model.to_dict()}),
            "lora.alpha": config.lora.alpha,
            **run_folder.flatten({"quirks": config.quirks.to_dict()}),
        }
        return {
            "command": command,
            "weights": {name: value for name, value in config.weights.items() if value},
            "data": str(getattr(self.found.source, "root", self.found.source.name)),
            "versions": {"pefomed_jax": pefomed_jax.__version__, "jax": jax.__version__},
            "device": self._mesh.devices.flat[0].device_kind,
        }


def shuffled_path(path: pathlib.Path) -> pathlib.Path:
    """Where `launch/evaluate.py` looks for the control."""
    return path.with_name(f"{path.stem}_shuffled{path.suffix}")


def _settle_control(control: pathlib.Path, made: Made, overwrite: bool) -> None:
    """No control of another command beside the file: `launch/evaluate.py` would score it."""
    if not control.exists():
        return
    if not overwrite:
        check_same(control, meta_path(control), made)
        return
    control.unlink()
    meta_path(control).unlink(missing_ok=True)
    print(f"{control} belonged to what is overwritten and is removed; --shuffled makes it anew")


def rows_of_a_batch(size: int, mesh: Mesh, cases: int) -> int:
    """No more than there are cases, as many for every device. Errors: `size` does not divide."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if size % shards:
        raise UserError(
            f"--batch_size={size} is not divisible by the mesh's data*fsdp = {shards}; the next "
            f"that is: {-(-size // shards) * shards}"
        )
    return min(size, -(-cases // shards) * shards)


def _counts(files: Mapping[pathlib.Path, Journal | Follower]) -> str:
    return ", ".join(f"{path} ({file.done} cases)" for path, file in files.items())
