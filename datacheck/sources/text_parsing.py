"""Converts columns of text to a type: all cells at once, or one by one if some do not convert."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import is_text
from datacheck.leaves import BoolArray, arrow_bits

#: A character that no number has.
_NO_NUMBER = "\u00b7"

#: NaN and infinities as old C libraries print them.
_C_NAN = r"^[+-]?1\.#(QNAN|SNAN|IND)0*$"
_C_INF = r"^([+-]?)1\.#INF0*$"
#: What Arrow may parse: a cell that does not match is not tried.
_PATTERNS = {
    "integer": r"^[+-]?(0[xX])?[0-9a-fA-F]+$",
    "number": r"(?i)^[+-]?([0-9.]+(e[+-]?[0-9]+)?|inf.*|nan.*)$",
    "truth": r"(?i)^(true|false|[01])$",
    "time": r"^[0-9]+[:-]",
}


@dataclass(frozen=True, slots=True)
class Notation:
    """How numbers are written: their decimal mark, and the separator of their thousands (empty: none)."""

    decimal: str = "."
    thousands: str = ""

    @property
    def is_plain(self) -> bool:
        return self.decimal == "." and not self.thousands

    def to_plain(self, words: pa.Array) -> pa.Array:
        """Numbers with a decimal point and no separators. A point that is neither makes a cell no number."""
        if self.is_plain:
            return words
        decimal, thousands = re.escape(self.decimal), re.escape(self.thousands)
        if self.thousands:
            pattern = rf"^\s*[+-]?[0-9]{{1,3}}(?:{thousands}[0-9]{{3}})+(?:{decimal}[0-9]*)?\s*$"
            is_grouped = pc.match_substring_regex(words, pattern)
            words = pc.if_else(is_grouped, pc.replace_substring(words, self.thousands, ""), words)
        if self.decimal != ".":
            is_number = pc.match_substring_regex(words, rf"^\s*[+-]?[0-9]*{decimal}?[0-9]+(?:[eE][+-]?[0-9]+)?\s*$")
            other = pc.replace_substring(words, ".", _NO_NUMBER)
            words = pc.if_else(is_number, pc.replace_substring(words, self.decimal, "."), other)
        return words


#: What looks like a number in another notation: its name, its pattern, and what to set.
_LOOKALIKES = (
    (
        "numbers with separated thousands",
        r"^[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?$|^[+-]?\d{1,3}(?:,\d{3}){2,}$",
        "set csv_thousands: ','",
    ),
    (
        "numbers with separated thousands",
        r"^[+-]?\d{1,3}(?:\.\d{3})+,\d+$",
        "set csv_thousands: '.' and csv_decimal: ','",
    ),
    (
        "numbers with separated thousands",
        r"^[+-]?\d{1,3}(?:[\x{a0}\x{202f}'’_]\d{3})+(?:[.,]\d+)?$|^[+-]?\d{1,3} \d{3}(?: \d{3})*[.,]\d+$|^[+-]?\d{1,3} \d{3}$",
        "set csv_thousands to the separator",
    ),
    ("numbers with a decimal comma", r"^[+-]?\d+,\d+(?:[eE][+-]?\d+)?$", "set csv_decimal: ','"),
    ("numbers in quotes", r"^'\s*[+-]?[\d.]+(?:[eE][+-]?\d+)?\s*'$", 'set csv_quote: "\'"'),
    (
        "numbers in quotes",
        r'^["`“”‘’«»]+\s*[+-]?\d[\d.,]*(?:[eE][+-]?\d+)?\s*["`“”‘’«»]+$',
        "write them without the quotes, or with one pair",
    ),
    ("percentages", r"^[+-]?\d[\d.,]*\s*%$", "write them as plain numbers"),
    ("amounts of money", r"^[+-]?[$€£¥]\s*[+-]?\d[\d.,]*$|^[+-]?\d[\d.,]*\s*[$€£¥]$", "write them as plain numbers"),
)


def count_lookalikes(words: pa.Array) -> int:
    """How many cells look like numbers in another notation."""
    trimmed = pc.utf8_trim_whitespace(words)
    pattern = "|".join(f"(?:{pattern})" for _, pattern, _ in _LOOKALIKES)
    return int(pc.sum(pc.match_substring_regex(trimmed, pattern)).as_py() or 0)


def describe_lookalikes(words: pa.Array) -> str:
    """What most of these words look like, and what to set; empty if they do not look like numbers."""
    trimmed = pc.utf8_trim_whitespace(words)
    counts = [int(pc.sum(pc.match_substring_regex(trimmed, pattern)).as_py() or 0) for _, pattern, _ in _LOOKALIKES]
    # A thousands separator explains every cell with one comma that a decimal comma does, unless one has other digits.
    best = max(counts, default=0)
    if 2 * best <= len(words):
        return ""
    name, _, fix = _LOOKALIKES[counts.index(best)]
    return f"they look like {name}: {fix}"


def convert(column: pa.Array, kind: pa.DataType, notation: Notation = Notation()) -> pa.Array | None:
    """A column of text as ``kind``; None if a value does not fit.

    Surrounding blanks are ignored, and an empty quoted cell is null.
    """
    if kind == pa.string():
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), kind)
    if kind == pa.null():
        return None
    if not notation.is_plain and _is_number(kind):
        column = notation.to_plain(column)
    converted = parse(column, kind)
    return parse(clean_cells(column, kind), kind) if converted is None and not _is_verbatim(kind) else converted


def convert_cells(
    words: pa.Array, kind: pa.DataType, notation: Notation = Notation()
) -> tuple[pa.Array, BoolArray | None]:
    """Each cell as ``kind``, null if it does not convert, and where one does not; None if all do."""
    converted = convert(words, kind, notation)
    if converted is not None:
        return converted, None
    cleaned = clean_cells(notation.to_plain(words) if _is_number(kind) else words, kind)
    parsed = parse_cells(cleaned, kind, is_loose=False)
    unconvertible = arrow_bits(pc.and_(pc.is_null(parsed), pc.is_valid(cleaned)))
    return parsed, unconvertible if unconvertible.any() else None


def clean_cells(words: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cells without surrounding blanks; an empty one is null. Text and bytes stay as they are."""
    if _is_verbatim(kind):
        return words
    cleaned = pc.utf8_trim_whitespace(words)
    cleaned = pc.if_else(pc.equal(cleaned, ""), pa.scalar(None, pa.string()), cleaned)
    if pa.types.is_floating(kind):
        cleaned = pc.replace_substring_regex(cleaned, _C_NAN, "nan")
        cleaned = pc.replace_substring_regex(cleaned, _C_INF, r"\1inf")
    return cleaned


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_verbatim(kind: pa.DataType) -> bool:
    return is_text(kind) or bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def parse(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """A column of text as ``kind``, without cleaning; None if a value does not fit."""
    try:
        if pa.types.is_float16(kind):
            wide = parse(column, pa.float32())
            return wide if wide is None else _to_half(wide)
        parsed = column.cast(kind)
        return None if pa.types.is_float32(kind) and _has_overflown(column, parsed) else parsed
    except pa.ArrowException:
        return None


def _has_overflown(words: pa.Array, parsed: pa.Array) -> bool:
    """Whether a finite number became an infinity."""
    return bool(pc.any(pc.is_inf(parsed)).as_py()) and _count_inf(parsed) != _count_inf(words.cast(pa.float64()))


def _count_inf(values: pa.Array) -> int:
    return int(pc.sum(pc.is_inf(values)).as_py() or 0)


def _to_half(column: pa.Array) -> pa.Array | None:
    """The column as float16; None if a finite value would become infinite."""
    wide = column.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = wide.astype(np.float16)
    if np.count_nonzero(np.isinf(narrow)) != np.count_nonzero(np.isinf(wide)):
        return None
    return pa.array(narrow, mask=column.is_null().to_numpy(zero_copy_only=False))


def parse_cells(words: pa.Array, target: pa.DataType, is_loose: bool) -> pa.Array:
    """Each cell as a value, or null if it does not convert."""
    if is_loose:
        words = pc.replace_substring_regex(words, r"^[+]?(-?[0-9]+)(\.0*)?$", r"\1")
    pattern = _pattern_of(target)
    if pattern is None:
        return _parse_all(words, target)
    is_tried = pc.fill_null(pc.match_substring_regex(words, _PATTERNS[pattern]), False)
    tried = arrow_bits(is_tried)
    positions = pa.Array.from_buffers(
        pa.int64(),
        len(words),
        [pa.py_buffer(np.packbits(tried, bitorder="little")), pa.py_buffer(np.cumsum(tried) - 1)],
    )
    return _parse_all(words.filter(is_tried), target).take(positions)


def may_convert(cell: str, target: pa.DataType) -> bool:
    """Whether one cell may convert; False only if it does not."""
    pattern, content = _pattern_of(target), cell.strip()
    return pattern is None or not content or "#" in content or re.match(_PATTERNS[pattern], content) is not None


def _pattern_of(target: pa.DataType) -> str | None:
    if pa.types.is_integer(target):
        return "integer"
    if pa.types.is_floating(target) or pa.types.is_decimal(target):
        return "number"
    if pa.types.is_boolean(target):
        return "truth"
    return "time" if pa.types.is_temporal(target) else None


def _parse_all(words: pa.Array, target: pa.DataType) -> pa.Array:
    """All at once, or else each distinct cell once."""
    parsed = parse(words, target)
    if parsed is not None:
        return parsed
    encoded = words.dictionary_encode()
    return _parse_halves(encoded.dictionary, target).take(encoded.indices)


def _parse_halves(words: pa.Array, target: pa.DataType) -> pa.Array:
    """By halves, so that a few cells that do not convert cost little."""
    parsed = parse(words, target)
    if parsed is not None:
        return parsed
    if len(words) == 1:
        return pa.nulls(1, target)
    middle = len(words) // 2
    return pa.concat_arrays([_parse_halves(words[:middle], target), _parse_halves(words[middle:], target)])
