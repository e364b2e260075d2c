"""Names of devices; what this machine's memory allows."""

import pytest

from pefomed_jax.errors import UserError
from pefomed_jax.planning import chips, host, topology
from pefomed_jax.training import flops


@pytest.mark.parametrize(
    ("name", "count", "platform"),
    [
        *[("cpu", 1, "cpu"), ("cpu:8", 8, "cpu"), ("v5e:4x4", 16, "tpu"), ("v6e:8x16", 128, "tpu")],
        *[("v5p:2x2x2", 8, "tpu"), ("h200", 1, "gpu"), ("A100-40:4", 4, "gpu")],
    ],
)
def test_names(name, count, platform):
    made = topology.parse(name)
    assert (made.count, made.chip.platform) == (count, platform)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v5g:2x2", r"'v5g' is not one of cpu, v5e, .*\(did you mean v5"),
        ("a100", r"'a100' is not one of .*\(did you mean a100-"),
        ("v5e:4", r"a v5e slice has 2 sides, such as v5e:2x2"),
        ("v5p:2x2", r"a v5p slice has 3 sides, such as v5p:2x2x2"),
        ("v5e:0x4", r"a v5e slice has 2 sides"),
        ("cpu:x", r"after the colon comes a number, such as cpu:8"),
        ("h100:0", r"after the colon comes a number, such as h100:8"),
    ],
)
def test_wrong_names_are_one_line(name, said):
    with pytest.raises(UserError, match=said) as error:
        topology.parse(name)
    assert str(error.value).startswith(f"--topology={name}: ")
    assert "\n" not in str(error.value)


def test_a_compiler_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(topology.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'pefomed_jax\[plan-tpu\]'"):
        topology.parse("v5e:2x2").devices()
    with pytest.raises(UserError, match=r"pip install 'pefomed_jax\[plan-cuda\]'"):
        topology.parse("l4").devices()


def test_more_processors_than_this_process_has():
    assert len(topology.parse("cpu:4").devices()) == 4
    with pytest.raises(UserError, match="this process has 8 CPU devices; set XLA_FLAGS"):
        topology.parse("cpu:16").devices()


def test_a_gpu_gives_what_jax_takes_of_it(monkeypatch):
    monkeypatch.delenv(topology.FRACTION, raising=False)
    h100 = topology.parse("h100")
    assert h100.limit == 0.75 * h100.chip.memory
    monkeypatch.setenv(topology.FRACTION, "0.95")
    assert h100.limit == 0.95 * h100.chip.memory
    assert "device_memory_size: 84942979072" in chips.target(h100.chip)


@pytest.mark.parametrize("name", [name for name in chips.CHIPS if name not in ("cpu", "t4")])
def test_every_chip_has_a_peak(name):
    """But the T4, which has no bfloat16."""
    assert flops.peak(chips.CHIPS[name].kind, "bfloat16") > 1e14
    assert flops.peak(chips.CHIPS["t4"].kind, "bfloat16") is None


def test_memory_is_what_the_tightest_group_leaves(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   8000000 kB\n")
    (tmp_path / "cgroup").write_text("0::/a/b\n")
    monkeypatch.setattr(host, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(host, "OWN", tmp_path / "cgroup")
    monkeypatch.setattr(host, "GROUPS", tmp_path / "groups")
    assert host.available() == 8_000_000 * 1024
    inner = tmp_path / "groups" / "a" / "b"
    inner.mkdir(parents=True)
    for folder, limit in ((inner, "max"), (inner.parent, "5000000000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("3000000000\n")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 1000000000\n")
    assert host.available() == 3_000_000_000  # files in memory can be dropped
    monkeypatch.setattr(host, "MEMINFO", tmp_path / "none")
    (tmp_path / "cgroup").unlink()
    assert host.available() == float("inf")
