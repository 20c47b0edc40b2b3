"""Profiles of single units: a pure function from a unit to a result that merges with the results of other units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from datacheck.arrow_leaves import decoded
from datacheck.batch import Batch, Column
from datacheck.checks.reading import reading_findings
from datacheck.checks.sentinels import without_missing
from datacheck.checks.structure import FieldFacts
from datacheck.errors import SourceError
from datacheck.findings import MAX_EXAMPLES, Finding, merge_findings
from datacheck.hashing.cast import cast
from datacheck.hashing.exact import exact_slots
from datacheck.hashing.key_files import KeyFile
from datacheck.hashing.numbers import Hashes
from datacheck.hashing.rows import add_leaf, hash_slots
from datacheck.leaves import FLOAT_FORMATS, Leaf
from datacheck.profile.coalesce_batches import CoalescedBatch, coalesce_batches
from datacheck.profile.leaf import LeafProfile, block_extremes, is_text
from datacheck.profile.new_values import NewValues, find_examples
from datacheck.profile.notes.leaf_notes import LeafNotes
from datacheck.profile.notes.row_lengths import RowLengths
from datacheck.profile.options import ProfileOptions
from datacheck.profile.row_hashes import RowHashes, RowHashTable
from datacheck.profile.vocabulary import encode_codes, encode_text
from datacheck.schema.dtypes import canonical_dtype, dtype_kind
from datacheck.schema.model import Schema
from datacheck.sources import get_source
from datacheck.sources.base import WorkUnit
from datacheck.sources.error_translation import translate_bugs, with_bounded_rows

#: A leaf's path and logical dtype.
LeafKey = tuple[str | None, str]

_NUMBERS = ("integer", "float", "complex", "bool")
_NO_RULES = Schema()
#: Rows to search for a repeated value before the hashes of all rows are kept.
_PROBE = 1 << 16
#: Hashes of columns whose values may all differ that a unit keeps.
_MAX_UNIQUE_BYTES = 256 << 20


def add_part(total: Any, part: UnitProfile) -> None:
    """Add the rows, facts, names and new values of the next part to the profile of a unit or of a file."""
    total.num_rows += part.num_rows
    total.num_malformed += part.num_malformed
    for path, facts in part.fields.items():
        known = total.fields.get(path)
        total.fields[path] = known.followed_by(facts) if known else facts
    for name, times in part.names.items():
        total.names[name] = max(total.names.get(name, 0), times)
    merge_by_key(total.new_values, part.new_values)


@dataclass(slots=True)
class UnitProfile:
    """The profile of one unit.

    ``unique`` holds the hashes of each column that may be a key; None for a column with repeated values. ``is_quick``
    says that the row hashes leave out some values. ``findings`` come from reading, such as words among numbers.
    Hashes that do not travel with the profile are in files: of rows (with the empty key) and keys in ``row_files``, of columns
    in ``unique_files``.
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
    row_files: tuple[KeyFile, ...] = ()
    unique_files: tuple[KeyFile, ...] = ()
    new_values: dict[str | None, NewValues] = field(default_factory=dict)
    notes: dict[LeafKey, LeafNotes] = field(default_factory=dict)
    row_lengths: RowLengths = field(default_factory=RowLengths)
    error: SourceError | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def hashed(self) -> dict[tuple[str, ...], RowHashes]:
        """The hashes of rows, with the empty key, and of keys."""
        return self.keys if self.rows is None else {(): self.rows, **self.keys}

    @property
    def without_hashes(self) -> UnitProfile:
        """The profile without the hashes that are in memory or in files."""
        return replace(self, unique={}, rows=None, keys={}, row_files=(), unique_files=())

    def merge(self, other: UnitProfile) -> None:
        """Merge the profile of the next part of the file, which must not be used afterwards. Hashes are left out."""
        add_part(self, other)
        merge_by_key(self.leaves, other.leaves)
        merge_by_key(self.notes, other.notes)
        self.row_lengths.merge(other.row_lengths)
        self.is_quick = self.is_quick or other.is_quick
        self.error = self.error or other.error
        self.findings = merge_findings([*self.findings, *other.findings]) if other.findings else self.findings


