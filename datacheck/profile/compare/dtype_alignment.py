"""Align fields that two datasets store in different dtypes or layouts, so that their values can be compared.

A leaked row must be found even if the copy has other dtypes: 7 is 7 as int32 and as float64, an instant is the same in
microseconds and in nanoseconds, and values rounded to float32 are compared with unrounded ones as float32.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from datacheck.profile.data_profile import DataProfile, FileProfile
from datacheck.schema.dtypes import canonical_dtype, dtype_kind
from datacheck.text import plain

_INTEGERS = {"integer", "bool"}
_NUMBERS = {*_INTEGERS, "float", "decimal"}
_TIMES = {"date", "timestamp"}
#: From the least precise on. Shorter formats are compared as float32, longer ones as float64.
_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class DtypeAlignment:
    """How to compare the common columns of two datasets that store them differently.

    Attributes:
        casts: the dtype to cast values to before hashing, or "exact" for the hashes of equal values, by path.
        rounded: of the casts those to a float of paths that hold integers or decimals, too, which it may round.
        slotwise: columns with lists that have a fixed length in some files only.
        disjoint: columns whose dtypes have no values in common, with the names of these dtypes.
    """

    casts: Mapping[str | None, str] = field(default_factory=dict)
    rounded: Mapping[str | None, str] = field(default_factory=dict)
    slotwise: frozenset[str | None] = frozenset()
    disjoint: Mapping[str | None, str] = field(default_factory=dict)

    def rounded_in(self, names: Collection[str | None]) -> dict[str | None, str]:
        """:attr:`rounded`, for the paths of some columns."""
        return {path: dtype for path, dtype in self.rounded.items() if _columns_of(path, names)}

    def affects(self, names: Collection[str | None]) -> bool:
        """Whether any of these columns is stored differently."""
        return not self.slotwise.isdisjoint(names) or any(_columns_of(path, names) for path in self.casts)


def align_dtypes(train: DataProfile, other: DataProfile) -> DtypeAlignment:
    """Decide how to compare the columns that both datasets have."""
    files = [*train.files, *other.files]
    names = {name for file in train.files for name in file.names} & {
        name for file in other.files for name in file.names
    }
    casts: dict[str | None, str] = {}
    rounded: dict[str | None, str] = {}
    disjoint: dict[str | None, str] = {}
    for path, dtypes in _differing_dtypes([train, other]).items():
        for column in _columns_of(path, names):
            common = _common_dtype(dtypes)
            if common is None:
                disjoint[column] = " and ".join(plain(dtype, 60) for dtype in dtypes)
            elif common:
                casts[path] = common
                if common != "exact" and not {_kind(dtype) for dtype in dtypes}.isdisjoint(("integer", "decimal")):
                    rounded[path] = common
    slotwise = {column for path in _lists_of_two_layouts(files) for column in _columns_of(path, names)}
    return DtypeAlignment(casts, rounded, frozenset(slotwise), disjoint)


def _differing_dtypes(profiles: Iterable[DataProfile]) -> dict[str | None, list[str]]:
    """The dtypes of each path that has values in several."""
    found: dict[str | None, dict[str, None]] = {}
    for profile in profiles:
        for leaf in profile.leaves.values():
            if leaf.num_present:
                found.setdefault(leaf.path, {})[leaf.dtype] = None
    return {path: list(dtypes) for path, dtypes in found.items() if len(dtypes) > 1}


def _lists_of_two_layouts(files: Iterable[FileProfile]) -> list[str | None]:
    found: dict[str | None, set[bool]] = {}
    for file in files:
        for path, facts in file.fields.items():
            if facts.dtype.startswith("list<"):
                found.setdefault(path, set()).add(facts.shape is not None and None not in facts.shape)
    return [path for path, layouts in found.items() if len(layouts) > 1]


def _columns_of(path: str | None, names: Collection[str | None]) -> list[str | None]:
    """The column at a path, or the columns that the path may lead into."""
    if path is None or path in names:
        return [path] if path in names else []
    return [name for name in names if name is not None and path.startswith((f"{name}.", f"{name}[]"))]


def _common_dtype(dtypes: Collection[str]) -> str | None:
    """The dtype to compare values of several dtypes in, or "exact"; "" if no cast is needed, None if none can be equal."""
    kinds = {_kind(dtype) for dtype in dtypes}
    if kinds == {"list"}:
        return ""
    if kinds <= _INTEGERS or kinds <= _TIMES or kinds == {"duration"}:
        return "exact"
    if not kinds <= _NUMBERS:
        return None
    floats = [_precision(dtype) for dtype in dtypes if _kind(dtype) == "float"]
    # Values rounded to a shorter float are compared with unrounded ones as that.
    return min(floats, key=_FLOATS.index) if floats else "exact"


def _precision(dtype: str) -> str:
    if dtype in _FLOATS:
        return dtype
    return "float64" if dtype == "longdouble" else "float32"


def _kind(dtype: str) -> str:
    if dtype.startswith("list<"):
        return "list"
    known = canonical_dtype(dtype)
    return (dtype_kind(known) if known else None) or dtype
