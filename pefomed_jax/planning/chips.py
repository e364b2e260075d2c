"""What is known of one device of each kind: memory and the speed of its memory and of its links.

Peaks of computation are in `training/flops.py`. TPU: Google Cloud's pages of each version; memory
is what its compiler calls available. `link` is what a ring along one axis of the torus can move, in
both directions together: two links, of 45 GB/s (v5e) or 90 GB/s each (Austin et al., How to Scale
Your Model, 2025). GPU: NVIDIA's data sheets and XLA's own target configurations; `link` is NVLink
or PCIe in one direction, half of what the sheets add up.
"""

import dataclasses

GIB = 2**30
RESERVED = 0.75  # of a GPU's memory, taken by JAX unless XLA_PYTHON_CLIENT_MEM_FRACTION says more


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device: bytes and bytes a second; `kind` as `jax.Device.device_kind` has it."""

    platform: str  # cpu, tpu, gpu
    kind: str
    memory: int
    bandwidth: float
    link: float
    dims: int = 0  # of a TPU's torus
    cores: tuple[tuple[str, int], ...] = ()  # GPU: what differs in XLA's description of it


def _gpu(kind: str, memory: int, bandwidth: float, link: float, clock: float, **facts: int) -> Chip:
    cores = (("clock_khz", int(clock * 1e6)), *facts.items())
    return Chip("gpu", kind, memory, bandwidth, link, cores=cores)


_HOPPER = dict(major=9, minor=0, core_count=132, fpus_per_core=128, l2_cache_size=50 << 20)
_HOPPER |= dict(shared_memory_per_core=233472, threads_per_core_limit=2048)
_AMPERE = dict(major=8, minor=0, core_count=108, fpus_per_core=64, l2_cache_size=40 << 20)
_AMPERE |= dict(shared_memory_per_core=167936, threads_per_core_limit=2048)
_ADA = dict(major=8, minor=9, core_count=58, fpus_per_core=128, l2_cache_size=48 << 20)
_ADA |= dict(shared_memory_per_core=102400, threads_per_core_limit=1536)
_TURING = dict(major=7, minor=5, core_count=40, fpus_per_core=64, l2_cache_size=4 << 20)
_TURING |= dict(shared_memory_per_core=65536, threads_per_core_limit=1024)

CHIPS = {
    "cpu": Chip("cpu", "cpu", 0, 0.0, 0.0),
    "v5e": Chip("tpu", "TPU v5 lite", int(15.75 * GIB), 819e9, 90e9, dims=2),
    "v5p": Chip("tpu", "TPU v5", int(95.73 * GIB), 2765e9, 180e9, dims=3),
    "v6e": Chip("tpu", "TPU v6 lite", int(31.24 * GIB), 1640e9, 180e9, dims=2),
    "h200": _gpu("NVIDIA H200", 151397597184, 4800e9, 450e9, 1.98, **_HOPPER),
    "h100": _gpu("NVIDIA H100 80GB HBM3", 84942979072, 3352e9, 450e9, 1.98, **_HOPPER),
    "a100-80": _gpu("NVIDIA A100-SXM4-80GB", 85100068864, 2039e9, 300e9, 1.41, **_AMPERE),
    "a100-40": _gpu("NVIDIA A100-SXM4-40GB", 42331013120, 1555e9, 300e9, 1.41, **_AMPERE),
    "l4": _gpu("NVIDIA L4", 23034 << 20, 300e9, 32e9, 2.04, **_ADA),
    "t4": _gpu("Tesla T4", 15360 << 20, 320e9, 16e9, 1.59, **_TURING),
}

_TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared_memory_per_core}
  shared_memory_per_block_optin: {optin}
  threads_per_core_limit: {threads_per_core_limit}
  core_count: {core_count}
  fpus_per_core: {fpus_per_core}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  memory_bandwidth: {bandwidth}
  l2_cache_size: {l2_cache_size}
  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  cuda_compute_capability {{ major: {major} minor: {minor} {feature} }}
  device_vendor: "NVIDIA Corporation"
  name: "{kind}"
  pcie_bandwidth: 34359738368
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{kind}"
"""


def target(chip: Chip) -> str:
    """XLA's description of a GPU that is not here (a GpuTargetConfigProto as text)."""
    facts = dict(chip.cores)
    return _TARGET.format(
        kind=chip.kind,
        memory=int(chip.memory),
        bandwidth=int(chip.bandwidth),
        clock=facts["clock_khz"] / 1e6,
        optin=facts["shared_memory_per_core"] - 1024,
        feature="feature_extension: ACCELERATED_FEATURES" if facts["major"] == 9 else "",
        **facts,
    )
