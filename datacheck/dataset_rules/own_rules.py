"""Checks of the user's own of a dataset."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from datacheck.batch import Batch
from datacheck.checks.own_checks import DatasetCheck
from datacheck.dataset_rules.base import Context, DatasetOutcome, Part, RuleState
from datacheck.dataset_rules.groups import find_columns
from datacheck.errors import UsageError
from datacheck.findings import Finding
from datacheck.text import plain

T = TypeVar("T")


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
    """The state of a check of the user's. What the check raises ends the check, and is a finding."""

    def __init__(self, rule: OwnDatasetRule, part: Part) -> None:
        super().__init__(rule, part)
        self.check = copy.deepcopy(rule.check)
        self.problem: str | None = None

    def _attempt(self, step: Callable[..., T], *arguments: Any) -> T | None:
        if self.problem is None:
            try:
                return step(*arguments)
            except Exception as error:
                kind = type(self.check)
                name = f"{kind.__module__}:{kind.__qualname__}"
                self.problem = f"{name}: {step.__name__} failed: {type(error).__name__}: {plain(str(error))}"
        return None

    def update(self, batch: Batch) -> None:
        columns = find_columns(batch, self.check.columns)
        if columns is not None and batch.num_rows and batch.counts_rows:
            data = {name: column.data for name, column in zip(self.check.columns, columns, strict=True)}
            self._attempt(self.check.update, data)

    def merge(self, other: OwnState) -> None:
        self.problem = self.problem or other.problem
        self._attempt(self.check.merge, other.check)

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        uri = context.uris[0]
        for problem in self._attempt(self.check.problems) or ():
            yield DatasetOutcome(Finding(self.check.code, uri, None, 1, 1, rule=str(problem), detail=str(problem)))
        if self.problem is not None:
            columns = ", ".join(self.check.columns)
            yield DatasetOutcome(Finding("DC005", uri, columns, 1, 1, rule=self.check.code, detail=self.problem))

    def saved(self) -> dict[str, Any]:
        try:
            attributes: dict[str, Any] = json.loads(json.dumps(vars(self.check)))
        except (TypeError, ValueError) as error:
            name = type(self.check).__qualname__
            raise UsageError(f"the attributes of {name} must be plain JSON values: {error}") from None
        return {"attributes": attributes, "problem": self.problem}

    def load(self, saved: Mapping[str, Any]) -> None:
        vars(self.check).update(saved["attributes"])
        self.problem = saved["problem"]

    def __reduce__(self) -> Any:
        # Another process of this machine gets the attributes as they are.
        return _with_check, (self._rule, self._part, self.check, self.problem)


def _with_check(rule: OwnDatasetRule, part: Part, check: DatasetCheck, problem: str | None) -> OwnState:
    state = OwnState(rule, part)
    state.check, state.problem = check, problem
    return state
