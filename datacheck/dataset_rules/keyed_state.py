"""What rules about keys know of a part of a dataset: each key, with what belongs to it, where it first is, and how often.

Memory is bounded by the number of different keys, beyond which they are on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from datacheck.arrow_layouts import decode, is_encoded
from datacheck.batch import Batch, Column
from datacheck.dataset_rules.base import Context, DatasetOutcome, FileTallies, FileTally, Part, RuleState
from datacheck.dataset_rules.groups import (
    KeyColumns,
    KeyedTables,
    group_equal,
    hashes_of,
    key_columns_of,
    run_starts,
)
from datacheck.dataset_rules.together import Together
from datacheck.findings import MAX_EXAMPLES, Example, Finding
from datacheck.leaves import BoolArray, IntArray, arrow_validity

_NO_GROUP = -1
#: A row for each key, what belongs to it (``s0``, ``s1``; 0 for nothing) and file: where it first is, its ordinal in the
#: part, how many rows there are, and both as text.
_SCHEMA = pa.schema(
    [
        ("h0", pa.uint64()),
        ("h1", pa.uint64()),
        ("s0", pa.uint64()),
        ("s1", pa.uint64()),
        ("file", pa.int32()),
        ("row", pa.int64()),
        ("row_group", pa.int32()),
        ("ordinal", pa.int64()),
        ("count", pa.int64()),
        ("label", pa.string()),
        ("other", pa.string()),
    ]
)


class KeyRule(Protocol):
    """A rule about keys: the fields of the key, those that belong to it, and the judgement."""

    @property
    def fields(self) -> tuple[str, ...]: ...

    @property
    def determined(self) -> tuple[str, ...]: ...

    def judge(self, state: KeyedState, context: Context) -> Iterable[DatasetOutcome]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a file, as messages name it."""

    uri: str
    row: int

    def __str__(self) -> str:
        return f"row {self.row} of {self.uri}"


