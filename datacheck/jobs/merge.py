"""Merging the results of units into the results of their inputs, and those into the report of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from datacheck.cleaning.plan import Action, CleaningPlan
from datacheck.codes import CODES, DUPLICATE_ROW, UNCHECKABLE
from datacheck.dataset_rules.dataset_state import DatasetState, context_of
from datacheck.errors import CleaningError, SourceError
from datacheck.findings import MAX_EXAMPLES, Example, Finding
from datacheck.jobs.checked_totals import CheckedTotals
from datacheck.jobs.file_differences import compare_files
from datacheck.jobs.file_results import FileScan
from datacheck.jobs.file_verdict import FileVerdict
from datacheck.jobs.inputs import Input, find_in_folders, fingerprints
from datacheck.jobs.pipeline import Pipeline
from datacheck.jobs.progress import Progress
from datacheck.jobs.row_lines import with_lines
from datacheck.jobs.sampling import unit_bytes
from datacheck.jobs.units.result import RemovedSample, UnitResult
from datacheck.jobs.units.task import UnitTask
from datacheck.jobs.unseen_fields import unseen_fields
from datacheck.leaves import IntArray
from datacheck.publishing.publisher import Publisher
from datacheck.publishing.written_unit import WrittenUnit
from datacheck.reports.accounts import InputAccount, RepairTotal
from datacheck.reports.run_report import RunReport
from datacheck.row_spread import RowSpread
from datacheck.sinks.ledger import write_ledger
from datacheck.text import plain


@dataclass(slots=True)
class InputResult:
    """The merged results of one input's units.

    ``failed`` is not empty if a ``fail`` rule stops the run here: the number of violations of each code.
    """

    item: Input
    scan: FileScan
    units: list[tuple[UnitTask, UnitResult]] = field(default_factory=list)
    failed: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_readable(self) -> bool:
        return self.scan.error is None

    def written_units(self) -> list[WrittenUnit]:
        """The finished units, for publishing."""
        return [
            WrittenUnit(
                task.unit.row_start,
                result.num_read,
                result.num_kept,
                result.num_dropped,
                result.num_quarantined,
                result.parts,
                result.arrays,
            )
            for task, result in self.units
        ]


def merge_units(
    item: Input, tasks: Sequence[UnitTask], results: Iterator[UnitResult], pipeline: Pipeline, progress: Progress
) -> InputResult:
    """Merge the next results, one for each of ``tasks``; stop at the first that fails the run.

    Raises the error of a unit that could not be processed.
    """
    merged = InputResult(item, FileScan(item.uri, pipeline.schema))
    merged.scan.error = item.error
    merged.failed = _failed_by_error(item.error, pipeline.plan)
    for task in tasks:
        result = next(results)
        if result.failure is not None:
            raise result.failure
        merged.scan.add(result.scan)
        merged.failed = result.failed or _failed_by_error(result.error, pipeline.plan)
        if merged.failed:
            break
        merged.units.append((task, result))
        progress.advance(1, result.num_read, unit_bytes(task.unit, item.info) if item.info else 0)
    return merged


def _failed_by_error(error: SourceError | None, plan: CleaningPlan) -> dict[str, int]:
    """The code of an input that cannot be read, if a rule says that this fails the run."""
    return {error.code: 1} if error is not None and plan.decide(None, error.code) is Action.FAIL else {}


class RunResult:
    """Adds up the results of the inputs of a run, in order."""

    def __init__(self, pipeline: Pipeline, inputs: Sequence[Input]) -> None:
        self._pipeline, self._inputs = pipeline, inputs
        self._accounts: list[InputAccount] = []
        self._findings: list[Finding] = []
        self._checked = CheckedTotals()
        #: The samples that are not kept, by split: the index in the split, the account, and what was decided.
        self._removed: dict[str, list[tuple[int, InputAccount, RemovedSample]]] = {}
        self._num_inputs: Counter[str] = Counter()
        self._verdicts: list[FileVerdict] = []
        self._dataset: DatasetState | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no input could be cleaned."""
        return not any(account.is_cleaned for account in self._accounts)

    def add(
        self,
        merged: InputResult,
        repeated: Iterable[tuple[str | None, IntArray]],
        outputs: list[dict[str, Any]] | None,
    ) -> None:
        """Add an input.

        ``repeated`` are the rows that repeat an earlier row's key, ``outputs`` the manifest's entries for its files;
        None for an input that cannot be read.
        """
        verdict = merged.scan.verdict(0)
        item, findings = merged.item, verdict.findings
        self._verdicts.append(replace(verdict, findings=()))
        self._checked.add(merged.scan)
        self._findings += findings
        self._findings += _duplicate_findings(merged, repeated)
        if outputs is not None:
            self._add_to_dataset(merged)
        if outputs is None:
            self._accounts.append(InputAccount(item.split, item.uri, "unreadable", item.files))
        else:
            left_in_file = list(_left_in_file(findings, self._pipeline.plan))
            self._accounts.append(_account(merged, outputs, left_in_file))
            self._removed.setdefault(item.split, []).extend(
                (self._num_inputs[item.split], self._accounts[-1], result.removed)
                for _, result in merged.units
                if result.removed is not None
            )
        self._num_inputs[item.split] += 1

    def add_finding(self, finding: Finding) -> None:
        """Add a finding on the inputs together."""
        self._findings.append(finding)

    def _add_to_dataset(self, merged: InputResult) -> None:
        for _, result in merged.units:
            if result.scan.dataset is None:
                continue
            if self._dataset is None:
                self._dataset = result.scan.dataset
            else:
                self._dataset.merge(result.scan.dataset)

    def judge_dataset(self) -> dict[str, int]:
        """Judge the dataset that would be published; returns the violations of each code whose rule is ``fail``.

        Raises ``CleaningError`` for a rule that cannot be judged.
        """
        if self._dataset is None:
            return {}
        uris = [account.uri for account in self._accounts if account.is_cleaned]
        outcomes = self._dataset.outcomes(context_of(self._pipeline.schema, uris, self._pipeline.fit))
        self._dataset.close()
        failed: Counter[str] = Counter()
        for finding in (outcome.finding for outcome in outcomes):
            if finding.code == UNCHECKABLE:
                raise CleaningError(f"{plain(finding.uri)}: {finding.message}; nothing was published")
            self._findings.append(finding)
            if finding.is_error and self._pipeline.plan.decide(finding.field, finding.code) is Action.FAIL:
                failed[finding.code] += finding.num_violations
        return dict(failed)

    def report_failed_dataset(self, failed: Mapping[str, int]) -> RunReport:
        """The report of a run that rules about the dataset stopped."""
        return replace(self.report(), accounts=(), failed=dict(failed))

    def add_ledgers(self, publisher: Publisher) -> None:
        """Write one ledger for the samples of each split that are not kept. The account of the first of them lists it."""
        for split, removed in self._removed.items():
            if removed:
                rows, accounts, samples = zip(*removed, strict=True)
                write = partial(
                    write_ledger,
                    rows=rows,
                    verdicts=[sample.verdict for sample in samples],
                    codes=[sample.codes for sample in samples],
                    further={
                        "file": [account.uri for account in accounts],
                        "reason": [sample.reason for sample in samples],
                    },
                )
                accounts[0].outputs.append(publisher.plan_ledger(split, write, len(rows), self._num_inputs[split]))

    def add_indexes(self, publisher: Publisher) -> None:
        """Write the index of each split whose files need one. The account of the first of them lists it."""
        for split, entry in publisher.plan_indexes():
            account = next(one for one in self._accounts if one.split == split and one.outputs)
            account.outputs.append(entry)

    def report_failure(self, merged: InputResult) -> RunReport:
        """The report of a run that ``merged`` stopped."""
        self._findings += merged.scan.findings()
        report = self._report(self._inputs[: len(self._accounts) + 1])
        num_rows = report.num_rows + merged.scan.num_rows
        return replace(report, num_rows=num_rows, accounts=(), failed=dict(merged.failed))

    def report(self) -> RunReport:
        """The report of a finished run, with what the inputs together and their folders show."""
        found = [*compare_files(self._verdicts, self._pipeline.schema), *find_in_folders(self._pipeline)]
        self._findings += [*found, *unseen_fields(self._verdicts)]
        return self._report(self._inputs)

    def _report(self, inputs: Sequence[Input]) -> RunReport:
        units = {item.uri: item.info.units for item in inputs if item.info is not None}
        return RunReport(
            tuple(with_lines(self._findings, units)),
            len(inputs),
            sum(account.num_read for account in self._accounts),
            sum(item.info.num_bytes for item in inputs if item.info is not None),
            name=self._pipeline.name,
            output=self._pipeline.output,
            accounts=tuple(self._accounts),
            checked=self._checked.of(self._findings),
        )


