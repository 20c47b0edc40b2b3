"""From finished units to a published output, in an order that a killed run can resume from at any point.

First the previous run's manifest and files are removed, then this run's parts get their final names, then its manifest
is written, and the staging area is removed last. So a manifest guarantees that every file it lists exists. Planned
moves and removals are saved first (``run.json`` in the staging area), so that no file is ever orphaned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from datacheck.errors import OutputError
from datacheck.formats import get_format, load
from datacheck.publishing.identity import RunIdentity
from datacheck.publishing.links import check_no_link, is_inside
from datacheck.publishing.manifest import MANIFEST_NAME, STATISTICS_NAME, files_of
from datacheck.publishing.output_names import (
    INDEX_NAME,
    LEDGER,
    QUARANTINE,
    ROWS,
    OutputNames,
    kind_of,
)
from datacheck.publishing.sealed_json import DamagedError, read_json, sealed, unsealed
from datacheck.publishing.staging import StagingArea
from datacheck.publishing.written_unit import WrittenUnit, name_sample, output_entry
from datacheck.sinks.concatenate import concatenate, supports_concatenation
from datacheck.storage.os_errors import output_error, output_errors
from datacheck.text import plain

_STATE_NAME = "run.json"


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """What an unfinished run saved: its identity, its planned ``moves`` (part to final name), and the files it replaces."""

    identity: RunIdentity | None = None
    moves: Mapping[str, str] = field(default_factory=dict)
    replaces: Sequence[str] = ()

    @property
    def fingerprint(self) -> str | None:
        return None if self.identity is None else self.identity.fingerprint


def read_state(staging_folder: str) -> UnfinishedRun:
    """What an unfinished run saved, if there is one. Raises ``OutputError`` for a damaged file."""
    uri = f"{staging_folder}/{_STATE_NAME}"
    try:
        state = unsealed(read_json(uri))
        return UnfinishedRun(RunIdentity.from_json(state["identity"]), dict(state["moves"]), list(state["replaces"]))
    except (FileNotFoundError, NotADirectoryError):
        return UnfinishedRun()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"{plain(uri)}: the state of an unfinished run is damaged ({plain(str(error))}); remove the folder"
            f" {plain(staging_folder)} and run again with --overwrite"
        ) from None


class Publisher:
    """Tracks a run's finished units and publishes its output.

    ``replaced`` is the manifest of a previous run to replace. ``shared`` is for a run of several processes: what is staged
    may be the work of others, and nothing of it is removed. Raises ``OutputError`` if it belongs to a different run.
    """

    def __init__(
        self,
        staging: StagingArea,
        identity: RunIdentity,
        replaced: Mapping[str, Any] | None,
        *,
        shared: bool = False,
    ) -> None:
        self.staging = staging
        self.identity = identity
        self.parts = staging.parts
        self._storage = staging.storage
        self._output = staging.output
        self._names = OutputNames()
        #: Each part's final name in the output folder.
        self._moves: dict[str, str] = {}
        #: The parts that the index of a split names, by the split and their format.
        self._indexed: dict[tuple[str, str], list[str]] = {}
        state = read_state(staging.folder)
        #: The moves that this run had planned before it was killed.
        self._planned: dict[str, str] = {}
        #: Files of previous runs, finished or killed, to remove.
        self._obsolete: dict[str, None] = dict.fromkeys(state.replaces)
        if replaced is not None:
            self._obsolete.update(dict.fromkeys(files_of(replaced)))
        if shared:
            state = self._join(state)
        if state.fingerprint == identity.fingerprint:
            self._planned = dict(state.moves)
        else:
            self._obsolete.update(dict.fromkeys(state.moves.values()))
            self._discard_all()
        if not shared:
            self._write_state(self._planned)

    def _join(self, state: UnfinishedRun) -> UnfinishedRun:
        """The state of a run of several processes, which the first of them writes."""
        if state.identity is None:
            with suppress(FileExistsError):
                self._write_state({}, if_absent=True)
            state = read_state(self.staging.folder)
        if state.identity is not None and state.fingerprint != self.identity.fingerprint:
            differences = "; ".join(self.identity.differences(state.identity)) or "another version of datacheck"
            raise OutputError(
                f"{plain(self.staging.folder)}: holds an unfinished run that differs ({differences}); finish that run, or"
                " remove the folder and start all shards again"
            )
        self._obsolete.update(dict.fromkeys(state.replaces))
        return state

    def check_folders(self, splits: Iterable[str]) -> None:
        """Raise ``OutputError`` if a folder of the output holds files of unknown origin: readers would take them for rows."""
        known = {f"{self._output}/{name}" for name in (*self._obsolete, *self._planned.values())}
        for folder in (*splits, QUARANTINE, LEDGER):
            check_no_link(self._output, f"{self._output}/{folder}")
            for uri in self._files_in(f"{self._output}/{folder}"):
                if uri not in known:
                    raise OutputError(
                        f"{plain(uri)}: was not written by datacheck; move it away, or choose another output"
                    )

    def _files_in(self, folder: str) -> Iterator[str]:
        """The visible files in a folder and its subfolders, sorted."""
        with output_errors(folder), suppress(FileNotFoundError):
            for entry in self._storage.list(folder):
                uri = f"{folder}/{entry.name}"
                if entry.is_folder:
                    check_no_link(self._output, uri)
                    yield from self._files_in(uri)
                elif not entry.is_folder and not entry.name.startswith((".", "_")):
                    yield uri

    def has_part(self, part: str, size: int, checksum: str) -> bool:
        """Whether a part exists as it was written, staged or already published."""
        for uri in self._places_of(part):
            with suppress(OSError):
                has_size = self._storage.stat(uri).fingerprint.size == size
                if has_size and self._storage.written_hash(uri) == checksum:
                    return True
        return False

    def _places_of(self, part: str) -> list[str]:
        """Where a part can be: staged, or already published."""
        published = [f"{self._output}/{self._planned[part]}"] if part in self._planned else []
        return [f"{self.parts}/{part}", *published]

    @property
    def is_empty(self) -> bool:
        """Whether the staging area holds nothing worth keeping: no finished unit, no statistics, no file to remove."""
        has_manifest = self._storage.exists(f"{self._output}/{MANIFEST_NAME}")
        has_statistics = self._storage.exists(self._statistics)
        is_waiting = bool(self._planned or self._obsolete) and not has_manifest
        return not (is_waiting or has_statistics or self.staging.finished_units())

    def has_sizes(self, parts: Mapping[str, int]) -> bool:
        """Whether parts exist with these sizes in bytes, staged or already published."""
        return all(part in self._staged_parts or self._has_size(part, size) for part, size in parts.items())

    @cached_property
    def _staged_parts(self) -> frozenset[str]:
        """The parts that were there first, where each question is a request: objects are always whole."""
        if self.staging.is_shared or self._storage.local_path(self.parts) is not None:
            return frozenset()
        with output_errors(self.parts):
            return frozenset(entry.name for entry in self._storage.list(self.parts))

    def _has_size(self, part: str, size: int) -> bool:
        for uri in self._places_of(part):
            with suppress(OSError):
                if self._storage.stat(uri).fingerprint.size == size:
                    return True
        return False

    def record(self, name: str, record: Mapping[str, Any]) -> None:
        """Record a unit as finished. Its parts must be closed."""
        self.staging.record_unit(name, record)

    def discard(self, name: str, parts: Iterable[str]) -> None:
        """Forget a finished unit and delete its parts."""
        self.staging.forget_unit(name)
        check_no_link(self._output, self.parts)
        for part in parts:
            with suppress(OSError):
                self._storage.delete(f"{self.parts}/{part}")

    @property
    def _statistics(self) -> str:
        return f"{self.staging.folder}/{STATISTICS_NAME}"

    def saved_statistics(self) -> str | None:
        """The statistics that this run saved before it was killed; None if there are none, or they are damaged."""
        with suppress(OSError, DamagedError):
            return str(unsealed(read_json(self._statistics)).get("statistics"))
        return None

    def save_statistics(self, statistics: str) -> None:
        """Save learned statistics, so that a killed run does not learn them again."""
        self._put(self._statistics, json.dumps(sealed({"statistics": statistics})).encode())

    def plan_output(
        self, split: str, uri: str, units: Sequence[WrittenUnit], format_: str, *, is_aligned: bool
    ) -> list[dict[str, Any]]:
        """Choose the final names of an input's parts, and return their entries in the manifest.

        Formats that readers do not accept in parts are concatenated into one file per array. ``is_aligned`` says that
        the input is a group of array files, one per field.
        """
        is_concatenated = supports_concatenation(format_)
        outputs: list[dict[str, Any]] = []
        rows: list[list[str]] = []
        for unit in units:
            row_parts = [part for part in unit.parts if kind_of(part) == ROWS]
            if is_concatenated and row_parts:
                rows.append(row_parts)
            for part, size in unit.parts.items():
                kind = kind_of(part)
                if kind != ROWS or not is_concatenated:
                    if kind == ROWS and get_format(format_).indexer:
                        if not unit.num_kept:
                            continue  # Readers of indexes expect rows in every file.
                        self._indexed.setdefault((split, format_), []).append(part)
                    final = self._moves[part] = self._names.of_part(split, part)
                    outputs.append(output_entry(final, kind, unit.num_rows(kind), unit.row_start, unit.num_read, size))
        if rows:
            arrays = next(unit.arrays for unit in units if unit.arrays)
            for array, parts in zip(arrays, zip(*rows, strict=True), strict=True):
                final = self._names.of_array(split, uri, array, PurePosixPath(parts[0]).suffix, is_aligned=is_aligned)
                outputs.append(self._concatenate(final, parts, units, format_))
        return outputs

    def plan_sample(self, split: str, name: str, unit: WrittenUnit, labels: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Choose the final names of the parts of a file that is one sample, and return their entries in the manifest.

        ``labels`` are the names of its label files.
        """
        outputs = name_sample(self._names, split, name, unit, labels)
        self._moves.update((part, entry["path"]) for part, entry in outputs)
        return [entry for _, entry in outputs]

    def plan_ledger(self, split: str, write: Callable[[str], int], num_removed: int, num_read: int) -> dict[str, Any]:
        """Write the one ledger of a split's samples with ``write``, and return its entry in the manifest."""
        part = f"{split}.samples.{LEDGER}.parquet"
        size = write(self.staging.part_uri(part))
        final = self._moves[part] = self._names.of_part(split, part)
        return output_entry(final, LEDGER, num_removed, 0, num_read, size)

    def plan_indexes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Write the index of each split whose files need one; yields the split and the index's entry in the manifest."""
        for (split, format_), parts in self._indexed.items():
            shards = [
                (PurePosixPath(self._moves[part]).name, next(filter(self._storage.exists, self._places_of(part))))
                for part in parts
            ]
            name = f"{split}.{INDEX_NAME}"
            size = load(get_format(format_).indexer)(self.staging.part_uri(name), shards)
            final = self._moves[name] = self._names.of_part(split, name)
            yield split, output_entry(final, kind_of(name), 0, 0, 0, size)

    def _concatenate(
        self, final: str, parts: Sequence[str], units: Sequence[WrittenUnit], format_: str
    ) -> dict[str, Any]:
        """Concatenate the parts of one array, and return its entry in the manifest."""
        part = parts[0]
        size = next(unit.parts[part] for unit in units if part in unit.parts)
        if len(parts) > 1:
            check_no_link(self._output, self.parts)
            part = f"{parts[0]}.joined"
            size = concatenate(format_, [f"{self.parts}/{name}" for name in parts], f"{self.parts}/{part}")
        self._moves[part] = final
        num_rows = sum(unit.num_kept for unit in units)
        return output_entry(final, ROWS, num_rows, 0, sum(unit.num_read for unit in units), size)

    def publish(self, manifest: bytes, statistics: str | None) -> None:
        """Move every part to its final name, then write the manifest, then remove the staging area."""
        self._check_lock()
        self._remove_obsolete()
        self._obsolete = {}
        written = {} if statistics is None else {STATISTICS_NAME: STATISTICS_NAME}
        self._write_state({**self._moves, **written})
        moves = [(f"{self.parts}/{part}", f"{self._output}/{final}") for part, final in self._moves.items()]
        for folder in dict.fromkeys(final.rpartition("/")[0] for _, final in moves):
            check_no_link(self._output, folder)
        try:
            staged_names = {entry.name for entry in self._storage.list(self.parts)}
            self._storage.move_all(move for move, part in zip(moves, self._moves, strict=True) if part in staged_names)
        except OSError as error:
            raise output_error(error, error.filename2 or error.filename or self._output) from error
        if statistics is not None:
            self._put(f"{self._output}/{STATISTICS_NAME}", statistics.encode())
        self._check_lock()
        self._put_manifest(manifest)
        self.staging.clear()

    def _check_lock(self) -> None:
        """Raise ``OutputError`` if another run may write here by now."""
        with output_errors(self._output):
            self.staging.lock.check()

    def _put_manifest(self, manifest: bytes) -> None:
        """Write the manifest. Where a lock can be lost, only if there is none: of several runs exactly one publishes."""
        uri = f"{self._output}/{MANIFEST_NAME}"
        if self._storage.local_path(uri) is not None:
            self._put(uri, manifest)
            return
        try:
            with output_errors(uri):
                self._storage.put(uri, manifest, if_absent=True)
        except OutputError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
            with self._storage.open(uri) as file:
                if file.read() == manifest:
                    # The request was repeated, after an answer that was lost.
                    return
            raise OutputError(
                f"{plain(self._output)}: another run has published its output there in the meantime; this run published"
                " nothing: choose another output, or overwrite it with --overwrite"
            ) from None

    def abandon(self) -> None:
        """Publish nothing and keep nothing."""
        self.staging.clear()

    def _remove_obsolete(self) -> None:
        """Remove the previous run's output: its manifest first, so that a partial output never looks complete."""
        ours = set(self._planned.values())
        with output_errors(self._output):
            self._storage.delete(f"{self._output}/{MANIFEST_NAME}")
            self._storage.sync(self._output)
            for name in self._obsolete:
                folders = [str(folder) for folder in PurePosixPath(name).parents[:-1]]
                if name not in ours and is_inside(self._output, name):
                    self._storage.delete(f"{self._output}/{name}")
                    for folder in folders:
                        self._storage.delete_empty_folder(f"{self._output}/{folder}")

    def _write_state(self, moves: Mapping[str, str], *, if_absent: bool = False) -> None:
        state = {"identity": self.identity.to_json(), "moves": dict(moves), "replaces": list(self._obsolete)}
        uri, content = f"{self.staging.folder}/{_STATE_NAME}", json.dumps(sealed(state)).encode()
        if if_absent:
            check_no_link(self._output, self.staging.folder)
            self._storage.put(uri, content, if_absent=True)
        else:
            self._put(uri, content)

    def _put(self, uri: str, content: bytes) -> None:
        check_no_link(self._output, uri.rpartition("/")[0])
        with output_errors(uri):
            self._storage.put(uri, content)

    def _discard_all(self) -> None:
        """Discard the units and parts that a different run left in the staging area."""
        for name in self.staging.finished_units():
            self.staging.forget_unit(name)
        check_no_link(self._output, self.parts)
        with output_errors(self.parts):
            for entry in self._storage.list(self.parts):
                self._storage.delete(f"{self.parts}/{entry.name}")
            self._storage.delete(self._statistics)
