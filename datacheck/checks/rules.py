"""Rules about values: what each family of checks contributes, and how the rules of a leaf run together.

Screened rules run only on the slices that fail the screen; the others run on everything, block by block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datacheck.arrow_layouts import python_value
from datacheck.arrow_leaves import decoded
from datacheck.batch import Batch
from datacheck.checks.base import LeafPositions, Outcome
from datacheck.codes import CODES
from datacheck.findings import MAX_EXAMPLES, Example, Severity
from datacheck.index_counts import WholeColumns
from datacheck.leaves import BoolArray, IntArray, Leaf, Ragged, Regular
from datacheck.numerics import BLOCK, Bounds, suspicious, to_float
from datacheck.row_spread import SpreadCounter
from datacheck.text import plain


@dataclass(frozen=True, slots=True)
class ValueRule:
    """One code for the leaves of one path and dtype.

    Attributes:
        mask: given a leaf and a slice of it, True for each violation. Nulls are excluded afterwards.
        screened: whether a slice that passes the screen is free of violations.
        on_nulls: whether the violations are the nulls themselves.
        on_missing: whether the violations are the values that mark a missing one, which other rules leave out.
        num_units: the number of vectors that the rule judges, for a rule about vectors. Its mask needs the whole leaf at
            once, and is True at one value of each vector.
        name: tells apart several rules of one code.
        reported: False if the schema allows the values, and a cleaning rule requested them.
        problem: why the rule cannot be checked on these leaves.
        severity: of its findings, where that is not the code's.
        is_absent: given a leaf and a slice of it, whether a quick look proves that the slice has no violation.
    """

    code: str
    mask: Callable[[Leaf, slice], BoolArray]
    detail: str = ""
    reported: bool = True
    screened: bool = True
    on_nulls: bool = False
    on_missing: bool = False
    num_units: Callable[[Leaf], int] | None = None
    name: str = ""
    severity: Severity | None = None
    is_absent: Callable[[Leaf, slice], bool] | None = None
    problem: str = ""


def uncheckable(code: str, problem: str) -> ValueRule:
    """A rule that cannot be checked on a leaf: it becomes a finding rather than a silent pass."""
    return ValueRule(code, _nothing, problem=problem)


def _nothing(leaf: Leaf, part: slice) -> BoolArray:
    return np.zeros(len(leaf.values[part]), np.bool_)


@dataclass(frozen=True, slots=True)
class LeafRules:
    """The rules for the leaves of one path and dtype, and the bounds for their screen."""

    rules: tuple[ValueRule, ...]
    bounds: Bounds | None = None
    screened: tuple[ValueRule, ...] = field(init=False)
    unscreened: tuple[ValueRule, ...] = field(init=False)
    whole: tuple[ValueRule, ...] = field(init=False)
    on_nulls: tuple[ValueRule, ...] = field(init=False)
    problems: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        possible = [rule for rule in self.rules if not rule.problem]
        on_nulls = tuple(rule for rule in possible if rule.on_nulls)
        others = [rule for rule in possible if not rule.on_nulls]
        object.__setattr__(self, "problems", tuple(rule.problem for rule in self.rules if rule.problem))
        object.__setattr__(self, "on_nulls", on_nulls)
        object.__setattr__(self, "screened", tuple(rule for rule in others if rule.screened))
        object.__setattr__(self, "whole", tuple(rule for rule in others if rule.num_units))
        object.__setattr__(
            self, "unscreened", tuple(rule for rule in others if not rule.screened and not rule.num_units)
        )

    @property
    def has_screen(self) -> bool:
        """Whether the screen says everything about the values that are not null."""
        return not self.unscreened and not self.whole


def run_rules(leaf: Leaf, rules: LeafRules, batch: Batch, *, with_rows: bool) -> list[Outcome]:
    """The outcome of each rule with violations; with their rows and positions if ``with_rows``."""
    outcomes = [Outcome("DC005", leaf.path, 1, 1, rule=problem, detail=problem) for problem in rules.problems]
    if rules.screened:
        slices = list(suspicious(leaf.values, leaf.dtype, rules.bounds))
        if slices:
            slices = slices if leaf.codes is None else list(_blocks(len(leaf)))
            outcomes += _find_violations(leaf, rules.screened, slices, batch, with_rows)
    if rules.unscreened:
        outcomes += _find_violations(leaf, rules.unscreened, list(_blocks(len(leaf))), batch, with_rows)
    if rules.whole:
        whole = decoded(leaf)
        outcomes += _find_violations(whole, rules.whole, [slice(0, len(leaf))], batch, with_rows)
    if rules.on_nulls and leaf.validity is not None:
        outcomes += _find_violations(leaf, rules.on_nulls, [slice(0, len(leaf))], batch, with_rows)
    return outcomes


def _find_violations(
    leaf: Leaf, rules: Sequence[ValueRule], slices: Sequence[slice], batch: Batch, with_rows: bool
) -> Iterator[Outcome]:
    counters = [_Violations(leaf, rule, batch, keep_all=with_rows) for rule in rules]
    whole = any(rule.num_units or rule.on_nulls for rule in rules)
    # All rules see a part while it is in the cache.
    for part in slices if whole else _parts(slices):
        for counter in counters:
            counter.add(part)
    for rule, found in zip(rules, counters, strict=True):
        if found.problem:
            yield Outcome("DC005", leaf.path, 1, 1, rule=found.problem, detail=found.problem)
        # What was checked without a violation counts for a named rule, which nothing else counts for.
        elif found.num_violations or (rule.num_units and rule.name):
            yield found.outcome()


def _parts(slices: Iterable[slice]) -> Iterator[slice]:
    for part in slices:
        for start in range(part.start, part.stop, CACHED_PART):
            yield slice(start, min(start + CACHED_PART, part.stop))


def _blocks(length: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK))


#: Values in a part that every rule looks at before the next part: it and the masks fit the L2 cache.
CACHED_PART = 1 << 17
#: Violations are dense where more than one value in this many is one.
_DENSE = 512
#: From these lengths on it pays to look at rows one by one: by a sum in a byte, which fewer values do not fill, and by ``or``.
_WIDE_ROW, _WIDER_ROW = 24, 128
#: Of rows of whole words: from this length on a sum is faster than one ``or`` after the other; up to that one it fills no byte.
_WIDE_WORDS, _LONGEST_SUM = 48, 2040


class _Violations:
    """Counts the violations of one rule and keeps their positions: all, or enough for the examples."""

    def __init__(self, leaf: Leaf, rule: ValueRule, batch: Batch, *, keep_all: bool) -> None:
        self.leaf, self.rule, self.batch, self.keep_all = leaf, rule, batch, keep_all
        self.num_violations = 0
        self.positions: list[IntArray] = []
        self.num_kept = 0
        judged_once = leaf.codes is not None and not rule.on_nulls and not rule.on_missing
        self._distinct = _Distinct(leaf, rule) if judged_once else None
        self._spread = SpreadCounter()
        #: The rows with violations: how many, and the last, which may go on in the next slice.
        self.num_rows, self._last_row = 0, -1
        #: In Fortran order, where a row comes back with each column, which rows have one.
        self._hit: BoolArray | None = None
        self._is_by_rows = not any(isinstance(level, Regular) and level.order == "F" for level in leaf.levels)
        self._columns = WholeColumns(_num_columns(leaf))
        self._row_width = _row_width(leaf)
        #: Why the rule cannot be checked.
        self.problem = ""

    def add(self, part: slice) -> None:
        """Count the violations in a part of the leaf."""
        if self.problem:
            return
        is_absent = self.rule.is_absent
        if is_absent is not None and self.leaf.codes is None and is_absent(self.leaf, part):
            return
        try:
            mask = self._mask(part)
        except Exception as error:  # Arrow and Python raise anything for types and values that they do not support
            lines = str(error).splitlines() or [type(error).__name__]
            self.problem = f"{CODES[self.rule.code].name}: {plain(lines[0])}"
            return
        found = int(np.count_nonzero(mask))
        if not found:
            return
        self.num_violations += found
        self._columns.add(mask, part.start)
        is_dense = found * _DENSE > len(mask)
        if (
            is_dense
            and not self.keep_all
            and self.num_kept >= MAX_EXAMPLES
            and self._row_width
            and self.batch.rows is None
        ):
            self._count_dense(mask, part.start, found, self._row_width)
        else:
            self._add_positions(np.flatnonzero(mask) + part.start)

    def _mask(self, part: slice) -> BoolArray:
        mask = self.rule.mask(self.leaf, part) if self._distinct is None else self._distinct.mask(part)
        if self.leaf.validity is not None and not self.rule.on_nulls:
            mask = mask & self.leaf.validity[part]
        elif self.rule.on_nulls:
            for other in (self.leaf.unconvertible, self.leaf.absent):
                mask = mask if other is None else mask & ~other[part]
        if self.leaf.missing is not None and not self.rule.on_missing:
            mask = mask & ~self.leaf.missing[part]
        return mask

    def _count_dense(self, mask: BoolArray, start: int, found: int, width: int) -> None:
        """Count rows and their spread from the mask itself: the positions of many violations cost more than the rest."""
        first_row = start // width
        if width == 1:
            hits, num_hits = mask, found
        else:
            # The first and the last row may have parts of them in other slices.
            head = min(-start % width, len(mask))
            body = mask[head : head + (len(mask) - head) // width * width]
            tail = mask[head + len(body) :]
            hits = _any_in_rows(body, width)
            if len(body) < len(mask):
                edges = [np.array([part.any()])[: len(part)] for part in (mask[:head], tail)]
                hits = np.concatenate([edges[0], hits, edges[1]])
            num_hits = int(np.count_nonzero(hits))
        last_hit = _last_true(hits)
        self.num_rows += num_hits - int(bool(hits[0]) and first_row == self._last_row)
        self._last_row = first_row + last_hit
        offset = first_row * width - start

        def count(low: int, high: int) -> int:
            return int(np.count_nonzero(mask[max(0, low * width + offset) : high * width + offset]))

        self._spread.add_runs(self.batch.row_start + first_row, last_hit + 1, found, count)

    def _add_positions(self, positions: IntArray) -> None:
        self._count_rows(positions)
        if not self._is_by_rows and not self.keep_all:
            self.positions = [self._first(np.concatenate([*self.positions, positions]))]
        elif self.keep_all or self.num_kept < MAX_EXAMPLES:
            if not self.keep_all:
                positions = positions[: MAX_EXAMPLES - self.num_kept]
            self.positions.append(positions)
            self.num_kept += len(positions)

    def _count_rows(self, positions: IntArray) -> None:
        levels = self.leaf.levels
        if not levels:
            rows = positions
            self.num_rows += len(rows)
        else:
            if len(levels) == 1 and isinstance(levels[0], Regular) and self._is_by_rows:
                rows = positions // max(1, math.prod(levels[0].shape[1:]))
            else:
                rows = self.leaf.locate(positions)[0]
            if self._is_by_rows:
                self.num_rows += int(np.count_nonzero(np.diff(rows, prepend=self._last_row)))
                self._last_row = int(rows[-1])
            else:
                self._hit = np.zeros(self.batch.num_rows, np.bool_) if self._hit is None else self._hit
                self._hit[rows] = True
        self._spread.add(self.batch.file_rows(rows))

    def outcome(self) -> Outcome:
        rule, leaf = self.rule, self.leaf
        positions = np.concatenate([np.empty(0, np.int64), *self.positions])
        if rule.num_units is not None:
            num_checked = rule.num_units(leaf)
        else:
            num_checked = len(leaf) if rule.on_nulls else len(leaf) - leaf.num_nulls
        return Outcome(
            rule.code,
            leaf.path,
            num_checked,
            self.num_violations,
            leaf.rows(positions) if self.keep_all else None,
            examples_of(leaf, self._first(positions), self.batch),
            rule=rule.name or None,
            detail=rule.detail,
            reported=rule.reported,
            severity=rule.severity,
            num_rows=self.num_rows if self._hit is None else int(np.count_nonzero(self._hit)),
            spread=self._spread.spread(),
            by_index=self._columns.counts(len(leaf)),
            values=LeafPositions(leaf, positions) if self.keep_all else None,
        )

    def _first(self, positions: IntArray) -> IntArray:
        """The first positions by row and index, which in Fortran order is not the memory order."""
        if self._is_by_rows or len(positions) <= MAX_EXAMPLES:
            return positions[:MAX_EXAMPLES]
        rows, _ = self.leaf.locate(positions)
        positions = positions[rows <= np.partition(rows, MAX_EXAMPLES - 1)[MAX_EXAMPLES - 1]]
        rows, indices = self.leaf.locate(positions)
        return positions[np.lexsort((*indices.T[::-1], rows))[:MAX_EXAMPLES]]


def _last_true(mask: BoolArray) -> int:
    """The last index that is True; there is one."""
    for length in (min(1024, len(mask)), len(mask)):
        back = int(mask[-length:][::-1].argmax())
        if mask[-1 - back]:
            break
    return len(mask) - 1 - back


def _any_in_rows(mask: BoolArray, width: int) -> BoolArray:
    """For each ``width`` values whether one is True. NumPy's ``any`` along an axis has a high cost for each row.

    So the bytes of a row are taken together as integers of up to eight bytes.
    """
    if width in (2, 4, 8):
        return np.asarray(mask.view(f"u{width}"), np.bool_)
    if width % 8 or width >= _LONGEST_SUM:
        if width >= _WIDER_ROW and len(mask):
            return np.asarray(np.logical_or.reduceat(mask, np.arange(0, len(mask), width)))
        return np.asarray(np.einsum("ij->i", mask.view(np.uint8).reshape(-1, width)), np.bool_)
    words = mask.view(np.uint64).reshape(-1, width // 8)
    if width >= _WIDE_WORDS:
        return np.asarray(np.einsum("ij->i", words), np.bool_)
    joined = words[:, 0] | words[:, 1]
    for column in range(2, width // 8):
        joined |= words[:, column]
    return np.asarray(joined, np.bool_)


def _row_width(leaf: Leaf) -> int | None:
    """The number of values in a row, where a mask tells the rows of violations faster than their positions do."""
    if not leaf.levels:
        return 1
    level = leaf.levels[0]
    if len(leaf.levels) > 1 or not isinstance(level, Regular) or level.order == "F":
        return None
    width = math.prod(level.shape[1:])
    return width if width in (1, 2, 4) or width % 8 == 0 or width >= _WIDE_ROW else None


def _num_columns(leaf: Leaf) -> int:
    """The size of the last axis of an array or of lists of one length; 0 if its values are not in step."""
    level = leaf.levels[0] if len(leaf.levels) == 1 else None
    if isinstance(level, Ragged) and len(level.offsets) > 1:
        size = int(level.offsets[1] - level.offsets[0])
        is_even = level.offsets[0] == 0 and bool((np.diff(level.offsets) == size).all())
        return size if is_even else 0
    if not isinstance(level, Regular):
        return 0
    is_last = level.order == "C" and level.axes is None and len(level.shape) > 1
    return level.shape[-1] if is_last else 0


class _Distinct:
    """The mask of a leaf that holds each value once: every value is judged once."""

    def __init__(self, leaf: Leaf, rule: ValueRule) -> None:
        self._codes = leaf.codes
        values = replace(leaf, codes=None, validity=None)
        parts = [rule.mask(values, part) for part in _blocks(len(values))]
        self._violates = np.concatenate([np.zeros(0, np.bool_), *parts])

    def mask(self, part: slice) -> BoolArray:
        assert self._codes is not None
        return self._violates[self._codes[part]]


def examples_of(leaf: Leaf, positions: IntArray, batch: Batch) -> tuple[Example, ...]:
    """The values at flat positions of a leaf as examples, by row."""
    rows, indices = leaf.locate(positions)
    file_rows = batch.file_rows(rows)
    found = [
        Example(int(row), batch.row_group, tuple(int(digit) for digit in index), value_at(leaf, int(position)))
        for position, row, index in zip(positions, file_rows, indices, strict=True)
    ]
    return tuple(sorted(found, key=lambda example: (example.row or 0, example.index)))


def value_at(leaf: Leaf, position: int) -> str:
    """The value at a flat position of a leaf, as text."""
    if leaf.validity is not None and not leaf.validity[position]:
        return "null"
    if leaf.codes is not None:
        position = int(leaf.codes[position])
    if isinstance(leaf.values, np.ndarray):
        return format_value(to_float(leaf.values[position : position + 1], leaf.dtype)[0])
    return format_value(python_value(leaf.values[position]))


def format_value(value: Any) -> str:
    """A value as text: ``nan``, ``inf``, ``-inf``, ``null``, the shortest decimal that round-trips, or the text itself."""
    if value is None:
        return "null"
    if isinstance(value, np.generic):
        if isinstance(value, np.floating) and not np.isnan(value) and value.dtype.itemsize <= 8:
            return repr(float(str(value))) if np.isfinite(value) else ("inf" if value > 0 else "-inf")
        value = value.item()
    if isinstance(value, float):
        return "nan" if math.isnan(value) else repr(value)
    if isinstance(value, complex):
        return str(value).strip("()")
    return plain(str(value), 80)
