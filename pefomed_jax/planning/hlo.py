"""The text of a compiled program: its computations, and how often each runs."""

import dataclasses
import re
from collections.abc import Iterator

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_CALLS = re.compile(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"?known_trip_count"?:?\s*\{"?n"?:\s*"?(\d+)')
_SIZES = {"pred": 1.0, "s4": 0.5, "u4": 0.5, "bf16": 2.0}
_SHAPE = re.compile(r"\b(pred|bf16|[sufc]\d+\w*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Op:
    """One instruction: what it makes, what it does, and the rest of its line."""

    name: str
    result: str  # a shape, or '(shape, shape, …)'
    code: str  # all-gather, while, fusion, …
    rest: str

    @property
    def operands(self) -> list[str]:
        """The names of what it works on."""
        return re.findall(r"%([\w.\-]+)", self.rest[: _closing(self.rest, 0)])

    @property
    def constant(self) -> int | None:
        """The whole number that it is; None where it is something else."""
        found = re.match(r"\((\d+)\)", self.rest) if self.code == "constant" else None
        return int(found[1]) if found else None

    @property
    def index(self) -> int | None:
        """Which element of a tuple it takes."""
        found = re.search(r"\bindex=(\d+)", self.rest)
        return int(found[1]) if found else None

    @property
    def where(self) -> str:
        """The place in the model's code that it was made for; may be empty."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Program:
    """Computations by name, in the order of the text."""

    computations: dict[str, list[Op]]
    entry: str

    def walk(self, unknown: int = 1) -> Iterator[tuple[str, Op, int, int]]:
        """(computation, instruction, how often it runs, loops it is in), called ones included.

        Of a loop whose count the compiler does not know, `unknown` turns are assumed.
        """
        yield from self._walk(self.entry, 1, 0, unknown)

    def _walk(
        self, name: str, times: int, depth: int, unknown: int
    ) -> Iterator[tuple[str, Op, int, int]]:
        for op in self.computations.get(name, ()):
            yield name, op, times, depth
            if op.code.endswith(("-update", "-done")):
                continue  # of the same call as its start
            loop = op.code == "while"
            turns = self._turns(op, unknown) if loop else 1
            called = _CALLS.findall(op.rest)
            for branches in _BRANCHES.findall(op.rest):
                called += [part.strip().lstrip("%") for part in branches.split(",")]
            for inner in called:
                yield from self._walk(inner, times * turns, depth + loop, unknown)

    def _turns(self, op: Op, unknown: int) -> int:
        """Turns of a loop that counts from 0, by steps of a constant, to below another."""
        if known := _TRIPS.search(op.rest):
            return int(known[1])
        condition, body = (self._of(op, name) for name in ("condition", "body"))
        last = next(reversed(condition.values()), None)
        if last is None or last.code != "compare" or "direction=LT" not in last.rest:
            return unknown
        asked = [condition[n] for n in last.operands if n in condition]
        limit = next((o.constant for o in asked if o.code == "constant"), None)
        index = next((o.index for o in asked if o.code == "get-tuple-element"), None)
        if limit is None or index is None:
            return unknown
        return -(-limit // self._step(body, index))

    def _of(self, op: Op, name: str) -> dict[str, Op]:
        found = re.search(rf"{name}=%?([\w.\-]+)", op.rest)
        return {o.name: o for o in self.computations.get(found[1] if found else "", ())}

    def _step(self, body: dict[str, Op], index: int) -> int:
        """What a turn adds to the counter; a compiler that unrolls a loop adds more than 1."""
        made = next((o for o in reversed(body.values()) if o.code == "tuple"), None)
        if made is None or index >= len(made.operands):
            return 1
        added = body.get(made.operands[index])
        if added is None or added.code != "add":
            return 1
        by = [body[n].constant for n in added.operands if n in body]
        return next((number for number in by if number), 1)


def parse(text: str) -> Program:
    """The program of `compiled.as_text()`."""
    computations: dict[str, list[Op]] = {}
    entry = current = ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = head[2]
            computations[current] = []
            entry = current if head[1] else entry
        elif current and (found := _LINE.match(line)) and (op := _op(found[1], found[2])):
            computations[current].append(op)
    return Program(computations, entry)


def _op(name: str, text: str) -> Op | None:
    end = _closing(text, 0) + 1 if text.startswith("(") else text.find(" ")
    result, _, call = text[:end], None, text[end:].strip()
    code, bracket, rest = call.partition("(")
    return Op(name, result, code, bracket + rest) if bracket else None


def _closing(text: str, start: int) -> int:
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    return len(text)


def elements(result: str) -> list[str]:
    """The parts of a tuple's shape; of any other shape, itself."""
    if not result.startswith("("):
        return [result]
    parts, depth, start = [], 0, 1
    for i, letter in enumerate(result):
        depth += (letter in "({[") - (letter in ")}]")
        if (letter == "," and depth == 1) or (letter == ")" and depth == 0):
            parts.append(result[start:i].strip())
            start = i + 1
    return parts


def size(result: str) -> float:
    """Bytes of a shape, of all parts of a tuple; without padding of a layout."""
    total = 0.0
    for kind, sides in _SHAPE.findall(result):
        count = 1.0
        for side in filter(None, sides.split(",")):
            count *= int(side)
        total += count * _width(kind)
    return total


def _width(kind: str) -> float:
    if kind in _SIZES:
        return _SIZES[kind]
    return int(re.match(r"[sufc](\d+)", kind)[1]) / 8
