"""The result of one unit, and its JSON: what a restarted run reads of the units that are already done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from datacheck.checks.structure import FieldFacts
from datacheck.dataset_rules.base import DatasetRule, Part
from datacheck.dataset_rules.dataset_state import DatasetState
from datacheck.errors import DatacheckError, SourceError
from datacheck.findings import Finding
from datacheck.jobs.units.scan import UnitScan
from datacheck.jobs.units.task import UnitTask
from datacheck.reports.accounts import RepairTotal

__all__ = ["RemovedSample", "UnitResult", "from_json", "read_finished", "to_json"]

_COUNTS = ("num_read", "num_kept", "num_dropped", "num_quarantined")
_FACTS = ("problem", "top_level", "is_array", "is_shared", "unseen")
_MAPPINGS = ("removed_by_code", "failed", "left")


@dataclass(frozen=True, slots=True)
class RemovedSample:
    """A file that is one sample and is not in the output: its verdict, the codes that it broke, and the reason."""

    verdict: str
    codes: tuple[str, ...]
    reason: str


@dataclass(slots=True)
class UnitResult:
    """Rows by outcome, reasons, repairs, written parts and findings of one unit.

    Attributes:
        removed_by_code: the number of removed rows for each code they broke.
        parts: the size in bytes of each file that was written.
        arrays: for each part that holds rows, the name of its one array; None for an array without a name, and for a
            part that holds all fields.
        failed: the number of violations of each code whose rule is ``fail``.
        left: the number of violations of each code that a ``report`` rule leaves in the output.
        removed: set for a sample that is not kept.
        left_in: the codes in ``left``, each with the fields that they are in.
        failure: the error that must stop the run. An input that cannot be read does not: see ``error``.
        checksums: a hash of the content of each file in ``parts``.
    """

    name: str
    uri: str = ""
    num_read: int = 0
    num_kept: int = 0
    num_dropped: int = 0
    num_quarantined: int = 0
    removed_by_code: dict[str, int] = field(default_factory=dict)
    repairs: list[RepairTotal] = field(default_factory=list)
    parts: dict[str, int] = field(default_factory=dict)
    arrays: list[str | None] = field(default_factory=list)
    scan: UnitScan = field(default_factory=UnitScan)
    failed: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    removed: RemovedSample | None = None
    left_in: list[tuple[str, str | None]] = field(default_factory=list)
    failure: DatacheckError | None = None
    checksums: dict[str, str] = field(default_factory=dict)

    @property
    def error(self) -> SourceError | None:
        """Why the input cannot be read."""
        return self.scan.error

    @property
    def is_complete(self) -> bool:
        """Whether a restarted run can use this result instead of processing the unit again."""
        return self.error is None and self.failure is None and not self.failed


def to_json(record: UnitResult) -> dict[str, Any]:
    """The result of a unit that was read, as plain JSON values."""
    scan = record.scan
    return {
        "name": record.name,
        "uri": record.uri,
        **{name: getattr(record, name) for name in (*_COUNTS, *_MAPPINGS)},
        # Pairs, because the manifest keeps the order of the parts, and JSON objects have no order.
        "parts": [list(part) for part in record.parts.items()],
        "checksums": record.checksums,
        "arrays": list(record.arrays),
        "removed": record.removed and [record.removed.verdict, list(record.removed.codes), record.removed.reason],
        "left_in": [list(pair) for pair in record.left_in],
        "repairs": [asdict(total) for total in record.repairs],
        "findings": [finding.to_dict() for finding in scan.findings],
        "names": list(scan.names),
        "fields": [
            [path, facts.dtype, facts.shape and list(facts.shape), *(getattr(facts, name) for name in _FACTS)]
            for path, facts in scan.fields.items()
        ],
        "num_values": [[path, *counts] for path, counts in scan.num_values.items()],
        **({} if scan.dataset is None else {"dataset": scan.dataset.to_json()}),
    }


def from_json(record: Mapping[str, Any], rules: Sequence[DatasetRule] = (), split: str | None = None) -> UnitResult:
    """The result that :func:`to_json` wrote; raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else.

    ``rules`` are those about the dataset, and ``split`` is the split of the unit.
    """
    part = Part(str(record["uri"]), split)
    dataset = DatasetState.restore(rules, record["dataset"], part) if rules else None
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
        dataset=dataset,
    )
    read = UnitResult(
        record["name"], str(record["uri"]), repairs=[RepairTotal(**total) for total in record["repairs"]], scan=scan
    )
    read.parts = {part: int(size) for part, size in record["parts"]}
    read.checksums = dict(record.get("checksums", {}))
    read.arrays = list(record["arrays"])
    if record["removed"] is not None:
        verdict, codes, reason = record["removed"]
        read.removed = RemovedSample(verdict, tuple(codes), reason)
    read.left_in = [(str(code), field) for code, field in record["left_in"]]
    for name in _COUNTS:
        setattr(read, name, int(record[name]))
    for name in _MAPPINGS:
        setattr(read, name, dict(record[name]))
    if read.num_read != read.num_kept + read.num_dropped + read.num_quarantined:
        raise ValueError("the counts of rows do not add up")
    return read


def read_finished(
    recorded: Mapping[str, Mapping[str, Any]],
    tasks: Iterable[UnitTask],
    has_part: Callable[[str, int, str], bool],
    rules: Sequence[DatasetRule] = (),
) -> dict[str, UnitResult]:
    """The units that an earlier, killed run of the same job finished and whose parts are still whole, by task name.

    A run from another folder used other paths for the inputs, which its parts contain: those units are cleaned again.
    """
    uris = {task.name: (task.unit.uri, task.split) for task in tasks}
    finished = {}
    for saved in recorded.values():
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            for record in saved["units"]:
                uri, split = uris[record["name"]]
                read = from_json(record, rules, split)
                if read.uri != uri:
                    continue
                if all(has_part(part, size, read.checksums.get(part, "")) for part, size in read.parts.items()):
                    finished[read.name] = read
    return finished
