"""Labels of rows: each row is labelled once, from everything that was found in it, and then kept or removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from datacheck.checks.base import Outcome
from datacheck.cleaning.plan import Action, CleaningPlan
from datacheck.codes import CODES
from datacheck.findings import Severity
from datacheck.leaves import BoolArray, IntArray
from datacheck.sinks.categorical import Categorical
from datacheck.text import plain

#: The infinity beyond each end of a range, by :attr:`Code.side`.
_INFINITIES: dict[str, str] = {code.side: code.code for code in CODES.values() if code.side and code.allowable}


@dataclass(frozen=True, slots=True)
class RowLabel:
    """The rows of a batch that violate one rule, and the action for them; ``rank`` is the index of the cleaning rule."""

    code: str
    field: str | None
    rows: IntArray
    action: Action
    rank: int
    detail: str = ""

    @property
    def reason(self) -> str:
        where = "" if self.field is None else f" in '{plain(self.field)}'"
        return f"{self.code}{where}{f': {self.detail}' if self.detail else ''}"


@dataclass(slots=True)
class RowLabels:
    """The labels of a batch's rows. If several rules apply to a row, the first in the pipeline decides its action."""

    num_rows: int
    labels: list[RowLabel] = field(default_factory=list)

    def add(self, label: RowLabel) -> None:
        self.labels.append(label)

    @property
    def kept(self) -> BoolArray:
        """True for the rows that no rule removes, ``(num_rows,)``."""
        kept = np.ones(self.num_rows, np.bool_)
        for label in self.labels:
            kept[label.rows] = False
        return kept

    def removed(self) -> RemovedRows:
        """The removed rows, with their actions, codes and reasons."""
        # Rows with the same labels are of one kind. Each label splits kinds in two.
        kind_of = np.zeros(self.num_rows, np.int64)
        kinds: list[tuple[RowLabel, ...]] = [()]
        for label in self.labels:
            before = kind_of[label.rows]
            is_there = np.bincount(before, minlength=len(kinds)) > 0
            kind_of[label.rows] = len(kinds) - 1 + np.cumsum(is_there)[before]
            kinds += [(*kinds[kind], label) for kind in np.flatnonzero(is_there).tolist()]
        rows = np.flatnonzero(kind_of)
        used, indices = np.unique(kind_of[rows], return_inverse=True)
        labels = [kinds[kind] for kind in used.tolist()]
        return RemovedRows(
            rows,
            Categorical(tuple(min(those, key=lambda label: label.rank).action for those in labels), indices),
            Categorical(tuple(tuple(sorted({label.code for label in those})) for those in labels), indices),
            Categorical(tuple("; ".join(label.reason for label in those) for those in labels), indices),
        )


@dataclass(frozen=True, slots=True)
class RemovedRows:
    """The removed rows of a batch, and for each its action, codes and reason."""

    rows: IntArray
    actions: Categorical[Action]
    codes: Categorical[tuple[str, ...]]
    reasons: Categorical[str]


def label_rows(
    labels: RowLabels, outcomes: Iterable[Outcome], plan: CleaningPlan, *, repaired: bool = False
) -> Counter[str]:
    """Label the rows of outcomes that a rule about rows decides; returns the number of violations of each failing code.

    Before the repairs, a violation that will be repaired labels no row. After them (``repaired``), what is left of it is
    quarantined. An infinity also violates bounds: if it will be repaired, the bound is checked on its rows afterwards,
    unless the rule for the bound comes first.
    """
    failed: Counter[str] = Counter()
    notes = (Severity.WARNING, Severity.INFO)
    broken = [outcome for outcome in outcomes if outcome.num_violations and outcome.severity not in notes]
    by_field_and_code = {(outcome.field, outcome.code): outcome for outcome in broken}
    for outcome in broken:
        action, rank = plan.decide(outcome.field, outcome.code), plan.rank(outcome.field, outcome.code)
        if action is Action.REPAIR:
            if not repaired or plan.drops_leaf(outcome.field):
                continue
            action = Action.QUARANTINE
        if action is Action.REPORT:
            continue
        if action is Action.FAIL:
            failed[outcome.code] += outcome.num_violations
            continue
        rows = np.arange(labels.num_rows) if outcome.rows is None else outcome.rows
        infinite = by_field_and_code.get((outcome.field, _INFINITIES.get(CODES[outcome.code].side or "", "")))
        if infinite is not None and infinite.reported and not repaired and infinite.rows is not None:
            is_repaired = plan.decide(infinite.field, infinite.code) is Action.REPAIR
            if is_repaired and plan.rank(infinite.field, infinite.code) < rank:
                rows = np.setdiff1d(rows, infinite.rows, assume_unique=True)
        detail = ", ".join(filter(None, (outcome.rule or outcome.detail, "after repair" if repaired else "")))
        labels.add(RowLabel(outcome.code, outcome.field, rows, action, rank, detail))
    return failed
