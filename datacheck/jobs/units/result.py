"""The result of one unit, and its record: what a restarted run reads of the units that are already done."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from datacheck.dataset_rules.base import DatasetRule
from datacheck.errors import DatacheckError, SourceError
from datacheck.jobs.sharding.result_codec import References, decode, encode
from datacheck.jobs.units.scan import UnitScan
from datacheck.jobs.units.task import UnitTask
from datacheck.reports.accounts import RepairTotal


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


def to_json(result: UnitResult) -> dict[str, Any]:
    """The record of a finished unit: its name, its input, the parts that it wrote in order, and the encoded result."""
    encoded = base64.b64encode(encode([result], References())).decode("ascii")
    return {"name": result.name, "uri": result.uri, "parts": list(result.parts.items()), "result": encoded}


def read_finished(
    recorded: Mapping[str, Mapping[str, Any]],
    tasks: Iterable[UnitTask],
    has_part: Callable[[str, int, str], bool],
    rules: Sequence[DatasetRule] = (),
) -> dict[str, UnitResult]:
    """The units that an earlier, killed run of the same job finished and whose parts are still whole, by task name.

    A run from another folder used other paths for the inputs, which its parts contain: those units are cleaned again.
    """
    uris = {task.name: task.unit.uri for task in tasks}
    finished = {}
    for saved in recorded.values():
        with suppress(KeyError, TypeError, ValueError):
            for record in saved["units"]:
                if uris[record["name"]] != record["uri"]:
                    continue
                content = base64.b64decode(record["result"], validate=True)
                (read,) = decode(content, References(rules=rules))
                if all(has_part(part, size, read.checksums.get(part, "")) for part, size in read.parts.items()):
                    finished[read.name] = read
    return finished
