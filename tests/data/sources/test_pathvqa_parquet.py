"""PathVQA as Hugging Face distributes it: images inside parquet files."""

import io
import pathlib
import pickle
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from pefomed_jax import config as config_lib
from pefomed_jax.data import facts, sources
from pefomed_jax.data.sources import parquet
from pefomed_jax.errors import ImageError, UserError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def load(folder: pathlib.Path):
    config = config_lib.make("vqa", "tiny")
    config.data.update(source="pathvqa", dir=str(folder))
    return sources.load(config)


def png(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 6), grey, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_file(path: pathlib.Path, greys: list[int], group: int = 3, **columns: list) -> None:
    """Rows whose image is of one grey and whose question asks for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {
        "image": [{"bytes": png(grey), "path": None} for grey in greys],
        "question": [f"grey {grey}?" for grey in greys],
        "answer": ["yes" if grey % 2 else "even" for grey in greys],
    }
    table = {name: cells for name, cells in (table | columns).items() if cells}
    pq.write_table(pa.table(table), path, row_group_size=group)


def write(root: pathlib.Path) -> pathlib.Path:
    write_file(root / "data" / "train-00000-of-00002.parquet", list(range(8)))
    write_file(root / "data" / "train-00001-of-00002.parquet", list(range(100, 105)))
    write_file(root / "data" / "validation-00000-of-00001.parquet", [50])
    write_file(root / "data" / "test-00000-of-00001.parquet", [60, 61])
    (root / "README.md").write_text("card")
    return root


def grey_of(source, case) -> int:
    return int(np.asarray(source.image(case))[0, 0])


@pytest.mark.parametrize("inside", ["", "path-vqa"])
def test_as_distributed(tmp_path: pathlib.Path, inside: str) -> None:
    source = pickle.loads(pickle.dumps(load(write(tmp_path / inside) and tmp_path)))
    assert source.bad_rows == []
    assert [len(source.cases(split)) for split in ("train", "val", "test")] == [13, 1, 2]
    cases = source.cases("train")
    assert [case.id for case in cases] == [f"train-row{i}" for i in range(1, 14)]
    assert cases[9].images == ("data/train-00001-of-00002.parquet#2",)
    assert source.path(cases[9]).is_file()
    assert source.where["train-row10"] == ("data/train-00001-of-00002.parquet", 2)
    assert [case.fields["answer_type"] for case in cases[:2]] == ["OPEN", "CLOSED"]
    for case in [*cases[::-1], *cases, cases[11], cases[0]]:  # back and forth over groups
        assert case.question == f"grey {grey_of(source, case)}?"


def test_one_group_is_read_at_a_time(tmp_path: pathlib.Path, monkeypatch) -> None:
    source = load(write(tmp_path))
    read = []
    whole = pq.ParquetFile.read_row_group

    def spied(self, group, *args, **kwargs):
        read.append(group)
        return whole(self, group, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spied)
    for case in source.cases("train")[:8]:
        grey_of(source, case)
    assert read == [0, 1, 2]  # of 3, 3 and 2 rows
    assert len(parquet._kept.cells) == 2


def test_threads_do_not_mix_their_groups(tmp_path: pathlib.Path) -> None:
    source = load(write(tmp_path))
    wrong = []

    def look(cases) -> None:
        for case in cases * 5:
            if case.question != f"grey {grey_of(source, case)}?":
                wrong.append(case.id)

    cases = source.cases("train")
    threads = [
        threading.Thread(target=look, args=(cases[i:] + cases[:i],)) for i in range(0, 12, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_facts_and_bytes_are_of_the_row(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "set"
    write_file(write(root) / "data" / "test-00000-of-00001.parquet", [60, 60, 61, 62])
    table = pq.read_table(root / "data" / "test-00000-of-00001.parquet").to_pylist()
    table[3]["image"]["bytes"] = b"no picture"
    pq.write_table(pa.Table.from_pylist(table), root / "data" / "test-00000-of-00001.parquet")
    source = load(root)
    cases = source.cases("test")
    assert source.content(cases[2]) == png(61)
    found = facts.of(source, cases, str(tmp_path / "cache"))
    assert [found[case.image].width for case in cases] == [6, 6, 6, 0]
    assert found[cases[3].image].problem == "does not open (not an image of a known format)"
    digests = [found[case.image].digest for case in cases[:3]]
    assert digests[0] == digests[1] != digests[2]


def test_the_converted_branch(tmp_path: pathlib.Path) -> None:
    for i, split in enumerate(("train", "validation", "test")):
        write_file(tmp_path / "default" / split / "0000.parquet", [i])
    source = load(tmp_path)
    assert [grey_of(source, source.cases(split)[0]) for split in source.splits] == [0, 1, 2]


def test_bad_rows(tmp_path: pathlib.Path) -> None:
    write(tmp_path)
    write_file(
        tmp_path / "data" / "train-00001-of-00002.parquet",
        [1, 2, 3],
        question=["Q?", None, "R?"],
        answer=["a", "b", " "],
        image=[{"bytes": None, "path": "a.jpg"}] * 3,
    )
    source = load(tmp_path)
    said = [str(bad) for bad in source.bad_rows]
    assert said[0].startswith("data/train-00001-of-00002.parquet, row 2, field 'question': empty")
    assert said[1].startswith("data/train-00001-of-00002.parquet, row 3, field 'answer': empty")
    with pytest.raises(ImageError, match=r"data/train-00001\S+, row 1 does not open \(no bytes in"):
        source.image(source.cases("train")[-1])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"answer": []}, "no column 'answer', only image, question"),
        ({"image": [1]}, "column 'image' is int64; expected a struct with 'bytes'"),
    ],
)
def test_files_of_another_form(tmp_path: pathlib.Path, columns: dict, message: str) -> None:
    write_file(write(tmp_path) / "data" / "test-00000-of-00001.parquet", [1], **columns)
    with pytest.raises(UserError, match=rf"test-00000-of-00001.parquet: {message}"):
        load(tmp_path)


def test_files_that_are_not_whole(tmp_path: pathlib.Path) -> None:
    second = write(tmp_path) / "data" / "train-00001-of-00002.parquet"
    content = second.read_bytes()
    second.write_bytes(content[:-30])
    with pytest.raises(UserError, match=r"train-00001-of-00002.parquet is cut short or no parquet"):
        load(tmp_path)
    second.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match=r"no parquet file .*git lfs pull"):
        load(tmp_path)
    at = content.index(b"grey 100?")
    second.write_bytes(content[: at - 40] + b"\xff" * 60 + content[at + 20 :])
    with pytest.raises(UserError, match=r"train-00001-of-00002.parquet is damaged after row \d"):
        load(tmp_path)
    second.unlink()
    with pytest.raises(UserError, match=r"train-00001-of-00002.parquet is missing \(1 of 2 files"):
        load(tmp_path)
    (tmp_path / "data" / "train-00000-of-00002.parquet").rename(
        tmp_path / "data" / "train-0.parquet"
    )
    (tmp_path / "data" / "validation-00000-of-00001.parquet").unlink()
    with pytest.raises(UserError, match=r"has no validation-\*.parquet; fetch it"):
        load(tmp_path)


def test_without_pyarrow(tmp_path: pathlib.Path, monkeypatch) -> None:
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match=r"need the package pyarrow: pip install pyarrow"):
        load(tmp_path)
