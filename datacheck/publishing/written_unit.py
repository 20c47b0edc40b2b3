"""A finished unit of an input, and the entries of its files in the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datacheck.publishing.output_names import LABEL, QUARANTINE, ROWS, OutputNames, kind_of, label_index


@dataclass(frozen=True, slots=True)
class WrittenUnit:
    """A finished unit of an input: its staged parts, and how many rows they hold.

    ``parts`` maps each part's name to its size in bytes. ``arrays`` names the array in each part of rows; None for an
    unnamed array, and for a part that holds every field. ``row_start`` is the unit's first row in the input.
    """

    row_start: int
    num_read: int
    num_kept: int
    num_dropped: int
    num_quarantined: int
    parts: Mapping[str, int]
    arrays: Sequence[str | None]

    def num_rows(self, kind: str) -> int:
        """How many rows a part of this kind holds."""
        counts = {ROWS: self.num_kept, QUARANTINE: self.num_quarantined}
        return counts.get(kind, self.num_dropped + self.num_quarantined)


def name_sample(
    names: OutputNames, split: str, name: str, unit: WrittenUnit, labels: Sequence[str] = ()
) -> list[tuple[str, dict[str, Any]]]:
    """The parts of a file that is one sample, each with its entry in the manifest, which has its name in the output.

    ``labels`` are the names of its label files.
    """
    entries = []
    arrays = iter(unit.arrays if len(unit.arrays) > 1 else [None] * len(unit.parts))
    for part, size in unit.parts.items():
        kind, label = kind_of(part), label_index(part)
        if label is not None:
            final = names.of_label(split, labels[label], part)
            entries.append((part, output_entry(final, LABEL, 0, 0, unit.num_read, size)))
        else:
            final = names.of_sample(split, name, part, next(arrays))
            entries.append((part, output_entry(final, kind, unit.num_rows(kind), 0, unit.num_read, size)))
    return entries


def output_entry(path: str, kind: str, num_rows: int, row_start: int, num_read: int, num_bytes: int) -> dict[str, Any]:
    """A file's entry in the manifest."""
    return {
        "path": path,
        "kind": kind,
        "num_rows": num_rows,
        "row_start": row_start,
        "num_read": num_read,
        "num_bytes": num_bytes,
    }
