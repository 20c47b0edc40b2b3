"""Rules that are judged on what will be published: not before the values that they read are repaired.

A sentinel of -999 in ``temp_max`` breaks ``temp_min <= temp_max`` only until it is imputed. So a rule (an expression, or a
check of pandera) leaves open the rows in which a value that it reads will be repaired. The check after the repairs decides
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from datacheck.batch import Batch
from datacheck.checks.base import Outcome
from datacheck.cleaning.plan import Action, CleaningPlan
from datacheck.cleaning.rules import Clip, Replace
from datacheck.leaves import IntArray

#: Code, field and rule.
RuleKey = tuple[str, str | None, str]

_NO_ROWS = np.empty(0, np.int64)


def leave_open(outcomes: Sequence[Outcome], plan: CleaningPlan, batch: Batch) -> list[Outcome]:
    """The outcomes, without the rows that a rule can judge only after the repairs."""
    repaired = {one.field: one.rows for one in outcomes if one.rows is not None and _is_repaired(one, plan)}
    return [_settled(one, repaired, plan, batch) for one in outcomes]


def _is_repaired(outcome: Outcome, plan: CleaningPlan) -> bool:
    is_dropped = plan.drops_leaf(outcome.field)
    return plan.decide(outcome.field, outcome.code) is Action.REPAIR and not is_dropped


def _settled(outcome: Outcome, repaired: Mapping[str | None, IntArray], plan: CleaningPlan, batch: Batch) -> Outcome:
    if outcome.rule is None or outcome.rows is None or plan.decide(outcome.field, outcome.code) is Action.REPAIR:
        return outcome
    if any(_is_changed(path, plan) for path in plan.all_paths if _is_read(path, outcome)):
        return _only(outcome, _NO_ROWS, batch)
    waiting = [rows for path, rows in repaired.items() if _is_read(path, outcome)]
    return _only(outcome, np.setdiff1d(outcome.rows, np.concatenate(waiting)), batch) if waiting else outcome


def _is_read(path: str | None, outcome: Outcome) -> bool:
    """Whether a rule reads a leaf. One that does not say what it reads may read all."""
    reads = (outcome.field,) if outcome.reads is None and outcome.field is not None else outcome.reads
    return reads is None or any(
        path == name or (path is not None and name is not None and path.startswith((f"{name}.", f"{name}[")))
        for name in reads
    )


def _is_changed(path: str | None, plan: CleaningPlan) -> bool:
    """Whether values of a leaf may be repaired that break nothing: named ones, or by bounds that are not the schema's."""
    rules = [step.rule for step in plan.repairs_for(path)]
    return any(isinstance(rule, Replace) or (isinstance(rule, Clip) and not rule.by_schema) for rule in rules)


def _only(outcome: Outcome, rows: IntArray, batch: Batch) -> Outcome:
    """The outcome for only some of its rows."""
    if outcome.rows is not None and len(rows) == len(outcome.rows):
        return outcome
    chosen = set(batch.file_rows(rows).tolist())
    examples = tuple(example for example in outcome.examples if example.row in chosen)
    chosen_rows = replace(outcome, num_violations=len(rows), rows=rows, examples=examples, values=None, spread=None)
    return chosen_rows.with_spread(batch)


@dataclass(frozen=True, slots=True)
class Settled:
    """The rows of a batch in which a rule was broken before the repairs, and in how many rows it was judged."""

    rows: IntArray
    num_checked: int

    def num_unchecked(self, num_checked: int, kept_rows: IntArray) -> int:
        """How many of the kept rows were judged for the first time after the repairs, of ``num_checked`` judged then."""
        num_gone = int(np.count_nonzero(~np.isin(self.rows, kept_rows)))
        return max(0, num_checked - min(self.num_checked - num_gone, len(kept_rows)))


def settled_rules(outcomes: Iterable[Outcome]) -> dict[RuleKey, Settled]:
    """What each rule about rows decided before the repairs."""
    return {
        (one.code, one.field, one.rule): Settled(_NO_ROWS if one.rows is None else one.rows, one.num_checked)
        for one in outcomes
        if one.rule is not None and (one.rows is not None or not one.num_violations)
    }


def judged_after_repair(
    outcomes: Iterable[Outcome], before: Mapping[RuleKey, Settled], kept_rows: IntArray, batch: Batch
) -> Iterator[Outcome]:
    """What rules found in a repaired batch, and had not found in the same rows ``before``; nothing is counted twice.

    ``kept_rows`` are the rows of the original batch that the repaired one holds.
    """
    for one in outcomes:
        if one.rule is None or (one.rows is None and one.num_violations):
            continue
        known = before.get((one.code, one.field, one.rule), Settled(_NO_ROWS, batch.num_rows))
        rows = _NO_ROWS if one.rows is None else one.rows
        new_rows = rows[~np.isin(kept_rows[rows], known.rows)]
        num_new = known.num_unchecked(one.num_checked, kept_rows)
        if len(new_rows) or num_new:
            yield replace(_only(one, new_rows, batch), num_checked=num_new)
