"""The report of a SafeDataset: every sample that was not served as the dataset returned it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from datacheck.findings import Example, Finding, Severity, merge_findings
from datacheck.reports.report import Report
from datacheck.text import plain, quantity
from datacheck.torch.loader.records import BadSample, SampleVerdict

if TYPE_CHECKING:
    import pandas as pd


#: Samples, and findings, that the text lists.
MAX_LINES = 20
#: The counts that the text names, beside the samples seen.
_SHOWN_COUNTS = ("replaced", "skipped", "repaired", "tolerated")


@dataclass(frozen=True, slots=True)
class DatasetReport(Report):
    """What was found in a dataset, in all processes.

    Attributes:
        samples: the bad samples, by index.
        num_samples: the length of the dataset, or None.
        num_rows: the number of samples seen.
        counts: samples ``seen``, ``replaced``, ``skipped``, ``repaired``, ``retried``, ``unstable`` (bad once and clean the
            second time), lost to transient errors (``passing``), ``raised``, and ``tolerated`` (all that was found in them is
            within the tolerances of the schema).
        note: what this process cannot know; empty if nothing.
    """

    name: str = ""
    num_samples: int | None = None
    samples: tuple[BadSample, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    note: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        num_samples: int | None,
        samples: Iterable[BadSample],
        counts: Mapping[str, int],
        unchecked: Mapping[str, str],
        *,
        note: str = "",
    ) -> DatasetReport:
        """The report of these samples, with a finding for each path that could not be checked."""
        ordered = tuple(sorted(samples, key=lambda sample: (sample.index, sample.worker or 0, sample.verdict)))
        # One example per sample, so that the merged finding shows as many samples as possible.
        found = merge_findings(
            replace(finding, examples=finding.examples[:1]) for sample in ordered for finding in sample.findings
        )
        hidden = [
            Finding("DC005", name, path or None, 1, 1, detail=problem, severity=Severity.WARNING)
            for path, problem in sorted(unchecked.items())
        ]
        return cls(
            (*found, *hidden),
            num_rows=counts.get("seen", 0),
            name=name,
            num_samples=num_samples,
            samples=ordered,
            counts=dict(counts),
            note=note,
        )

    @property
    def ok(self) -> bool:
        """Whether every sample was served as the dataset returned it."""
        return not self.samples and Report.ok.fget(self)  # type: ignore[attr-defined]

    @property
    def num_bad(self) -> int:
        """The number of bad samples."""
        return sum(sample.verdict is SampleVerdict.BAD for sample in self.samples)

    @property
    def bad_indices(self) -> tuple[int, ...]:
        """The indices of the bad samples."""
        return tuple(sample.index for sample in self.samples if sample.verdict is SampleVerdict.BAD)

    def _title(self) -> str:
        return f"datacheck loader {plain(self.name)}".rstrip()

    def _facts(self) -> list[tuple[str, str]]:
        length = "a stream" if self.num_samples is None else f"{self.num_samples:,}"
        return [("samples", length), *((name, f"{number:,}") for name, number in self.counts.items() if number)]

    def to_dict(self) -> dict[str, Any]:
        return {
            **Report.to_dict(self),
            "name": self.name,
            "num_samples": self.num_samples,
            "counts": self.counts,
            **({"note": self.note} if self.note else {}),
            "samples": [sample.to_dict() for sample in self.samples],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> DatasetReport:
        """The report that :meth:`to_dict` wrote."""
        return cls(
            tuple(Finding.from_dict(finding) for finding in record["findings"]),
            num_rows=record["num_rows"],
            name=record["name"],
            num_samples=record["num_samples"],
            samples=tuple(BadSample.from_dict(sample) for sample in record["samples"]),
            counts=dict(record["counts"]),
            note=record.get("note", ""),
        )

    def to_pandas(self) -> pd.DataFrame:
        """One row per finding and sample; missing numbers are ``NA``."""
        import pandas as pd

        rows = [
            [value(sample, finding) for _, value in _COLUMNS.values()]
            for sample in self.samples
            for finding in sample.findings
        ]
        frame = pd.DataFrame(rows, columns=list(_COLUMNS))
        return frame.astype({name: dtype for name, (dtype, _) in _COLUMNS.items() if dtype})

    def to_text(self, limit: int = MAX_LINES) -> str:  # noqa: ARG002 - there are few
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        length = "a stream" if self.num_samples is None else quantity(self.num_samples, "sample")
        verdicts = Counter(sample.verdict for sample in self.samples)
        words = [f"{verdicts[verdict]:,} {verdict.value}" for verdict in SampleVerdict if verdicts[verdict]]
        head = f"{plain(self.name)}, {length}, {self.counts.get('seen', 0):,} seen: {', '.join(words) or 'nothing bad'}"
        done = [f"{self.counts[name]:,} {name}" for name in _SHOWN_COUNTS if self.counts.get(name)]
        lines = [f"{head} ({', '.join(done)})" if done else head]
        num_samples = Counter(finding.key for sample in self.samples for finding in sample.findings)
        for finding in self.findings[:MAX_LINES]:
            is_more = num_samples[finding.key] > len(finding.examples)
            lines.append(f"  {finding.code} {finding.describe(is_more)}")
        if len(self.findings) > MAX_LINES:  # each sample may be a file of its own
            lines.append(f"  and {len(self.findings) - MAX_LINES:,} more findings")
        if self.samples:
            lines.append("samples:")
        lines += [f"  {self._line(sample)}" for sample in self.samples[:MAX_LINES]]
        if len(self.samples) > MAX_LINES:
            lines.append(f"  and {len(self.samples) - MAX_LINES:,} more: see .samples, to_json() or to_pandas()")
        if self.note:
            lines.append(f"note: {self.note}")
        return lines

    def _line(self, sample: BadSample) -> str:
        notes = [] if sample.verdict is SampleVerdict.BAD else [sample.verdict.value]
        if self.num_samples is None and sample.worker is not None:  # each worker counts its own part of a stream
            notes.append(f"worker {sample.worker}")
        return f"{sample.message} [{', '.join(notes)}]" if notes else sample.message


def _first(finding: Finding) -> Example:
    return finding.examples[0] if finding.examples else Example(None)


#: The columns of the table: dtype, and the value for a sample and one of its findings.
_COLUMNS: dict[str, tuple[str | None, Callable[[BadSample, Finding], Any]]] = {
    "index": ("int64", lambda sample, _: sample.index),
    "verdict": ("str", lambda sample, _: sample.verdict.value),
    "code": ("str", lambda _, finding: finding.code),
    "name": ("str", lambda _, finding: finding.name),
    "field": (None, lambda _, finding: finding.field),
    "num_violations": ("int64", lambda _, finding: finding.num_violations),
    "num_checked": ("int64", lambda _, finding: finding.num_checked),
    "position": (None, lambda _, finding: str(list(_first(finding).index)) if _first(finding).index else None),
    "value": (None, lambda _, finding: _first(finding).value or None),
    "uri": (None, lambda sample, _: sample.origin and sample.origin.uri),
    "row_group": ("Int64", lambda sample, _: sample.origin and sample.origin.row_group),
    "row": ("Int64", lambda sample, _: sample.origin and sample.origin.row),
    "error": (None, lambda sample, _: sample.error and sample.error.kind),
    "message": ("str", lambda _, finding: finding.message),
    "traceback": (None, lambda sample, _: sample.error and sample.error.traceback),
    "epoch": ("int64", lambda sample, _: sample.epoch),
    "worker": ("Int64", lambda sample, _: sample.worker),
}