class _Mergeable(Protocol):
    def merge(self, other: Any) -> None: ...


K = TypeVar("K")
M = TypeVar("M", bound=_Mergeable)


def merge_by_key(into: dict[K, M], other: Mapping[K, M]) -> None:
    """Merge each of some values with that of the same key."""
    for key, one in other.items():
        if key in into:
            into[key].merge(one)
        else:
            into[key] = one


def merge_units(units: Iterable[UnitProfile], take_hashes: Callable[[UnitProfile], None]) -> UnitProfile:
    """The profile of units of one file that follow each other. ``take_hashes`` is called with each, to use its hashes."""
    merged: UnitProfile | None = None
    for unit in units:
        take_hashes(unit)
        rest = unit.without_hashes
        if merged is None:
            merged = rest
        else:
            merged.merge(rest)
    assert merged is not None, "a group has at least one unit"
    return merged


def profile_unit(task: tuple[WorkUnit, str | None], options: ProfileOptions) -> UnitProfile:
    """Read a unit and profile it; the task may name a nameless array.

    A unit that cannot be read is returned as ``error``, never raised.
    """
    unit, nameless = task
    try:
        with translate_bugs(unit.uri):
            batches = get_source(unit.format).read(unit)
            if options.hash_rows or options.keys:
                batches = with_bounded_rows(batches, unit)
            return profile_batches(batches, options, nameless, unit.num_rows or 0, unit.uri)
    except SourceError as error:
        return UnitProfile(error=error)


def profile_batches(
    batches: Iterable[Batch],
    options: ProfileOptions,
    nameless: str | None = None,
    num_rows: int = 0,
    uri: str = "",
) -> UnitProfile:
    """Profile the batches of one input, in row order; ``num_rows`` is their expected number of rows, 0 if unknown.

    ``uri`` is where findings on reading are.
    """
    profiler = _UnitProfiler(uri, options, num_rows)
    named = batches if nameless is None else (_name_columns(batch, nameless) for batch in batches)
    for coalesced in coalesce_batches(named):
        profiler.add(coalesced)
    return profiler.finish()


def _name_columns(batch: Batch, name: str) -> Batch:
    return batch.with_columns(
        tuple(replace(column, name=name) if column.name is None else column for column in batch.columns)
    )


def is_one_number(names: frozenset[str | None], fields: Mapping[str | None, FieldFacts]) -> bool:
    """Whether a row of these columns is one number, which often repeats by chance."""
    if len(names) != 1:
        return False
    facts = fields.get(next(iter(names)))
    if facts is None or facts.shape is None or any(size != 1 for size in facts.shape[1:]):
        return False
    return canonical_dtype(facts.dtype) == facts.dtype and dtype_kind(facts.dtype) in _NUMBERS


