"""Processing one unit: read, label, repair, check again, write.

:func:`process_unit` is a pure function of a task and a plan. Its result holds plain values, which the run saves once the
unit's files are complete: a restarted run processes only the units without a saved result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from datacheck.batch import Batch
from datacheck.checks.base import Outcome
from datacheck.checks.checker import Checker, whole_file_of
from datacheck.checks.sentinels import null_missing
from datacheck.checks.structure import FieldMap
from datacheck.cleaning.plan import Action, CleaningPlan
from datacheck.cleaning.repairs import apply
from datacheck.codes import DUPLICATE_ROW
from datacheck.dataset_rules.base import Part
from datacheck.dataset_rules.dataset_state import DatasetState, rules_of_rows, rules_of_whole
from datacheck.errors import AccountingError, CleaningError, DatacheckError, SourceError
from datacheck.findings import merge_findings
from datacheck.jobs.units.label import LabelledBatch, label_unit
from datacheck.jobs.units.parts import PartFiles, Parts, WrittenParts
from datacheck.jobs.units.plan import UnitPlan
from datacheck.jobs.units.result import UnitResult
from datacheck.jobs.units.row_labels import RowLabels, label_rows
from datacheck.jobs.units.row_rules import judged_after_repair
from datacheck.jobs.units.scan import UnitScan, lost_error
from datacheck.jobs.units.task import UnitTask
from datacheck.reports.accounts import RepairTotal
from datacheck.schema.model import Schema
from datacheck.sources.error_translation import translate_bugs
from datacheck.text import plain

if TYPE_CHECKING:
    from datacheck.checks.whole_file import WholeFile


def process_unit(task: UnitTask, plan: UnitPlan, target: Parts | None = None) -> UnitResult:
    """Clean one unit, and write its files or give its rows to ``target``. Every error comes back in the result."""
    uri = task.unit.uri
    try:
        with translate_bugs(*task.unit.uris), target or PartFiles(task, plan) as parts:
            cleaner = _UnitCleaner(task, plan, parts)
            for labelled in label_unit(task, plan):
                cleaner.process(labelled)
                # The next batch is read into the memory of this one.
                del labelled
            return cleaner.result(parts.close())
    except SourceError as error:
        return UnitResult(task.name, uri, scan=UnitScan(error=error))
    except CleaningError as error:
        return UnitResult(task.name, uri, failure=CleaningError(f"{plain(uri)}: {error}"))
    except DatacheckError as error:
        return UnitResult(task.name, uri, failure=error)


def lost_unit(task: UnitTask) -> UnitResult:
    """The result of a unit whose worker process died each time it was tried."""
    return UnitResult(task.name, task.unit.uri, scan=UnitScan(error=lost_error(task.unit.uri)))


def judge_file(tasks: Sequence[UnitTask], plan: UnitPlan) -> tuple[Outcome, ...]:
    """The results of the checks that need all rows of a file, on the rows that would be written; it writes nothing.

    Empty if an error ends the cleaning of a unit, which then reports it.
    """
    whole = whole_file_of(plan.schema, tasks[0].unit.options.max_whole_file_bytes)
    if whole is None:
        return ()
    try:
        for task in tasks:
            cleaner = _UnitCleaner(task, plan, whole)
            for labelled in label_unit(task, plan):
                cleaner.process(labelled)
                del labelled
    except DatacheckError:
        return ()
    return tuple(whole.outcomes())


def lost_file(tasks: Sequence[UnitTask], plan: UnitPlan) -> tuple[Outcome, ...]:
    """The results of the checks that need all rows of a file whose worker process died each time: none could run."""
    whole = whole_file_of(plan.schema, tasks[0].unit.options.max_whole_file_bytes)
    problem = "needs the whole file, and the worker process that read it died each time; use fewer workers"
    return tuple(outcome for check in (whole.checks if whole else ()) for outcome in check.not_run(problem))


def judge_rows(task: UnitTask, plan: UnitPlan) -> DatasetState | None:
    """What the rules about the dataset that name rows know of the rows of a unit that would be written; it writes nothing.

    None if an error ends the cleaning of the unit, which then reports it.
    """
    kept = _KeptRows(DatasetState.start(rules_of_rows(plan.schema), part_of_rows(task)), plan.schema)
    try:
        cleaner = _UnitCleaner(task, plan, kept)
        for labelled in label_unit(task, plan):
            cleaner.process(labelled)
            del labelled
    except DatacheckError:
        return None
    return kept.dataset


def part_of_rows(task: UnitTask) -> Part:
    """A unit as a part of the dataset whose rows at fault are all wanted."""
    return Part(task.unit.uri, task.split, keep_rows=True)


@dataclass(frozen=True, slots=True)
class _KeptRows:
    """Gives the kept rows to the rules about the dataset."""

    dataset: DatasetState
    schema: Schema

    def add(self, batch: Batch) -> None:
        self.dataset.update(null_missing(batch, self.schema))


class _UnitCleaner:
    """Takes the batches of one unit through all stages, and adds up what happened to them.

    The kept rows go to ``target``: files, or what judges all rows of the file or of the dataset.
    """

    def __init__(self, task: UnitTask, plan: UnitPlan, target: Parts | WholeFile | _KeptRows) -> None:
        self._task, self._plan, self._target = task, plan, target
        rules = rules_of_whole(plan.schema) if isinstance(target, Parts) else ()
        self._dataset = DatasetState.start(rules, Part(task.unit.uri, task.split)) if rules else None
        #: Known once a row is kept: only then do the rules have to apply to the fields.
        self._cleaning_plan: CleaningPlan | None = None
        self._rechecker = Checker(plan.checks, with_rows=True)
        self._num_read = 0
        self._names: tuple[str | None, ...] = ()
        self._fields: FieldMap = {}
        self._num_values: Mapping[str | None, tuple[int, int]] = {}
        is_first = task.unit.index == 0
        self._findings = [one.with_spread().to_finding(task.unit.uri) for one in task.file_outcomes if is_first]
        self._repairs: Counter[tuple[str, str | None]] = Counter()
        self._failed: Counter[str] = Counter()
        self._left: Counter[str] = Counter()
        self._left_in: set[tuple[str, str | None]] = set()

    def process(self, labelled: LabelledBatch) -> None:
        batch, rules = labelled.original, labelled.rules
        self._num_read += batch.num_rows + len(batch.malformed)
        self._names = tuple(batch.names)
        self._fields, self._num_values = labelled.checker.fields, labelled.checker.num_values
        self._findings += labelled.findings
        self._failed += labelled.failed
        _forbid_unconvertible(labelled.kept, self._plan.schema, rules.plan)
        if self._cleaning_plan is None and (len(labelled.kept_rows) or not batch.num_rows):
            self._cleaning_plan = rules.require_plan()
        if self._cleaning_plan is not None:
            try:
                self._repair_and_write(labelled, self._cleaning_plan)
            except CleaningError:
                # Where a rule fails the run, nothing may have been learned for repairs that are never published.
                if not self._failed:
                    raise
        if isinstance(self._target, Parts):
            self._target.remove(batch, labelled.labels, rules.plan)

    def _repair_and_write(self, labelled: LabelledBatch, plan: CleaningPlan) -> None:
        kept, rows = labelled.kept, labelled.kept_rows
        repaired, counts = apply(kept, plan, self._plan.schema, self._plan.statistics, labelled.violations)
        for count in counts:
            self._repairs[count.action, count.field] += count.num_values
        outcomes: list[Outcome] = []
        checked = _with_dropped_fields(repaired, kept, plan)
        # Rows without violations and repairs are as they were labelled.
        if labelled.needs_recheck or any(count.num_values for count in counts):
            outcomes = self._rechecker.check(checked)
        judged = judged_after_repair(outcomes, labelled.settled, rows, checked)
        self._findings += [outcome.to_finding(self._task.unit.uri, is_sample=checked.is_sample) for outcome in judged]
        relabelled = RowLabels(repaired.num_rows)
        # What was counted before the repairs is found again.
        self._failed += label_rows(relabelled, outcomes, plan, repaired=True) - labelled.failed
        of_file = [outcome.in_batch(checked) for outcome in self._task.file_outcomes]
        self._failed += label_rows(relabelled, of_file, plan)
        for label in relabelled.labels:
            labelled.labels.add(replace(label, rows=rows[label.rows]))
        still_kept = relabelled.kept
        self._count_left([*outcomes, *of_file], plan)
        num_repeated = int(np.count_nonzero(np.isin(rows[still_kept], labelled.repeated)))
        if num_repeated:
            self._left[DUPLICATE_ROW] += num_repeated
        keeps_all = bool(still_kept.all())
        judged_rows = checked if keeps_all else checked.take(np.flatnonzero(still_kept))
        if self._dataset is not None:
            self._dataset.update(null_missing(judged_rows, self._plan.schema))
        if isinstance(self._target, Parts):
            self._target.keep(repaired if keeps_all else repaired.take(np.flatnonzero(still_kept)))
        else:
            self._target.add(judged_rows)

    def _count_left(self, outcomes: list[Outcome], plan: CleaningPlan) -> None:
        for outcome in outcomes:
            is_left = outcome.is_error and plan.decide(outcome.field, outcome.code) is Action.REPORT
            if outcome.num_violations and is_left and not plan.drops_leaf(outcome.field):
                self._left[outcome.code] += outcome.num_violations
                self._left_in.add((outcome.code, outcome.field))

    def result(self, written: WrittenParts) -> UnitResult:
        """What happened to the unit, whose files are finished."""
        num_placed = written.num_kept + written.num_dropped + written.num_quarantined
        if self._num_read != num_placed and not self._failed:
            raise AccountingError(
                f"{plain(self._task.unit.uri)}: {self._num_read:,} rows were read, {written.num_kept:,} kept, "
                f"{written.num_dropped:,} dropped and {written.num_quarantined:,} quarantined; nothing was published"
            )
        findings = tuple(merge_findings(self._findings, keep_clean=True))
        return UnitResult(
            self._task.name,
            self._task.unit.uri,
            self._num_read,
            written.num_kept,
            written.num_dropped,
            written.num_quarantined,
            dict(written.removed_by_code),
            [RepairTotal(*what, number) for what, number in self._repairs.items() if number],
            dict(written.parts),
            written.arrays,
            UnitScan(self._num_read, findings, self._fields, self._names, self._num_values, dataset=self._dataset),
            dict(self._failed),
            dict(self._left),
            left_in=sorted(self._left_in, key=str),
            checksums=dict(written.checksums),
            removed=written.removed,
        )


def _forbid_unconvertible(kept: Batch, schema: Schema, plan: CleaningPlan) -> None:
    """Raise if a ``report`` rule keeps a value that doesn't convert to the dtype of its column."""
    for column in kept.columns:
        if column.unconvertible is None:
            continue
        field = schema.field_for(column.name)
        code, dtype = ("DC007", "numbers") if field is None or field.dtype is None else ("DC003", field.dtype)
        if plan.decide(column.name, code) is Action.REPORT:
            raise CleaningError(
                f"{int(column.unconvertible.sum()):,} values of {plain(repr(column.name))} are not {dtype}, and 'report'"
                f" would leave them in a column that can only hold {dtype}; quarantine or drop rows with {code} there"
            )


def _with_dropped_fields(repaired: Batch, before: Batch, plan: CleaningPlan) -> Batch:
    """The repaired batch with the dropped fields, which rules across fields may need."""
    dropped = tuple(column for column in before.columns if plan.drops(column.name))
    return repaired.with_columns((*repaired.columns, *dropped)) if dropped else repaired
