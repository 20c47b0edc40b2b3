"""What no file shows alone: duplicate keys, and the rules of a schema about the dataset as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datacheck.dataset_rules.base import Part
from datacheck.dataset_rules.dataset_state import DatasetState, build_dataset_rules, context_of
from datacheck.findings import Finding
from datacheck.jobs.execution import Execution
from datacheck.jobs.file_results import Duplicates
from datacheck.jobs.units.scan import UnitScan
from datacheck.schema.keys import unique_keys
from datacheck.schema.model import Schema

if TYPE_CHECKING:
    from datacheck.jobs.key_exchange import ExchangedDuplicates


class AcrossFiles:
    """Merges what units say about the whole dataset, in order. A context manager, because it may spill to disk."""

    def __init__(self, schema: Schema, execution: Execution | None = None) -> None:
        #: Whether duplicate keys are looked for in a pass of its own, after that over the units.
        self.has_pass = execution is not None and execution.exchange is not None and bool(unique_keys(schema))
        self._duplicates = _in_pass(execution) if execution is not None and self.has_pass else Duplicates()
        self._schema, self._rules = schema, build_dataset_rules(schema)
        self._state: DatasetState | None = None

    def __enter__(self) -> AcrossFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._duplicates.__exit__()
        if self._state is not None:
            self._state.close()

    def add(self, uri: str, unit: UnitScan) -> None:
        """Add the next unit of a file."""
        self._duplicates.add(uri, unit)
        if unit.dataset is None:
            return
        if self._state is None:
            self._state = unit.dataset
        else:
            self._state.merge(unit.dataset)

    def findings(self, uris: Sequence[str]) -> list[Finding]:
        """The findings on the dataset, which consists of the files ``uris``."""
        state = self._state or DatasetState.start(self._rules, Part(uris[0]))
        outcomes = state.outcomes(context_of(self._schema, uris))
        duplicates = [state.lines.located(rows.to_finding()) for rows in self._duplicates.rows()]
        return [*duplicates, *(outcome.finding for outcome in outcomes)]


def _in_pass(execution: Execution) -> Duplicates | ExchangedDuplicates:
    from datacheck.jobs.key_exchange import find_repeated_keys

    return find_repeated_keys(execution, is_last=True)
