"""How much of all inputs was checked for a finding, files without it included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from datacheck.codes import CODES
from datacheck.findings import Finding
from datacheck.jobs.file_results import FileScan

#: Code, field and rule of a finding.
Identity = tuple[str, str | None, str | None]


class CheckedTotals:
    """Adds up what each file had checked: rows, values by field, and the counts of named rules."""

    def __init__(self) -> None:
        self._num_rows = 0
        self._slots, self._present = Counter[str | None](), Counter[str | None]()
        self._rules = Counter[Identity]()

    def add(self, scan: FileScan) -> None:
        """Add a file."""
        self._num_rows += scan.num_rows
        for path, (slots, present) in scan.num_values.items():
            self._slots[path] += slots
            self._present[path] += present
        for finding in scan.counted_by_rules():
            self._rules[finding.code, finding.field, finding.rule] += finding.num_checked

    def of(self, findings: Iterable[Finding]) -> dict[Identity, int]:
        """The total for each code, field and rule among findings of values and rows."""
        nulled = Counter[Identity]()
        for one in findings:
            nulled[one.code, one.field, one.rule] += one.num_violations
        totals = {}
        for identity, number in nulled.items():
            code_name, path, rule = identity
            code = CODES[code_name]
            if rule is not None:
                totals[identity] = self._rules[identity]
            elif code.level == "row":
                totals[identity] = self._num_rows
            elif code.counts_values and path in self._slots:
                present = self._present[path] + (number if code.becomes_null else 0)
                totals[identity] = self._slots[path] if code.counts_nulls else present
        return {identity: total for identity, total in totals.items() if total}
