"""What happened to the rows of each input of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from datacheck.codes import CODES


@dataclass(frozen=True, slots=True)
class RepairTotal:
    """How many values of a field one repair replaced."""

    action: str
    field: str | None
    num_values: int

    @staticmethod
    def add(totals: Iterable[RepairTotal]) -> list[RepairTotal]:
        """One total for each action and field, in order of first appearance."""
        summed: dict[tuple[str, str | None], int] = {}
        for total in totals:
            key = (total.action, total.field)
            summed[key] = summed.get(key, 0) + total.num_values
        return [RepairTotal(*key, number) for key, number in summed.items()]


@dataclass(frozen=True, slots=True)
class InputAccount:
    """What happened to the rows of one input.

    ``num_read = num_kept + num_dropped + num_quarantined``. ``status`` is ``cleaned``, or ``unreadable``: then nothing of
    the input is in the output and every count is 0. ``outputs`` lists the files that hold its rows, relative to the
    output folder. Each covers the input's rows from ``row_start`` on, minus those in its ``ledger``. ``rows`` is ``file`` for a
    file of arrays that is one sample. ``left_by_code`` counts the violations that a ``report`` rule leaves in the output, and
    ``left_in`` pairs their codes with their fields.
    """

    split: str
    uri: str
    status: str
    files: dict[str, str] | None = None
    fingerprint: list[dict[str, Any]] = field(default_factory=list)
    num_read: int = 0
    num_kept: int = 0
    num_dropped: int = 0
    num_quarantined: int = 0
    removed_by_code: dict[str, int] = field(default_factory=dict)
    repairs: list[RepairTotal] = field(default_factory=list)
    left_by_code: dict[str, int] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    rows: str = "first-axis"
    left_in: list[list[str | None]] = field(default_factory=list)

    def leaves(self, code: str, path: str | None) -> bool:
        """Whether violations of a code in a field are left in the output. Of a key's duplicates, only the code is known."""
        if CODES[code].level == "dataset" or not self.left_in:  # which a manifest of an earlier version lacks
            return code in self.left_by_code
        return [code, path] in self.left_in

    @property
    def is_cleaned(self) -> bool:
        return self.status == "cleaned"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> InputAccount:
        """Read what :meth:`to_dict` wrote."""
        return cls(**{**record, "repairs": [RepairTotal(**total) for total in record["repairs"]]})
