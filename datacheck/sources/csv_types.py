"""Which types the columns of a text file have: the narrowest that hold every value, not only the first block's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datacheck.sources.dtypes import arrow_type

__all__ = ["ColumnKinds", "convert"]

#: Types that are tried, from narrow to wide. Text always fits.
_LADDER = (
    pa.int64(),
    pa.uint64(),
    pa.bool_(),
    pa.date32(),
    pa.timestamp("s"),
    pa.timestamp("ns"),
    pa.timestamp("ns", "UTC"),
    pa.float64(),
    pa.string(),
)
#: What old C libraries print for NaN and the infinities.
_C_NAN = r"^[+-]?1\.#(QNAN|SNAN|IND)0*$"
_C_INF = r"^([+-]?)1\.#INF0*$"


class ColumnKinds:
    """The type of each column of a text file, as far as its values have been seen.

    ``wanted`` gives types that are not to be guessed; where a value does not fit one, it is widened all the same, and
    the check of dtypes says so.
    """

    def __init__(self, names: Sequence[str], wanted: Iterable[tuple[str, str]]) -> None:
        dtypes = dict(wanted)
        self.types: list[pa.DataType] = [
            (arrow_type(dtypes[name]) if name in dtypes else None) or pa.null() for name in names
        ]
        self._is_seen = [False] * len(names)

    def see(self, columns: Sequence[pa.Array]) -> bool:
        """Widen the types until they hold ``columns``; whether an earlier block has to be looked at again."""
        again = False
        for index, column in enumerate(columns):
            if column.null_count == len(column):
                continue
            if convert(column, self.types[index]) is None:
                self.types[index] = self._wider(self.types[index], column)
                again = again or self._is_seen[index]
            self._is_seen[index] = True
        return again

    @staticmethod
    def _wider(kind: pa.DataType, column: pa.Array) -> pa.DataType:
        # Most types fail on the first values already.
        head = column.slice(0, 64)
        return next(
            wider for wider in _above(kind) if convert(head, wider) is not None and convert(column, wider) is not None
        )


def _above(kind: pa.DataType) -> tuple[pa.DataType, ...]:
    if kind == pa.null():
        return _LADDER
    if kind in _LADDER:
        return _LADDER[_LADDER.index(kind) + 1 :] or _LADDER[-1:]
    if pa.types.is_integer(kind):
        return (pa.int64(), pa.uint64(), pa.float64(), pa.string())
    return (pa.float64(), pa.string()) if pa.types.is_floating(kind) else (pa.string(),)


def convert(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """A column of text as ``kind``; None where a value does not fit.

    Text around which there are blanks, or which is empty though quoted, still counts as a number or as null.
    """
    if kind == pa.string():
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), kind)
    if kind == pa.null():
        return None
    converted = _cast(column, kind)
    if converted is None and not _is_text(kind):
        cleaned = pc.utf8_trim_whitespace(column)
        cleaned = pc.if_else(pc.equal(cleaned, ""), pa.scalar(None, pa.string()), cleaned)
        if pa.types.is_floating(kind):
            cleaned = pc.replace_substring_regex(cleaned, _C_NAN, "nan")
            cleaned = pc.replace_substring_regex(cleaned, _C_INF, r"\1inf")
        converted = _cast(cleaned, kind)
    return converted


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind))


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
    try:
        if pa.types.is_float16(kind):
            return _to_half(column.cast(pa.float32()))
        return column.cast(kind)
    except pa.ArrowException:
        return None


def _to_half(column: pa.Array) -> pa.Array | None:
    """The column as float16; None where a finite value would become infinite."""
    wide = column.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = wide.astype(np.float16)
    if np.count_nonzero(np.isinf(narrow)) != np.count_nonzero(np.isinf(wide)):
        return None
    return pa.array(narrow, mask=column.is_null().to_numpy(zero_copy_only=False))
