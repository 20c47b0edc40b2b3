"""DC319 to DC322: neighbouring rows within groups, whatever row group, file or worker they are in.

A part of a dataset is known by one row per group: its first and last value, where they are, and how many rows it has. Where
two parts meet, the last value of each group in the first is compared with the first one in the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as Listed
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch
from datacheck.dataset_rules.base import Context, DatasetOutcome, FileTallies, FileTally, Part, RuleState
from datacheck.dataset_rules.group_rows import GROUPS, Where, row_group_of, row_groups, stored, values_in
from datacheck.dataset_rules.group_rows import where as where_of
from datacheck.dataset_rules.groups import (
    KeyColumns,
    KeyedTables,
    Runs,
    find_columns,
    group_equal,
    hashes_of,
    key_columns_of,
)
from datacheck.dataset_rules.positions import (
    Positions,
    Scale,
    describe_difference,
    is_in_order,
    positions_of,
    within,
)
from datacheck.dataset_rules.together import Together
from datacheck.findings import MAX_EXAMPLES, Example, Finding
from datacheck.leaves import BoolArray, IntArray
from datacheck.schema.dataset_models import Sequence
from datacheck.text import plain

OUT_OF_ORDER, WRONG_STEP, SCATTERED_GROUP, GROUP_SIZE = "DC319", "DC320", "DC321", "DC322"
_ROW_CODES = (OUT_OF_ORDER, WRONG_STEP, SCATTERED_GROUP)


@dataclass(frozen=True, slots=True)
class SequenceRule:
    """A rule of ``sequence`` in a schema."""

    sequence: Sequence

    @property
    def columns(self) -> tuple[str, ...]:
        on = () if self.sequence.on is None else (self.sequence.on,)
        return (*self.sequence.by, *on)

    def start(self, part: Part) -> SequenceState:
        return SequenceState(self, part)


class SequenceState(RuleState):
    """What is known of the groups of a part of a dataset."""

    def __init__(self, rule: SequenceRule, part: Part) -> None:
        super().__init__(rule, part)
        self._sequence = rule.sequence
        self.uris = [part.uri]
        self.num_rows = 0
        self.scale: Scale | None = None
        self.problem = ""
        self.together = Together(rule.columns)
        self.tallies = {code: FileTallies() for code in _ROW_CODES}
        self.groups = KeyedTables(self._reduce)

    def update(self, batch: Batch) -> None:
        if not batch.num_rows or not batch.counts_rows:
            return
        if self.num_rows == 0:
            for code in _ROW_CODES:
                self.tallies[code].add(self._part.uri, FileTally())
        if self.together.look(batch):
            key = key_columns_of(batch, self._sequence.by)
            values = self._values(batch)
            if key is not None and values is not None:
                self._add_rows(batch, key, values)
        self.num_rows += batch.num_rows

    def _values(self, batch: Batch) -> Positions | None:
        """The values of the batch's rows in the scale of the part; None if they cannot be compared."""
        if self._sequence.on is None:
            return Positions(np.zeros(batch.num_rows, np.int64), np.zeros(batch.num_rows, np.bool_), Scale())
        columns = find_columns(batch, [self._sequence.on])
        if columns is None:
            return None
        found = positions_of(columns[0])
        self.problem = self.problem or found.problem or self._step_problem(found.scale)
        if not self.problem:
            self._adopt(found.scale)
        if self.problem or self.scale is None:
            return None
        converted = found.scale.convert(found.values, self.scale)
        if converted is None:
            self.problem = "its times do not fit one unit"
            return None
        return Positions(converted, found.valid, self.scale)

    def _step_problem(self, scale: Scale) -> str:
        step = self._sequence.step
        if step is None or step.is_duration is bool(scale.unit):
            return ""
        return (
            "its step must be a duration, such as 1h"
            if scale.unit
            else "its values are not times, but its step is a duration"
        )

    def _adopt(self, scale: Scale) -> None:
        """Keep the known groups in a scale that values of another one can be converted to."""
        joined = scale if self.scale is None else self.scale.joined(scale)
        if joined is None:
            self.problem = self.problem or "it holds times in some files and numbers in others"
        elif joined != self.scale:
            if self.scale is not None:
                self.groups = self._converted(self.groups, self.scale, joined)
            self.scale = joined

    def _converted(self, groups: KeyedTables, scale: Scale, target: Scale) -> KeyedTables:
        moved = KeyedTables(self._reduce)
        for table in groups.parts():
            columns = {name: table.column(name) for name in table.schema.names}
            for name in ("first", "last"):
                values = scale.convert(values_in(columns[name], scale), target)
                if values is None:
                    self.problem = self.problem or "its times do not fit one unit"
                    values = np.zeros(table.num_rows, np.int64)
                columns[name] = stored(values)
            moved.add(pa.table(columns, schema=GROUPS))
        groups.close()
        return moved

    def _add_rows(self, batch: Batch, key: KeyColumns, values: Positions) -> None:
        """Compare the rows of a batch with the ones before them in their groups, and add its groups."""
        runs = Runs.of(key.hashes)
        if self._sequence.contiguous:
            resumed = runs.resumed()
            self._record(SCATTERED_GROUP, where_of(batch, resumed), _Interruption(self, key.labels, resumed))
        valid = values.valid if key.known is None else values.valid & key.known
        filled, rows_with_value = runs, np.arange(batch.num_rows)
        if not valid.all():
            rows_with_value = np.flatnonzero(valid)
            filled = Runs.of(key.hashes[rows_with_value])
        self._compare_rows(batch, key, values.values, filled, rows_with_value)
        firsts, lasts = runs.firsts, runs.lasts
        first_filled, last_filled = firsts.copy(), lasts.copy()
        has_value = np.ones(len(firsts), np.bool_)
        if filled is not runs:
            groups = runs.group_of_rows()[rows_with_value[filled.firsts]]
            has_value = np.isin(np.arange(len(firsts)), groups)
            first_filled[groups], last_filled[groups] = rows_with_value[filled.firsts], rows_with_value[filled.lasts]
        row_group = row_groups(batch, len(firsts))
        columns = {
            "h0": key.hashes[firsts, 0],
            "h1": key.hashes[firsts, 1],
            "label": key.labels(firsts),
            "start": firsts + self.num_rows,
            "end": lasts + self.num_rows,
            "count": runs.counts,
            "file": np.zeros(len(firsts), np.int32),
            "row": batch.file_rows(firsts),
            "row_group": row_group,
            "has_value": has_value,
            "first": stored(values.values[first_filled]),
            "last": stored(values.values[last_filled]),
            "value_file": np.zeros(len(firsts), np.int32),
            "value_row": batch.file_rows(first_filled),
            "value_row_group": row_group,
        }
        self.groups.add(pa.table(columns, schema=GROUPS))

    def _compare_rows(self, batch: Batch, key: KeyColumns, values: Any, runs: Runs, rows: IntArray) -> None:
        """Check neighbouring rows of a batch; ``runs`` are the runs among ``rows``, which have a value."""
        values = values if len(rows) == batch.num_rows else values[rows]
        earlier, later = runs.pairs_across()
        for check in self._checks():
            self.tallies[check.code].add(self._part.uri, FileTally(len(rows) - len(runs.starts) + len(later)))
            holds = check.holds(values[:-1], values[1:])
            holds[runs.starts[1:] - 1] = True
            wrong, across = np.flatnonzero(~holds), ~check.holds(values[earlier], values[later])
            before, after = np.append(wrong, earlier[across]), np.append(wrong + 1, later[across])
            self._report(
                check,
                values[before],
                values[after],
                where_of(batch, rows[after]),
                partial(_take, key.labels, rows[after]),
            )

    def _reduce(self, table: pa.Table) -> pa.Table:
        """One row per group of parts of groups in order, whose neighbours are compared."""
        grouping = group_equal(hashes_of(table))
        if len(grouping.starts) == table.num_rows:
            return table
        column = {name: table.column(name) for name in table.schema.names}
        before, after = grouping.pairs()
        self._find_scattered(table, before, after)
        has_value = column["has_value"].to_numpy()
        filled = np.flatnonzero(has_value)
        with_value = group_equal(hashes_of(table)[filled])
        first, second = (filled[rows] for rows in with_value.pairs())
        scale = self.scale or Scale()
        where = Where(*(column[f"value_{name}"].to_numpy()[second] for name in ("file", "row", "row_group")))
        before, after = values_in(column["last"], scale)[first], values_in(column["first"], scale)[second]
        for check in self._checks():
            self._count(check.code, where)
            wrong = np.flatnonzero(~check.holds(before, after))
            labels = partial(_take, lambda rows: column["label"].take(pa.array(rows)), second[wrong])
            self._report(check, before[wrong], after[wrong], where.take(wrong), labels)
        firsts, lasts = grouping.firsts, grouping.lasts
        reduced = {name: column[name].take(pa.array(firsts)) for name in column}
        reduced["end"] = column["end"].take(pa.array(lasts))
        reduced["count"] = pa.array(grouping.sum(column["count"].to_numpy()))
        rows_first, rows_last = firsts.copy(), lasts.copy()
        # The groups of the rows with a value are in the order of all groups, and some of these may have none.
        has_any = grouping.sum(has_value.astype(np.int64)) > 0
        filled_groups = grouping.group_of_rows()[filled[with_value.firsts]]
        rows_first[filled_groups], rows_last[filled_groups] = filled[with_value.firsts], filled[with_value.lasts]
        for name in ("first", "value_file", "value_row", "value_row_group"):
            reduced[name] = column[name].take(pa.array(rows_first))
        reduced["last"] = column["last"].take(pa.array(rows_last))
        reduced["has_value"] = pa.array(has_any)
        return pa.table(reduced, schema=GROUPS).combine_chunks()

    def _find_scattered(self, table: pa.Table, before: IntArray, after: IntArray) -> None:
        if not self._sequence.contiguous:
            return
        resumed = after[table.column("end").to_numpy()[before] + 1 != table.column("start").to_numpy()[after]]
        where = Where(*(table.column(name).to_numpy()[resumed] for name in ("file", "row", "row_group")))
        labels = table.column("label")
        self._record(SCATTERED_GROUP, where, _Interruption(self, lambda rows: labels.take(pa.array(rows)), resumed))

    def _checks(self) -> Iterator[_NeighbourCheck]:
        """The checks of two neighbouring values of a group."""
        scale, step, order = self.scale or Scale(), self._sequence.step, self._sequence.required_order
        if order is not None:
            yield _NeighbourCheck(
                OUT_OF_ORDER,
                order.replace("_", " "),
                partial(is_in_order, order),
                lambda before, after: f"{scale.format(after)} after {scale.format(before)}",
            )
        if step is not None:
            yield _NeighbourCheck(
                WRONG_STEP,
                str(step.ge) if step.ge is not None and step.ge == step.le else step.describe(),
                partial(within, step, scale),
                lambda before, after: (
                    f"{describe_difference(scale, before, after)} from {scale.format(before)} to {scale.format(after)}"
                ),
            )

    def _report(self, check: _NeighbourCheck, before: Any, after: Any, where: Where, labels: Any) -> None:
        """Add neighbouring values that break a rule; ``labels`` gives the groups of some of them."""
        self._record(
            check.code,
            where,
            lambda index: f"found {check.describe(before[index], after[index])}{self._within(labels(index))}",
            f"expected {check.expected}",
        )

    def named(self, label: str) -> str:
        return f"{', '.join(self._sequence.by)} '{plain(label or '', 60)}'"

    def _within(self, label: pa.Array) -> str:
        return f" in {self.named(label[0].as_py())}" if self._sequence.by else ""

    def _count(self, code: str, where: Where) -> None:
        for file, number in enumerate(np.bincount(where.file, minlength=0).tolist()):
            if number:
                self.tallies[code].add(self.uris[file], FileTally(number))

    def _record(self, code: str, where: Where, describe: Any, expected: str = "") -> None:
        """Add violations; ``describe`` says what is wrong with one, given its index."""
        for file in np.unique(where.file).tolist():
            chosen = np.flatnonzero(where.file == file)
            chosen = chosen[np.argsort(where.row[chosen], kind="stable")]
            first = chosen[:MAX_EXAMPLES].tolist()
            examples = [
                Example(int(where.row[index]), row_group_of(where.row_group[index]), (), describe(index))
                for index in first
            ]
            rows = [where.row[chosen]] if self._part.keep_rows else []
            self.tallies[code].add(self.uris[file], FileTally(0, len(chosen), examples, expected, rows))

    def merge(self, other: SequenceState) -> None:
        self.problem = self.problem or other.problem
        self.together.merge(other.together)
        files = self._adopt_files(other.uris)
        if other.scale is not None:
            self._adopt(other.scale)
        if self.scale is not None and other.scale is not None and other.scale != self.scale:
            other.groups, other.scale = other._converted(other.groups, other.scale, self.scale), self.scale
        for table in other.groups.parts():
            moved = {name: table.column(name) for name in table.schema.names}
            for name in ("start", "end"):
                moved[name] = pa.array(table.column(name).to_numpy() + self.num_rows)
            for name in ("file", "value_file"):
                moved[name] = pa.array(files[table.column(name).to_numpy()])
            self.groups.add(pa.table(moved, schema=GROUPS))
        # Only now: putting the groups of the other part together may have found more in it.
        for code in _ROW_CODES:
            self.tallies[code].merge(other.tallies[code])
        self.num_rows += other.num_rows
        other.close()

    def _adopt_files(self, uris: Listed[str]) -> Any:
        """The positions of files in the list of this part, to which they are added."""
        known = {uri: index for index, uri in enumerate(self.uris)}
        for uri in uris:
            if uri not in known:
                known[uri] = len(self.uris)
                self.uris.append(uri)
        return np.array([known[uri] for uri in uris], np.int32)

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:  # noqa: ARG002
        label, problem = self._sequence.label, self.problem or self.together.problem
        if problem:
            detail = f"sequence {label}: {problem}"
            yield DatasetOutcome(Finding("DC005", self.uris[0], self._sequence.on, 1, 1, rule=label, detail=detail))
            return
        sizes = [self._size_problems(table) for table in self.groups.parts()]
        field = self._sequence.on or ", ".join(self._sequence.by)
        for code in _ROW_CODES:
            yield from self.tallies[code].outcomes(code, field, label)
        yield from self._wrong_sizes(sizes)

    def _size_problems(self, table: pa.Table) -> tuple[int, list[tuple[int, str, int, int, Any]]]:
        """The number of groups, and those with a wrong number of rows by their first row: ordinal, label, file, row, size."""
        wanted = self._sequence.num_rows
        if wanted is None:
            return table.num_rows, []
        counts = table.column("count").to_numpy()
        sizes, inverse = np.unique(counts, return_inverse=True)
        wrong = np.array([not wanted.admits(int(size)) for size in sizes], np.bool_)[inverse]
        chosen = table.take(pa.array(np.flatnonzero(wrong)))
        names = ("start", "label", "file", "row", "count", "row_group")
        return table.num_rows, list(zip(*(chosen.column(name).to_pylist() for name in names), strict=True))

    def _wrong_sizes(self, found: Listed[tuple[int, list[Any]]]) -> Iterable[DatasetOutcome]:
        wrong = sorted(one for _, some in found for one in some)
        wanted = self._sequence.num_rows
        if not wrong or wanted is None:
            return
        _, label, file, _, size, _ = wrong[0]
        uri = self.uris[file]
        examples = tuple(
            Example(row, row_group_of(group), (), f"{count} rows")
            for _, _, where, row, count, group in wrong
            if where == file
        )[:MAX_EXAMPLES]
        detail = f"expected {_describe_count(wanted)}, found {size} in {self.named(label)}"
        total = sum(number for number, _ in found)
        field, rule = ", ".join(self._sequence.by), self._sequence.label
        yield DatasetOutcome(Finding(GROUP_SIZE, uri, field, len(wrong), total, examples, rule, detail))

    def close(self) -> None:
        self.groups.close()

    def saved(self) -> dict[str, Any]:
        # First, because putting the groups together may find more.
        groups = self.groups.table()
        return {**super().saved(), "groups": groups}

    def load(self, saved: Mapping[str, Any]) -> None:
        super().load({name: value for name, value in saved.items() if name != "groups"})
        if saved["groups"] is not None:
            self.groups.add(saved["groups"])


@dataclass(frozen=True, slots=True)
class _NeighbourCheck:
    """A check of neighbouring values: whether each pair is good, and what is found in a pair that is not."""

    code: str
    expected: str
    holds: Callable[[Any, Any], BoolArray]
    describe: Callable[[Any, Any], str]


def _take(labels: Callable[[IntArray], pa.Array], rows: IntArray, index: int) -> pa.Array:
    return labels(rows[index : index + 1])


@dataclass(frozen=True, slots=True)
class _Interruption:
    """Says of a row that continues a group what the group is."""

    state: SequenceState
    labels: Any
    rows: IntArray

    def __call__(self, index: int) -> str:
        label = self.labels(self.rows[index : index + 1])[0].as_py()
        return f"other rows lie between those of {self.state.named(label)}"


def _describe_count(wanted: Any) -> str:
    return f"{wanted.ge} rows" if wanted.ge is not None and wanted.ge == wanted.le else f"{wanted.describe()} rows"
