"""One unit of a job, with everything that differs from unit to unit."""

from __future__ import annotations

from dataclasses import dataclass

from datacheck.checks.base import Outcome
from datacheck.leaves import IntArray
from datacheck.sources.base import WorkUnit


@dataclass(frozen=True, slots=True)
class UnitTask:
    """One unit to clean or to learn from.

    Attributes:
        name: the start of the names of its parts.
        split: the split it belongs to.
        unit: what to read.
        num_file_rows: the number of rows of its file, where known.
        format: the format to write.
        is_sample: whether the unit is a whole file, which is one sample.
        duplicates: for each unique key, the rows of the file that repeat an earlier row's key.
        labels: the label files of a sample, which are copied with it.
        file_outcomes: the results of the checks that need all kept rows of the file, with rows of the file.
    """

    name: str
    split: str
    unit: WorkUnit
    num_file_rows: int | None
    format: str
    is_sample: bool = False
    duplicates: tuple[tuple[str | None, IntArray], ...] = ()
    file_outcomes: tuple[Outcome, ...] = ()
    labels: tuple[str, ...] = ()
