"""Intervals for numbers, shares and differences: ``{ge: 1, lt: 5}``, ``1%``, ``1h``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from operator import ge, gt, le, lt
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BeforeValidator, WithJsonSchema, model_validator
from pydantic import Field as Described

from datacheck.schema.base_model import SchemaPart
from datacheck.schema.times import NANOSECONDS
from datacheck.schema.validation import fault
from datacheck.schema.values import unwrapped

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", re.ASCII)
_PERCENTAGE: Final = re.compile(r"(\d{1,3}(?:\.\d{1,9})?)\s*%", re.ASCII)
_HOUR: Final = 3600 * 10**9
#: Nanoseconds of each unit that a duration can be written in; pandas' names.
_UNITS: Final = {**NANOSECONDS, "min": 60 * 10**9, "h": _HOUR, "d": 24 * _HOUR, "D": 24 * _HOUR, "w": 168 * _HOUR}
_BOUNDS: Final = ("ge", "gt", "le", "lt")
_PASSES: Final[dict[str, Callable[[Any, Any], bool]]] = {"ge": ge, "gt": gt, "le": le, "lt": lt}

Bound = int | float | str


class Interval(SchemaPart):
    """The allowed values: the same bounds as a field has. A duration is written as ``1h`` or ``30min``."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {"min": "'ge'", "max": "'le'", "min_value": "'ge'", "max_value": "'le'"}

    ge: Bound | None = Described(default=None, description="The lower bound.")
    gt: Bound | None = Described(default=None, description="The exclusive lower bound.")
    le: Bound | None = Described(default=None, description="The upper bound.")
    lt: Bound | None = Described(default=None, description="The exclusive upper bound.")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        numbers = {name: self.number(name) for name in self.stated}
        if not numbers:
            raise fault((), "has no bound; expected 'ge', 'gt', 'le' or 'lt'")
        for lower, upper in ((low, high) for low in ("ge", "gt") for high in ("le", "lt")):
            if lower in numbers and upper in numbers:
                low, high = numbers[lower], numbers[upper]
                if low > high or (low == high and (lower, upper) != ("ge", "le")):
                    raise fault(lower, f"{getattr(self, lower)} and '{upper}: {getattr(self, upper)}' admit no value")
        return self

    @property
    def stated(self) -> tuple[str, ...]:
        """The names of the bounds that it has."""
        return tuple(name for name in _BOUNDS if getattr(self, name) is not None)

    def number(self, name: str) -> Fraction:
        """A bound as an exact number; a duration in nanoseconds."""
        value = getattr(self, name)
        return Fraction(nanoseconds_of(value)) if isinstance(value, str) else Fraction(value)

    def decimal(self, name: str) -> Fraction:
        """A bound as the decimal number that was written: 0.1 is a tenth."""
        return Fraction(repr(getattr(self, name)))

    def admits(self, value: Fraction | int, number: Callable[[str], Fraction] | None = None) -> bool:
        """Whether an exact number is within the bounds, which ``number`` gives by their names."""
        return all(_PASSES[name](value, (number or self.number)(name)) for name in self.stated)

    @property
    def is_duration(self) -> bool:
        """Whether the bounds are durations."""
        return any(isinstance(getattr(self, name), str) for name in _BOUNDS)

    def describe(self, *, percent: bool = False) -> str:
        """``>= 1 and < 5``, or ``<= 1 %``."""
        symbols = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
        written = [(symbols[name], getattr(self, name)) for name in self.stated]
        return " and ".join(f"{symbol} {_percent(value) if percent else value}" for symbol, value in written)


def _percent(value: Any) -> str:
    return f"{float(value) * 100:g} %"


