"""The report: all findings, counts and the time taken."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datacheck.findings import Finding
from datacheck.reports.text import MAX_LINES, finding_lines, format_size, format_volume, num_by_severity, row_note

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from datacheck.reports.distributions import FieldDistribution
    from datacheck.reports.html.elements import Section


@dataclass(frozen=True, slots=True)
class Report:
    """What a scan or a run found.

    ``num_rows`` counts the rows read. ``num_bytes`` is the size of the inputs on disk, or in memory for data that was
    already there. ``seconds`` is wall time. ``sample`` says which part of the data was checked, if a sample
    was asked for; rows, files and bytes are the sample's.
    """

    findings: tuple[Finding, ...] = ()
    num_files: int = 0
    num_rows: int = 0
    num_bytes: int = 0
    seconds: float = 0.0
    sample: str = field(default="", kw_only=True)
    #: Of a page.
    title: str = field(default="datacheck scan", kw_only=True, compare=False, repr=False)

    @property
    def ok(self) -> bool:
        """Whether there are no errors. Warnings and notes do not count."""
        return not any(finding.is_error for finding in self.findings)

    def __bool__(self) -> bool:
        """Raise: ``if report:`` reads as "if there is something to report" to one and as "if it is ok" to another."""
        raise TypeError("a report is neither true nor false; use report.ok, or report.findings")

    def for_ci(self) -> Report:
        """The report for CI tools, which fail on any error: it has errors only if the report is not ``ok``."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "ok": self.ok,
            "num_files": self.num_files,
            "num_rows": self.num_rows,
            "num_bytes": self.num_bytes,
            "seconds": round(self.seconds, 6),
            **({"sample": self.sample} if self.sample else {}),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The report as strict JSON: ASCII only, without NaN or Infinity tokens."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Report:
        """Read what :meth:`to_dict` wrote."""
        findings = tuple(Finding.from_dict(finding) for finding in record["findings"])
        return cls(
            findings,
            record["num_files"],
            record["num_rows"],
            record["num_bytes"],
            record["seconds"],
            sample=record.get("sample", ""),
        )

    def to_html(self, distributions: Sequence[FieldDistribution] = ()) -> str:
        """The report as one HTML page of at most 900 kB, without scripts. The same report gives the same bytes.

        ``distributions`` are the distributions of fields, to be shown too.
        """
        from datacheck.reports.html.distributions import distribution_sections
        from datacheck.reports.html.page import document

        sections = [*self._html_sections(), *distribution_sections(distributions), *self._html_explanations()]
        return document(self._title(), *self._verdict(), self._facts(), sections)

    def to_arrow(self) -> pa.Table:
        """The findings as an Arrow table: one row a finding, with the rows and values of its examples as lists."""
        from datacheck.reports.tables import findings_table

        return findings_table(self.findings)

    def to_pandas(self) -> pd.DataFrame:
        """The findings as a DataFrame, as :meth:`to_arrow`; missing numbers are ``NA``."""
        import pandas as pd

        columns = self.to_arrow().to_pydict()
        counts = ("num_violations", "num_checked", "num_rows")
        return pd.DataFrame(columns, dtype=object).astype(dict.fromkeys(counts, "Int64"))

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that its styles do not reach the notebook."""
        from datacheck.reports.html.page import in_frame

        return in_frame(self.to_html())

    def _title(self) -> str:
        return self.title

    def _verdict(self) -> tuple[str, str]:
        """The verdict in words, and its style: ``good``, ``warn`` or ``bad``."""
        if not self.ok:
            return num_by_severity(self.findings), "bad"
        return num_by_severity(self.findings).capitalize(), "warn" if self.findings else "good"

    def _facts(self) -> list[tuple[str, str]]:
        """Numbers for the top of a page."""
        return [
            ("files", f"{self.num_files:,}"),
            ("rows", f"{self.num_rows:,}"),
            ("size", format_size(self.num_bytes)),
            *([("sample", self.sample.removeprefix("a sample: "))] if self.sample else []),
        ]

    def _html_sections(self) -> list[Section]:
        from datacheck.reports.html.findings import finding_sections, nothing_found

        volume = format_volume(self.num_files, self.num_rows, self.num_bytes)
        return finding_sections(self.findings) or [nothing_found(volume)]

    def _html_explanations(self) -> list[Section]:
        from datacheck.reports.html.findings import explanation_sections

        return explanation_sections(self.findings)

    def summary(self) -> str:
        """One line: the number of findings, what was read, and how fast."""
        return self._summary(with_rate=True)

    def _summary(self, *, with_rate: bool) -> str:
        rate = f", {format_size(self.num_bytes / self.seconds)}/s" if with_rate and self.seconds > 0 else ""
        volume = format_volume(self.num_files, self.num_rows, self.num_bytes)
        sample = f"; {self.sample}" if self.sample else ""
        return f"{num_by_severity(self.findings)} in {volume} ({self.seconds:.2f} s{rate}){sample}"

    def to_text(self, limit: int = MAX_LINES) -> str:
        """The report as text. More than ``limit`` findings (0 for no limit) are summed up in a table."""
        return "\n".join([*finding_lines(self.findings, limit), f"{self.summary()}{row_note(self.findings)}"])

    def __str__(self) -> str:
        return self.to_text()