class _UnitProfiler:
    """Profiles the batches of one unit."""

    def __init__(self, uri: str, options: ProfileOptions, num_rows: int) -> None:
        self._uri = uri
        self._options = options
        self._num_rows = num_rows
        self._result = UnitProfile()
        self._rows = RowHashTable(num_rows, options.num_words)
        self._keys = {key: RowHashTable(num_rows, options.num_words) for key in options.keys}
        self._seed = 0
        self._unique_bytes = 0

    def add(self, coalesced: CoalescedBatch) -> None:
        batch, result, options = coalesced.batch, self._result, self._options
        for name, times in Counter(batch.names).items():
            result.names[name] = max(result.names.get(name, 0), times)
        if batch.counts_rows:
            result.num_rows += batch.num_rows + len(batch.malformed)
        result.num_malformed += len(batch.malformed)
        result.findings += reading_findings(batch, self._uri, options.missing_in or _NO_RULES)
        if options.with_notes:
            result.row_lengths.add(batch)
        rows = self._rows.rows_of(coalesced) if options.hash_rows else None
        key_hashes: dict[str | None, list[list[Hashes]]] = {}
        for key, table in self._keys.items():
            hashes = table.rows_of(coalesced)
            for name in dict.fromkeys(key):
                key_hashes.setdefault(name, []).append(hashes)
        for column in batch.columns:
            row_hashes = rows if options.is_in_rows(column.name) else None
            for leaf in column.leaves(distinct=True):
                self._add_facts(leaf, column)
                if len(leaf) or leaf.values is None:
                    self._add_leaf(leaf, column, coalesced, row_hashes, key_hashes.get(column.name, ()))
                if column.words is not None and column.unconvertible is not None:
                    cells = column.words.take(pa.array(np.flatnonzero(column.unconvertible)[:1000]))
                    result.leaves[leaf.path, leaf.dtype].add_words(cells.unique().to_pylist())

    def finish(self) -> UnitProfile:
        self._result.row_lengths.finish()
        names = frozenset(name for name in self._result.names if self._options.is_in_rows(name))
        if self._options.hash_rows and names and not is_one_number(names, self._result.fields):
            self._result.rows = self._rows.finish()
        for key, table in self._keys.items():
            if all(name in self._result.names for name in key):
                self._result.keys[key] = table.finish()
        return self._result

    def _add_facts(self, leaf: Leaf, column: Column) -> None:
        """Collect the same facts of a field as the checker of a scan does."""
        fields = self._result.fields
        known = fields.get(leaf.path)
        if known is None or isinstance(column.data, np.ndarray) or leaf.dtype != known.dtype:
            facts = FieldFacts.of(leaf, column)
            fields[leaf.path] = known.followed_by(facts) if known else facts

    def _add_leaf(
        self,
        leaf: Leaf,
        column: Column,
        coalesced: CoalescedBatch,
        rows: Sequence[Hashes] | None,
        keys: Sequence[Sequence[Hashes]],
    ) -> None:
        """Add a leaf of a column to its profile and to the hashes of its rows and keys."""
        is_column = leaf.path == column.name
        stored = self._options.stored_as.get(leaf.path or "")
        if stored is not None and leaf.dtype == FLOAT_FORMATS[stored].name:
            leaf = replace(leaf, dtype=stored)
        if self._options.missing_in is not None:
            leaf = without_missing(leaf, self._options.missing_in)
        options = self._options
        profile = self._profile_of(leaf, coalesced.batch.num_rows)
        vocabulary = profile.vocabulary
        counts = None if vocabulary is None else vocabulary.counts
        encoded = None
        if _is_by_code(leaf) and leaf.path not in options.casts and leaf.path not in options.known:
            encoded = encode_codes(leaf)
            leaf = replace(leaf, values=encoded, codes=None)
        else:
            leaf = decoded(leaf)
        if encoded is None and vocabulary is not None and counts is not None and is_text(leaf):
            encoded = encode_text(leaf.values, vocabulary.limit)
        before = dict(counts) if counts and leaf.path in options.known else {}
        num_nan = profile.num_nan
        ends = block_extremes(leaf) if self._options.with_notes else None
        profile.add(leaf, encoded, coalesced.batch.row_start, self._seed, ends=ends)
        if self._options.with_notes:
            notes = self._result.notes.setdefault((leaf.path, leaf.dtype), LeafNotes())
            notes.add(leaf, encoded, coalesced, ends=ends, is_untyped=is_column and column.untyped)
        if profile.sample is not None and not self._seed:
            self._seed = profile.sample.seed
        # NaN in the slots of nulls is not counted, and does not affect a hash either.
        has_nan = profile.num_nan > num_nan
        if leaf.path in self._options.known and vocabulary is not None and vocabulary.counts is not None:
            self._add_new_values(leaf, coalesced, vocabulary.counts, before)
        if rows is not None or keys:
            self._add_hashes(leaf, encoded, rows, keys, has_nan=has_nan)
        if self._options.find_unique and is_column:
            self._add_unique(leaf, encoded)

    def _profile_of(self, leaf: Leaf, num_rows: int) -> LeafProfile:
        """The profile of the leaf's path and dtype, created if this batch of ``num_rows`` rows is the first to have it."""
        options, key = self._options, (leaf.path, leaf.dtype)
        profile = self._result.leaves.get(key)
        if profile is None:
            profile = self._result.leaves[key] = LeafProfile.of(
                leaf,
                options.max_distinct,
                with_sample=options.with_samples,
                with_extremes=options.with_extremes,
                with_codes=options.code_fields is None
                or leaf.path in options.code_fields
                or (options.count_codes and len(leaf) == num_rows),
                expected=self._num_rows * len(leaf) // max(1, num_rows),
            )
        return profile

    def _add_hashes(
        self,
        leaf: Leaf,
        encoded: pa.DictionaryArray | None,
        rows: Sequence[Hashes] | None,
        keys: Sequence[Sequence[Hashes]],
        *,
        has_nan: bool,
    ) -> None:
        """Add the leaf to the hashes of its rows and of keys."""
        options = self._options
        # In floating-point formats stored as integers, equal values may have different bits.
        dtype = options.casts.get(leaf.path) or ("float32" if leaf.dtype in FLOAT_FORMATS else None)
        if dtype is not None and dtype != "exact":
            leaf, has_nan = cast(leaf, dtype), True
        for salt in range(options.num_words):
            hashed, slots = leaf, None if encoded is None else hash_slots(leaf, encoded, salt)
            if dtype == "exact":
                hashed, slots = exact_slots(leaf, salt)
            add = partial(add_leaf, hashed, slots=slots, slotwise=options.slotwise, has_nan=has_nan, salt=salt)
            if rows is not None and not add(into=rows[salt], quick=options.quick_rows):
                self._result.is_quick = True
            for key in keys:
                add(into=key[salt])

    def _add_new_values(
        self, leaf: Leaf, coalesced: CoalescedBatch, counts: Mapping[Any, int], before: Mapping[Any, int]
    ) -> None:
        """Record which values of this leaf the known vocabulary lacks; ``before`` are the counts without this leaf."""
        known = self._options.known[leaf.path]
        added = {value: count - before.get(value, 0) for value, count in counts.items() if value not in known}
        added = {value: count for value, count in added.items() if count}
        if added:
            found = self._result.new_values.setdefault(leaf.path, NewValues())
            examples = list(find_examples(leaf, coalesced, added)) if len(found.examples) < MAX_EXAMPLES else []
            found.merge(NewValues(added, examples))

    def _add_unique(self, leaf: Leaf, encoded: pa.DictionaryArray | None) -> None:
        """Keep the hashes of a column that may be a key, as long as no repeated value is found."""
        name, unique = leaf.path, self._result.unique
        if name is None or unique.get(name, ()) is None:
            return
        terms = _hash_if_unique(leaf, encoded)
        self._unique_bytes += 0 if terms is None else terms.nbytes
        if terms is None or self._unique_bytes > _MAX_UNIQUE_BYTES:
            # Hashes of further columns would take more memory than their values: whether these repeat is not said.
            unique[name] = None
        elif (kept := unique.setdefault(name, [])) is not None:
            kept.append(terms)


def _is_by_code(leaf: Leaf) -> bool:
    """Whether some texts or bytes are known to repeat, and none of them need be copied."""
    return leaf.codes is not None and leaf.dtype in ("string", "binary") and len(leaf.values) < len(leaf)


def _hash_if_unique(leaf: Leaf, encoded: pa.DictionaryArray | None) -> Hashes | None:
    """The hashes of a column's values; None if it cannot be a key or a value is already seen to repeat."""
    is_integer = leaf.is_numeric and leaf.dtype.startswith(("int", "uint"))
    if leaf.levels or leaf.num_nulls or not (is_integer or leaf.dtype == "string"):
        return None
    if encoded is not None and len(encoded.dictionary) < len(encoded):
        return None
    if len(leaf) > _PROBE and _has_repeated(hash_slots(replace(leaf, values=leaf.values[:_PROBE], validity=None))):
        return None
    terms = hash_slots(leaf, encoded)
    return None if _has_repeated(terms) else terms


def _has_repeated(hashes: Hashes) -> bool:
    """Whether one of the first hashes repeats."""
    head = np.sort(hashes[:_PROBE])
    return bool((head[1:] == head[:-1]).any())
