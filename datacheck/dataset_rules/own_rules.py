"""Checks of the user's own of a dataset."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from datacheck.batch import Batch
from datacheck.checks.own_checks import DatasetCheck
from datacheck.dataset_rules.base import Context, DatasetOutcome, Part
from datacheck.dataset_rules.groups import find_columns
from datacheck.errors import UsageError
from datacheck.findings import Finding

__all__ = ["OwnDatasetRule"]


@dataclass(frozen=True, slots=True)
class OwnDatasetRule:
    """A check of the user's, as it was made with its arguments."""

    check: DatasetCheck

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.check.columns)

    def start(self, part: Part) -> OwnState:  # noqa: ARG002
        return OwnState(copy.deepcopy(self.check))

    def restore(self, record: Any, part: Part) -> OwnState:
        state = self.start(part)
        vars(state.check).update(record)
        return state


class OwnState:
    """The state of a check of the user's."""

    def __init__(self, check: DatasetCheck) -> None:
        self.check = check

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

    def close(self) -> None:
        """Nothing is on disk."""

    def to_json(self) -> Any:
        try:
            return json.loads(json.dumps(vars(self.check)))
        except (TypeError, ValueError) as error:
            name = type(self.check).__qualname__
            raise UsageError(f"the attributes of {name} must be plain JSON values: {error}") from None
