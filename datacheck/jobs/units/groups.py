"""Units of one file that are done together where a job has very many: their results are merged before they travel.

So the results of a job are not many more than ``MAX_GROUPS``, or than its files, and whoever merges them has no more to do for
a larger job. The groups depend on the units alone, so that every executor has the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from datacheck.checks.checker import RuleSet
from datacheck.dataset_rules.dataset_state import DatasetState
from datacheck.hashing.keys import KeyHashes
from datacheck.jobs.file_results import FileScan
from datacheck.jobs.units.scan import UnitScan, read_keys, scan_unit
from datacheck.schema.model import Schema
from datacheck.sources.base import WorkUnit

T = TypeVar("T")

#: The groups of a job, unless it has more files. Fewer units than that are done one by one.
MAX_GROUPS = 1 << 15


def group_units(by_file: Iterable[Sequence[T]], most: int | None = None) -> list[list[Sequence[T]]]:
    """The units of each file in groups, so that there are not many more than ``most``."""
    files = list(by_file)
    size = max(1, -(-sum(map(len, files)) // (most or MAX_GROUPS)))
    return [[of_file[start : start + size] for start in range(0, len(of_file), size)] for of_file in files]


def scan_group(units: Sequence[WorkUnit], rules: RuleSet, *, is_whole_file: bool = False) -> UnitScan:
    """As :func:`~datacheck.jobs.units.scan.scan_unit`, for units of one file that follow each other."""
    if len(units) == 1:
        return scan_unit(units[0], rules, is_whole_file=is_whole_file)
    return merge_scans(units[0].uri, rules.schema, [scan_unit(unit, rules) for unit in units])


def read_keys_of_group(units: Sequence[WorkUnit], schema: Schema, *, with_dataset: bool = False) -> UnitScan:
    """As :func:`~datacheck.jobs.units.scan.read_keys`, for units of one file that follow each other."""
    scans = [read_keys(unit, schema, with_dataset=with_dataset) for unit in units]
    return scans[0] if len(scans) == 1 else merge_scans(units[0].uri, schema, scans)


def merge_scans(uri: str, schema: Schema, scans: Sequence[UnitScan]) -> UnitScan:
    """The scan of units of one file that follow each other, from the scan of each."""
    merged = FileScan(uri, schema)
    keys: list[KeyHashes] = []
    dataset: DatasetState | None = None
    for scan in scans:
        merged.add(scan)
        keys += scan.keys
        if dataset is None:
            dataset = scan.dataset
        elif scan.dataset is not None:
            dataset.merge(scan.dataset)
    return replace(merged.as_unit(), keys=tuple(keys), dataset=dataset)
