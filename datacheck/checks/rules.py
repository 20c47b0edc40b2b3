"""Rules on values: what a check family contributes, and how the rules of a leaf are run together.

Rules that a screen covers run only over the slices that trip it; the others run over everything, a block at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datacheck.batch import Batch
from datacheck.checks.base import Outcome
from datacheck.findings import MAX_EXAMPLES, Example
from datacheck.leaves import BoolArray, IntArray, Leaf
from datacheck.numerics import BLOCK, Bounds, suspicious, to_float
from datacheck.text import plain

__all__ = ["ValueRule", "format_value", "run_rules"]


@dataclass(frozen=True, slots=True)
class ValueRule:
    """One code on one leaf.

    ``mask`` gives the violations among the leaf's values in a slice, True for each; null slots are taken out by the
    runner. ``screened`` says that a slice which passes the screen holds no violation. ``on_nulls`` is for the rule whose
    violations are the nulls themselves.
    """

    code: str
    mask: Callable[[slice], BoolArray]
    detail: str = ""
    reported: bool = True
    screened: bool = True
    on_nulls: bool = False


def run_rules(
    leaf: Leaf, rules: Sequence[ValueRule], bounds: Bounds | None, batch: Batch, *, with_rows: bool
) -> list[Outcome]:
    """The outcome of each rule; ``with_rows`` also says which rows of the batch have violations."""
    screened = [rule for rule in rules if rule.screened and not rule.on_nulls]
    slices = list(suspicious(leaf.values, leaf.dtype, bounds)) if screened and leaf.is_numeric else []
    present = len(leaf) - leaf.num_nulls
    outcomes = []
    for rule in rules:
        if rule.on_nulls:
            over = [slice(0, len(leaf))] if leaf.num_nulls else []
        else:
            over = slices if rule.screened else list(_blocks(len(leaf)))
        found = _Violations(leaf, rule, keep_all=with_rows)
        for part in over:
            found.look(part)
        checked = len(leaf) if rule.on_nulls else present
        outcomes.append(found.outcome(checked, batch))
    return outcomes


def _blocks(length: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK))


class _Violations:
    """Counts the violations of one rule, and keeps their positions: all of them, or enough for the examples."""

    def __init__(self, leaf: Leaf, rule: ValueRule, *, keep_all: bool) -> None:
        self.leaf, self.rule, self.keep_all = leaf, rule, keep_all
        self.num_violations = 0
        self.positions: list[IntArray] = []
        self.num_kept = 0

    def look(self, part: slice) -> None:
        mask = self.rule.mask(part)
        if self.leaf.validity is not None and not self.rule.on_nulls:
            mask = mask & self.leaf.validity[part]
        found = int(np.count_nonzero(mask))
        if not found:
            return
        self.num_violations += found
        if self.keep_all or self.num_kept < MAX_EXAMPLES:
            positions = np.flatnonzero(mask) + part.start
            if not self.keep_all:
                positions = positions[: MAX_EXAMPLES - self.num_kept]
            self.positions.append(positions)
            self.num_kept += len(positions)

    def outcome(self, num_checked: int, batch: Batch) -> Outcome:
        rule, leaf = self.rule, self.leaf
        if not self.num_violations:
            return Outcome(rule.code, leaf.path, num_checked, reported=rule.reported, detail=rule.detail)
        positions = np.concatenate(self.positions)
        return Outcome(
            rule.code,
            leaf.path,
            num_checked,
            self.num_violations,
            leaf.rows(positions) if self.keep_all else None,
            _examples(leaf, positions[:MAX_EXAMPLES], batch),
            detail=rule.detail,
            reported=rule.reported,
        )


def _examples(leaf: Leaf, positions: IntArray, batch: Batch) -> tuple[Example, ...]:
    rows, indices = leaf.locate(positions)
    file_rows = batch.file_rows(rows)
    found = [
        Example(int(row), batch.row_group, tuple(int(digit) for digit in index), _value_at(leaf, int(position)))
        for position, row, index in zip(positions, file_rows, indices, strict=True)
    ]
    return tuple(sorted(found, key=lambda example: (example.row or 0, example.index)))


def _value_at(leaf: Leaf, position: int) -> str:
    if leaf.validity is not None and not leaf.validity[position]:
        return "null"
    if isinstance(leaf.values, np.ndarray):
        return format_value(to_float(leaf.values[position : position + 1], leaf.dtype)[0])
    return format_value(leaf.values[position].as_py())


def format_value(value: Any) -> str:
    """A value in a few words: ``nan``, ``inf``, ``-inf``, ``null``, the shortest decimal that reads back, or text."""
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
