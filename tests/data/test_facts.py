"""What is known of images: broken ones are found, each is opened once, a kill loses nothing."""

import dataclasses
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image, ImageEnhance

from pefomed_jax.batch import Case
from pefomed_jax.data import facts, sources
from pefomed_jax.data.sources.files import ListSource
from pefomed_jax.data.sources.mixture import Mixture

from .conftest import write_image


def look(path: pathlib.Path) -> facts.Fact:
    source = ListSource("any", "vqa", str(path.parent))
    return facts.look(source, Case("a", (path.name,), "", "", "train"), 0)


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_truncated_files_are_found(tmp_path: pathlib.Path, format: str) -> None:
    path = tmp_path / f"a.{format.lower()}"
    write_image(tmp_path / "a.png", size=(300, 200))
    Image.open(tmp_path / "a.png").save(path, format)
    assert look(path)[:4] == ("", 200, 300, "L")
    truncate(path)
    assert look(path).problem.startswith("does not open (")
    path.write_bytes(b"no image")
    assert look(path).problem.startswith("does not open (")
    path.unlink()
    assert look(path).problem == "is missing"


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The names of the images that are opened."""
    names, real = [], facts.look

    def watched(source: sources.Source, case: Case, number: int) -> facts.Fact:
        names.append(case.images[number])
        return real(source, case, number)

    monkeypatch.setattr(facts, "look", watched)
    return names


def problems(source: sources.Source, cache: str) -> dict[str, str]:
    found = facts.of(source, source.cases("train"), cache)
    return {name: fact.problem for name, fact in found.items() if fact.problem}


def test_images_are_opened_once(config: ConfigDict, vqa_rows: list[dict], opened) -> None:
    source, cache = sources.load(config), config.data.cache
    assert problems(source, cache) == {}
    assert sorted(opened) == sorted({case.image for case in source.cases("train")})
    opened.clear()
    assert problems(source, cache) == {}
    assert opened == []
    truncate(source.path(source.cases("train")[-1]))
    last = source.cases("train")[-1].image
    assert set(problems(source, cache)) == {last}
    assert opened == [last]
    opened.clear()
    assert set(problems(source, cache)) == {last}
    assert opened == [last]  # what did not open may open now
    source.path(source.cases("train")[0]).unlink()
    assert problems(source, cache)[source.cases("train")[0].image] == "is missing"
    (store,) = (pathlib.Path(cache) / "images").glob("*.sqlite")
    store.write_bytes(b"damaged" * 1000)
    opened.clear()
    assert len(problems(source, cache)) == 2
    assert len(opened) == len({case.image for case in source.cases("train")})


def test_a_mixture_knows_its_images_by_its_own_names(config, vqa_rows: list[dict]) -> None:
    one = sources.load(config)
    other = dataclasses.replace(one, name="other")
    mixed = Mixture([one, other])
    found = facts.of(mixed, mixed.cases("train"), config.data.cache)
    assert {name.split("/")[0] for name in found} == {"pefomed", "other"}
    for case in mixed.cases("train"):
        assert found[case.image].width == 24


SCRIPT = """
import sys, time
from PIL import Image
from pefomed_jax.batch import Case
from pefomed_jax.data import facts
from pefomed_jax.data.sources.files import ListSource

class Slow(ListSource):
    def image(self, case, number=0):
        time.sleep(0.15)
        print("opened", case.image, flush=True)
        return super().image(case, number)

root, cache, n = sys.argv[1:]
cases = [Case(str(i), (f"{i}.png",), "", "", "train") for i in range(int(n))]
facts.AT_ONCE = 16
print(len(facts.of(Slow("slow", "vqa", root), cases, cache)))
"""


def test_a_killed_process_goes_on_and_another_waits(tmp_path: pathlib.Path) -> None:
    n = 200
    for i in range(n):
        write_image(tmp_path / "set" / f"{i}.png", seed=i, size=(8, 8))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "set"), str(tmp_path / "cache"), str(n)]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    first = start()
    for _ in range(60):
        first.stdout.readline()
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    second = start()
    second.stdout.readline()  # it holds the lock now
    third = start()
    said = [process.communicate(timeout=60)[0] for process in (second, third)]
    assert said[0].splitlines()[-1] == said[1].splitlines()[-1] == str(n)
    assert said[0].count("opened") < n - 40
    assert "opened" not in said[1]
    assert re.search(r"waiting for another process, which prepares .*\.sqlite", said[1])


def test_copies_look_alike_and_others_do_not(tmp_path: pathlib.Path, shared) -> None:
    folder = shared / "data" / "vqa-rad" / "images"
    picture = Image.open(next(iter(sorted(folder.glob("*.jpg"))))).convert("L")
    picture.save(tmp_path / "a.png")
    picture.resize([side * 2 // 3 for side in picture.size]).save(
        tmp_path / "small.jpg", quality=60
    )
    ImageEnhance.Brightness(picture).enhance(0.8).save(tmp_path / "dark.png")
    first = look(tmp_path / "a.png")
    assert look(tmp_path / "a.png").digest == first.digest
    for name in ("small.jpg", "dark.png"):
        other = look(tmp_path / name)
        assert other.digest != first.digest
        assert distance(first, other) <= 20
    start = time.perf_counter()
    looks = [look(path) for path in sorted(folder.glob("*.jpg"))[:60]]
    assert time.perf_counter() - start < 30
    far = [distance(a, b) for i, a in enumerate(looks) for b in looks[:i]]
    assert np.mean(np.asarray(far) <= 20) < 0.01


def distance(a: facts.Fact, b: facts.Fact) -> int:
    bits = np.frombuffer(a.look, np.uint8) ^ np.frombuffer(b.look, np.uint8)
    return int(np.unpackbits(bits).sum())
