"""The dtypes that a schema can use, and the kind of each."""

from __future__ import annotations

import math
import re
from decimal import Context, Decimal
from typing import Final

from datacheck.errors import nearest_name
from datacheck.leaves import FLOAT_FORMATS

_KINDS: Final[dict[str, str]] = {
    "bool": "bool",
    **{f"{sign}int{bits}": "integer" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **dict.fromkeys(("float16", "float32", "float64", "longdouble", *FLOAT_FORMATS), "float"),
    **dict.fromkeys(("complex64", "complex128", "clongdouble"), "complex"),
    "string": "string",
    "binary": "binary",
    "date32[day]": "date",
    "date64[ms]": "date",
    "time32[s]": "clock",
    "time32[ms]": "clock",
    "time64[us]": "clock",
    "time64[ns]": "clock",
    **{f"timestamp[{unit}]": "timestamp" for unit in ("s", "ms", "us", "ns")},
    **{f"duration[{unit}]": "duration" for unit in ("s", "ms", "us", "ns")},
    "month_day_nano_interval": "other",
    "null": "other",
}

#: Other tools' names of the same dtypes.
ALIASES: Final[dict[str, str]] = {
    "boolean": "bool",
    "int": "int64",
    "float": "float64",
    "half": "float16",
    "halffloat": "float16",
    "double": "float64",
    "str": "string",
    "utf8": "string",
    "large_string": "string",
    "bytes": "binary",
    "large_binary": "binary",
    "date": "date32[day]",
    "date32": "date32[day]",
    "date64": "date64[ms]",
    "float128": "longdouble",
    "complex256": "clongdouble",
    **{f"datetime64[{unit}]": f"timestamp[{unit}]" for unit in ("s", "ms", "us", "ns")},
    **{f"timedelta64[{unit}]": f"duration[{unit}]" for unit in ("s", "ms", "us", "ns")},
}

#: Dtypes with parameters: pattern, kind, canonical form.
_PARAMETRIC: Final[tuple[tuple[re.Pattern[str], str, str], ...]] = (
    (
        re.compile(r"(?:timestamp|datetime64)\[(s|ms|us|ns), *(?:tz=)?([A-Za-z0-9_+\-/:]+)\]"),
        "timestamp",
        "timestamp[{}, tz={}]",
    ),
    (re.compile(r"decimal(32|64|128|256)\((\d{1,2}), *(-?\d{1,2})\)"), "decimal", "decimal{}({}, {})"),
    (re.compile(r"fixed_size_binary\[(\d{1,9})\]"), "binary", "fixed_size_binary[{}]"),
)

_LARGEST: Final[dict[str, float]] = {
    "float16": 65504.0,
    "float32": (2 - 2.0**-23) * 2.0**127,
    "bfloat16": (2 - 2.0**-7) * 2.0**127,
    "float8_e4m3fn": 448.0,
    "float8_e4m3fnuz": 240.0,
    "float8_e5m2": 57344.0,
    "float8_e5m2fnuz": 57344.0,
    "float8_e8m0fnu": 2.0**127,
}


def canonical_dtype(name: str) -> str | None:
    """The canonical name of a dtype or of an alias; None if it is unknown."""
    name = ALIASES.get(name, name)
    if name in _KINDS:
        return name
    for pattern, _, form in _PARAMETRIC:
        if match := pattern.fullmatch(name):
            return form.format(*match.groups())
    return None


def dtype_kind(name: str | None) -> str | None:
    """The kind of a canonical dtype; None for no dtype.

    Kinds are ``integer``, ``float``, ``complex``, ``bool``, ``string``, ``binary``, ``date``, ``clock``, ``timestamp``,
    ``duration``, ``decimal`` and ``other``.
    """
    if name is None:
        return None
    for pattern, kind, _ in _PARAMETRIC:
        if pattern.fullmatch(name):
            return kind
    return _KINDS[name]


def dtype_problem(name: str) -> str:
    """The error message for a name that is not a dtype."""
    if name in ("category", "categorical", "dictionary"):
        return f"'{name}' is a storage form; give the dtype of the values, and list them in 'isin'"
    if name == "object":
        return "'object' can hold anything; give the dtype of the values, or leave 'dtype' out"
    if name.startswith(("list", "struct", "map")):
        return f"'{name}' is a container; give the dtype of its innermost values, and their 'shape'"
    hint = nearest_name(name, [*_KINDS, *ALIASES]) or nearest_name(name.lower(), [*_KINDS, *ALIASES])
    known = "; use a name of NumPy ('float32') or Arrow ('timestamp[us]', 'decimal128(10, 2)')"
    return f"unknown dtype '{name}'{hint or known}"


def integer_range(name: str) -> tuple[int, int]:
    """The smallest and the largest value of an integer dtype."""
    bits = int(name.lstrip("uint"))
    return (0, 2**bits - 1) if name.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def largest_float(name: str) -> float:
    """The largest finite value of a float dtype narrower than float64; infinity for the others."""
    return _LARGEST.get(name, math.inf)


def largest_decimal(name: str) -> Decimal:
    """The largest value of a decimal dtype."""
    precision, scale = (int(digits) for digits in re.findall(r"-?\d+", name)[1:])
    return Decimal(10**precision - 1).scaleb(-scale, Context(prec=100))


def decimal_scale(name: str) -> int:
    """The digits after the point of a decimal dtype."""
    return int(re.findall(r"-?\d+", name)[2])


def known_dtypes() -> list[str]:
    """Every name of a dtype without parameters, including aliases."""
    return [*_KINDS, *ALIASES]


def parametric_patterns() -> list[str]:
    """A regular expression for each family of dtypes with parameters."""
    return [pattern.pattern for pattern, _, _ in _PARAMETRIC]
