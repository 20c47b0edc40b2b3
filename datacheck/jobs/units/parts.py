"""The files that one unit writes: its kept rows, its quarantine and its ledger."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Self

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch
from datacheck.cleaning.plan import Action, CleaningPlan
from datacheck.codes import MALFORMED_ROW
from datacheck.errors import CleaningError
from datacheck.formats import get_format
from datacheck.jobs.units.plan import UnitPlan
from datacheck.jobs.units.result import RemovedSample
from datacheck.jobs.units.row_labels import RemovedRows, RowLabels
from datacheck.jobs.units.task import UnitTask
from datacheck.leaves import IntArray
from datacheck.publishing.staging import check_parts_folder
from datacheck.sinks import get_sink
from datacheck.sinks.base import PartWriter
from datacheck.sinks.categorical import Categorical
from datacheck.sinks.ledger import DROPPED, QUARANTINED, write_ledger
from datacheck.sinks.quarantine import QuarantineWriter
from datacheck.sinks.writer import copy_file
from datacheck.sources.base import check_unchanged
from datacheck.storage import storage_of


@dataclass(frozen=True, slots=True)
class WrittenParts:
    """The finished files of a unit, and how many rows they hold.

    ``parts`` is the size in bytes of each file, ``checksums`` a hash of its content. ``arrays`` names the one array in each
    file of rows; None for an array without a name, and for a file that holds all fields. ``removed``
    is set for a sample that is not kept.
    """

    parts: Mapping[str, int]
    checksums: Mapping[str, str]
    arrays: list[str | None]
    num_kept: int
    num_dropped: int
    num_quarantined: int
    removed_by_code: Mapping[str, int]
    removed: RemovedSample | None = None


class Parts(ABC):
    """Where the rows of one unit go, kept and removed, and how many they are. A context manager."""

    def __init__(self) -> None:
        self._num_kept = 0
        self._ledger: list[tuple[Categorical[str], Categorical[tuple[str, ...]]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:  # noqa: B027 - only files must be closed
        pass

    @abstractmethod
    def keep(self, batch: Batch) -> None:
        """Take kept rows."""

    @abstractmethod
    def remove(self, original: Batch, labels: RowLabels, plan: CleaningPlan) -> None:
        """Take the removed rows of a batch, as they were read."""

    @abstractmethod
    def close(self) -> WrittenParts:
        """Finish."""

    def _record(self, actions: Categorical[Action], codes: Categorical[tuple[str, ...]]) -> Categorical[str]:
        """Count removed rows; returns the verdict on each."""
        verdicts = Categorical(tuple(map(_verdict, actions.values)), actions.indices)
        self._ledger.append((verdicts, codes))
        return verdicts

    def _written(
        self, parts: Mapping[str, int], checksums: Mapping[str, str], arrays: list[str | None]
    ) -> WrittenParts:
        by_verdict, by_code = Counter[str](), Counter[str]()
        for verdicts, codes in self._ledger:
            for verdict, number in verdicts.counts():
                by_verdict[verdict] += number
            for broken, number in codes.counts():
                by_code.update(dict.fromkeys(broken, number))
        removed_by_code = dict(sorted(by_code.items()))
        num_dropped, num_quarantined = by_verdict[DROPPED], by_verdict[QUARANTINED]
        return WrittenParts(parts, checksums, arrays, self._num_kept, num_dropped, num_quarantined, removed_by_code)


class PartFiles(Parts):
    """Writes the files of one unit. A context manager: all of them are finished, or none remains."""

    def __init__(self, task: UnitTask, plan: UnitPlan) -> None:
        super().__init__()
        check_parts_folder(plan.parts)
        self._task, self._plan = task, plan
        self._writers: list[tuple[str, PartWriter]] = []
        self._arrays: list[str | None] = []
        self._quarantine: QuarantineWriter | None = None
        self._removed: list[tuple[IntArray, pa.Array]] = []
        self._sample: RemovedSample | None = None
        self._closed = False

    def __exit__(self, *_: object) -> None:
        if self._closed:
            return
        with ExitStack() as undo:
            for _name, writer in self._writers:
                undo.callback(writer.abort)
            if self._quarantine is not None:
                undo.callback(self._quarantine.abort)

    def keep(self, batch: Batch) -> None:
        """Write kept rows. A sample that is not kept has no file."""
        if self._task.is_sample and not batch.num_rows:
            return
        # Records can be copied only into files of their own format.
        raw = batch.raw if batch.raw is not None and batch.raw.format == self._task.format else None
        batch = replace(batch.stored(), raw=raw)
        if not self._writers:
            self._open(batch.take(np.empty(0, np.int64)))
        if batch.num_rows:
            divided = self._split_by_file(batch)
            for index, (_, writer) in enumerate(self._writers):
                writer.write(divided[index * len(divided) // len(self._writers)])
        self._num_kept += batch.num_rows

    def _open(self, template: Batch) -> None:
        if not template.columns:
            raise CleaningError(
                "every field is dropped, so nothing is left to write; drop fewer fields, or remove this input"
            )
        sink = get_sink(self._task.format, self._plan.format_options)
        divided = self._split_by_file(template)
        # A copy keeps the suffix of its original.
        suffixes = (sink.suffix or PurePosixPath(self._task.unit.uri).suffix, *getattr(sink, "more_suffixes", ()))
        for index, part in enumerate(divided):
            ending = f".{index:03d}" if len(divided) > 1 else ""
            for suffix in suffixes:
                name = f"{self._task.name}{ending}{suffix}"
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
        if self._task.is_sample:
            self._remove_sample(removed)
            return
        file_rows = original.file_rows(removed.rows)
        self._add_to_ledger(file_rows, original.row_group, removed.actions, removed.codes)
        is_quarantined = np.array([action is not Action.DROP_ROW for action in removed.actions.values], np.bool_)
        quarantined = np.flatnonzero(is_quarantined[removed.actions.indices])
        if len(quarantined):
            chosen = original.stored().take(removed.rows[quarantined])
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

    def _remove_sample(self, removed: RemovedRows) -> None:
        """Copy a file that is one sample to the quarantine. The ledger is written for all samples of a split at once."""
        for action, codes, reason in zip(removed.actions, removed.codes, removed.reasons, strict=True):
            self._sample = RemovedSample(_verdict(action), codes, reason)

    def _open_quarantine(self, template: Batch) -> QuarantineWriter:
        if self._quarantine is None:
            base = f"{self._plan.parts}/{self._task.name}.quarantine"
            self._quarantine = QuarantineWriter(
                base, template.stored().take(np.empty(0, np.int64)), self._task.unit.uri
            )
        return self._quarantine

    def _add_to_ledger(
        self, rows: IntArray, row_group: int | None, actions: Categorical[Action], codes: Categorical[tuple[str, ...]]
    ) -> None:
        self._record(actions, codes)
        group = (
            pa.nulls(len(rows), pa.int32())
            if row_group is None
            else pa.repeat(pa.scalar(row_group, pa.int32()), len(rows))
        )
        self._removed.append((rows, group))

    def close(self) -> WrittenParts:
        """Finish every file."""
        parts = {name: writer.close() for name, writer in self._writers}
        if self._sample is not None:
            return self._close_sample(self._sample)
        if self._quarantine is not None:
            parts[self._quarantine.uri.rpartition("/")[2]] = self._quarantine.close()
        verdicts = Categorical.concatenate(verdicts for verdicts, _ in self._ledger)
        if len(verdicts):
            name = f"{self._task.name}.ledger.parquet"
            rows = np.concatenate([rows for rows, _ in self._removed])
            groups = pa.concat_arrays([group for _, group in self._removed])
            codes = Categorical.concatenate(codes for _, codes in self._ledger)
            parts[name] = write_ledger(f"{self._plan.parts}/{name}", rows, verdicts, codes, groups)
        self._closed = True
        if self._num_kept:
            parts |= self._copy_labels(f"{self._task.name}.label")
        return self._written(parts, self._checksums(parts), self._arrays)

    def _copy_labels(self, name: str) -> dict[str, int]:
        """Copy the label files of a sample, as parts called ``name`` and a number."""
        parts = {f"{name}-{index}{PurePosixPath(uri).suffix}": uri for index, uri in enumerate(self._task.labels)}
        return {part: copy_file(uri, f"{self._plan.parts}/{part}") for part, uri in parts.items()}

    def _close_sample(self, sample: RemovedSample) -> WrittenParts:
        """Finish a sample that is not kept."""
        parts: dict[str, int] = {}
        if sample.verdict == QUARANTINED:
            unit = self._task.unit
            name = f"{self._task.name}.quarantine{PurePosixPath(unit.uri).suffix}"
            parts[name] = copy_file(unit.uri, f"{self._plan.parts}/{name}")
            check_unchanged(unit.uri, unit.fingerprint)
            parts |= self._copy_labels(f"{self._task.name}.quarantine.label")
        self._closed = True
        is_dropped = sample.verdict == DROPPED
        by_code = dict.fromkeys(sorted(sample.codes), 1)
        return WrittenParts(parts, self._checksums(parts), [], 0, int(is_dropped), int(not is_dropped), by_code, sample)

    def _checksums(self, parts: Iterable[str]) -> dict[str, str]:
        storage = storage_of(self._plan.parts)
        return {name: storage.written_hash(f"{self._plan.parts}/{name}") for name in parts}


def _verdict(action: Action) -> str:
    return DROPPED if action is Action.DROP_ROW else QUARANTINED
