"""DC001 to DC006: fields that are missing, extra, of a wrong dtype or shape, not checkable, or duplicated.

These are about a file, not about its values: each counts once per file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from datacheck.batch import Column
from datacheck.checks.base import Outcome
from datacheck.checks.unseen import kind_of_unseen
from datacheck.errors import nearest_name
from datacheck.leaves import FLOAT_FORMATS, Leaf
from datacheck.schema.dataset_constraints import dataset_fields
from datacheck.schema.field_paths import matching_paths
from datacheck.schema.model import Field, Schema
from datacheck.text import join_limited, plain

#: A number in the name of a weight: its layer's.
_NUMBER = re.compile(r"(?<![A-Za-z\d])\d+(?![A-Za-z\d])")
#: What ``indicator: true`` of an impute rule appends to the name of a field.
INDICATOR_SUFFIX = "_missing"

#: The paths of token ids: of a bin, and of its sequences.
_TOKENS = ("tokens", "tokens[]")


@dataclass(frozen=True, slots=True)
class FieldFacts:
    """One field of a file: logical dtype, shape of the named value, and the reason why it cannot be checked.

    ``top_level`` is False for a field inside another one. ``is_array`` is True for an array, whose first axis is then
    the rows seen so far, and False for a column. ``is_shared`` is True if another field has the same path.
    ``unseen`` says what the values are that no check sees into. ``is_parameter`` marks a weight of a model, and ``is_zero``
    one of at least two axes, all of whose values so far are 0. ``is_derived`` marks what describes the values of a column.
    """

    dtype: str
    shape: tuple[int | None, ...] | None = None
    problem: str = ""
    top_level: bool = True
    is_array: bool = False
    is_shared: bool = False
    unseen: str = ""
    is_parameter: bool = False
    is_zero: bool = False
    is_derived: bool = False

    @classmethod
    def of(cls, leaf: Leaf, column: Column) -> FieldFacts:
        """The facts of a leaf of a column. The shape of an array leaves out an axis that was added for the row."""
        is_array = isinstance(column.data, np.ndarray)
        shape = leaf.shape[1:] if column.is_sample and is_array and leaf.shape else leaf.shape
        is_array = is_array and not column.is_sample
        unseen = "" if column.is_media else kind_of_unseen(leaf, is_array=isinstance(column.data, np.ndarray))
        is_zero = leaf.is_parameter and shape is not None and len(shape) > 1 and _is_zero(leaf)
        return cls(
            leaf.dtype,
            shape,
            leaf.problem,
            leaf.path == column.name,
            is_array,
            unseen=unseen,
            is_parameter=leaf.is_parameter,
            is_zero=is_zero,
            is_derived=column.derived,
        )

    def followed_by(self, other: FieldFacts) -> FieldFacts:
        """The facts of this part of a file together with the next part.

        The dtypes differ if the values of only one part could be converted.
        """
        if other.is_shared and not self.is_shared:
            return replace(self, is_shared=True).followed_by(other)
        if other.unseen and not self.unseen:
            return replace(self, unseen=other.unseen).followed_by(other)
        if "null" in (self.dtype, other.dtype) and other.dtype != self.dtype:
            # A part of a file of JSON in which all values are null says nothing about their type.
            return replace(self, dtype=other.dtype if self.dtype == "null" else self.dtype).followed_by(
                replace(other, dtype=self.dtype if other.dtype == "null" else other.dtype)
            )
        if {self.dtype, other.dtype} == {"int64", "float64"} and not self.is_array:
            # JSON has one type of numbers: 1 among 1.5 is a float.
            return replace(self, dtype="float64").followed_by(replace(other, dtype="float64"))
        if other.dtype != self.dtype and other.dtype not in self.dtype.split(" and "):
            both = " and ".join(dict.fromkeys([*self.dtype.split(" and "), *other.dtype.split(" and ")]))
            return replace(self, dtype=both).followed_by(replace(other, dtype=both))
        if self.is_zero and not other.is_zero:
            return replace(self, is_zero=False).followed_by(other)
        if not (
            self.is_array and self.shape and other.shape and self.shape[0] is not None and other.shape[0] is not None
        ):
            return self
        return replace(self, shape=(self.shape[0] + other.shape[0], *self.shape[1:]))


FieldMap = Mapping[str | None, FieldFacts]


def check_structure(
    schema: Schema, fields: FieldMap, names: Sequence[str | None], num_rows: int | None, *, is_one_array: bool = False
) -> list[Outcome]:
    """One outcome for each structural fault of a file.

    ``fields`` are all its leaves by path, ``names`` its columns including duplicates, and ``num_rows`` the length of
    its arrays, which replaces the first axis of a slice. A file that ``is_one_array`` holds one of the schema's fields.
    """
    return [
        *(() if is_one_array else _missing(schema, fields)),
        *_extra(schema, fields),
        *_repeated(names),
        *(_shared(path) for path, facts in fields.items() if facts.is_shared and names.count(path) < 2),
        *(outcome for path in fields for outcome in _field_faults(schema, path, fields, num_rows)),
        *(_fault("DC010", path) for path, facts in fields.items() if facts.is_zero),
        *_mixed_dtypes(fields),
    ]


def _fault(code: str, field: str | None, detail: str = "") -> Outcome:
    return Outcome(code, field, 1, 1, detail=detail)


def _missing(schema: Schema, fields: FieldMap) -> Iterable[Outcome]:
    if None in fields:
        return
    known = [path for path in fields if path is not None]
    for path, field in schema.fields.items():
        if path is not None and field.required and not matching_paths(path, fields):
            yield _fault("DC001", path, f"the schema requires it{nearest_name(path, known)}")
    for name in dict.fromkeys(name for key in schema.unique for name in key):
        if name not in schema.fields and name not in fields:
            yield _fault("DC001", name, f"a unique key of the schema needs it{nearest_name(name, known)}")
    in_keys = {name for key in schema.unique for name in key}
    for name in dict.fromkeys(dataset_fields(schema)):
        if name not in schema.fields and name not in fields and name not in in_keys:
            yield _fault("DC001", name, f"a rule about the dataset needs it{nearest_name(name, known)}")


def _extra(schema: Schema, fields: FieldMap) -> Iterable[Outcome]:
    if not schema.strict:
        return
    for path, facts in fields.items():
        if facts.top_level and path is not None and not (_mentions(schema, path) or _is_indicator(schema, path, facts)):
            yield _fault("DC002", path)


def _mentions(schema: Schema, path: str) -> bool:
    if any(name == path or name.startswith((f"{path}.", f"{path}[]")) for name in schema.names):
        return True
    return schema.field_for(path) is not None


def _is_indicator(schema: Schema, path: str, facts: FieldFacts) -> bool:
    """Whether a field is what ``indicator: true`` adds to the output for a field of the schema."""
    return facts.dtype == "bool" and path.endswith(INDICATOR_SUFFIX) and path[: -len(INDICATOR_SUFFIX)] in schema.names


def _repeated(names: Sequence[str | None]) -> Iterable[Outcome]:
    if len(set(names)) == len(names):
        return
    for name, times in Counter(names).items():
        if times > 1:
            yield _fault("DC006", name, f"{times} columns have this name")


def _mixed_dtypes(fields: FieldMap) -> Iterable[Outcome]:
    """Weights of one kind, whose names differ by numbers only, that do not all have the same dtype."""
    kinds: dict[str, dict[str, list[str]]] = {}
    for path, facts in fields.items():
        if facts.is_parameter and path is not None and not facts.problem:
            kinds.setdefault(_NUMBER.sub("*", path), {}).setdefault(facts.dtype, []).append(path)
    for kind, dtypes in kinds.items():
        if len(dtypes) > 1:
            counts = [f"{len(paths):,} {dtype} ({join_limited(paths, 2)})" for dtype, paths in dtypes.items()]
            yield _fault("DC011", kind, ", ".join(counts))


def _is_zero(leaf: Leaf) -> bool:
    """Whether all of at least one value are 0; most weights show by the first few that they are not."""
    values = leaf.values
    return leaf.is_numeric and len(values) > 0 and not values[:64].any() and not values.any()


def _shared(path: str | None) -> Outcome:
    return _fault("DC006", path, "two fields of the file have this path; rename one of them")


def _field_faults(schema: Schema, path: str | None, fields: FieldMap, num_rows: int | None) -> Iterable[Outcome]:
    field, facts = schema.field_for(path), fields[path]
    if facts.problem:
        yield _fault("DC005", path, facts.problem)
        return
    if field is None:
        return
    if facts.dtype == "struct" and is_of_values(field):
        wanted = f"expected {field.dtype}" if field.dtype is not None else "but its rules are for values"
        yield _fault("DC003", path, f"struct, {wanted}")
        return
    is_container = facts.dtype == "struct" or facts.dtype.startswith("list<")
    if field.dtype is not None and not is_container and not dtype_matches(facts.dtype, field.dtype):
        yield _fault("DC003", path, f"{facts.dtype}, expected {field.dtype}{_where_sizes_are(path, fields)}")
    if path in _TOKENS and (detail := _beyond_dtype(field, facts.dtype)):
        yield _fault("DC014", path, detail)
    if field.shape is not None and facts.shape is not None and (path is None or not path.endswith("[]")):
        shape = facts.shape
        if facts.is_array and shape and num_rows is not None:
            shape = (num_rows, *shape[1:])
        elif facts.top_level and not facts.is_array and not shape and _is_of_rows(field.shape):
            return  # a column of scalars is the same as an array of one axis
        if not shape_matches(shape, field.shape):
            expected = f"{describe_shape(field.shape)}{_where_sizes_are(path, fields)}"
            yield _fault("DC004", path, f"{describe_shape(shape)}, expected {expected}")


def _where_sizes_are(path: str | None, fields: FieldMap) -> str:
    """The fields to write rules for instead, if a field is the bytes of an image."""
    sizes = [f"'{plain(path or '')}.{name}'" for name in ("height", "width", "channels", "mode")]
    return f"; rules about an image are for {', '.join(sizes)}" if f"{path}.channels" in fields else ""


def _beyond_dtype(field: Field, dtype: str) -> str:
    """Whether a vocabulary is too large for the dtype of its ids; empty if it fits, or is not known."""
    if not dtype.startswith(("int", "uint")):
        return ""
    last = np.iinfo(dtype).max
    bounds = [bound + extra for bound, extra in ((field.lt, 0), (field.le, 1)) if isinstance(bound, int)]
    return (
        f"{dtype} holds ids up to {last:,}, and the schema allows ids below {min(bounds):,}"
        if bounds and min(bounds) > last + 1
        else ""
    )


def is_of_values(field: Field) -> bool:
    """Whether a field has rules for values, which a struct has only in its fields."""
    rules = (field.dtype, field.ge, field.le, field.gt, field.lt, field.isin, field.str_matches)
    return any(rule is not None for rule in rules)


def dtype_matches(found: str, expected: str) -> bool:
    """Whether a logical dtype is the one in the schema, or how a file stores it.

    Formats without narrow floats store their bits. Parquet stores seconds as milliseconds, and dates as days.
    """
    if expected in FLOAT_FORMATS:
        return found in (expected, FLOAT_FORMATS[expected].name)
    return found == expected or _as_written_to_parquet(expected) == found


def _as_written_to_parquet(dtype: str) -> str:
    return "date32[day]" if dtype == "date64[ms]" else dtype.replace("[s", "[ms", 1)


def _is_of_rows(shape: tuple[int | str | None, ...]) -> bool:
    """Whether a shape belongs to a column with one value per row."""
    return len(shape) == 1 and not isinstance(shape[0], int)


def shape_matches(found: tuple[int | None, ...], expected: tuple[int | str | None, ...]) -> bool:
    """Whether a shape fits; None on either side, or a name, fits any size (rows are then checked one by one)."""
    return len(found) == len(expected) and all(
        have is None or not isinstance(want, int) or have == want for have, want in zip(found, expected, strict=True)
    )


def describe_shape(shape: tuple[int | str | None, ...]) -> str:
    return plain(
        "(" + ", ".join("any" if size is None else str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
    )
