"""The files that one unit writes: its kept rows, its quarantine and its ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch
from datacheck.cleaning.plan import Action, CleaningPlan
from datacheck.codes import MALFORMED_ROW
from datacheck.errors import CleaningError
from datacheck.formats import get_format
from datacheck.jobs.units.plan import UnitPlan
from datacheck.jobs.units.row_labels import RowLabels
from datacheck.jobs.units.task import UnitTask
from datacheck.leaves import IntArray
from datacheck.sinks import get_sink
from datacheck.sinks.base import PartWriter
from datacheck.sinks.categorical import Categorical
from datacheck.sinks.ledger import DROPPED, QUARANTINED, write_ledger
from datacheck.sinks.quarantine import QuarantineWriter
from datacheck.storage import storage_of

__all__ = ["PartFiles", "WrittenParts"]


@dataclass(frozen=True, slots=True)
class WrittenParts:
    """The finished files of a unit, and how many rows they hold.

    ``parts`` is the size in bytes of each file, ``checksums`` a hash of its content. ``arrays`` names the one array in each
    file of rows; None for an array without a name, and for a file that holds all fields.
    """

    parts: Mapping[str, int]
    checksums: Mapping[str, str]
    arrays: list[str | None]
    num_kept: int
    num_dropped: int
    num_quarantined: int
    removed_by_code: Mapping[str, int]


class PartFiles:
    """Writes the files of one unit. A context manager: all of them are finished, or none remains."""

    def __init__(self, task: UnitTask, plan: UnitPlan) -> None:
        self._task, self._plan = task, plan
        self._writers: list[tuple[str, PartWriter]] = []
        self._arrays: list[str | None] = []
        self._quarantine: QuarantineWriter | None = None
        self._num_kept = 0
        self._removed: list[tuple[IntArray, pa.Array, Categorical[str], Categorical[tuple[str, ...]]]] = []
        self._closed = False

    def __enter__(self) -> PartFiles:
        return self

    def __exit__(self, *_: object) -> None:
        if self._closed:
            return
        with ExitStack() as undo:
            for _name, writer in self._writers:
                undo.callback(writer.abort)
            if self._quarantine is not None:
                undo.callback(self._quarantine.abort)

    def keep(self, batch: Batch) -> None:
        """Write kept rows."""
        if not self._writers:
            self._open(batch.take(np.empty(0, np.int64)))
        if batch.num_rows:
            for (_, writer), part in zip(self._writers, self._split_by_file(batch), strict=True):
                writer.write(part)
        self._num_kept += batch.num_rows

    def _open(self, template: Batch) -> None:
        if not template.columns:
            raise CleaningError(
                "every field is dropped, so nothing is left to write; drop fewer fields, or remove this input"
            )
        sink = get_sink(self._task.format, self._plan.format_options)
        divided = self._split_by_file(template)
        for index, part in enumerate(divided):
            ending = f".{index:03d}" if len(divided) > 1 else ""
            name = f"{self._task.name}{ending}{sink.suffix}"
            self._writers.append((name, sink.open(f"{self._plan.parts}/{name}", part)))
        has_one_array = get_format(self._task.format).is_one_array
        self._arrays = list(template.names) if has_one_array else [None] * len(divided)

    def _split_by_file(self, batch: Batch) -> list[Batch]:
        """One batch per file: a format that holds one array per file gets a file for each column."""
        if not get_format(self._task.format).is_one_array:
            return [batch]
        return [batch.with_columns((column,)) for column in batch.columns]

    def remove(self, original: Batch, labels: RowLabels, plan: CleaningPlan) -> None:
        """Record the removed rows in the ledger, and write the quarantined ones."""
        removed = labels.removed()
        file_rows = original.file_rows(removed.rows)
        self._add_to_ledger(file_rows, original.row_group, removed.actions, removed.codes)
        is_quarantined = np.array([action is not Action.DROP_ROW for action in removed.actions.values], np.bool_)
        quarantined = np.flatnonzero(is_quarantined[removed.actions.indices])
        if len(quarantined):
            chosen = original.take(removed.rows[quarantined])
            self._open_quarantine(original).write(
                chosen, removed.codes.take(quarantined), removed.reasons.take(quarantined)
            )
        if original.malformed:
            action = plan.decide(None, MALFORMED_ROW)
            lines = original.malformed
            first = np.zeros(len(lines), np.int64)
            numbers = np.array([line.row for line in lines], np.int64)
            self._add_to_ledger(numbers, None, Categorical((action,), first), Categorical(((MALFORMED_ROW,),), first))
            if action is not Action.DROP_ROW:
                self._open_quarantine(original).write_malformed(lines)

    def _open_quarantine(self, template: Batch) -> QuarantineWriter:
        if self._quarantine is None:
            base = f"{self._plan.parts}/{self._task.name}.quarantine"
            self._quarantine = QuarantineWriter(base, template.take(np.empty(0, np.int64)), self._task.unit.uri)
        return self._quarantine

    def _add_to_ledger(
        self, rows: IntArray, row_group: int | None, actions: Categorical[Action], codes: Categorical[tuple[str, ...]]
    ) -> None:
        outcomes = tuple(DROPPED if action is Action.DROP_ROW else QUARANTINED for action in actions.values)
        group = (
            pa.nulls(len(rows), pa.int32())
            if row_group is None
            else pa.repeat(pa.scalar(row_group, pa.int32()), len(rows))
        )
        self._removed.append((rows, group, Categorical(outcomes, actions.indices), codes))

    def close(self) -> WrittenParts:
        """Finish every file."""
        parts = {name: writer.close() for name, writer in self._writers}
        if self._quarantine is not None:
            parts[self._quarantine.uri.rpartition("/")[2]] = self._quarantine.close()
        outcomes = Categorical.concatenate(outcomes for _, _, outcomes, _ in self._removed)
        codes = Categorical.concatenate(codes for _, _, _, codes in self._removed)
        if len(outcomes):
            name = f"{self._task.name}.ledger.parquet"
            rows = np.concatenate([rows for rows, _, _, _ in self._removed])
            groups = pa.concat_arrays([group for _, group, _, _ in self._removed])
            parts[name] = write_ledger(f"{self._plan.parts}/{name}", rows, outcomes, codes, groups)
        self._closed = True
        by_outcome, by_code = Counter(dict(outcomes.counts())), Counter[str]()
        for broken, number in codes.counts():
            by_code.update(dict.fromkeys(broken, number))
        storage = storage_of(self._plan.parts)
        return WrittenParts(
            parts,
            {name: storage.content_hash(f"{self._plan.parts}/{name}") for name in parts},
            self._arrays,
            self._num_kept,
            by_outcome[DROPPED],
            by_outcome[QUARANTINED],
            dict(sorted(by_code.items())),
        )
