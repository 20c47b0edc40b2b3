"""One unit, cleaned: read, checked, labelled, repaired, checked again, written. A pure function of its task.

What it gives back is plain values that are written down once the unit's parts are on the disk, so that a run that was
killed does only the units that have no such record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch
from datacheck.checks.checker import Checker, RuleSet
from datacheck.checks.coerce import coerce_batch
from datacheck.cleaning.fit.statistics import Statistics
from datacheck.cleaning.plan import Action, CleaningPlan
from datacheck.cleaning.repairs import apply
from datacheck.codes import DUPLICATE_ROW, MALFORMED_ROW
from datacheck.errors import AccountingError, CleaningError, SourceError
from datacheck.findings import merge_findings
from datacheck.formats import get_format
from datacheck.jobs.units.label import Judge
from datacheck.jobs.units.result import UnitResult
from datacheck.jobs.units.row_labels import RowLabels, label_rows
from datacheck.jobs.units.scan import UnitScan
from datacheck.jobs.units.task import UnitTask
from datacheck.leaves import IntArray
from datacheck.reports.accounts import RepairTotal
from datacheck.schema.model import Schema
from datacheck.sinks import get_sink
from datacheck.sinks.base import PartWriter
from datacheck.sinks.categorical import Categorical
from datacheck.sinks.ledger import DROPPED, QUARANTINED, write_ledger
from datacheck.sinks.quarantine import QuarantineWriter
from datacheck.text import plain

__all__ = ["Cleaning", "clean_unit"]


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What is done to every unit alike.

    ``fields`` are those of the first input: a rule may name a field that some of the files lack.
    """

    schema: Schema
    plan: CleaningPlan
    fields: Mapping[str | None, str]
    statistics: Statistics | None
    parts: str
    format_options: Mapping[str, Any]


def clean_unit(task: UnitTask, cleaning: Cleaning) -> UnitResult:
    """Clean a unit and write its parts. An input that cannot be read comes back as the record's ``error``."""
    try:
        with _Parts(task, cleaning) as parts:
            return _clean(task, cleaning, parts)
    except SourceError as error:
        return UnitResult(task.name, task.unit.uri, scan=UnitScan(error=error))
    except CleaningError as error:
        raise CleaningError(f"{plain(task.unit.uri)}: {error}") from error


def _clean(task: UnitTask, cleaning: Cleaning, parts: _Parts) -> UnitResult:
    schema, record = cleaning.schema, UnitResult(task.name, task.unit.uri)
    judge = Judge(task, schema, cleaning.plan, cleaning.fields)
    recheck = Checker(RuleSet(schema), with_rows=True)
    plan: CleaningPlan | None = None
    repairs: Counter[tuple[str, str | None]] = Counter()
    failed: Counter[str] = Counter()
    left: Counter[str] = Counter()
    names: tuple[str | None, ...] = ()
    for judged in judge.batches():
        original, labels = judged.original, judged.labels
        names = tuple(original.names)
        failed += judged.failed
        rows = judged.kept
        kept = original if len(rows) == original.num_rows else original.take(rows)
        kept = coerce_batch(kept, schema)
        _forbid_unconvertible(kept, schema, judge.plan)
        if plan is None and (len(rows) or not original.num_rows):
            plan = judge.bound()
        if plan is not None:
            repaired, counts = apply(kept, plan, schema, cleaning.statistics)
            # Rows that broke nothing and were not touched are as they were judged.
            is_open = judged.is_open or any(count.num_values for count in counts)
            outcomes = recheck.check(_with_dropped(repaired, kept, plan)) if is_open else []
            again = RowLabels(repaired.num_rows)
            failed += label_rows(again, outcomes, plan, repaired=True)
            for mark in again.marks:
                labels.add(replace(mark, rows=rows[mark.rows]))
            for outcome in outcomes:
                if (
                    outcome.num_violations
                    and outcome.is_error
                    and plan.decide(outcome.field, outcome.code) is Action.REPORT
                ):
                    left[outcome.code] += outcome.num_violations
            for count in counts:
                repairs[count.action, count.field] += count.num_values
            stays = again.kept
            num_repeated = int(np.count_nonzero(np.isin(rows[stays], judged.repeated)))
            if num_repeated:
                left[DUPLICATE_ROW] += num_repeated
            parts.keep(repaired if stays.all() else repaired.take(np.flatnonzero(stays)))
        parts.remove(original, labels, judge.plan)
        record.num_read += original.num_rows + len(original.malformed)
    parts.close(record)
    record.repairs = [RepairTotal(*what, number) for what, number in repairs.items() if number]
    record.failed, record.left = dict(failed), dict(left)
    findings = tuple(merge_findings(judge.found, keep_clean=True))
    record.scan = UnitScan(record.num_read, findings, judge.checker.fields, names, judge.checker.num_values)
    if record.num_read != record.num_kept + record.num_dropped + record.num_quarantined:
        raise AccountingError(
            f"{task.unit.uri}: {record.num_read:,} rows were read, {record.num_kept:,} kept, {record.num_dropped:,}"
            f" dropped and {record.num_quarantined:,} quarantined; nothing was published"
        )
    return record


def _forbid_unconvertible(kept: Batch, schema: Schema, plan: CleaningPlan) -> None:
    """A value that is none of its field's dtype cannot stay in a column of that dtype."""
    for column in kept.columns:
        if column.unconvertible is not None and plan.decide(column.name, "DC003") is Action.REPORT:
            field = schema.field_for(column.name)
            dtype = "" if field is None else field.dtype
            raise CleaningError(
                f"{int(column.unconvertible.sum()):,} values of {plain(repr(column.name))} are not {dtype}, and 'report' would"
                f" leave them where only {dtype} can be; quarantine or drop DC003 there"
            )


