"""One unit, profiled: a pure function from a unit and what is asked to what merges with the other units of its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow.compute as pc

from datacheck.batch import Batch
from datacheck.checks.rules import format_value
from datacheck.checks.structure import FieldFacts, facts_of
from datacheck.errors import SourceError
from datacheck.findings import MAX_EXAMPLES, Example
from datacheck.hashing.cast import cast
from datacheck.hashing.numbers import Hashes
from datacheck.hashing.rows import add_leaf, hash_slots
from datacheck.leaves import FLOAT_FORMATS, IntArray, Leaf
from datacheck.profile.coalesce_batches import Groups, Joined, join_small
from datacheck.profile.leaf import LeafProfile, is_text
from datacheck.profile.vocabulary import encode_text
from datacheck.schema.dtypes import canonical_dtype, dtype_kind
from datacheck.sources import get_source
from datacheck.sources.base import WorkUnit

__all__ = [
    "Asked",
    "LeafKey",
    "News",
    "RowHashes",
    "RowNumbers",
    "UnitProfile",
    "is_one_number",
    "profile_batches",
    "profile_unit",
]

#: A leaf's path and logical dtype.
LeafKey = tuple[str | None, str]

_NUMBERS = ("integer", "float", "complex", "bool")
#: Rows that are looked at for a repeated value before all are kept.
_PROBE = 1 << 16
#: Rows of a unit that there is room for from the start: what a header says may be wrong.
_MOST_EXPECTED = 1 << 22


@dataclass(frozen=True, slots=True)
class Asked:
    """What a profile is to tell beyond counts and extremes.

    ``num_words`` is how many distinct values a vocabulary may have, ``codes`` the paths of integers that have one, all
    unless given. ``with_extremes`` looks for the least and greatest values, ``with_samples`` keeps samples of numbers,
    ``find_unique`` looks for columns whose values are all different, ``hash_rows`` hashes whole rows, ``keys`` the
    columns of each key. With ``quick_rows`` few values stand for rows of many: equal rows have equal hashes even so.
    ``known`` are the vocabularies beyond which a value is news, ``stored_as`` the formats that
    unsigned integers store, by path, ``recast`` the dtypes as which values are hashed. ``columns`` are those that count
    for whole rows; None for all. ``slotwise`` and ``salt`` are those of :func:`~datacheck.hashing.rows.add_leaf`.
    """

    num_words: int
    codes: frozenset[str | None] | None = None
    with_extremes: bool = True
    with_samples: bool = False
    find_unique: bool = False
    hash_rows: bool = False
    quick_rows: bool = False
    slotwise: bool = False
    salt: int = 0
    keys: tuple[tuple[str, ...], ...] = ()
    known: Mapping[str | None, frozenset[Any]] = field(default_factory=dict)
    stored_as: Mapping[str, str] = field(default_factory=dict)
    recast: Mapping[str | None, str] = field(default_factory=dict)
    columns: frozenset[str | None] | None = None
    not_rows: frozenset[str] = frozenset()

    def counts_for_rows(self, name: str | None) -> bool:
        """Whether a column is one of those that tell rows apart."""
        return (self.columns is None or name in self.columns) and name not in self.not_rows


@dataclass(slots=True)
class News:
    """Values of a field that its vocabulary does not have: how often each stands, and where the first ones are."""

    counts: dict[Any, int] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)

    def merge(self, other: News) -> None:
        for value, count in other.counts.items():
            self.counts[value] = self.counts.get(value, 0) + count
        self.examples = (self.examples + other.examples)[:MAX_EXAMPLES]


@dataclass(frozen=True, slots=True)
class RowNumbers:
    """Which rows of a file some rows are, as runs: where each begins among them, and the row of the file it begins with."""

    starts: IntArray
    firsts: IntArray
    num_rows: int

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, place: int) -> int:
        run = int(np.searchsorted(self.starts, place, side="right")) - 1
        return int(self.firsts[run] + place - self.starts[run])


@dataclass(frozen=True, slots=True)
class RowHashes:
    """The hashes of rows or keys, ``(rows,)``, the rows of the file, and where each row group begins among them."""

    hashes: Hashes
    rows: RowNumbers
    groups: Groups


@dataclass(slots=True)
class UnitProfile:
    """What came of one unit.

    ``unique`` holds the hashes of each column that may be a key, None for one whose values are repeated. ``is_quick``
    says that some values of rows are not in their hashes.
    """

    num_rows: int = 0
    num_malformed: int = 0
    leaves: dict[LeafKey, LeafProfile] = field(default_factory=dict)
    fields: dict[str | None, FieldFacts] = field(default_factory=dict)
    names: dict[str | None, int] = field(default_factory=dict)
    unique: dict[str, list[Hashes] | None] = field(default_factory=dict)
    rows: RowHashes | None = None
    is_quick: bool = False
    keys: dict[tuple[str, ...], RowHashes] = field(default_factory=dict)
    news: dict[str | None, News] = field(default_factory=dict)
    error: SourceError | None = None


def profile_unit(task: tuple[WorkUnit, str | None], asked: Asked) -> UnitProfile:
    """Read a unit and profile it; a nameless array goes by the name in the task, where there is one.

    An input that cannot be read comes back as ``error``, never as an exception.
    """
    unit, nameless = task
    try:
        return profile_batches(get_source(unit.format).read(unit), asked, nameless, unit.num_rows or 0)
    except SourceError as error:
        return UnitProfile(error=error)


def profile_batches(
    batches: Iterable[Batch], asked: Asked, nameless: str | None = None, num_rows: int = 0
) -> UnitProfile:
    """Profile batches that belong to one input, in row order; ``num_rows`` is how many there will be, as far as known."""
    profiler = _Profiler(asked, num_rows)
    for joined in join_small(batches if nameless is None else (_named(batch, nameless) for batch in batches)):
        profiler.add(joined)
    return profiler.finish()


def _named(batch: Batch, name: str) -> Batch:
    return batch.with_columns(
        tuple(replace(column, name=name) if column.name is None else column for column in batch.columns)
    )


def is_one_number(names: frozenset[str | None], fields: Mapping[str | None, FieldFacts]) -> bool:
    """Whether a row of these columns is one number, which says nothing where it stands twice."""
    if len(names) != 1:
        return False
    facts = fields.get(next(iter(names)))
    if facts is None or facts.shape is None or any(size != 1 for size in facts.shape[1:]):
        return False
    return canonical_dtype(facts.dtype) == facts.dtype and dtype_kind(facts.dtype) in _NUMBERS


class _Profiler:
    """Collects the batches of one unit."""

    def __init__(self, asked: Asked, num_rows: int) -> None:
        self._asked = asked
        self._num_rows = num_rows
        self._found = UnitProfile()
        self._rows = _RowTable(num_rows)
        self._keys = {key: _RowTable(num_rows) for key in asked.keys}
        self._seed = 0

    def add(self, joined: Joined) -> None:
        batch, found, asked = joined.batch, self._found, self._asked
        for name in batch.names:
            found.names[name] = max(found.names.get(name, 0), batch.names.count(name))
        if batch.counts_rows:
            found.num_rows += batch.num_rows + len(batch.malformed)
        found.num_malformed += len(batch.malformed)
        rows = self._rows.room_for(joined) if asked.hash_rows else None
        keys = {key: table.room_for(joined) for key, table in self._keys.items()}
        for column in batch.columns:
            wanted = [view for key, view in keys.items() if column.name in key]
            row_view = rows if asked.counts_for_rows(column.name) else None
            for leaf in column.leaves():
                self._note(leaf, leaf.path == column.name, is_array=isinstance(column.data, np.ndarray))
                if len(leaf) or leaf.values is None:
                    self._look(leaf, joined, row_view, wanted, is_column=leaf.path == column.name)

    def finish(self) -> UnitProfile:
        names = frozenset(name for name in self._found.names if self._asked.counts_for_rows(name))
        if self._asked.hash_rows and names and not is_one_number(names, self._found.fields):
            self._found.rows = self._rows.finish()
        for key, table in self._keys.items():
            if all(name in self._found.names for name in key):
                self._found.keys[key] = table.finish()
        return self._found

    def _note(self, leaf: Leaf, top_level: bool, *, is_array: bool) -> None:
        """As the checker of a scan does: what it would say of the file has to be known."""
        fields = self._found.fields
        known = fields.get(leaf.path)
        if known is None or is_array or leaf.dtype != known.dtype:
            facts = facts_of(leaf, top_level, is_array)
            fields[leaf.path] = known.followed_by(facts) if known else facts

    def _look(
        self, leaf: Leaf, joined: Joined, rows: Hashes | None, keys: Sequence[Hashes], *, is_column: bool
    ) -> None:
        asked = self._asked
        stored = asked.stored_as.get(leaf.path or "")
        if stored is not None and leaf.dtype == FLOAT_FORMATS[stored].name:
            leaf = replace(leaf, dtype=stored)
        key = (leaf.path, leaf.dtype)
        profile = self._found.leaves.get(key)
        if profile is None:
            profile = LeafProfile.of(
                leaf,
                asked.num_words,
                with_sample=asked.with_samples,
                with_extremes=asked.with_extremes,
                with_codes=asked.codes is None or leaf.path in asked.codes,
                expected=self._num_rows * len(leaf) // max(1, joined.batch.num_rows),
            )
            self._found.leaves[key] = profile
        encoded = None
        words = profile.vocabulary
        if words is not None and words.counts is not None and is_text(leaf):
            encoded = encode_text(leaf.values, words.limit)
        before = dict(words.counts) if words is not None and words.counts and leaf.path in asked.known else {}
        num_nan = profile.num_nan
        profile.add(leaf, encoded, joined.batch.row_start, self._seed)
        if profile.sample is not None and not self._seed:
            self._seed = profile.sample.seed
        # NaN in the slots of nulls is not counted, and does not count.
        has_nan = profile.num_nan > num_nan
        if leaf.path in asked.known and words is not None and words.counts is not None:
            self._find_news(leaf, joined, words.counts, before)
        if rows is not None or keys:
            self._hash(leaf, encoded, rows, keys, has_nan=has_nan)
        if asked.find_unique and is_column:
            self._keep_unique(leaf, encoded)

    def _hash(self, leaf: Leaf, encoded: Any, rows: Hashes | None, keys: Sequence[Hashes], *, has_nan: bool) -> None:
        """Add what the leaf says of its rows and of keys."""
        asked = self._asked
        terms = None if encoded is None else hash_slots(leaf, encoded, asked.salt)
        # Of formats that integers store, the bits do not say which values are equal.
        dtype = asked.recast.get(leaf.path) or ("float32" if leaf.dtype in FLOAT_FORMATS else None)
        if dtype is not None:
            leaf, has_nan = cast(leaf, dtype), True
        add = partial(add_leaf, leaf, slots=terms, slotwise=asked.slotwise, has_nan=has_nan, salt=asked.salt)
        if rows is not None and not add(into=rows, quick=asked.quick_rows):
            self._found.is_quick = True
        for view in keys:
            add(into=view)

    def _find_news(self, leaf: Leaf, joined: Joined, counts: Mapping[Any, int], before: Mapping[Any, int]) -> None:
        """Say where values stand that the known vocabulary does not have."""
        known = self._asked.known[leaf.path]
        fresh = {value: count - before.get(value, 0) for value, count in counts.items() if value not in known}
        fresh = {value: count for value, count in fresh.items() if count}
        if not fresh:
            return
        news = self._found.news.setdefault(leaf.path, News())
        examples = list(_examples(leaf, joined, fresh)) if len(news.examples) < MAX_EXAMPLES else []
        news.merge(News(fresh, examples))

    def _keep_unique(self, leaf: Leaf, encoded: Any) -> None:
        """Keep the hashes of a column that may be a key, as long as no value of it is repeated."""
        name, unique = leaf.path, self._found.unique
        if name is None or unique.get(name, ()) is None:
            return
        is_whole_number = leaf.is_numeric and leaf.dtype.startswith(("int", "uint"))
        if leaf.levels or leaf.num_nulls or not (is_whole_number or leaf.dtype == "string"):
            unique[name] = None
            return
        if encoded is not None and len(encoded.dictionary) < len(encoded):
            unique[name] = None
            return
        if len(leaf) > _PROBE and _is_repeated(hash_slots(_first(leaf, _PROBE))):
            unique[name] = None
            return
        terms = hash_slots(leaf, encoded)
        if _is_repeated(terms):
            unique[name] = None
            return
        kept = unique.setdefault(name, [])
        if kept is not None:
            kept.append(terms)


def _first(leaf: Leaf, count: int) -> Leaf:
    return replace(leaf, values=leaf.values[:count], validity=None)


def _is_repeated(hashes: Hashes) -> bool:
    head = np.sort(hashes[:_PROBE])
    return bool((head[1:] == head[:-1]).any())


def _examples(leaf: Leaf, joined: Joined, values: Mapping[Any, int]) -> Iterator[Example]:
    """The first place of each of some values."""
    positions: dict[int, Any] = {}
    for value in list(values)[:MAX_EXAMPLES]:
        if leaf.is_numeric:
            mask = leaf.values == value
            if leaf.validity is not None:
                mask = mask & leaf.validity
        else:
            mask = pc.fill_null(pc.equal(leaf.values, value), False).to_numpy(zero_copy_only=False)
        positions[int(np.argmax(mask))] = value
    for position in sorted(positions):
        rows, index = leaf.locate(np.array([position]))
        row = int(joined.batch.file_rows(rows)[0])
        yield Example(row, joined.group_of(int(rows[0])), tuple(map(int, index[0])), format_value(positions[position]))


class _RowTable:
    """The hashes of the rows of a unit, to which each column adds."""

    def __init__(self, expected: int) -> None:
        self._expected = min(expected, _MOST_EXPECTED)
        self._first = 0
        self._num_rows = 0
        self._hashes: Hashes = np.zeros(0, np.uint64)
        self._runs: list[tuple[int, int]] = []
        self._groups: list[tuple[int, int | None]] = []

    def room_for(self, joined: Joined) -> Hashes:
        """The hashes so far of the batch's rows, to add to."""
        batch = joined.batch
        if not batch.counts_rows:
            # Further columns of rows that lie together.
            start = batch.row_start - self._first
            return self._hashes[start : start + batch.num_rows]
        start, stop = self._num_rows, self._num_rows + batch.num_rows
        if not self._groups:
            self._first = batch.row_start
        self._groups += [(start + offset, group) for offset, group in joined.groups]
        if stop > len(self._hashes):
            grown = np.zeros(max(stop, self._expected, 2 * len(self._hashes)), np.uint64)
            grown[:start] = self._hashes[:start]
            self._hashes = grown
        self._add_runs(batch, start)
        self._num_rows = stop
        return self._hashes[start:stop]

    def _add_runs(self, batch: Batch, start: int) -> None:
        """Note which rows of the file follow each other."""
        if batch.rows is None or not batch.num_rows:
            breaks = [0] if batch.num_rows else []
        else:
            breaks = [0, *(np.flatnonzero(np.diff(batch.rows) != 1) + 1).tolist()]
        for place in breaks:
            row = batch.row_start + place if batch.rows is None else int(batch.rows[place])
            if not self._runs or row - self._runs[-1][1] != start + place - self._runs[-1][0]:
                self._runs.append((start + place, row))

    def finish(self) -> RowHashes:
        runs = np.array(self._runs, np.int64).reshape(-1, 2)
        # Copied where it is part of a larger one.
        hashes = self._hashes if len(self._hashes) == self._num_rows else self._hashes[: self._num_rows].copy()
        return RowHashes(hashes, RowNumbers(runs[:, 0], runs[:, 1], self._num_rows), tuple(self._groups))
