"""Texts of compiled programs: loops, groups, pieces of one collective, bytes."""

import pytest

from pefomed_jax.planning import collectives, hlo

ADD = """
%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}
"""


def program(entry: str, *computations: str) -> hlo.Program:
    body = "\n".join(f"  {line}" for line in entry.strip().splitlines())
    text = f"HloModule jit_step\n{ADD}{''.join(computations)}\n"
    return hlo.parse(text + f"ENTRY %main (p: f32[8,4]) -> f32[] {{\n{body}\n}}\n")


def loop(step: int, limit: int, inside: str) -> str:
    return f"""
%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {{
  %p = (s32[], f32[8,4]{{1,0:T(8,128)}}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %by = s32[] constant({step})
  %next = s32[] add(%i, %by)
  {inside}
  ROOT %out = (s32[], f32[8,4]) tuple(%next, %got)
}}

%condition (q: (s32[], f32[8,4])) -> pred[] {{
  %q = (s32[], f32[8,4]) parameter(0)
  %at = s32[] get-tuple-element(%q), index=0
  %end = s32[] constant({limit})
  ROOT %less = pred[] compare(%at, %end), direction=LT
}}
"""


GATHER = "%got = f32[8,4]{1,0} all-gather(%p), replica_groups={{0,1,2,3}}, dimensions={0}"
WHILE = "ROOT %w = (s32[], f32[8,4]) while(%t), condition=%condition, body=%body"


def only(entry: str, *computations: str, devices: int = 4, unknown: int = 1):
    (found,) = collectives.of(program(entry, *computations), devices, unknown)
    return found


@pytest.mark.parametrize(("step", "turns"), [(1, 8), (2, 4), (3, 3)])
def test_a_loop_turns_as_often_as_its_counter_says(step, turns):
    found = only(WHILE, loop(step, 8, GATHER))
    assert (found.times, found.loops) == (turns, 1)
    assert found.sent == 8 * 4 * 4 * 3 / 4


def test_a_count_that_the_compiler_knows():
    known = WHILE + ', backend_config={"known_trip_count":{"n":"39"}}'
    assert only(known, loop(1, 8, GATHER)).times == 39


def test_a_loop_without_a_count_turns_as_often_as_is_said():
    unknown = loop(1, 8, GATHER).replace("direction=LT", "direction=NE")
    assert only(WHILE, unknown, unknown=31).times == 31


def test_loops_in_loops_and_calls():
    inner = loop(1, 4, GATHER).replace("%body", "%body.1").replace("%condition", "%condition.1")
    call = "%got = f32[8,4] fusion(%p), kind=kLoop, calls=%called"
    called = """
%called (a: f32[8,4]) -> f32[8,4] {
  %a = f32[8,4] parameter(0)
  %v = (s32[], f32[8,4]) while(%t), condition=%condition.1, body=%body.1
  ROOT %r = f32[8,4] get-tuple-element(%v), index=1
}
"""
    found = only(WHILE, inner, called, loop(1, 5, call))
    assert (found.times, found.loops) == (20, 2)


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={{0,1},{2,3}}", 2),
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}", 4),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", 8),
        ("channel_id=3", 8),
    ],
)
def test_groups_as_compilers_write_them(groups, size):
    found = only(f"ROOT %r = bf16[16,2]{{1,0}} all-reduce(%p), {groups}, to_apply=%add", devices=8)
    assert found.group == size
    assert found.sent == pytest.approx(2 * 16 * 2 * 2 * (size - 1) / size)


def test_groups_of_one_send_nothing():
    line = "ROOT %r = f32[4] all-reduce(%p), replica_groups={{0},{1}}, to_apply=%add"
    assert collectives.of(program(line), 2) == []
    same = "ROOT %r = f32[4] collective-permute(%p), source_target_pairs={{0,0},{1,1}}"
    assert collectives.of(program(same), 2) == []


@pytest.mark.parametrize(
    ("line", "kind", "sent"),
    [
        ("f32[2,4] reduce-scatter(%p)", "reduce-scatter", 8 * 4 * 4 * 3 / 4),
        ("(f32[2,4], f32[8,4]) all-gather-start(%p)", "all-gather", 8 * 4 * 4 * 3 / 4),
        ("(f32[8,4], s8[4]) all-reduce(%p, %q)", "all-reduce", 2 * (8 * 4 * 4 + 4) * 3 / 4),
        ("(f32[2], f32[2], f32[2], f32[2]) all-to-all(%p)", "all-to-all", 4 * 8 * 3 / 4),
    ],
)
def test_bytes_of_each_kind(line, kind, sent):
    found = only(f"ROOT %r = {line}, replica_groups={{{{0,1,2,3}}}}, to_apply=%add")
    assert (found.kind, found.sent) == (kind, sent)


def test_a_permutation_sends_what_it_holds():
    line = (
        "(bf16[2,4]{1,0:T(8,128)(2,1)S(1)}, bf16[2,4], u32[], u32[]) collective-permute-start(%p)"
    )
    done = "%d = bf16[2,4] collective-permute-done(%r), source_target_pairs={{0,1},{1,0}}"
    found = only(f"ROOT %r = {line}, source_target_pairs={{{{0,1}},{{1,0}}}}\n{done}")
    assert (found.kind, found.sent) == ("collective-permute", 16)


def test_pieces_of_one_gather_count_at_its_start():
    """A TPU's compiler spreads a gather over what it computes meanwhile, even over a loop."""
    piece = "%g = f32[8,4] all-gather(%a), channel_id=7, replica_groups={{0,1,2,3}}"

    def fused(name: str, target: str) -> str:
        last = f'ROOT %c = f32[8,4] custom-call(%g), custom_call_target="{target}"'
        return f"\n%{name} (a: f32[2,4]) -> f32[8,4] {{\n  {piece}\n  {last}\n}}\n"

    along = f"\n%async_collective_fusion.3 (a: f32[2,4]) -> f32[8,4] {{\n  {piece}\n}}\n"
    inside = "%got = f32[8,4] fusion(%p), kind=kOutput, calls=%async_collective_fusion.3"
    start = "%s = f32[8,4] fusion(%p), kind=kCustom, calls=%fused_computation.1"
    end = "ROOT %e = f32[8,4] fusion(%w), kind=kCustom, calls=%fused_computation.2"
    found = only(
        f"{start}\n{WHILE.replace('ROOT ', '')}\n{end}",
        along,
        fused("fused_computation.1", "AsyncCollectiveStart"),
        fused("fused_computation.2", "AsyncCollectiveDone"),
        loop(1, 32, inside),
    )
    assert (found.times, found.loops) == (1, 0)


def test_a_scatter_that_a_tpu_writes_as_a_sum():
    scatter = """
%all-reduce-scatter.1 (input: f32[8,4]) -> f32[2,4] {
  %sum = f32[8,4] all-reduce(%input), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %part = f32[2,4] dynamic-slice(%sum, %i), dynamic_slice_sizes={2,4}
}
"""
    found = only("ROOT %r = f32[2,4] fusion(%p), calls=%all-reduce-scatter.1", scatter)
    assert (found.kind, found.sent) == ("reduce-scatter", 8 * 4 * 4 * 3 / 4)
