"""Whether the fields that a rule reads together are ever in one batch: arrays of unequal lengths have no common rows."""

from __future__ import annotations

from collections.abc import Sequence

from datacheck.batch import Batch
from datacheck.dataset_rules.groups import find_columns


class Together:
    """The fields of a rule that were found, and whether all of them were in one batch."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = tuple(fields)
        self.found: set[str] = set()
        self.is_judged = False

    def look(self, batch: Batch) -> bool:
        """Whether a batch has all fields."""
        found = {name for name in self._fields if find_columns(batch, [name]) is not None}
        self.found |= found
        is_complete = len(found) == len(set(self._fields))
        self.is_judged = self.is_judged or is_complete
        return is_complete

    def merge(self, other: Together) -> None:
        self.found |= other.found
        self.is_judged = self.is_judged or other.is_judged

    @property
    def problem(self) -> str:
        """Why the rule was not judged; empty if it was, or if a field is missing, which is a finding of its own."""
        if self.is_judged or not self._fields or len(self.found) < len(set(self._fields)):
            return ""
        return "its fields never occur in the same rows, since their arrays have different lengths"
