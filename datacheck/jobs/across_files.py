"""What no file shows alone: duplicate keys, and the rules of a schema about the dataset as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from datacheck.dataset_rules.base import Part
from datacheck.dataset_rules.dataset_state import DatasetState, build_dataset_rules, context_of
from datacheck.findings import Finding
from datacheck.jobs.file_results import Duplicates
from datacheck.jobs.units.scan import UnitScan
from datacheck.schema.model import Schema

__all__ = ["AcrossFiles"]


class AcrossFiles:
    """Merges what units say about the whole dataset, in order. A context manager, because it may spill to disk."""

    def __init__(self, schema: Schema) -> None:
        self._duplicates = Duplicates()
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
        self._duplicates.add(uri, unit.keys)
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
        return [*self._duplicates.findings(), *(outcome.finding for outcome in outcomes)]