def _with_dropped(repaired: Batch, before: Batch, plan: CleaningPlan) -> Batch:
    """The repaired batch with the fields that it was told to leave out, for rules that look across fields."""
    dropped = tuple(column for column in before.columns if plan.drops(column.name))
    return repaired.with_columns((*repaired.columns, *dropped)) if dropped else repaired


class _Parts:
    """The files of one unit: the rows that are kept, the quarantine, the ledger. All of them, or none."""

    def __init__(self, task: UnitTask, cleaning: Cleaning) -> None:
        self._task, self._cleaning = task, cleaning
        self._writers: list[tuple[str, PartWriter]] = []
        self._arrays: list[str | None] = []
        self._quarantine: QuarantineWriter | None = None
        self._num_kept = 0
        self._removed: list[tuple[IntArray, pa.Array, Categorical[str], Categorical[tuple[str, ...]]]] = []
        self._closed = False

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *_: object) -> None:
        if self._closed:
            return
        with ExitStack() as undo:
            for _name, writer in self._writers:
                undo.callback(writer.abort)
            if self._quarantine is not None:
                undo.callback(self._quarantine.abort)

    def keep(self, batch: Batch) -> None:
        """Write rows that stay."""
        if not self._writers:
            self._open(batch.take(np.empty(0, np.int64)))
        if batch.num_rows:
            for (_, writer), part in zip(self._writers, self._divided(batch), strict=True):
                writer.write(part)
        self._num_kept += batch.num_rows

    def _open(self, template: Batch) -> None:
        if not template.columns:
            raise CleaningError("every field is dropped, and nothing would be left; drop fewer, or leave out the input")
        sink = get_sink(self._task.format, self._cleaning.format_options)
        divided = self._divided(template)
        for index, part in enumerate(divided):
            ending = f".{index:03d}" if len(divided) > 1 else ""
            name = f"{self._task.name}{ending}{sink.suffix}"
            self._writers.append((name, sink.open(f"{self._cleaning.parts}/{name}", part)))
        is_by_array = get_format(self._task.format).is_one_array
        self._arrays = list(template.names) if is_by_array else [None] * len(divided)

    def _divided(self, batch: Batch) -> list[Batch]:
        """One batch a file: arrays that are aligned are written to files of their own."""
        if not get_format(self._task.format).is_one_array:
            return [batch]
        return [batch.with_columns((column,)) for column in batch.columns]

    def remove(self, original: Batch, labels: RowLabels, plan: CleaningPlan) -> None:
        """Write down rows that do not stay, and set aside those that are quarantined."""
        removed = labels.removed()
        file_rows = original.file_rows(removed.rows)
        self._note(file_rows, original.row_group, removed.actions, removed.codes)
        is_aside = np.array([action is not Action.DROP_ROW for action in removed.actions.values], np.bool_)
        aside = np.flatnonzero(is_aside[removed.actions.indices])
        if len(aside):
            chosen = original.take(removed.rows[aside])
            self._aside(original).write(chosen, removed.codes.take(aside), removed.reasons.take(aside))
        if original.malformed:
            action = plan.decide(None, MALFORMED_ROW)
            lines = original.malformed
            same = np.zeros(len(lines), np.int64)
            numbers = np.array([line.row for line in lines], np.int64)
            self._note(numbers, None, Categorical((action,), same), Categorical(((MALFORMED_ROW,),), same))
            if action is not Action.DROP_ROW:
                self._aside(original).write_malformed(lines)

    def _aside(self, template: Batch) -> QuarantineWriter:
        if self._quarantine is None:
            base = f"{self._cleaning.parts}/{self._task.name}.quarantine"
            self._quarantine = QuarantineWriter(base, template.take(np.empty(0, np.int64)), self._task.unit.uri)
        return self._quarantine

    def _note(
        self, rows: IntArray, row_group: int | None, actions: Categorical[Action], codes: Categorical[tuple[str, ...]]
    ) -> None:
        verdicts = tuple(DROPPED if action is Action.DROP_ROW else QUARANTINED for action in actions.values)
        group = (
            pa.nulls(len(rows), pa.int32())
            if row_group is None
            else pa.repeat(pa.scalar(row_group, pa.int32()), len(rows))
        )
        self._removed.append((rows, group, Categorical(verdicts, actions.indices), codes))

    def close(self, record: UnitResult) -> None:
        """Finish every file, and write into the record what they hold."""
        for name, writer in self._writers:
            record.parts[name] = writer.close()
        if self._quarantine is not None:
            record.parts[self._quarantine.uri.rpartition("/")[2]] = self._quarantine.close()
        verdicts = Categorical.concatenate(verdicts for _, _, verdicts, _ in self._removed)
        codes = Categorical.concatenate(codes for _, _, _, codes in self._removed)
        if len(verdicts):
            name = f"{self._task.name}.ledger.parquet"
            rows = np.concatenate([rows for rows, _, _, _ in self._removed])
            groups = pa.concat_arrays([group for _, group, _, _ in self._removed])
            record.parts[name] = write_ledger(f"{self._cleaning.parts}/{name}", rows, verdicts, codes, groups)
        record.arrays = self._arrays
        record.num_kept = self._num_kept
        by_verdict, by_code = Counter(dict(verdicts.counts())), Counter[str]()
        record.num_dropped, record.num_quarantined = by_verdict[DROPPED], by_verdict[QUARANTINED]
        for broken, number in codes.counts():
            by_code.update(dict.fromkeys(broken, number))
        record.removed_by_code = dict(sorted(by_code.items()))
        self._closed = True
