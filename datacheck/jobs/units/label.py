"""Labelling: check a batch, and decide for each row whether it is kept. Learning and cleaning both start with this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from datacheck.batch import Batch
from datacheck.checks.base import Outcome
from datacheck.checks.checker import Checker
from datacheck.checks.coerce import coerce_batch
from datacheck.checks.reading import malformed_finding
from datacheck.checks.structure import check_structure
from datacheck.cleaning.part_repairs import split_by_part
from datacheck.cleaning.plan import Action, CleaningPlan, leaf_dtypes
from datacheck.cleaning.violations import BatchViolations, violations_in_kept_rows
from datacheck.codes import CODES, DUPLICATE_ROW, MALFORMED_ROW
from datacheck.findings import Finding
from datacheck.jobs.units.plan import ResolvedRules, UnitPlan
from datacheck.jobs.units.row_labels import RowLabels, label_rows
from datacheck.jobs.units.row_rules import RuleKey, Settled, leave_open, settled_rules
from datacheck.jobs.units.task import UnitTask
from datacheck.leaves import IntArray
from datacheck.numerics import keep_freed_memory
from datacheck.sources import get_source


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """A batch, and what was decided about its rows.

    Attributes:
        original: the batch as it was read.
        labels: the labels of its rows.
        kept_rows: the rows that no rule removes.
        kept: those rows, in the dtypes of the schema.
        violations: where ``kept`` has values to repair.
        findings: what was found.
        failed: the number of violations of each code whose rule is ``fail``.
        needs_recheck: whether a violation is to be repaired or left, so that the repaired batch must be checked again.
        settled: for each rule, what it decided. It decides the others after the repairs.
        repeated: rows that repeat an earlier row's key and are kept. No check of a single batch finds them.
        rules: the rules of its unit.
        checker: what is known of the unit's fields so far.
    """

    original: Batch
    labels: RowLabels
    kept_rows: IntArray
    kept: Batch
    violations: BatchViolations
    findings: tuple[Finding, ...]
    failed: Counter[str]
    needs_recheck: bool
    settled: Mapping[RuleKey, Settled]
    repeated: IntArray
    rules: ResolvedRules
    checker: Checker


def label_unit(task: UnitTask, plan: UnitPlan) -> Iterator[LabelledBatch]:
    """Read a unit and label its batches. Raises ``SourceError``."""
    rules: ResolvedRules | None = None
    keep_freed_memory()
    checker = Checker(plan.checks, with_rows=True)
    for batch in get_source(task.unit.format).read(task.unit):
        coerced = coerce_batch(batch, plan.schema)
        if rules is None:
            rules = plan.resolve(leaf_dtypes(coerced))
            checker = Checker(rules.checks, with_rows=True)
        yield _label_batch(batch, coerced, task, rules, checker)
        # The next batch is read into the memory of this one.
        del batch, coerced


def _label_batch(batch: Batch, coerced: Batch, task: UnitTask, rules: ResolvedRules, checker: Checker) -> LabelledBatch:
    """Check a batch, given as read and in the dtypes of the schema, and label its rows."""
    plan = rules.plan
    checked = checker.check_coerced(batch, coerced)
    outcomes = [
        *split_by_part(checked, plan, checker.schema, batch),
        *check_structure(checker.schema, checker.fields, batch.names, task.num_file_rows),
        *_find_duplicates(batch, task),
    ]
    found, outcomes = outcomes, leave_open(outcomes, plan, batch)
    labels = RowLabels(batch.num_rows)
    failed = label_rows(labels, outcomes, plan)
    if batch.malformed and plan.decide(None, MALFORMED_ROW) is Action.FAIL:
        failed[MALFORMED_ROW] += len(batch.malformed)
    kept_rows = np.flatnonzero(labels.kept)
    kept = coerced if len(kept_rows) == batch.num_rows else coerced.take(kept_rows)
    return LabelledBatch(
        batch.as_read(),
        labels,
        kept_rows,
        kept,
        violations_in_kept_rows(checked, labels.kept),
        tuple(_findings(outcomes, batch, task)),
        failed,
        any(one.num_violations and one.reported and _stays(one, plan, repair=True) for one in outcomes)
        or any(one is not before for one, before in zip(outcomes, found, strict=True)),
        settled_rules(outcomes),
        _kept_duplicates(outcomes, plan),
        rules,
        checker,
    )


def _find_duplicates(batch: Batch, task: UnitTask) -> Iterator[Outcome]:
    if not task.duplicates:
        return
    file_rows = batch.file_rows(np.arange(batch.num_rows, dtype=np.int64))
    for key, repeated in task.duplicates:
        rows = np.flatnonzero(np.isin(file_rows, repeated))
        if len(rows):
            yield Outcome(DUPLICATE_ROW, key, batch.num_rows, len(rows), rows)


def _findings(outcomes: Iterable[Outcome], batch: Batch, task: UnitTask) -> Iterator[Finding]:
    uris: dict[str | None, str] = {field: uri for field, uri, _ in task.unit.arrays}
    for outcome in outcomes:
        if outcome.reported and not _is_about_file(outcome):
            yield outcome.to_finding(uris.get(outcome.field, task.unit.uri), is_sample=batch.is_sample)
    yield from batch.findings
    if batch.malformed:
        yield malformed_finding(batch, task.unit.uri)


def _is_about_file(outcome: Outcome) -> bool:
    """Whether the finding is reported once per file, after all of its units."""
    level = CODES[outcome.code].level
    return level == "dataset" or (level == "file" and outcome.rows is None and outcome.rule is None)


def _kept_duplicates(outcomes: Iterable[Outcome], plan: CleaningPlan) -> IntArray:
    rows = [
        outcome.rows
        for outcome in outcomes
        if CODES[outcome.code].level == "dataset" and outcome.rows is not None and _stays(outcome, plan)
    ]
    return np.concatenate([np.empty(0, np.int64), *rows])


def _stays(outcome: Outcome, plan: CleaningPlan, *, repair: bool = False) -> bool:
    """Whether the violations are still in the batch after labelling: reported only or, with ``repair``, to be repaired."""
    action = plan.decide(outcome.field, outcome.code)
    return action is Action.REPORT or (repair and action is Action.REPAIR)
