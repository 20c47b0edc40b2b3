"""What becomes of each row: labelled once, from all that was found in it, then split on that label."""

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

__all__ = ["RemovedRows", "RowLabel", "RowLabels", "label_rows"]

#: The infinity beyond each end of a range, by :attr:`Code.side`.
_INFINITIES: dict[str, str] = {code.side: code.code for code in CODES.values() if code.side and code.allowable}


@dataclass(frozen=True, slots=True)
class RowLabel:
    """Rows of a batch that broke one rule; ``rank`` is the place of the cleaning rule that decides about them."""

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
    """The verdict on each row of a batch.

    A row that several rules speak of goes where the first of them, in the order of the pipeline, sends it.
    """

    num_rows: int
    labels: list[RowLabel] = field(default_factory=list)

    def add(self, label: RowLabel) -> None:
        self.labels.append(label)

    @property
    def kept(self) -> BoolArray:
        """True for the rows that no rule takes out, ``(num_rows,)``."""
        kept = np.ones(self.num_rows, np.bool_)
        for label in self.labels:
            kept[label.rows] = False
        return kept

    def removed(self) -> RemovedRows:
        """The rows that are taken out: which, where to, with which codes, and why."""
        # Rows that broke the same rules are one kind: a kind is another one, and one label more.
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
    """Rows of a batch that are taken out, and for each where to, the codes and the reason."""

    rows: IntArray
    actions: Categorical[Action]
    codes: Categorical[tuple[str, ...]]
    reasons: Categorical[str]


def label_rows(
    labels: RowLabels, outcomes: Iterable[Outcome], plan: CleaningPlan, *, repaired: bool = False
) -> Counter[str]:
    """RowLabel the rows of every outcome that a rule about rows decides about; how many rows each code marked to fail.

    Before repairs, a violation that a repair covers labels nothing. Afterwards (``repaired``) it does: what a repair left
    is quarantined. An infinity is beyond every bound too: where it is to be repaired, the rows that it is in are judged by
    the bound afterwards, unless the rule for what is beyond bounds comes first.
    """
    failed: Counter[str] = Counter()
    broken = [outcome for outcome in outcomes if outcome.num_violations and outcome.severity is not Severity.WARNING]
    by_place = {(outcome.field, outcome.code): outcome for outcome in broken}
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
        infinite = by_place.get((outcome.field, _INFINITIES.get(CODES[outcome.code].side or "", "")))
        if infinite is not None and infinite.reported and not repaired and infinite.rows is not None:
            is_repaired = plan.decide(infinite.field, infinite.code) is Action.REPAIR
            if is_repaired and plan.rank(infinite.field, infinite.code) < rank:
                rows = np.setdiff1d(rows, infinite.rows, assume_unique=True)
        detail = ", ".join(filter(None, (outcome.rule or outcome.detail, "after repair" if repaired else "")))
        labels.add(RowLabel(outcome.code, outcome.field, rows, action, rank, detail))
    return failed
