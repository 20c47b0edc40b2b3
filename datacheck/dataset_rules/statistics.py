"""DC323: mean, standard deviation, quantiles and shares of a field over the dataset, all exact.

Sums are exact, so a mean depends on no order. A quantile is never computed: whether the median is at most 40
is a question of how many values are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.batch import Batch
from datacheck.dataset_rules.base import Context, DatasetOutcome, Part, RuleState
from datacheck.dataset_rules.field_values import FieldValues, Source, values_of
from datacheck.exact_moments import ExactMoments
from datacheck.findings import Finding
from datacheck.leaves import has_nonfinite
from datacheck.numerics import BLOCK, is_finite, nan_mask, to_float
from datacheck.schema.dataset_constraints import SPECIAL_SHARES
from datacheck.schema.intervals import Interval
from datacheck.schema.rounding import round_float
from datacheck.schema.scalars import arrow_scalar

Array = np.ndarray[Any, Any]

STATISTIC = "DC323"
#: Formats in which a decimal is another number than in float64, the coarsest first.
_NARROW = (
    "float8_e8m0fnu",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "bfloat16",
    "float16",
    "float32",
)


@dataclass(frozen=True, slots=True)
class StatisticsRule:
    """The statistics of one field that a schema bounds."""

    source: Source

    @property
    def columns(self) -> tuple[str | None, ...]:
        return (self.source.column,)

    def start(self, part: Part) -> StatisticsState:
        return StatisticsState(self, part)


@dataclass(slots=True)
class _Counts:
    slots: int = 0
    present: int = 0
    nan: int = 0
    inf: int = 0
    zero: int = 0

    def add(self, other: _Counts) -> None:
        for name in _Counts.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def finite(self) -> int:
        return self.present - self.nan - self.inf


@dataclass(slots=True)
class _Bound:
    """A bound on a quantile, and the comparison that counts the values on its side of the quantile."""

    quantile: str
    name: str
    interval: Interval = field(repr=False)


class StatisticsState(RuleState):
    """Counts and exact sums of the values of a field."""

    def __init__(self, rule: StatisticsRule, part: Part) -> None:
        super().__init__(rule, part)
        self._source = rule.source
        wanted = rule.source.field
        self._needs_sums = wanted.mean is not None or wanted.std is not None
        self._needs_values = self._needs_sums or bool(wanted.quantiles) or bool({*wanted.share} - {"null"})
        self._bounds = [
            _Bound(quantile, name, interval)
            for quantile, interval in wanted.quantiles.items()
            for name in interval.stated
        ]
        self.counts = _Counts()
        self.below: dict[tuple[str, str], int] = {(one.quantile, one.name): 0 for one in self._bounds}
        self.classes: dict[str, int] = dict.fromkeys(wanted.share, 0)
        self.moments = ExactMoments(squares=wanted.std is not None)
        self.dtypes: set[str] = set()
        self.problem = ""

    def update(self, batch: Batch) -> None:
        for found in values_of(batch, self._source):
            self._add(found)

    def _add(self, found: FieldValues) -> None:
        self.counts.slots += found.num_slots
        self.counts.present += len(found.values)
        if isinstance(found.values, np.ndarray):
            dtype = found.leaf.dtype
            self.dtypes.add(dtype)
            if found.values.dtype.kind == "c":
                self.problem = "complex values have no order and no classes"
                return
            for start in range(0, len(found.values) if self._needs_values else 0, BLOCK):
                self._add_numbers(found.values[start : start + BLOCK], dtype)
        elif len(found.values):
            self._add_others(found.values)

    def _add_numbers(self, values: Array, dtype: str) -> None:
        finite = to_float(values, dtype)
        if not finite.dtype.isnative:
            finite = finite.astype(finite.dtype.newbyteorder("="))
        # The sums pass over all values, and tell.
        has_good = self.moments.add(finite) if self._needs_sums else is_finite(values, dtype)
        if has_nonfinite(dtype) and not has_good:
            is_nan = nan_mask(values, dtype)
            is_good = np.isfinite(finite)
            num_nan = int(np.count_nonzero(is_nan))
            self.counts.nan += num_nan
            self.counts.inf += len(values) - int(np.count_nonzero(is_good)) - num_nan
            finite = finite[is_good]
        if "zero" in self.classes:
            self.counts.zero += len(finite) - int(np.count_nonzero(finite))
        for name in self.classes:
            if name not in ("null", *SPECIAL_SHARES):
                self.classes[name] += _count_equal(finite, name, dtype)
        for bound in self._bounds:
            self.below[bound.quantile, bound.name] += _count_below(finite, bound, dtype)

    def _add_others(self, values: pa.Array) -> None:
        if self._needs_sums or self._bounds:
            self.problem = f"values of {values.type} are not numbers"
        for name in self.classes:
            if name == "null":
                continue
            try:
                scalar = arrow_scalar(name if values.type != pa.bool_() else name == "true", values.type)
                number = pc.sum(pc.equal(values, scalar)).as_py() or 0
            except (ValueError, pa.ArrowException) as error:
                self.problem = f"share of '{name}': {error}"
                continue
            self.classes[name] += int(number)

    def merge(self, other: StatisticsState) -> None:
        self.problem = self.problem or other.problem
        self.dtypes |= other.dtypes
        self.counts.add(other.counts)
        for key, number in other.below.items():
            self.below[key] += number
        for name, number in other.classes.items():
            self.classes[name] += number
        self.moments.merge(other.moments)

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        if not self.counts.slots:
            return
        uri, path = context.uris[0], self._source.path
        if self.problem:
            yield DatasetOutcome(Finding("DC005", uri, path, 1, 1, detail=f"statistics: {self.problem}"))
            return
        for name, found, wrong, checked in [*self._of_sums(), *self._of_quantiles(), *self._of_shares()]:
            yield DatasetOutcome(Finding(STATISTIC, uri, path, wrong, checked, rule=name, detail=found))

    def _of_sums(self) -> Iterator[tuple[str, str, int, int]]:
        wanted, number = self._source.field, self.counts.finite
        if not self._needs_sums:
            return
        for name, needed in (("mean", 1), ("std", 2)):
            interval: Interval | None = getattr(wanted, name)
            if interval is None:
                continue
            if number < needed:
                yield name, f"is undefined: there are {number} finite values; expected {interval.describe()}", 1, 1
                continue
            mean = self.moments.sum / number
            variance = (self.moments.sum_of_squares - self.moments.sum * mean) / max(number - 1, 1)
            limits = {at: self._rounded(interval, at) for at in interval.stated}
            if name == "mean":
                passes, value = interval.admits(mean, limits.__getitem__), float(mean)
            else:
                # The squares are compared, because a root is not exact.
                squared = {at: limit * abs(limit) for at, limit in limits.items()}
                passes = interval.admits(variance, squared.__getitem__)
                value = _root(variance)
            if not passes:
                yield name, f"of {number:,} values is {value:g}, expected {interval.describe()}", 1, 1

    def _rounded(self, interval: Interval, name: str) -> Fraction:
        """A bound as a value of the field's dtype: what was written as 0.1 equals the constant 0.1."""
        dtype = next((dtype for dtype in _NARROW if dtype in self.dtypes), "float64")
        number = interval.number(name)
        return Fraction(round_float(float(number), dtype)) if number.denominator > 1 else number

    def _of_quantiles(self) -> Iterator[tuple[str, str, int, int]]:
        number = self.counts.finite
        for bound in self._bounds:
            name = f"quantile {bound.quantile}"
            symbol = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}[bound.name]
            expected = f"{symbol} {getattr(bound.interval, bound.name)}"
            if not number:
                yield name, f"is undefined: there are no finite values; expected {expected}", 1, 1
                continue
            rank = max(1, math.ceil(Fraction(bound.quantile) * number))
            below = self.below[bound.quantile, bound.name]
            is_upper = bound.name in ("le", "lt")
            if (below < rank) if is_upper else (below >= rank):
                side = number - below if is_upper else below
                yield (
                    name,
                    f"is not {expected}: {_percent(side, number)} of {number:,} values are not",
                    side,
                    number,
                )

    def _of_shares(self) -> Iterator[tuple[str, str, int, int]]:
        counts = self.counts
        for name, interval in self._source.field.share.items():
            found, total = self.classes[name], counts.present
            if name == "null":
                found, total = counts.slots - counts.present, counts.slots
            elif name in SPECIAL_SHARES and not found:
                found = getattr(counts, name)
            if not total:
                yield (
                    f"share of {name}",
                    f"is undefined: there are no values; expected {_described(interval)}",
                    1,
                    1,
                )
            elif not interval.admits(Fraction(found, total), interval.decimal):
                shown = f"is {_percent(found, total)} ({found:,} of {total:,}), expected {_described(interval)}"
                yield f"share of {name}", shown, found, total


