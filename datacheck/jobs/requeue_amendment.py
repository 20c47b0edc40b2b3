"""What changes in a published output when rows of its quarantine are taken back: files, ledgers, counts."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datacheck.errors import OutputError
from datacheck.jobs.inputs import fingerprints
from datacheck.jobs.requeue_rows import FixedRows, QuarantinedRows
from datacheck.jobs.requeue_samples import FixedSample
from datacheck.jobs.units.result import UnitResult
from datacheck.publishing.amend import amend
from datacheck.publishing.identity import LABEL_FIELD
from datacheck.publishing.manifest import files_of, identity_of
from datacheck.publishing.output_names import (
    LABEL,
    LEDGER,
    QUARANTINE,
    ROWS,
    OutputNames,
    kind_of,
    requeued_name,
    stem_of,
)
from datacheck.publishing.staging import StagingArea
from datacheck.publishing.written_unit import WrittenUnit, name_sample
from datacheck.reports.accounts import RepairTotal
from datacheck.sinks.ledger import DROPPED, LEDGER_SCHEMA, QUARANTINED, REQUEUED, write_ledger
from datacheck.sinks.writer import write_file
from datacheck.storage import storage_of
from datacheck.text import plain


def removed_rows(staging: StagingArea, result: UnitResult) -> dict[int, tuple[str, tuple[str, ...]]]:
    """For each fixed row that is not taken back, its verdict and codes."""
    if result.removed is not None:
        return {0: (result.removed.verdict, result.removed.codes)}
    ledger = next((part for part in result.parts if kind_of(part) == LEDGER), None)
    return ledger_of(f"{staging.parts}/{ledger}") if ledger else {}


class Amendment:
    """The manifest as it will be, and the files that change with it."""

    def __init__(self, staging: StagingArea, manifest: Mapping[str, Any], number: int) -> None:
        self._staging, self._number = staging, number
        self.manifest: dict[str, Any] = copy.deepcopy(dict(manifest))
        self._moves: dict[str, str] = {}
        self._obsolete: list[str] = []
        self._taken = set(files_of(manifest))
        self._names = OutputNames(self._taken)

    def add(self, rows: FixedRows, result: UnitResult, quarantined: QuarantinedRows) -> None:
        """Add what became of the rows of one input."""
        removed = removed_rows(self._staging, result)
        verdicts = {row: removed.get(row, (REQUEUED, ()))[0] for row in rows.rows.tolist()}
        left = {row for row, verdict in verdicts.items() if verdict == QUARANTINED}
        done = {row: verdict for row, verdict in verdicts.items() if row not in left}
        if not done:
            return
        account = self.manifest["inputs"][rows.account]
        self._add_rows(account, rows, result, sorted(row for row, verdict in done.items() if verdict == REQUEUED))
        self._rewrite_quarantine(account, quarantined, set(done))
        changes = {row: (verdict, removed.get(row, ("", ()))[1]) for row, verdict in done.items()}
        removed_by_code = Counter[str]()
        for record in _files(account, LEDGER):
            removed_by_code += self._rewrite_ledger(record, changes)
        account["removed_by_code"] = dict(sorted(removed_by_code.items()))
        self._count(account, result, done.values())

    def add_samples(self, samples: Sequence[FixedSample], results: Sequence[UnitResult]) -> None:
        """Add what became of files that are one sample each."""
        changes: dict[str, dict[int, tuple[str, Sequence[str]]]] = {}
        for sample, result in zip(samples, results, strict=True):
            account = self.manifest["inputs"][sample.account]
            verdict, codes = removed_rows(self._staging, result).get(0, (REQUEUED, ()))
            if verdict == QUARANTINED:
                self._keep_quarantined(account, sample, result)
                continue
            before = self.manifest["inputs"][: sample.account]
            place = sum(one["split"] == account["split"] for one in before)
            changes.setdefault(account["split"], {})[place] = (verdict, codes)
            self._place_sample(account, sample, result)
            account["removed_by_code"] = dict.fromkeys(sorted(codes), 1)
            self._count(account, result, [verdict])
            if sample.states:
                self._identify(account, sample)
        for split, of_split in changes.items():
            accounts = (one for one in self.manifest["inputs"] if one["split"] == split and one["rows"] == "file")
            for record in [record for one in accounts for record in _files(one, LEDGER)]:
                self._rewrite_ledger(record, of_split)

    def _count(self, account: dict[str, Any], result: UnitResult, verdicts: Collection[str]) -> None:
        """Count rows that left the quarantine, and what was repaired and left in them."""
        num_kept = sum(verdict == REQUEUED for verdict in verdicts)
        for name, change in (
            ("num_kept", num_kept),
            ("num_dropped", len(verdicts) - num_kept),
            ("num_quarantined", -len(verdicts)),
        ):
            account[name] += change
            self.manifest[name] += change
        totals = [RepairTotal(**total) for total in account["repairs"]]
        account["repairs"] = [asdict(total) for total in RepairTotal.add([*totals, *result.repairs])]
        account["left_by_code"] = dict(sorted((Counter(account["left_by_code"]) + Counter(result.left)).items()))
        account["left_in"] = [list(pair) for pair in dict.fromkeys(map(tuple, [*account["left_in"], *result.left_in]))]

    def _place_sample(self, account: dict[str, Any], sample: FixedSample, result: UnitResult) -> None:
        """The files of a sample that left the quarantine, under the names that it would have had from the start."""
        for record in [*_files(account, QUARANTINE), *_files(account, LABEL)]:
            self._obsolete.append(record["path"])
            account["outputs"].remove(record)
        for part, entry in self._named(self._names, sample, result):
            self._check_free(entry["path"], sample)
            self._moves[part] = entry["path"]
            account["outputs"].append({**entry, "rows": [0]} if entry["kind"] == ROWS else entry)

    def _check_free(self, name: str, sample: FixedSample) -> None:
        """Raise ``OutputError`` if somebody else's file has the name of a file that is to be published."""
        uri = f"{self._staging.output}/{name}"
        storage = storage_of(uri)
        given = {storage.resolve(one) for one in (*sample.item.paths, *(label for label, _ in sample.item.labels))}
        if storage.exists(uri) and storage.resolve(uri) not in given:
            raise OutputError(f"{plain(uri)}: was not written by datacheck; move it away, and repeat the command")

    def _keep_quarantined(self, account: dict[str, Any], sample: FixedSample, result: UnitResult) -> None:
        """Take note of a sample that was changed in its quarantine, or taken out of it, and is still bad."""
        records = {record["path"]: record for record in account["outputs"]}
        for part, entry in self._named(OutputNames(), sample, result):
            record = records.get(entry["path"])
            if record is not None and self._size_of(entry["path"]) != record["num_bytes"]:
                self._moves[part] = record["path"]
                record["num_bytes"] = entry["num_bytes"]

    def _named(
        self, names: OutputNames, sample: FixedSample, result: UnitResult
    ) -> Sequence[tuple[str, dict[str, Any]]]:
        unit = WrittenUnit(
            0, 1, result.num_kept, result.num_dropped, result.num_quarantined, result.parts, result.arrays
        )
        labels = [name for _, name in sample.item.labels]
        return name_sample(names, sample.item.split, sample.item.sample_name, unit, labels)

    def _size_of(self, name: str) -> int | None:
        uri = f"{self._staging.output}/{name}"
        try:
            return storage_of(uri).stat(uri).fingerprint.size
        except OSError:
            return None

    def _identify(self, account: dict[str, Any], sample: FixedSample) -> None:
        """Take note that an input was fixed in its place: the next run finds its output done."""
        identity = identity_of(self.manifest)
        assert identity is not None
        before = list(identity.inputs)
        start = [one.key for one in before].index(sample.states[0].key)
        stop = start + 1
        while stop < len(before) and before[stop].field == LABEL_FIELD:
            stop += 1
        before[start:stop] = sample.states
        identity = replace(identity, inputs=tuple(before))
        self.manifest |= {"identity": identity.to_json(), "fingerprint": identity.fingerprint}
        account["fingerprint"] = fingerprints(sample.item)

    def _add_rows(self, account: dict[str, Any], rows: FixedRows, result: UnitResult, positions: Sequence[int]) -> None:
        """The files of the rows taken back, which record each row's place in the input: one file, or one per array."""
        if not positions:
            return
        parts = [part for part in result.parts if kind_of(part) == ROWS]
        for index, part in enumerate(parts):
            array = result.arrays[index] if len(parts) > 1 else None
            stem = rows.stems[index] if len(rows.stems) == len(parts) else f"{rows.stems[0]}.{array}"
            final = self._name(account["split"], stem, PurePosixPath(part).suffix)
            self._moves[part] = final
            account["outputs"].append(
                {
                    "path": final,
                    "kind": ROWS,
                    "num_rows": len(positions),
                    "row_start": positions[0],
                    "num_read": positions[-1] - positions[0] + 1,
                    "num_bytes": result.parts[part],
                    "rows": list(positions),
                }
            )

    def _rewrite_quarantine(self, account: dict[str, Any], quarantined: QuarantinedRows, gone: set[int]) -> None:
        for name, table, row_column in quarantined.tables:
            leaves = np.array([row in gone for row in table[row_column].to_pylist()], np.bool_)
            if not leaves.any():
                continue
            record = next(part for part in account["outputs"] if part["path"] == name)
            self._replace(account, record, QUARANTINE, table.filter(pa.array(~leaves)))

    def _rewrite_ledger(self, record: dict[str, Any], done: Mapping[int, tuple[str, Sequence[str]]]) -> Counter[str]:
        """Enter what became of rows into a ledger; returns how many rows in it are not in the output, by their codes."""
        uri = f"{self._staging.output}/{record['path']}"
        entries, table = ledger_of(uri), _read_parquet(uri)
        changed = {row: done[row] for row in entries.keys() & done.keys()}
        for row, (verdict, codes) in changed.items():
            entries[row] = (verdict, tuple(codes) if verdict == DROPPED else entries[row][1])
        if changed:
            staged = self._staged_name(record)
            size = write_ledger(
                self._staging.part_uri(staged),
                list(entries),
                [verdict for verdict, _ in entries.values()],
                [codes for _, codes in entries.values()],
                table["row_group"].to_pylist(),
                {name: table[name].to_pylist() for name in table.column_names[len(LEDGER_SCHEMA) :]},
            )
            self._rename(record, staged, size)
        return Counter(code for verdict, codes in entries.values() if verdict != REQUEUED for code in codes)

    def _replace(self, account: dict[str, Any], record: dict[str, Any], kind: str, table: pa.Table) -> None:
        """Replace a file of the output by one with these rows; no rows make no file."""
        if not table.num_rows:
            self._obsolete.append(record["path"])
            account["outputs"].remove(record)
            return
        staged = self._staged_name(record)
        size = write_file(self._staging.part_uri(staged), lambda file: pq.write_table(table, file, compression="zstd"))
        record["num_rows"] = table.num_rows
        self._rename(record, staged, size)
        assert kind == record["kind"]

    def _staged_name(self, record: Mapping[str, Any]) -> str:
        return f"amended.{len(self._moves)}.{PurePosixPath(str(record['path'])).name}"

    def _rename(self, record: dict[str, Any], staged: str, size: int) -> None:
        """Give the new version of a file a name of its own, so that the old one stays whole until the manifest changes."""
        old = PurePosixPath(record["path"])
        self._obsolete.append(record["path"])
        record["path"] = self._name(str(old.parent), stem_of(record["path"]), old.suffix)
        record["num_bytes"] = size
        self._moves[staged] = record["path"]

    def _name(self, folder: str, stem: str, suffix: str) -> str:
        """The name of a new file. The names of replaced files are not used again."""
        name = requeued_name(folder, stem, suffix, self._number, self._taken)
        self._taken.add(name)
        return name

    def publish(self) -> None:
        """Publish the change; nothing if no row left the quarantine."""
        if not self._moves:
            self._staging.clear()
            return
        self.manifest["requeues"] = self._number
        amend(self._staging, self.manifest, self._moves, self._obsolete)


def _files(account: Mapping[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    return (record for record in account["outputs"] if record["kind"] == kind)


def ledger_of(uri: str) -> dict[int, tuple[str, tuple[str, ...]]]:
    """For each row of a ledger, its verdict and codes."""
    table = _read_parquet(uri)
    return {
        row: (verdict, tuple(codes))
        for row, verdict, codes in zip(
            table["row"].to_pylist(), table["verdict"].to_pylist(), table["codes"].to_pylist(), strict=True
        )
    }


def _read_parquet(uri: str) -> pa.Table:
    with storage_of(uri).open(uri) as file:
        return pq.read_table(file)
