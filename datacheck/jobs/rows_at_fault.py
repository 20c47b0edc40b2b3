"""Rows of a run that break a rule about the dataset: found before any file is written, on the rows that would be kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

from datacheck.checks.base import Outcome
from datacheck.codes import UNCHECKABLE
from datacheck.dataset_rules.base import DatasetOutcome
from datacheck.dataset_rules.dataset_state import DatasetState, context_of, rules_of_rows
from datacheck.errors import CleaningError
from datacheck.findings import Finding
from datacheck.jobs.execution import Execution
from datacheck.jobs.stage import Stage
from datacheck.jobs.units.plan import UnitPlan
from datacheck.jobs.units.process import judge_rows
from datacheck.jobs.units.task import UnitTask


def with_rows_at_fault(
    tasks: Sequence[Sequence[UnitTask]],
    plan: UnitPlan,
    execution: Execution,
    *,
    train: str | None,
    report: Callable[[Finding], None],
) -> list[list[UnitTask]]:
    """The tasks of each input, with what rules about the dataset find in its rows; notes on the dataset go to ``report``.

    ``train`` is the split to learn from. Raises ``CleaningError`` for a rule that cannot be judged.
    """
    by_uri: dict[str, list[Outcome]] = {}
    if rules_of_rows(plan.schema):
        for outcome in _outcomes([task for some in tasks for task in some], plan, execution, train):
            if outcome.finding.code == UNCHECKABLE:
                raise CleaningError(f"{outcome.finding.message}; nothing was published")
            if outcome.rows is None:
                report(outcome.finding)
            else:
                by_uri.setdefault(outcome.finding.uri, []).append(_of_file(outcome))
    return [
        [replace(task, file_outcomes=(*task.file_outcomes, *by_uri.get(task.unit.uri, ()))) for task in some]
        for some in tasks
    ]


def _outcomes(
    tasks: Sequence[UnitTask], plan: UnitPlan, execution: Execution, train: str | None
) -> list[DatasetOutcome]:
    state: DatasetState | None = None
    stage = Stage("judge rows", rules=rules_of_rows(plan.schema))
    with closing(execution.map(partial(judge_rows, plan=plan), tasks, lambda _: None, stage=stage)) as judged:
        for found in judged:
            if state is None:
                state = found
            elif found is not None:
                state.merge(found)
    if state is None:
        return []
    try:
        uris = list(dict.fromkeys(task.unit.uri for task in tasks))
        return state.outcomes(context_of(plan.schema, uris, train))
    finally:
        state.close()


def _of_file(outcome: DatasetOutcome) -> Outcome:
    finding = outcome.finding
    return Outcome(
        finding.code,
        finding.field,
        finding.num_checked,
        finding.num_violations,
        outcome.rows,
        finding.examples,
        finding.rule,
        finding.detail,
    )