class KeyedState(RuleState):
    """The keys of a part of a dataset. Rows in which a field of the key, or of what belongs to it, is null have none."""

    _rule: KeyRule

    def __init__(self, rule: KeyRule, part: Part) -> None:
        super().__init__(rule, part)
        self.uris, self.splits = [part.uri], [part.split]
        self.num_rows = 0
        self.together = Together((*rule.fields, *rule.determined))
        #: The rows of each file, whether they have a key or not.
        self.rows_by_file: dict[str, int] = {}
        self.keys = KeyedTables(self._reduce)

    @property
    def keeps_rows(self) -> bool:
        """Whether all rows at fault are wanted, and not only examples."""
        return self._part.keep_rows

    def update(self, batch: Batch) -> None:
        if not batch.num_rows or not batch.counts_rows:
            return
        if self.together.look(batch):
            key = key_columns_of(batch, self._rule.fields)
            other = key_columns_of(batch, self._rule.determined)
            if key is not None and other is not None:
                self._add(batch, key, other)
        uri = self._part.uri
        self.rows_by_file[uri] = self.rows_by_file.get(uri, 0) + batch.num_rows
        self.num_rows += batch.num_rows

    def _add(self, batch: Batch, key: KeyColumns, other: KeyColumns) -> None:
        present = _rows_with_values([*key.columns, *other.columns], batch.num_rows)
        for known in (key.known, other.known):
            present = present if known is None else present & known
        rows = np.flatnonzero(present)
        if not len(rows):
            return
        hashes = (key.hashes, other.hashes)
        counts = np.ones(len(rows), np.int64)
        if not self._part.keep_rows:
            # Rows of one key often lie together.
            starts = run_starts(*(hashes if len(rows) == batch.num_rows else (one[rows] for one in hashes)))
            rows, counts = rows[starts], np.diff(np.append(starts, len(rows)))
        words = np.concatenate([one[rows] for one in hashes], axis=1)
        if not self._part.keep_rows:
            grouping = group_equal(words)
            rows, counts, words = rows[grouping.firsts], grouping.sum(counts), words[grouping.firsts]
        group = _NO_GROUP if batch.row_group is None else batch.row_group
        columns = {
            **{name: words[:, index] for index, name in enumerate(("h0", "h1", "s0", "s1"))},
            "file": np.zeros(len(rows), np.int32),
            "row": batch.file_rows(rows),
            "row_group": np.full(len(rows), group, np.int32),
            "ordinal": rows + self.num_rows,
            "count": counts,
            "label": key.labels(rows),
            "other": other.labels(rows),
        }
        self.keys.add(pa.table(columns, schema=_SCHEMA))

    def _reduce(self, table: pa.Table) -> pa.Table:
        if self._part.keep_rows:
            return table
        files = table.column("file").to_numpy().astype(np.uint64)
        grouping = group_equal(np.column_stack([hashes_of(table, "h0", "h1", "s0", "s1"), files]))
        if len(grouping.starts) == table.num_rows:
            return table
        reduced = table.take(pa.array(grouping.firsts))
        counts = pa.array(grouping.sum(table.column("count").to_numpy()))
        return reduced.set_column(_SCHEMA.get_field_index("count"), "count", counts).combine_chunks()

    def merge(self, other: KeyedState) -> None:
        self.together.merge(other.together)
        known = {uri: index for index, uri in enumerate(self.uris)}
        for uri, split in zip(other.uris, other.splits, strict=True):
            if uri not in known:
                known[uri] = len(self.uris)
                self.uris.append(uri)
                self.splits.append(split)
        files = np.array([known[uri] for uri in other.uris], np.int32)
        for table in other.keys.parts():
            columns = {name: table.column(name) for name in table.schema.names}
            columns["file"] = pa.array(files[table.column("file").to_numpy()])
            columns["ordinal"] = pa.array(table.column("ordinal").to_numpy() + self.num_rows)
            self.keys.add(pa.table(columns, schema=_SCHEMA))
        for uri, number in other.rows_by_file.items():
            self.rows_by_file[uri] = self.rows_by_file.get(uri, 0) + number
        self.num_rows += other.num_rows
        other.close()

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        if problem := self.together.problem:
            name = ", ".join((*self._rule.fields, *self._rule.determined))
            return [DatasetOutcome(Finding("DC005", self.uris[0], name, 1, 1, detail=problem))]
        return self._rule.judge(self, context)

    def empty_tally(self) -> FileTallies:
        """A tally in which the rows of each file have been counted."""
        return FileTallies({uri: FileTally(number) for uri, number in self.rows_by_file.items()})

    def close(self) -> None:
        self.keys.close()

    def saved(self) -> dict[str, Any]:
        return {**super().saved(), "keys": self.keys.table()}

    def load(self, saved: Mapping[str, Any]) -> None:
        super().load({name: value for name, value in saved.items() if name != "keys"})
        if saved["keys"] is not None:
            self.keys.add(saved["keys"])


def record_rows(tally: FileTallies, state: KeyedState, table: pa.Table, wrong: IntArray, describe: Any) -> None:
    """Add the rows of a table of keys that are at fault; ``describe`` says what is wrong with one, given its index."""
    if not len(wrong):
        return
    files, rows, counts, groups = (table.column(name).to_numpy() for name in ("file", "row", "count", "row_group"))
    for file in np.unique(files[wrong]).tolist():
        chosen = wrong[files[wrong] == file]
        chosen = chosen[np.argsort(rows[chosen], kind="stable")]
        examples = [
            Example(int(rows[index]), None if groups[index] == _NO_GROUP else int(groups[index]), (), describe(index))
            for index in chosen[:MAX_EXAMPLES].tolist()
        ]
        kept = [rows[chosen]] if state.keeps_rows else []
        number = int(counts[chosen].sum())
        tally.add(state.uris[file], FileTally(0, number, examples, "", kept))


def _rows_with_values(columns: Sequence[Column], num_rows: int) -> BoolArray:
    """True for the rows in which no column is null."""
    present = np.ones(num_rows, np.bool_)
    for column in columns:
        data: Any = column.data
        if isinstance(data, np.ma.MaskedArray):
            present &= ~np.ma.getmaskarray(data).reshape(num_rows, -1).any(axis=1)
        elif not isinstance(data, np.ndarray):
            validity = arrow_validity(decode(data) if is_encoded(data.type) else data)
            present = present if validity is None else present & validity
        elif data.dtype.kind in "mM":
            present &= ~np.isnat(data)
    return present
