"""Rules about values: what each family of checks contributes, and how the rules of a leaf run together.

Screened rules run only on the slices that fail the screen; the others run on everything, block by block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datacheck.arrow_layouts import python_value, take_rows
from datacheck.batch import Batch
from datacheck.checks.base import LeafPositions, Outcome
from datacheck.codes import CODES
from datacheck.findings import MAX_EXAMPLES, Example, Severity
from datacheck.leaves import BoolArray, IntArray, Leaf, Regular
from datacheck.numerics import BLOCK, Bounds, suspicious, to_float
from datacheck.row_spread import SpreadCounter
from datacheck.text import plain

__all__ = ["LeafRules", "ValueRule", "format_value", "run_rules", "uncheckable", "value_at"]


@dataclass(frozen=True, slots=True)
class ValueRule:
    """One code for the leaves of one path and dtype.

    Attributes:
        mask: given a leaf and a slice of it, True for each violation. Nulls are excluded afterwards.
        screened: whether a slice that passes the screen is free of violations.
        on_nulls: whether the violations are the nulls themselves.
        on_missing: whether the violations are the values that stand for a missing one, which other rules leave out.
        num_units: the number of vectors that the rule judges, for a rule about vectors. Its mask needs the whole leaf at
            once, and is True at one value of each vector.
        name: tells apart several rules of one code.
        reported: False if the schema allows the values, and a cleaning rule requested them.
        problem: why the rule cannot be checked on these leaves.
        severity: of its findings, where that is not the code's.
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
        whole = leaf if leaf.codes is None else _decoded(leaf)
        outcomes += _find_violations(whole, rules.whole, [slice(0, len(leaf))], batch, with_rows)
    if rules.on_nulls and leaf.validity is not None:
        outcomes += _find_violations(leaf, rules.on_nulls, [slice(0, len(leaf))], batch, with_rows)
    return outcomes


def _decoded(leaf: Leaf) -> Leaf:
    """A leaf that holds each value once, with the value of each position."""
    values = leaf.values[leaf.codes] if leaf.is_numeric else take_rows(leaf.values, np.asarray(leaf.codes, np.int64))
    return replace(leaf, values=values, codes=None)


def _find_violations(
    leaf: Leaf, rules: Sequence[ValueRule], slices: Sequence[slice], batch: Batch, with_rows: bool
) -> Iterator[Outcome]:
    for rule in rules:
        found = _Violations(leaf, rule, batch, keep_all=with_rows)
        try:
            for part in slices:
                found.add(part)
        except Exception as error:  # Arrow and Python raise anything for types and values that they do not support
            lines = str(error).splitlines() or [type(error).__name__]
            problem = f"{CODES[rule.code].name}: {plain(lines[0])}"
            yield Outcome("DC005", leaf.path, 1, 1, rule=problem, detail=problem)
            continue
        # What was checked without a violation counts for a named rule, which nothing else counts for.
        if found.num_violations or (rule.num_units and rule.name):
            yield found.outcome()


def _blocks(length: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK))


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
        self._is_by_rows = not any(isinstance(level, Regular) and level.order == "F" for level in leaf.levels)

    def add(self, part: slice) -> None:
        mask = self.rule.mask(self.leaf, part) if self._distinct is None else self._distinct.mask(part)
        if self.leaf.validity is not None and not self.rule.on_nulls:
            mask = mask & self.leaf.validity[part]
        elif self.rule.on_nulls:
            for other in (self.leaf.unconvertible, self.leaf.absent):
                mask = mask if other is None else mask & ~other[part]
        if self.leaf.missing is not None and not self.rule.on_missing:
            mask = mask & ~self.leaf.missing[part]
        found = int(np.count_nonzero(mask))
        if not found:
            return
        self.num_violations += found
        positions = np.flatnonzero(mask) + part.start
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
            _examples(leaf, self._first(positions), self.batch),
            rule=rule.name or None,
            detail=rule.detail,
            reported=rule.reported,
            severity=rule.severity,
            num_rows=self.num_rows if self._is_by_rows or not leaf.levels else None,
            spread=self._spread.spread(),
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


def _examples(leaf: Leaf, positions: IntArray, batch: Batch) -> tuple[Example, ...]:
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
