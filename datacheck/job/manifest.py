"""The manifest: what a run did with every row, and the last file that it writes. Whoever finds one finds a whole output."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datacheck import __version__
from datacheck.errors import OutputError
from datacheck.findings import Finding
from datacheck.reports.report import Report
from datacheck.text import plain

__all__ = ["MANIFEST_NAME", "InputAccount", "RunReport", "read_manifest", "sum_counts"]

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True)
class InputAccount:
    """What became of the rows of one input.

    ``status`` is ``cleaned``, or ``unreadable``: then nothing of it is in the output, and the numbers are 0.
    ``num_read`` is the sum of the other three. ``outputs`` are the files that hold its rows, relative to the output, with
    how many each holds; each stands for ``row_start`` and the following rows of the input, less those in its ``ledger``.
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
    repairs: dict[str, int] = field(default_factory=dict)
    left_by_code: dict[str, int] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class RunReport(Report):
    """What a run found, and what it did with every row.

    ``ok`` says that every input was read, and that no violation is left in the output: whatever was found was repaired,
    dropped or quarantined as the pipeline says.
    """

    name: str = ""
    output: str = ""
    accounts: tuple[InputAccount, ...] = ()
    failed: dict[str, int] = field(default_factory=dict)
    is_new: bool = True

    @property
    def ok(self) -> bool:
        cleaned = all(account.status == "cleaned" and not account.left_by_code for account in self.accounts)
        return cleaned and not self.failed

    def to_dict(self) -> dict[str, Any]:
        return {
            **Report.to_dict(self),
            "output": self.output,
            "failed": self.failed,
            "inputs": [account.to_dict() for account in self.accounts],
        }

    def totals(self) -> dict[str, int]:
        """Rows of all inputs by what became of them."""
        names = ("num_read", "num_kept", "num_dropped", "num_quarantined")
        return {name: sum(getattr(account, name) for account in self.accounts) for name in names}

    def to_manifest(self, fingerprint: str, schema: dict[str, Any], statistics: str | None) -> bytes:
        """The bytes of the manifest. No time and no number of workers is in it: the same run is always the same bytes."""
        record = {
            "version": MANIFEST_VERSION,
            "datacheck": __version__,
            "name": self.name,
            "fingerprint": fingerprint,
            "schema": schema,
            "statistics": statistics,
            **self.totals(),
            "num_files": self.num_files,
            "num_bytes": self.num_bytes,
            "inputs": [account.to_dict() for account in self.accounts],
            "findings": [finding.to_dict() for finding in self.findings],
        }
        return (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()

    @classmethod
    def from_manifest(cls, record: dict[str, Any], output: Path) -> RunReport:
        """What the run that wrote a manifest reported."""
        return cls(
            tuple(Finding.from_dict(finding) for finding in record["findings"]),
            record["num_files"],
            record["num_read"],
            record["num_bytes"],
            name=record["name"],
            output=str(output),
            accounts=tuple(InputAccount(**account) for account in record["inputs"]),
            is_new=False,
        )


def read_manifest(output: Path) -> dict[str, Any] | None:
    """The manifest of an output folder; None where there is none. Raises ``OutputError`` for one that is broken."""
    path = output / MANIFEST_NAME
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        if record["version"] != MANIFEST_VERSION:
            raise OutputError(f"{plain(str(path))}: is of version {record['version']}; remove the folder and run again")
        return record
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{plain(str(path))}: is no manifest of datacheck ({error}); choose another output") from None


def sum_counts(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    """Counts by name, added."""
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return dict(sorted(total.items()))
