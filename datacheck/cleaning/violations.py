"""The values of a batch that violate a code, found while labelling, so that the repairs need not search for them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np

from datacheck.checks.base import Outcome
from datacheck.cleaning.masks import code_mask, find_suspect_parts
from datacheck.leaves import BoolArray, IntArray, Leaf, Regular
from datacheck.schema.model import Field

__all__ = ["BatchViolations", "LeafViolations", "find_violations", "violations_in_kept_rows", "violations_of_leaf"]

#: For each code the flat positions, sorted, of the values of a leaf that violate it. A code that is absent has none.
LeafViolations: TypeAlias = Mapping[str, IntArray]
#: For each leaf (index of its column, index in the column) its violations; None where they are unknown. A leaf that is
#: absent has none.
BatchViolations: TypeAlias = Mapping[tuple[int, int], LeafViolations | None]

_NONE = np.empty(0, np.int64)


def find_violations(leaf: Leaf, codes: Iterable[str], field: Field) -> LeafViolations:
    """Search a leaf for values that violate ``codes``, whatever the field allows."""
    codes = list(codes)
    found: dict[str, list[IntArray]] = {code: [] for code in codes}
    for part in find_suspect_parts(leaf, codes, field):
        for code in codes:
            positions = np.flatnonzero(code_mask(leaf, code, field, part))
            if len(positions):
                found[code].append(positions + part.start)
    return {code: np.concatenate(positions) if positions else _NONE for code, positions in found.items()}


def violations_in_kept_rows(outcomes: Iterable[Outcome], kept: BoolArray) -> BatchViolations:
    """The violations that checks found, as positions in a batch of only the rows where ``kept`` is True."""
    keeps_all = bool(kept.all())
    new_positions: dict[tuple[int, int], IntArray | None] = {}
    found: dict[tuple[int, int], dict[str, IntArray] | None] = {}
    for outcome in outcomes:
        if outcome.values is None:
            continue
        leaf, positions, leaf_id = outcome.values.leaf, outcome.values.positions, outcome.values.leaf_id
        if not keeps_all:
            if leaf_id not in new_positions:
                new_positions[leaf_id] = _positions_after_take(leaf, kept)
            moved = new_positions[leaf_id]
            if moved is None:
                found[leaf_id] = None
                continue
            positions = moved[positions]
            positions = positions[positions >= 0]
        known = found.setdefault(leaf_id, {})
        if known is not None:
            known[outcome.code] = positions
    return found


def violations_of_leaf(violations: BatchViolations | None, leaf_id: tuple[int, int]) -> LeafViolations | None:
    """The violations of one leaf; None where they are unknown."""
    return None if violations is None else violations.get(leaf_id, {})


def _positions_after_take(leaf: Leaf, kept: BoolArray) -> IntArray | None:
    """For each value its position once only the kept rows are left, -1 for one that is gone.

    None if the values aren't in the order of the rows, as in Fortran order.
    """
    for level in leaf.levels:
        if isinstance(level, Regular) and (level.order != "C" or level.axes is not None):
            return None
    rows, _ = leaf.locate(np.arange(len(leaf), dtype=np.int64))
    survives = kept[rows]
    return np.where(survives, np.cumsum(survives) - 1, -1)
