"""How many values are of a kind, and where the first ones are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from datacheck.checks.rules import value_at
from datacheck.findings import MAX_EXAMPLES, Example
from datacheck.leaves import BoolArray, IntArray, Leaf
from datacheck.profile.coalesce_batches import CoalescedBatch

#: Examples at flat positions of a leaf, in order.
Places = Callable[[Sequence[int] | IntArray], list[Example]]


@dataclass(slots=True)
class Tally:
    """A count with the places of the first few, which are in the file ``uri``. Mergeable, in the order of the data."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)
    uri: str = ""

    def add_mask(self, mask: BoolArray, places: Places, start: int = 0) -> None:
        """Count where ``mask`` is True; its first entry is the flat position ``start``."""
        found = int(np.count_nonzero(mask))
        if found:
            needed = MAX_EXAMPLES - len(self.examples)
            self.count += found
            if needed > 0:
                self.examples += places(np.flatnonzero(mask)[:needed] + start)

    def merge(self, other: Tally) -> None:
        """Add what was counted in the next part of the data."""
        if not other.count:
            return
        if not self.count:
            self.uri = other.uri
        if self.uri == other.uri:
            self.examples = (self.examples + other.examples)[:MAX_EXAMPLES]
        self.count += other.count


def places_in(leaf: Leaf, coalesced: CoalescedBatch, depth: int | None = None) -> Places:
    """The places of values of a leaf; with ``depth``, of the vectors that they are in, by that much of their index."""

    def places(positions: Sequence[int] | IntArray) -> list[Example]:
        flat = np.asarray(positions, np.int64)
        rows, indices = leaf.locate(flat)
        file_rows = coalesced.batch.file_rows(rows)
        return [
            Example(
                int(file_row),
                coalesced.group_of(int(row)),
                tuple(map(int, index if depth is None else index[: len(index) - depth])),
                value_at(leaf, int(position)) if depth is None else "",
                coalesced.batch.line_of(int(file_row)),
            )
            for position, row, file_row, index in zip(flat, rows, file_rows, indices, strict=True)
        ]

    return places
