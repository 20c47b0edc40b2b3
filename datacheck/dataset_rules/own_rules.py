"""Checks of the user's own of a dataset."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datacheck.batch import Batch
from datacheck.checks.own_checks import DatasetCheck
from datacheck.dataset_rules.base import Context, DatasetOutcome, Part, RuleState
from datacheck.dataset_rules.groups import find_columns
from datacheck.errors import UsageError
from datacheck.findings import Finding


@dataclass(frozen=True, slots=True)
class OwnDatasetRule:
    """A check of the user's, as it was made with its arguments."""

    check: DatasetCheck

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.check.columns)

    def start(self, part: Part) -> OwnState:
        return OwnState(self, part)


class OwnState(RuleState):
    """The state of a check of the user's."""

    def __init__(self, rule: OwnDatasetRule, part: Part) -> None:
        super().__init__(rule, part)
        self.check = copy.deepcopy(rule.check)

    def update(self, batch: Batch) -> None:
        columns = find_columns(batch, self.check.columns)
        if columns is not None and batch.num_rows and batch.counts_rows:
            self.check.update({name: column.data for name, column in zip(self.check.columns, columns, strict=True)})

    def merge(self, other: OwnState) -> None:
        self.check.merge(other.check)

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        for problem in self.check.problems():
            yield DatasetOutcome(
                Finding(self.check.code, context.uris[0], None, 1, 1, rule=str(problem), detail=str(problem))
            )

    def saved(self) -> dict[str, Any]:
        try:
            saved: dict[str, Any] = json.loads(json.dumps(vars(self.check)))
        except (TypeError, ValueError) as error:
            name = type(self.check).__qualname__
            raise UsageError(f"the attributes of {name} must be plain JSON values: {error}") from None
        return saved

    def load(self, saved: Mapping[str, Any]) -> None:
        vars(self.check).update(saved)

    def __reduce__(self) -> Any:
        # Another process of this machine gets the attributes as they are.
        return _with_check, (self._rule, self._part, self.check)


def _with_check(rule: OwnDatasetRule, part: Part, check: DatasetCheck) -> OwnState:
    state = OwnState(rule, part)
    state.check = check
    return state
