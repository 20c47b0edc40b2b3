"""Rules that are judged on what will be published: not before the values that they read are repaired.

A sentinel of -999 in ``temp_max`` breaks ``temp_min <= temp_max`` only until it is imputed. So a rule (an expression, or a
check of pandera) leaves open the rows in which a value that it reads will be repaired. The check after the repairs decides
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from datacheck.batch import Batch
from datacheck.checks.base import Outcome
from datacheck.cleaning.plan import Action, CleaningPlan
from datacheck.cleaning.rules import Clip
from datacheck.leaves import IntArray

__all__ = ["RuleKey", "judged_after_repair", "leave_open", "settled_rows"]

#: Code, field and rule.
RuleKey = tuple[str, str | None, str]


def leave_open(outcomes: Sequence[Outcome], plan: CleaningPlan, batch: Batch) -> list[Outcome]:
    """The outcomes; those of rules without the rows that are decided after the repairs."""
    repaired = {one.field: one.rows for one in outcomes if one.rows is not None and _is_repaired(one, plan)}
    return [_settled(one, repaired, plan, batch) for one in outcomes]


def _is_repaired(outcome: Outcome, plan: CleaningPlan) -> bool:
    is_dropped = plan.drops_leaf(outcome.field)
    return plan.decide(outcome.field, outcome.code) is Action.REPAIR and not is_dropped


def _settled(outcome: Outcome, repaired: Mapping[str | None, IntArray], plan: CleaningPlan, batch: Batch) -> Outcome:
    if outcome.rule is None or outcome.rows is None or plan.decide(outcome.field, outcome.code) is Action.REPAIR:
        return outcome
    if any(_is_clipped(path, plan) for path in plan.paths if _is_read(path, outcome)):
        return _only(outcome, np.empty(0, np.int64), batch)
    waiting = [rows for path, rows in repaired.items() if _is_read(path, outcome)]
    return _only(outcome, np.setdiff1d(outcome.rows, np.concatenate(waiting)), batch) if waiting else outcome


def _is_read(path: str | None, outcome: Outcome) -> bool:
    """Whether a rule reads a leaf. One that does not say what it reads may read all."""
    reads = (outcome.field,) if outcome.reads is None and outcome.field is not None else outcome.reads
    return reads is None or any(
        path == name or (path is not None and name is not None and path.startswith((f"{name}.", f"{name}[]")))
        for name in reads
    )


def _is_clipped(path: str | None, plan: CleaningPlan) -> bool:
    """Whether values of a leaf may be repaired that break nothing: by bounds that are not those of the schema."""
    rules = [step.rule for step in plan.repairs_for(path)]
    return any(isinstance(rule, Clip) and not rule.by_schema for rule in rules)


def _only(outcome: Outcome, rows: IntArray, batch: Batch) -> Outcome:
    """The outcome for only some of its rows."""
    if outcome.rows is not None and len(rows) == len(outcome.rows):
        return outcome
    chosen = set(batch.file_rows(rows).tolist())
    examples = tuple(example for example in outcome.examples if example.row in chosen)
    chosen_rows = replace(outcome, num_violations=len(rows), rows=rows, examples=examples, values=None, spread=None)
    return chosen_rows.with_spread(batch)


def settled_rows(outcomes: Iterable[Outcome]) -> dict[RuleKey, IntArray]:
    """For each rule, the rows of the batch that it decided before the repairs."""
    return {
        (one.code, one.field, one.rule): one.rows for one in outcomes if one.rule is not None and one.rows is not None
    }


def judged_after_repair(
    outcomes: Iterable[Outcome], before: Mapping[RuleKey, IntArray], kept_rows: IntArray, batch: Batch
) -> Iterator[Outcome]:
    """What rules found in a repaired batch, and had not found in the same rows ``before``; nothing is counted twice.

    ``kept_rows`` are the rows of the original batch that the repaired one holds.
    """
    for one in outcomes:
        if one.rule is not None and one.rows is not None:
            known = before.get((one.code, one.field, one.rule))
            is_new = np.ones(len(one.rows), np.bool_) if known is None else ~np.isin(kept_rows[one.rows], known)
            if is_new.any():
                yield replace(_only(one, one.rows[is_new], batch), num_checked=0)
