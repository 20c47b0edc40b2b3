"""DC327 to DC329 and DC314: keys that determine other fields, that occur in another file, in one split only, or in all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.dataset_rules.base import Context, DatasetOutcome, Part
from datacheck.dataset_rules.groups import group_equal, hashes_of
from datacheck.dataset_rules.keyed_state import KeyedState, Place, record_rows
from datacheck.dataset_rules.reference_keys import ReferenceKeys
from datacheck.errors import DatacheckError
from datacheck.findings import Finding
from datacheck.leaves import BoolArray, IntArray
from datacheck.schema.dataset_models import Determines, Reference
from datacheck.text import plain

CONTRADICTION, MISSING_KEY, SHARED_KEY, NEW_KEY, NOT_COMPARED = "DC327", "DC328", "DC329", "DC314", "DC315"


class _OfKeys:
    """What rules about keys have in common."""

    __slots__ = ()

    @property
    def fields(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def determined(self) -> tuple[str, ...]:
        return ()

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.fields, *self.determined)

    def start(self, part: Part) -> KeyedState:
        return KeyedState(self, part)

    def judge(self, state: KeyedState, context: Context) -> Iterable[DatasetOutcome]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class DeterminesRule(_OfKeys):
    """Fields that determine others: rows with the same key have the same other values."""

    rule: Determines

    @property
    def fields(self) -> tuple[str, ...]:
        return self.rule.fields

    @property
    def determined(self) -> tuple[str, ...]:
        return self.rule.determine

    def judge(self, state: KeyedState, context: Context) -> Iterable[DatasetOutcome]:  # noqa: ARG002
        tally = state.empty_tally()
        for table in state.keys.parts():
            origin = _first_rows(table, None)
            others = hashes_of(table, "s0", "s1")
            wrong = np.flatnonzero((others != others[origin]).any(axis=1))
            record_rows(tally, state, table, wrong, _Contradiction(self.rule, state, table, origin))
        yield from tally.outcomes(CONTRADICTION, ", ".join(self.determined), self.rule.label)


@dataclass(frozen=True, slots=True)
class _Contradiction:
    rule: Determines
    state: KeyedState
    table: pa.Table
    origin: IntArray

    def __call__(self, index: int) -> str:
        first = int(self.origin[index])
        place = _place(self.state, self.table, first)
        named = _shown(", ".join(self.rule.fields), self.table, index)
        other = self.table.column("other")
        return f"{named} has {_quoted(other[index])}, and {_quoted(other[first])} in {place}"


@dataclass(frozen=True, slots=True)
class ReferenceRule(_OfKeys):
    """A foreign key; ``folder`` is the one that relative paths start from."""

    rule: Reference
    folder: str
    dtypes: tuple[tuple[str, str], ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        return self.rule.fields

    def judge(self, state: KeyedState, context: Context) -> Iterable[DatasetOutcome]:
        name, target = ", ".join(self.fields), self.rule.file or self.rule.folder or ""
        try:
            with ReferenceKeys.read(self.rule, self.folder, self.dtypes) as known:
                tally = state.empty_tally()
                for table, keys in known.pairs(state.keys):
                    missing = np.flatnonzero(~_occurs(hashes_of(table), keys))

                    def describe(index: int, table: pa.Table = table) -> str:
                        return f"{_shown(name, table, index)} is not in {plain(target)}"

                    record_rows(tally, state, table, missing, describe)
        except (DatacheckError, OSError) as error:
            detail = f"references {self.rule.label}: {plain(str(error))}"
            yield DatasetOutcome(Finding("DC005", context.uris[0], name, 1, 1, rule=self.rule.label, detail=detail))
            return
        yield from tally.outcomes(MISSING_KEY, name, self.rule.label)


@dataclass(frozen=True, slots=True)
class _SplitRule(_OfKeys):
    """A rule about a key and the splits in which it occurs."""

    key: tuple[str, ...]
    code: ClassVar[str]
    kind: ClassVar[str]

    @property
    def fields(self) -> tuple[str, ...]:
        return self.key

    @property
    def name(self) -> str:
        return ", ".join(self.key)

    def judge(self, state: KeyedState, context: Context) -> Iterable[DatasetOutcome]:
        splits = _Splits.of(state, context)
        if splits.problem:
            yield splits.not_compared(self.name, context)
            return
        tally = state.empty_tally()
        for table in state.keys.parts():
            wrong, describe = self._find(state, table, splits.number_of[table.column("file").to_numpy()])
            record_rows(tally, state, table, wrong, describe)
        yield from tally.outcomes(self.code, self.name, f"{self.name} {self.kind}")

    def _find(self, state: KeyedState, table: pa.Table, split: Any) -> tuple[IntArray, Callable[[int], str]]:
        """The rows of a table of keys that are at fault, by the split of each row, and what is wrong with one."""
        raise NotImplementedError


class ApartRule(_SplitRule):
    """A key that may occur in one split only."""

    __slots__ = ()
    code, kind = SHARED_KEY, "apart"

    def _find(self, state: KeyedState, table: pa.Table, split: Any) -> tuple[IntArray, Callable[[int], str]]:
        origin = _first_rows(table, split)

        def describe(index: int) -> str:
            first = int(origin[index])
            other = state.splits[int(table.column("file")[first].as_py())]
            return f"{_shown(self.name, table, index)} is also in {plain(str(other))}, {_place(state, table, first)}"

        return np.flatnonzero((split != split[origin]) & (split >= 0)), describe


class WithinRule(_SplitRule):
    """A key for which other splits may only have values of the training split."""

    __slots__ = ()
    code, kind = NEW_KEY, "within"

    def _find(self, state: KeyedState, table: pa.Table, split: Any) -> tuple[IntArray, Callable[[int], str]]:  # noqa: ARG002
        grouping = group_equal(hashes_of(table))
        in_train = grouping.sum((split == 0).astype(np.int64))[grouping.group_of_rows()] > 0
        return np.flatnonzero(~in_train & (split > 0)), lambda index: _quoted(table.column("label")[index])


@dataclass(frozen=True, slots=True)
class _Splits:
    """The splits of a dataset: for each file the number of its split, 0 for the training split, -1 for none."""

    number_of: Any
    problem: str = ""

    @classmethod
    def of(cls, state: KeyedState, context: Context) -> _Splits:
        names = list(dict.fromkeys(split for split in state.splits if split is not None))
        train = context.train or next((name for name in names if name.startswith("train")), None)
        if train not in names:
            return cls(None, "no file belongs to the training split")
        if len(names) < 2:
            return cls(None, "there is no split other than the training split")
        order = {name: index for index, name in enumerate([train, *(name for name in names if name != train)])}
        return cls(np.array([-1 if split is None else order[split] for split in state.splits], np.int64))

    def not_compared(self, name: str, context: Context) -> DatasetOutcome:
        return DatasetOutcome(Finding(NOT_COMPARED, context.uris[0], name, 1, 1, detail=f"splits: {self.problem}"))


def _first_rows(table: pa.Table, split: Any) -> IntArray:
    """For each row of a table of keys the first row with the same key: in the first split, then in dataset order."""
    grouping = group_equal(hashes_of(table))
    ordinal = table.column("ordinal").to_numpy()
    last = np.iinfo(np.int64).max
    rank = ordinal if split is None else np.where(split < 0, last, split)
    best = np.lexsort((ordinal, rank, grouping.group_of_rows()))
    firsts: IntArray = best[grouping.starts] if len(best) else best
    return firsts[grouping.group_of_rows()]


def _occurs(keys: Any, known: Any) -> BoolArray:
    """Whether each key ``(rows, 2)`` is among others."""
    grouping = group_equal(np.concatenate([known, keys]))
    is_known = grouping.sum((np.arange(len(known) + len(keys)) < len(known)).astype(np.int64)) > 0
    found: BoolArray = is_known[grouping.group_of_rows()][len(known) :]
    return found


def _place(state: KeyedState, table: pa.Table, index: int) -> Place:
    return Place(plain(state.uris[table.column("file")[index].as_py()]), table.column("row")[index].as_py())


def _shown(name: str, table: pa.Table, index: int) -> str:
    return f"{name} {_quoted(table.column('label')[index])}"


def _quoted(value: Any) -> str:
    return f"'{plain(str(value.as_py()), 60)}'"


def key_rules(schema: Any, folder: str) -> Iterator[Any]:
    """The rules of a schema about keys."""
    yield from map(DeterminesRule, schema.determines)
    for reference in schema.references:
        dtypes = {name: schema.fields[name].dtype for name in reference.fields if name in schema.fields}
        named = zip(reference.keys or reference.fields, (dtypes.get(name) for name in reference.fields), strict=True)
        yield ReferenceRule(reference, folder, tuple((name, dtype) for name, dtype in named if dtype is not None))
    yield from split_key_rules(schema)


def split_key_rules(schema: Any) -> Iterator[Any]:
    """The rules of a schema about keys of splits."""
    if schema.splits is not None:
        yield from map(ApartRule, schema.splits.apart)
        yield from map(WithinRule, schema.splits.within)
