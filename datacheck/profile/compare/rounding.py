"""Matches of integers or decimals with floats that hold fewer digits, where different values look equal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from datacheck.findings import Finding, Severity
from datacheck.profile.data_profile import DataProfile
from datacheck.text import join_limited, plain

#: The integers up to which a float distinguishes all.
_LAST_INTEGER = {"float16": 1 << 11, "float32": 1 << 24, "float64": 1 << 53}


def lossy_columns(profiles: Iterable[DataProfile], rounded: Mapping[str | None, str]) -> list[str]:
    """The paths whose integers or decimals have more digits than the float that they were compared as.

    ``rounded`` has the float for each path; the profiles know the extremes.
    """
    found: dict[str, None] = {}
    for profile in profiles:
        for leaf in profile.leaves.values():
            wanted = rounded.get(leaf.path)
            if wanted is not None and any(_num_units(end) > _LAST_INTEGER[wanted] for end in (leaf.low, leaf.high)):
                found[str(leaf.path)] = None
    return list(found)


def _num_units(value: Any) -> int:
    """A value in units of its last digit; 0 for a float, which has lost its digits already."""
    if isinstance(value, Decimal):
        _, digits, _ = value.as_tuple()
        return int("".join(map(str, digits)) or 0)
    return abs(value) if isinstance(value, int) else 0


def with_rounded_matches(
    found: Iterable[Finding], exact: Iterable[Finding], columns: Sequence[str], dtypes: Collection[str]
) -> list[Finding]:
    """The findings with the number of matches that are only equal when rounded; a warning where that is all of a key.

    Rows that also have other columns in common are most likely copies.
    """
    numbers = {(one.code, one.uri, one.field): one.num_violations for one in exact}
    told: list[Finding] = []
    for one in found:
        number = numbers.get((one.code, one.uri, one.field), 0)
        if number < one.num_violations:
            rounded = f"{one.num_violations - number:,} of them" if number else "they"
            why = f"which has too few digits to distinguish all values of {join_limited(list(columns), 3)}"
            detail = f"{one.detail}; {rounded} are equal only as {' and '.join(sorted(dtypes))}, {plain(why, 300)}"
            is_all = not number and one.field is not None and set(one.field.split(", ")) <= set(columns)
            severity = Severity.WARNING if is_all and one.is_error else one.severity
            one = replace(one, detail=detail, severity=severity)
        told.append(one)
    return told
