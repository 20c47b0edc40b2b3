"""DC110: values that the schema declares as missing, such as -999. No other rule looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.batch import Batch, Column
from datacheck.checks.base import Outcome
from datacheck.checks.membership import members_mask
from datacheck.checks.rebuild import rebuild
from datacheck.checks.rules import ValueRule
from datacheck.findings import Severity
from datacheck.leaves import BoolArray, Leaf
from datacheck.schema.constraints import can_hold
from datacheck.schema.dtypes import largest_float
from datacheck.schema.model import Field, Schema
from datacheck.text import join_limited

_UNORDERED = ("complex64", "complex128", "clongdouble")


def has_missing(schema: Schema) -> bool:
    """Whether a schema lists values that mark a missing one."""
    fields = schema.fields.values()
    return bool(schema.missing) or any(field.missing or _parts_have(field) for field in fields)


def _parts_have(field: Field) -> bool:
    return any(part.missing for part in (*field.columns.values(), *field.channels.values()))


def find_missing(leaf: Leaf, values: Sequence[Any]) -> BoolArray | None:
    """Where a leaf has one of ``values``; None if nowhere. A value of another kind than the leaf's is in no place."""
    if not values or leaf.values is None or leaf.dtype in _UNORDERED or not len(leaf):
        return None
    if not leaf.is_numeric and pa.types.is_nested(leaf.values.type):
        return None
    flat = replace(leaf, codes=None, validity=None, levels=())
    if leaf.may_be_nonfinite:
        # Beyond the dtype, a number would be rounded to an infinity, which is no sentinel.
        limit = largest_float(leaf.dtype)
        values = [value for value in values if isinstance(value, int | float) and abs(value) <= limit]
    found = np.zeros(len(flat.values), np.bool_)
    for value in values:
        # Text among numbers, and numbers among text.
        with suppress(ValueError, TypeError, pa.ArrowException):
            found |= members_mask(flat, (value,))
    if leaf.codes is not None:
        found = found[leaf.codes]
    if leaf.validity is not None:
        found &= leaf.validity
    return found if found.any() else None


def mark_missing(leaf: Leaf, schema: Schema) -> Leaf:
    """The leaf with its values marked that stand for a missing one."""
    missing = find_missing(leaf, schema.missing_for(leaf.path))
    if missing is None:
        return leaf
    return replace(leaf, missing=missing if leaf.missing is None else missing | leaf.missing)


def without_missing(leaf: Leaf, schema: Schema) -> Leaf:
    """The leaf with nulls in place of its values that mark a missing one."""
    missing = find_missing(leaf, schema.missing_for(leaf.path))
    if missing is None:
        return leaf
    validity = ~missing if leaf.validity is None else leaf.validity & ~missing
    if leaf.is_numeric or leaf.codes is not None:
        return replace(leaf, validity=validity)
    return replace(leaf, values=_nulled_array(leaf.values, missing), validity=validity)


def sentinel_rules(leaf: Leaf, field: Field, schema: Schema, requested: frozenset[str]) -> list[ValueRule]:
    """The rule on values that mark a missing one: an error, as a null is, and a note in a nullable field."""
    values = schema.missing_for(leaf.path)
    if not values or leaf.values is None:
        return []
    detail = join_limited([str(value) for value in values])
    if not field.nullable:
        return [ValueRule("DC110", _mask, detail, screened=False, on_missing=True)]
    if "DC110" in requested:
        return [ValueRule("DC110", _mask, detail, reported=False, screened=False, on_missing=True)]
    return [ValueRule("DC110", _mask, detail, screened=False, on_missing=True, severity=Severity.INFO)]


def foreign_sentinels(leaf: Leaf, field: Field) -> list[Outcome]:
    """A note on what a field lists as missing and a leaf cannot hold, such as -999 in a uint8."""
    is_text = not leaf.is_numeric and leaf.dtype in ("string", "large_string")
    if not (leaf.is_numeric or is_text):
        return []
    wrong = [
        one
        for one in field.missing
        if isinstance(one, str) != is_text or not (isinstance(one, str) or can_hold(leaf.dtype, one))
    ]
    if not wrong:
        return []
    listed = join_limited([str(one) for one in wrong])
    problem = f"'missing' lists {listed}, which {leaf.dtype} cannot hold; remove it, or check what the field stores"
    return [Outcome("DC005", leaf.path, 1, 1, rule=problem, detail=problem, severity=Severity.INFO)]


def _mask(leaf: Leaf, part: slice) -> BoolArray:
    return np.zeros(part.stop - part.start, np.bool_) if leaf.missing is None else leaf.missing[part]


def null_missing(batch: Batch, schema: Schema) -> Batch:
    """The batch with nulls in place of the values that mark a missing one, for rules across fields."""
    if not has_missing(schema):
        return batch
    return batch.with_columns(tuple(_nulled(column, schema) for column in batch.columns))


def _nulled(column: Column, schema: Schema) -> Column:
    leaves = list(enumerate(column.leaves()))
    nulled = {index: one for index, leaf in leaves if (one := without_missing(leaf, schema)) is not leaf}
    if not nulled:
        return column
    if not isinstance(column.data, np.ndarray):
        return rebuild(column, nulled)
    if len(leaves) > 1:
        # Structured arrays have no nulls.
        return column
    data, validity = column.data, nulled[0].validity
    assert validity is not None
    is_fortran = data.flags.f_contiguous and not data.flags.c_contiguous
    shaped = validity.reshape(data.shape[::-1]).T if is_fortran else validity.reshape(data.shape)
    return replace(column, data=np.ma.MaskedArray(data, np.ma.getmaskarray(data) | ~shaped))


def _nulled_array(values: pa.Array, missing: BoolArray) -> pa.Array:
    bits = pa.py_buffer(np.packbits(missing, bitorder="little"))
    flags = pa.Array.from_buffers(pa.bool_(), len(missing), [None, bits])
    return pc.if_else(flags, pa.scalar(None, values.type), values)
