"""Fields that two data sets hold in different dtypes or layouts, and as what their values are then compared.

A leak is one even where the copy was written with other dtypes: 7 is 7 as int32 and as float64, an instant is the same in
microseconds and in nanoseconds, and what was rounded to float32 is compared with what was not in float32.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from datacheck.profile.dataset import DataProfile, FileProfile
from datacheck.schema.dtypes import canonical_dtype, dtype_kind
from datacheck.text import plain

__all__ = ["Likeness", "likeness_of"]

_WHOLE = {"integer", "bool"}
_NUMBERS = {*_WHOLE, "float", "decimal"}
_MOMENTS = {"date", "timestamp"}
#: From the least precise on. Values of other formats are float32, and wider ones float64.
_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class Likeness:
    """How the columns that two data sets share are compared where they are not stored alike.

    ``recast`` names the dtype as which values are compared, by path; ``slotwise`` are the columns with lists that are of
    one length here and of any there; ``apart`` says of columns whose values have nothing in common what these are.
    """

    recast: Mapping[str | None, str] = field(default_factory=dict)
    slotwise: frozenset[str | None] = frozenset()
    apart: Mapping[str | None, str] = field(default_factory=dict)

    def concerns(self, names: Collection[str | None]) -> bool:
        """Whether some of these columns are not stored alike."""
        return not self.slotwise.isdisjoint(names) or any(_columns_of(path, names) for path in self.recast)


def likeness_of(train: DataProfile, other: DataProfile) -> Likeness:
    """How the columns that both data sets have are compared."""
    files = [*train.files, *other.files]
    names = {name for file in train.files for name in file.names} & {
        name for file in other.files for name in file.names
    }
    recast: dict[str | None, str] = {}
    apart: dict[str | None, str] = {}
    for path, dtypes in _dtypes([train, other]).items():
        for column in _columns_of(path, names):
            common = _common_dtype(dtypes)
            if common is None:
                apart[column] = " and ".join(plain(dtype, 60) for dtype in dtypes)
            elif common:
                recast[path] = common
    slotwise = {column for path in _lists_of_two_layouts(files) for column in _columns_of(path, names)}
    return Likeness(recast, frozenset(slotwise), apart)


def _dtypes(profiles: Iterable[DataProfile]) -> dict[str | None, list[str]]:
    """The dtypes of each path that has values of several."""
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
    """The columns that a path is, or may lead into."""
    if path is None or path in names:
        return [path] if path in names else []
    return [name for name in names if name is not None and path.startswith((f"{name}.", f"{name}[]"))]


def _common_dtype(dtypes: Collection[str]) -> str | None:
    """The dtype as which values of several are compared; an empty one where they need none, None where there is none."""
    kinds = {_kind(dtype) for dtype in dtypes}
    if kinds == {"list"}:
        return ""
    if kinds <= _WHOLE or kinds <= _MOMENTS or kinds == {"duration"}:
        return "int64"
    if not kinds <= _NUMBERS:
        return None
    floats = [_precision(dtype) for dtype in dtypes if _kind(dtype) == "float"]
    return min(floats or ["float64"], key=_FLOATS.index)


def _precision(dtype: str) -> str:
    if dtype in _FLOATS:
        return dtype
    return "float64" if dtype == "longdouble" else "float32"


def _kind(dtype: str) -> str:
    if dtype.startswith("list<"):
        return "list"
    known = canonical_dtype(dtype)
    return (dtype_kind(known) if known else None) or dtype
