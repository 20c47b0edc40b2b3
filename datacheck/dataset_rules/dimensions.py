"""DC308 and DC304: dimensions that are one size in a file or in the dataset, and arrays of one file that are not a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from datacheck.batch import Batch
from datacheck.checks.dimensions import axis_in_row, describe_axis
from datacheck.checks.expression_columns import find_column
from datacheck.dataset_rules.base import Context, DatasetOutcome, Part, RuleState
from datacheck.findings import Finding
from datacheck.schema.dimensions import NamedAxis, named_axes
from datacheck.schema.model import Schema
from datacheck.schema.operands import axes_of
from datacheck.text import plain, quantity

UNEQUAL_ROWS, UNEQUAL_SIZES = "DC304", "DC308"
_MAX_SHOWN = 8


@dataclass(frozen=True, slots=True)
class DimensionsRule:
    """The named dimensions of a schema whose axes no batch has side by side."""

    schema: Schema

    @property
    def columns(self) -> tuple[str | None, ...]:
        return tuple(dict.fromkeys(axis.path for axis in named_axes(self.schema)))

    @property
    def is_within_rows(self) -> bool:
        """Whether one sample, which has all its arrays, shows whether the rule holds."""
        return all(scope == "row" for scope in self.schema.dimensions.values())

    def start(self, part: Part) -> DimensionsState:
        return DimensionsState(self, part)


@dataclass(slots=True)
class _Size:
    """The least and the greatest size of an axis in one file.

    ``is_of_rows`` marks the axis of the rows, which are added up. ``is_alone`` says that the array was read without the
    others of its file, so that its rows were not compared with theirs.
    """

    least: int
    most: int
    is_of_rows: bool
    is_alone: bool

    def merge(self, other: _Size) -> None:
        if self.is_of_rows:
            self.least += other.least
            self.most += other.most
        else:
            self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        self.is_alone = self.is_alone and other.is_alone


class DimensionsState(RuleState):
    """The sizes so far, by file and named axis."""

    def __init__(self, rule: DimensionsRule, part: Part) -> None:
        super().__init__(rule, part)
        self._axes = list(named_axes(rule.schema))
        self.seen: dict[tuple[str, int], _Size] = {}

    def update(self, batch: Batch) -> None:
        for index, axis in enumerate(self._axes):
            found = _size_in(batch, axis, self._rule.schema)
            if found is not None:
                self._add((self._part.uri, index), found)

    def merge(self, other: DimensionsState) -> None:
        for key, size in other.seen.items():
            self._add(key, size)

    def _add(self, key: tuple[str, int], size: _Size) -> None:
        known = self.seen.get(key)
        if known is None:
            self.seen[key] = size
        else:
            known.merge(size)

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        del context
        for name in dict.fromkeys(axis.name for axis in self._axes):
            scope = self._rule.schema.dimensions.get(name, "row")
            by_file: dict[str, list[tuple[NamedAxis, str, _Size]]] = {}
            for (uri, index), size in self.seen.items():
                if self._axes[index].name == name and (scope != "row" or size.is_of_rows or size.is_alone):
                    by_file.setdefault("" if scope == "dataset" else uri, []).append((self._axes[index], uri, size))
            for found in by_file.values():
                is_side_by_side = scope == "row" and len({axis.path for axis, _, _ in found}) < 2
                if (
                    not is_side_by_side
                    and len({bound for _, _, size in found for bound in (size.least, size.most)}) > 1
                ):
                    yield DatasetOutcome(_finding(name, found))


def _finding(name: str, found: list[tuple[NamedAxis, str, _Size]]) -> Finding:
    """What has which size; the file is the first whose size differs from the first one."""
    first = found[0][2]
    uri = next((uri for _, uri, size in found if (size.least, size.most) != (first.least, first.most)), found[0][1])
    is_in_files = len({uri for _, uri, _ in found}) > 1
    shown: dict[str, None] = {}
    for axis, where, size in found:
        place = plain(where.rpartition("/")[2], 60) if is_in_files else ""
        what = f"'{plain(axis.path, 60)}'" if axis.path is not None else ""
        label = " of ".join(filter(None, (what, place))) or "the array"
        sizes = f"{size.least:,}" if size.least == size.most else f"{size.least:,} to {size.most:,}"
        shown[f"{label} has {quantity(size.most, 'row') if size.is_of_rows else sizes}"] = None
    listed = [
        *list(shown)[:_MAX_SHOWN],
        *([f"and {len(shown) - _MAX_SHOWN:,} more"] if len(shown) > _MAX_SHOWN else []),
    ]
    if all(size.is_of_rows for _, _, size in found):
        return Finding(UNEQUAL_ROWS, uri, None, 1, 1, rule=name, detail=", ".join(listed))
    axes = dict.fromkeys(describe_axis(axis) for axis, _, _ in found)
    return Finding(UNEQUAL_SIZES, uri, None, 1, 1, rule=name, detail=f"{', '.join(axes)}: {', '.join(listed)}")


def _size_in(batch: Batch, axis: NamedAxis, schema: Schema) -> _Size | None:
    columns: Mapping[str | None, Any] = {column.name: column for column in batch.columns}
    data = columns[axis.path].data if axis.path in columns else find_column(batch, axis.path or "", schema)
    if data is None or (isinstance(data, np.ndarray) and not data.ndim) or not len(data):
        return None
    place, axes = axis_in_row(data, axis), axes_of(data)
    is_alone = isinstance(data, np.ndarray) and len(batch.columns) == 1
    if place is None:
        return None
    if place < 0:
        return _Size(len(data), len(data), True, is_alone)
    if axes is None:
        return None
    size = axes.sizes[place]
    lengths = np.array([size]) if isinstance(size, int) else np.diff(size)
    if axes.present is not None and not place:
        lengths = lengths[axes.present] if len(lengths) > 1 else lengths
    return _Size(int(lengths.min()), int(lengths.max()), False, is_alone) if len(lengths) else None
