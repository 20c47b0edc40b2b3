"""Values that a known vocabulary lacks: how often they occur, and where first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datacheck.arrow_compute import pc
from datacheck.checks.rules import format_value
from datacheck.findings import MAX_EXAMPLES, Example
from datacheck.leaves import Leaf
from datacheck.profile.coalesce_batches import CoalescedBatch


@dataclass(slots=True)
class NewValues:
    """Values of a field that its known vocabulary lacks: the count of each, and where the first ones are."""

    counts: dict[Any, int] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)

    def merge(self, other: NewValues) -> None:
        for value, count in other.counts.items():
            self.counts[value] = self.counts.get(value, 0) + count
        self.examples = (self.examples + other.examples)[:MAX_EXAMPLES]


def find_examples(leaf: Leaf, coalesced: CoalescedBatch, values: Mapping[Any, int]) -> Iterator[Example]:
    """Yield the first occurrence of each of a few values, in row order."""
    positions: dict[int, Any] = {}
    for value in list(values)[:MAX_EXAMPLES]:
        if leaf.is_numeric:
            mask = leaf.values == value
            if leaf.validity is not None:
                mask = mask & leaf.validity
        else:
            mask = pc.fill_null(pc.equal(leaf.values, value), False).to_numpy(zero_copy_only=False)
        positions[int(np.argmax(mask))] = value
    for position in sorted(positions):
        rows, index = leaf.locate(np.array([position]))
        row = int(coalesced.batch.file_rows(rows)[0])
        group = coalesced.group_of(int(rows[0]))
        yield Example(row, group, tuple(map(int, index[0])), format_value(positions[position]))
