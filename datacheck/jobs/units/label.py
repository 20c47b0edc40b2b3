"""One unit, judged: read, checked, and each row labelled with what becomes of it. Learning and cleaning begin so alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from datacheck.batch import Batch
from datacheck.checks.base import Outcome
from datacheck.checks.checker import Checker, RuleSet
from datacheck.checks.coerce import coerce_batch
from datacheck.checks.structure import check_structure
from datacheck.cleaning.plan import Action, CleaningPlan, fields_of
from datacheck.cleaning.validate_plan import validate_plan
from datacheck.codes import CODES, DUPLICATE_ROW, MALFORMED_ROW
from datacheck.errors import CleaningError, PipelineError
from datacheck.findings import Finding
from datacheck.jobs.units.row_labels import RowLabels, label_rows
from datacheck.jobs.units.scan import malformed_finding
from datacheck.jobs.units.task import UnitTask
from datacheck.leaves import IntArray
from datacheck.schema.model import Schema
from datacheck.sources import get_source

__all__ = ["Judge", "LabelledBatch"]


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """A batch as it was read, and the labels of its rows.

    ``is_open`` says that something was found that is to be repaired or left: whether it still holds is to be looked at.
    ``repeated`` are rows that repeat an earlier row's key and are left: no look at the batch alone would find them again.
    """

    original: Batch
    labels: RowLabels
    failed: Counter[str]
    is_open: bool
    repeated: IntArray

    @property
    def kept(self) -> IntArray:
        return np.flatnonzero(self.labels.kept)


class Judge:
    """Judges the batches of a unit.

    ``known_fields`` are those of another input: a rule may name a field that this one lacks.

    Attributes:
        plan: the rules, for the fields that there are as soon as the first batch is read.
        checker: what looks at the batches, and remembers their fields.
        found: the findings so far.
    """

    def __init__(
        self, task: UnitTask, schema: Schema, plan: CleaningPlan, known_fields: Mapping[str | None, str]
    ) -> None:
        self.plan = plan
        self.checker = Checker(RuleSet(schema, plan.forced), with_rows=True)
        self.found: list[Finding] = []
        self._task, self._schema, self._known_fields = task, schema, known_fields
        self._uris: dict[str | None, str] = {field: uri for field, uri, _ in task.unit.arrays}
        self._problem: CleaningError | PipelineError | None = None

    def batches(self) -> Iterator[LabelledBatch]:
        """The unit's batches, each row labelled. Raises ``SourceError``."""
        is_first = True
        for batch in get_source(self._task.unit.format).read(self._task.unit):
            if is_first:
                self._bind(batch)
                is_first = False
            yield self._judge(batch)

    def bound(self) -> CleaningPlan:
        """The plan for the fields of the batches; raises where it makes no sense there."""
        if self._problem is not None:
            raise self._problem
        return self.plan

    def _bind(self, batch: Batch) -> None:
        """Let the rules know the fields; where they cannot go together, that matters only once a row stays."""
        fields = {**self._known_fields, **fields_of(coerce_batch(batch, self._schema))}
        try:
            self.plan = validate_plan(self.plan, fields, self._schema)
        except (CleaningError, PipelineError) as error:
            self._problem = error
        self.checker = Checker(RuleSet(self._schema, self.plan.forced), with_rows=True)

    def _judge(self, batch: Batch) -> LabelledBatch:
        labels = RowLabels(batch.num_rows)
        outcomes = [*self.checker.check(batch), *self._structure(batch), *self._duplicates(batch)]
        failed = label_rows(labels, outcomes, self.plan)
        self.found += [
            outcome.to_finding(self._uris.get(outcome.field, self._task.unit.uri))
            for outcome in outcomes
            if outcome.reported and not _is_of_file(outcome)
        ]
        if batch.malformed:
            self.found.append(malformed_finding(batch, self._task.unit.uri))
            if self.plan.decide(None, MALFORMED_ROW) is Action.FAIL:
                failed[MALFORMED_ROW] += len(batch.malformed)
        is_open = any(outcome.num_violations and self._is_left(outcome, Action.REPAIR) for outcome in outcomes)
        repeated = [
            outcome.rows
            for outcome in outcomes
            if CODES[outcome.code].level == "dataset" and outcome.rows is not None and self._is_left(outcome)
        ]
        return LabelledBatch(batch, labels, failed, is_open, np.concatenate([np.empty(0, np.int64), *repeated]))

    def _is_left(self, outcome: Outcome, *others: Action) -> bool:
        return self.plan.decide(outcome.field, outcome.code) in (Action.REPORT, *others)

    def _structure(self, batch: Batch) -> list[Outcome]:
        return check_structure(self._schema, self.checker.fields, batch.names, self._task.num_file_rows)

    def _duplicates(self, batch: Batch) -> Iterator[Outcome]:
        if not self._task.duplicates:
            return
        file_rows = batch.file_rows(np.arange(batch.num_rows, dtype=np.int64))
        for key, repeated in self._task.duplicates:
            rows = np.flatnonzero(np.isin(file_rows, repeated))
            if len(rows):
                yield Outcome(DUPLICATE_ROW, key, batch.num_rows, len(rows), rows)


def _is_of_file(outcome: Outcome) -> bool:
    """Whether the finding is made once for the whole file, when all of its units are known."""
    level = CODES[outcome.code].level
    return level == "dataset" or (level == "file" and outcome.rows is None and outcome.rule is None)
