"""What changes in a published output when rows of its quarantine are taken back: files, ledgers, counts."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datacheck.jobs.requeue_rows import FixedRows, QuarantinedRows
from datacheck.jobs.units.result import UnitResult
from datacheck.publishing.amend import amend
from datacheck.publishing.manifest import files_of
from datacheck.publishing.output_names import LEDGER, QUARANTINE, ROWS, kind_of, requeued_name, stem_of
from datacheck.publishing.staging import StagingArea
from datacheck.reports.accounts import RepairTotal
from datacheck.sinks.ledger import DROPPED, QUARANTINED, REQUEUED, write_ledger
from datacheck.sinks.writer import write_file
from datacheck.storage import storage_of


def removed_rows(staging: StagingArea, result: UnitResult) -> dict[int, tuple[str, tuple[str, ...]]]:
    """For each fixed row that is not taken back, its verdict and codes."""
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
        self._rewrite_ledgers(account, {row: (verdict, removed.get(row, ("", ()))[1]) for row, verdict in done.items()})
        num_kept = sum(verdict == REQUEUED for verdict in done.values())
        for name, change in (
            ("num_kept", num_kept),
            ("num_dropped", len(done) - num_kept),
            ("num_quarantined", -len(done)),
        ):
            account[name] += change
            self.manifest[name] += change
        totals = [RepairTotal(**total) for total in account["repairs"]]
        account["repairs"] = [asdict(total) for total in RepairTotal.add([*totals, *result.repairs])]
        account["left_by_code"] = dict(sorted((Counter(account["left_by_code"]) + Counter(result.left)).items()))
        account["left_in"] = [list(pair) for pair in dict.fromkeys(map(tuple, [*account["left_in"], *result.left_in]))]

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

    def _rewrite_ledgers(self, account: dict[str, Any], done: Mapping[int, tuple[str, Sequence[str]]]) -> None:
        removed_by_code = Counter[str]()
        for record in [part for part in account["outputs"] if part["kind"] == LEDGER]:
            uri = f"{self._staging.output}/{record['path']}"
            entries = ledger_of(uri)
            groups = _groups_of(uri)
            changed = {row: done[row] for row in entries.keys() & done.keys()}
            for row, (verdict, codes) in changed.items():
                entries[row] = (verdict, tuple(codes) if verdict == DROPPED else entries[row][1])
            for verdict, codes in entries.values():
                if verdict != REQUEUED:
                    removed_by_code.update(codes)
            if changed:
                staged = self._staged_name(record)
                size = write_ledger(
                    self._staging.part_uri(staged),
                    list(entries),
                    [verdict for verdict, _ in entries.values()],
                    [codes for _, codes in entries.values()],
                    groups,
                )
                self._rename(record, staged, size)
        account["removed_by_code"] = dict(sorted(removed_by_code.items()))

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
        """The name of a new file. Those of files that are replaced are not used again."""
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


def ledger_of(uri: str) -> dict[int, tuple[str, tuple[str, ...]]]:
    """For each row of a ledger, its verdict and codes."""
    table = _read_parquet(uri)
    return {
        row: (verdict, tuple(codes))
        for row, verdict, codes in zip(
            table["row"].to_pylist(), table["verdict"].to_pylist(), table["codes"].to_pylist(), strict=True
        )
    }


def _groups_of(uri: str) -> list[int | None]:
    groups: list[int | None] = _read_parquet(uri)["row_group"].to_pylist()
    return groups


def _read_parquet(uri: str) -> pa.Table:
    with storage_of(uri).open(uri) as file:
        return pq.read_table(file)
