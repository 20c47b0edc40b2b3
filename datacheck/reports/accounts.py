"""The accounts of a run: what became of every row of every input, and the manifest that says so."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from datacheck._version import __version__
from datacheck.findings import Finding, Severity
from datacheck.reports.report import Report

__all__ = ["MANIFEST_VERSION", "InputAccount", "RepairTotal", "RunReport"]

MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True)
class RepairTotal:
    """How many values of a field one kind of repair replaced."""

    action: str
    field: str | None
    num_values: int

    @staticmethod
    def add(totals: Iterable[RepairTotal]) -> list[RepairTotal]:
        """One total for each action and field, in the order in which they first come."""
        summed: dict[tuple[str, str | None], int] = {}
        for total in totals:
            key = (total.action, total.field)
            summed[key] = summed.get(key, 0) + total.num_values
        return [RepairTotal(*key, number) for key, number in summed.items()]


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
    repairs: list[RepairTotal] = field(default_factory=list)
    left_by_code: dict[str, int] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> InputAccount:
        """The account that :meth:`to_dict` wrote."""
        return cls(**{**record, "repairs": [RepairTotal(**total) for total in record["repairs"]]})


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

    def judged(self) -> RunReport:
        """What was found in the inputs and is not in the output is a note: the run did what it was told to do about it."""
        accounts = {uri: account for account in self.accounts for uri in (account.uri, *(account.files or {}).values())}
        return replace(
            self, findings=tuple(self._judge(finding, accounts.get(finding.uri)) for finding in self.findings)
        )

    def _judge(self, finding: Finding, account: InputAccount | None) -> Finding:
        is_done = account is not None and account.status == "cleaned" and finding.code not in account.left_by_code
        if not is_done or finding.code in self.failed or finding.severity is Severity.INFO:
            return finding
        detail = "; ".join(filter(None, (finding.detail, "nothing of it is in the output")))
        return replace(finding, severity=Severity.INFO, detail=detail)

    def to_dict(self) -> dict[str, Any]:
        return {
            **Report.to_dict(self),
            "output": self.output,
            "failed": self.failed,
            "inputs": [account.to_dict() for account in self.accounts],
        }

    def __str__(self) -> str:
        from datacheck.reports.run_text import render_run

        return render_run(self)

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
            accounts=tuple(map(InputAccount.from_dict, record["inputs"])),
            is_new=False,
        )
