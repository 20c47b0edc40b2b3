"""Unit records as JSON and back: what a run that was killed finds of what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from datacheck.checks.structure import FieldFacts
from datacheck.findings import Finding
from datacheck.jobs.units.clean import UnitRecord
from datacheck.jobs.units.label import CleanTask
from datacheck.jobs.units.scan import UnitScan
from datacheck.reports.accounts import RepairTotal

__all__ = ["from_json", "read_finished", "to_json"]

_COUNTS = ("num_read", "num_kept", "num_dropped", "num_quarantined")
_FACTS = ("problem", "top_level", "is_array", "is_shared")
_MAPPINGS = ("removed_by_code", "failed", "left")


def to_json(record: UnitRecord) -> dict[str, Any]:
    """The record of a unit that was read, as plain JSON values."""
    scan = record.scan
    return {
        "name": record.name,
        "uri": record.uri,
        **{name: getattr(record, name) for name in (*_COUNTS, *_MAPPINGS)},
        # Pairs, since the order of the parts is that of the manifest, and the keys of an object have none.
        "parts": [list(part) for part in record.parts.items()],
        "arrays": list(record.arrays),
        "repairs": [asdict(total) for total in record.repairs],
        "findings": [finding.to_dict() for finding in scan.findings],
        "names": list(scan.names),
        "fields": [
            [path, facts.dtype, facts.shape and list(facts.shape), *(getattr(facts, name) for name in _FACTS)]
            for path, facts in scan.fields.items()
        ],
        "num_values": [[path, *counts] for path, counts in scan.num_values.items()],
    }


def from_json(record: Mapping[str, Any]) -> UnitRecord:
    """The record that :func:`to_json` wrote; raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
    fields = {
        path: FieldFacts(dtype, None if shape is None else tuple(shape), **dict(zip(_FACTS, others, strict=True)))
        for path, dtype, shape, *others in record["fields"]
    }
    scan = UnitScan(
        record["num_read"],
        tuple(Finding.from_dict(finding) for finding in record["findings"]),
        fields,
        tuple(record["names"]),
        {path: (slots, present) for path, slots, present in record["num_values"]},
    )
    read = UnitRecord(
        record["name"], str(record["uri"]), repairs=[RepairTotal(**total) for total in record["repairs"]], scan=scan
    )
    read.parts = {part: int(size) for part, size in record["parts"]}
    read.arrays = list(record["arrays"])
    for name in _COUNTS:
        setattr(read, name, int(record[name]))
    for name in _MAPPINGS:
        setattr(read, name, dict(record[name]))
    return read


def read_finished(
    recorded: Mapping[str, Mapping[str, Any]], tasks: Iterable[CleanTask], has_part: Callable[[str, int], bool]
) -> dict[str, UnitRecord]:
    """The units that an earlier, killed run of the same job finished and whose parts still exist, by task name.

    A run from another folder used other paths for the inputs, which its parts contain: those units are cleaned again.
    """
    uris = {task.name: task.unit.uri for task in tasks}
    finished = {}
    for name, record in recorded.items():
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            read = from_json(record)
            if read.uri == uris.get(name) and all(has_part(part, size) for part, size in read.parts.items()):
                finished[name] = read
    return finished