def _account(
    merged: InputResult, outputs: list[dict[str, Any]], left_in_file: Sequence[tuple[str, str | None]]
) -> InputAccount:
    item, results = merged.item, [result for _, result in merged.units]
    return InputAccount(
        item.split,
        item.uri,
        "cleaned",
        item.files,
        fingerprints(item),
        sum(result.num_read for result in results),
        sum(result.num_kept for result in results),
        sum(result.num_dropped for result in results),
        sum(result.num_quarantined for result in results),
        sum_counts([result.removed_by_code for result in results]),
        RepairTotal.add(total for result in results for total in result.repairs),
        {**{code: 1 for code, _ in left_in_file}, **sum_counts([result.left for result in results])},
        outputs,
        "file" if item.sample_name else "first-axis",
        [
            list(pair)
            for pair in dict.fromkeys([*left_in_file, *(pair for result in results for pair in result.left_in)])
        ],
    )


def _left_in_file(findings: Iterable[Finding], plan: CleaningPlan) -> Iterator[tuple[str, str | None]]:
    """The violations by the whole file, such as a missing field, that a ``report`` rule leaves: their codes and fields."""
    for finding in findings:
        is_of_file = finding.is_error and CODES[finding.code].level == "file"
        is_left = is_of_file and plan.decide(finding.field, finding.code) is Action.REPORT
        if is_left and not plan.drops_leaf(finding.field):
            yield finding.code, finding.field


def _duplicate_findings(merged: InputResult, repeated: Iterable[tuple[str | None, IntArray]]) -> Iterator[Finding]:
    for key, rows in repeated:
        examples = tuple(Example(int(row)) for row in rows[:MAX_EXAMPLES])
        spread = RowSpread.of(rows) if len(rows) else None
        yield Finding(DUPLICATE_ROW, merged.item.uri, key, len(rows), merged.scan.num_rows, examples, spread=spread)


def sum_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of counts by name, sorted by name."""
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return dict(sorted(total.items()))