def _percent(number: int, total: int) -> str:
    return f"{100 * number / total:.3g} %"


def _described(interval: Interval) -> str:
    return interval.describe(percent=True)


def _number(name: str, dtype: str) -> Any:
    """A class of a numeric field as a number of its dtype; None if the dtype has no such number."""
    if dtype == "bool":
        return {"true": True, "false": False}.get(name)
    try:
        number: Any = Fraction(name)
    except ValueError:
        return None
    if has_nonfinite(dtype):
        return round_float(float(number), dtype)
    return int(number) if number.denominator == 1 else None


def _count_equal(finite: Array, name: str, dtype: str) -> int:
    number = _number(name, dtype)
    if number is None:
        return 0
    if finite.dtype.kind in "iu" and not np.iinfo(finite.dtype).min <= number <= np.iinfo(finite.dtype).max:
        return 0
    return int(np.count_nonzero(finite == finite.dtype.type(number)))


def _count_below(finite: Array, bound: _Bound, dtype: str) -> int:
    """The values that a bound of a quantile counts: at most it (``le``, ``gt``), or below it (``lt``, ``ge``)."""
    limit = bound.interval.number(bound.name)
    includes = bound.name in ("le", "gt")
    if finite.dtype.kind == "f":
        rounded = finite.dtype.type(round_float(float(limit), dtype))
        return int(np.count_nonzero(finite <= rounded if includes else finite < rounded))
    if finite.dtype.kind == "b":
        finite = finite.view(np.uint8)
    # Integers at most the floor, or below the ceiling.
    whole = math.floor(limit) if includes else math.ceil(limit) - 1
    info = np.iinfo(finite.dtype)
    if whole < info.min:
        return 0
    return len(finite) if whole >= info.max else int(np.count_nonzero(finite <= finite.dtype.type(whole)))


def _root(variance: Fraction) -> float:
    try:
        return math.sqrt(variance)
    except OverflowError:
        return math.inf
