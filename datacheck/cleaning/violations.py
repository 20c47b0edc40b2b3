"""The values of a batch that violate a code, found while labelling, so that the repairs need not search for them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from datacheck.checks.base import Outcome
from datacheck.cleaning.masks import code_mask, find_suspect_parts
from datacheck.leaves import BoolArray, IntArray, Leaf, Regular
from datacheck.schema.model import Field

#: For each code the flat positions, sorted, of the values of a leaf that violate it. A code that is absent has none.
LeafViolations: TypeAlias = Mapping[str, IntArray]


@dataclass(frozen=True, slots=True)
class BatchViolations:
    """The violations in the leaves of a batch.

    Attributes:
        found: by leaf (index of its column, index in the column). None where they are unknown, absent where there are none.
        has_moved: whether rows were removed since, so that positions are right only for a leaf in the order of its rows.
    """

    found: Mapping[tuple[int, int], LeafViolations | None]
    has_moved: bool = False

    def of_leaf(self, leaf_id: tuple[int, int], leaf: Leaf) -> LeafViolations | None:
        """The violations of one leaf; None if they are unknown."""
        return None if self.has_moved and not _is_in_row_order(leaf) else self.found.get(leaf_id, {})


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
    return BatchViolations(found, has_moved=not keeps_all)


def _is_in_row_order(leaf: Leaf) -> bool:
    """Whether the values are stored row by row, unlike in Fortran order."""
    return all(level.order == "C" and level.axes is None for level in leaf.levels if isinstance(level, Regular))


def _positions_after_take(leaf: Leaf, kept: BoolArray) -> IntArray | None:
    """For each value its position once only the kept rows are left, -1 if it is gone; None if that is unknown."""
    if not _is_in_row_order(leaf):
        return None
    rows, _ = leaf.locate(np.arange(len(leaf), dtype=np.int64))
    survives = kept[rows]
    return np.where(survives, np.cumsum(survives) - 1, -1)
