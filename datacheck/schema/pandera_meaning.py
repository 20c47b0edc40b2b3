"""To pandera: the constraints on what values mean, as far as they concern single values of a column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from datacheck.schema.meaning import MeaningProtocol
from datacheck.schema.pandera_constraints import OWN_CHECK
from datacheck.schema.pandera_dtypes import pandas_value


def meaning_checks(field: MeaningProtocol) -> Iterator[Any]:
    """Pandera checks for sentinels, texts and token ids. Rules about lists (``format``, ``ignore_index``) have none."""
    from pandera.api.checks import Check

    wanted: tuple[tuple[bool, str, Any, dict[str, Any]], ...] = (
        (bool(field.missing) and not field.nullable, "missing", is_not_missing, {"values": _members(field)}),
        (field.not_blank, "not_blank", is_not_blank, {}),
        (field.stripped, "stripped", is_stripped, {}),
        (field.printable, "printable", is_printable, {}),
        (
            field.min_length is not None or field.max_length is not None,
            "length",
            has_length,
            {"low": field.min_length, "high": field.max_length},
        ),
        (
            field.vocab_size is not None,
            "vocab_size",
            is_in_vocabulary,
            {"size": field.vocab_size, "ignored": field.ignore_index},
        ),
    )
    for is_wanted, name, function, arguments in wanted:
        if is_wanted:
            yield Check(function, name=f"{OWN_CHECK}{name}", **arguments)


def _members(field: MeaningProtocol) -> list[Any]:
    is_text = field.dtype in (None, "string")
    return [pandas_value(value, field.dtype) for value in field.missing if is_text or not isinstance(value, str)]


def is_not_missing(series: Any, values: Sequence[Any]) -> Any:
    return ~series.isin(values)


def is_not_blank(series: Any) -> Any:
    return series.str.strip() != ""


def is_stripped(series: Any) -> Any:
    return series.str.strip() == series


def is_printable(series: Any) -> Any:
    return ~series.str.contains("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]", regex=True)


def has_length(series: Any, low: int | None, high: int | None) -> Any:
    length = series.str.len()
    is_long = length >= (low or 0)
    return is_long if high is None else is_long & (length <= high)


def is_in_vocabulary(series: Any, size: int, ignored: int | None) -> Any:
    is_inside = (series >= 0) & (series < size)
    return is_inside if ignored is None else is_inside | (series == ignored)