def nanoseconds_of(text: str) -> int:
    """The nanoseconds of a duration such as ``90s``, ``30min``, ``1h``, ``7d``; raises ``ValueError``."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"expected a number, or a duration such as '30min', '1h' or '7d', got {text!r}")
    exact = Fraction(match[1]) * _UNITS[match[2]]
    if exact.denominator != 1 or exact > 2**63 - 1:
        raise ValueError(f"{text!r} is not a duration that nanoseconds can hold")
    return int(exact)


def _number(value: object) -> object:
    value = unwrapped(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    return value


def _whole(value: object) -> object:
    value = unwrapped(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"expected an integer of at least 0, got {value!r}")
    return value


def _share(value: object) -> object:
    share = unwrapped(value)
    if isinstance(share, str) and (match := _PERCENTAGE.fullmatch(share.strip())):
        share = float(Fraction(match[1]) / 100)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"expected a share from 0 to 1, or a percentage such as '1%', got {value!r}")
    return share


def _difference(value: object) -> object:
    if isinstance(value, str):
        nanoseconds_of(value)
        return value
    return _number(value)


def _duration(value: object) -> object:
    if not isinstance(value, str) or not _DURATION.fullmatch(value.strip()):
        raise ValueError(f"expected a duration such as '30min', '1h' or '7d', got {value!r}")
    nanoseconds_of(value)
    return value


def _by_quantile(value: object) -> object:
    """Quantiles as texts between 0 and 1: YAML reads keys as text, and Python users write numbers."""
    if not isinstance(value, Mapping):
        return value
    found = {}
    for name, bounds in value.items():
        try:
            number = float(name)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number <= 1:
            raise fault((), f"expected a quantile from 0 to 1, such as 0.5 for the median, got {name!r}")
        found[repr(number)] = bounds
    return found


def _by_class(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    return {_class_name(name): share for name, share in value.items()}


def _class_name(name: object) -> str:
    name = unwrapped(name)
    if name is None:
        return "null"
    return str(name).lower() if isinstance(name, bool) else str(name)


def _interval(read: Any, *shorthand: str) -> Any:
    """A validator of an interval whose bounds ``read`` validates; a single value stands for ``shorthand``."""

    def convert(value: object) -> object:
        if isinstance(value, Interval) or value is None:
            return value
        if not isinstance(value, Mapping):
            if not shorthand:
                raise ValueError("expected bounds such as {ge: 1, le: 5}")
            number = read(value)
            return dict.fromkeys(shorthand, number)
        found = dict(value)
        for name in _BOUNDS:
            if found.get(name) is not None:
                try:
                    found[name] = read(found[name])
                except ValueError as error:
                    raise fault(name, str(error)) from None
        return found

    return BeforeValidator(convert)


def _json(*kinds: str) -> Any:
    bounds = {name: {"type": list(kinds)} for name in _BOUNDS}
    interval = {"type": "object", "properties": bounds, "additionalProperties": False, "minProperties": 1}
    return WithJsonSchema({"anyOf": [interval, *({"type": kind} for kind in kinds)]})


def _json_of_bounds(kind: str) -> Any:
    bounds = {name: {"type": kind} for name in _BOUNDS}
    return WithJsonSchema({"type": "object", "properties": bounds, "additionalProperties": False, "minProperties": 1})


#: Bounds on a number: ``{ge: 0, le: 1}``.
Number = Annotated[Interval, _interval(_number), _json_of_bounds("number")]
#: Bounds on a number of things; a single one is the exact number.
Count = Annotated[Interval, _interval(_whole, "ge", "le"), _json("integer")]
#: Bounds on a share; a single one, such as ``1%``, is the most that is allowed.
Share = Annotated[Interval, _interval(_share, "le"), _json("number", "string")]
#: A difference of two values, or bounds on it: ``1``, ``1h``, ``{le: 2h}``.
Step = Annotated[Interval, _interval(_difference, "ge", "le"), _json("number", "string")]
#: A length of time, such as ``7d``.
Duration = Annotated[str, BeforeValidator(_duration)]
#: Bounds on quantiles, by the quantile.
Quantiles = Annotated[dict[str, Number], BeforeValidator(_by_quantile)]
#: Bounds on shares: of ``null``, ``nan``, ``inf``, ``zero``, and of classes.
Shares = Annotated[dict[str, Share], BeforeValidator(_by_class)]
