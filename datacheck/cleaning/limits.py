"""The limits of a clip rule for one leaf: what to compare its values with, and what to write instead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datacheck.cleaning.fit.statistics import Learned
from datacheck.cleaning.masks import describe_field
from datacheck.cleaning.plan import Step
from datacheck.cleaning.rules import Clip
from datacheck.cleaning.values import dtype_family, encode, max_finite, next_value, round_inward, storage_dtype
from datacheck.codes import CODES
from datacheck.errors import CleaningError
from datacheck.leaves import FLOAT_FORMATS, Leaf
from datacheck.numerics import Bounds, neginf_mask, posinf_mask, suspicious, to_float
from datacheck.schema.model import Field


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a range.

    Attributes:
        limit: what to compare with, in the dtype of the comparison.
        fill: what to write, in the dtype of the storage. Both are arrays if they differ by feature.
        infinity: the code of the infinity beyond.
        takes_finite: whether finite values are clipped at this end.
        takes_infinity: whether the infinity is.
    """

    limit: Any
    fill: Any
    infinity: str
    takes_finite: bool
    takes_infinity: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """Both ends; None for an end where nothing is clipped."""

    lower: Side | None
    upper: Side | None
    per_feature: bool

    def bounds(self) -> Bounds:
        """The bounds for the screen."""
        return Bounds(
            ge=None if self.lower is None else self.lower.limit,
            le=None if self.upper is None else self.upper.limit,
        )


def schema_limits(field: Field, dtype: str) -> tuple[float | None, float | None]:
    """The lowest and the highest value of a dtype within a field's bounds; None if no finite value is beyond."""
    ge, le, gt, lt = (_within_reach(bound, dtype) for bound in (field.ge, field.le, field.gt, field.lt))
    lower = [ge, None if gt is None else next_value(gt, dtype, up=True)]
    upper = [le, None if lt is None else next_value(lt, dtype, up=False)]
    return (
        max((value for value in lower if value is not None), default=None),
        min((value for value in upper if value is not None), default=None),
    )


def _within_reach(bound: object, dtype: str) -> float | None:
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        return None
    return bound if dtype_family(dtype) == "int" or abs(bound) <= max_finite(dtype) else None


def find_limits(step: Step, leaf: Leaf, field: Field, learned: Learned | None) -> Limits:
    """The limits of a clip step, as numbers of the leaf's dtype.

    Raises ``CleaningError`` if the dtype cannot hold a bound, or an infinity has no bound to be clipped to.
    """
    assert isinstance(step.rule, Clip)
    if learned is not None:
        lower: Sequence[Any] | None = [values[0] for values in learned.values]
        upper: Sequence[Any] | None = [values[1] for values in learned.values]
    else:
        rule = step.rule
        lowest, highest = schema_limits(field, leaf.dtype) if rule.by_schema else (rule.ge, rule.le)
        lower = None if lowest is None else [lowest]
        upper = None if highest is None else [highest]
    per_feature = learned is not None and learned.per_feature
    limits = Limits(
        _side(step, leaf, lower, per_feature, above=False),
        _side(step, leaf, upper, per_feature, above=True),
        per_feature,
    )
    _require_limits(step, leaf, limits)
    return limits


def _side(step: Step, leaf: Leaf, raw: Sequence[float] | None, per_feature: bool, *, above: bool) -> Side | None:
    if raw is None:
        return None
    side, infinity = ("upper", "DC102") if above else ("lower", "DC103")
    covered = {code for code in step.rule.covered if CODES[code].side == side and code != infinity}
    takes_finite = bool(covered) and covered <= step.codes
    takes_infinity = infinity in step.codes
    if not (takes_finite or takes_infinity):
        return None
    what = f"{step.location}: the {'upper' if above else 'lower'} bound of {describe_field(leaf.path)}"
    if dtype_family(leaf.dtype) == "int":
        whole = [math.floor(value) if above else math.ceil(value) for value in raw]
        info = np.iinfo(storage_dtype(leaf.dtype))
        raw = [min(value, info.max) if above else max(value, info.min) for value in whole]
    elif leaf.dtype in FLOAT_FORMATS:
        raw = [round_inward(value, leaf.dtype, up=not above) for value in raw]
    fills = np.array([encode(value, leaf.dtype, what) for value in raw], storage_dtype(leaf.dtype))
    limits = to_float(fills, leaf.dtype)
    if not per_feature:
        return Side(limits[0], fills[0], infinity, takes_finite, takes_infinity)
    return Side(limits, fills, infinity, takes_finite, takes_infinity)


def _require_limits(step: Step, leaf: Leaf, limits: Limits) -> None:
    for code, side, find in (("DC102", limits.upper, posinf_mask), ("DC103", limits.lower, neginf_mask)):
        if code not in step.codes or side is not None or not leaf.may_be_nonfinite:
            continue
        for part in suspicious(leaf.values, leaf.dtype):
            mask = find(leaf.values[part], leaf.dtype)
            if leaf.validity is not None:
                mask &= leaf.validity[part]
            if mask.any():
                end = "upper" if code == "DC102" else "lower"
                raise CleaningError(
                    f"{step.location}: {describe_field(leaf.path)} has infinities ({code}) but no {end} bound to clip them to; "
                    f"set {'le' if code == 'DC102' else 'ge'} in the rule, or a bound in the schema"
                )
