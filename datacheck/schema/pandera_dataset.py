"""Rules about a dataset as pandera checks: the data frame is the dataset.

What needs more than the frame has no such check, and travels in pandera's ``metadata``: ``num_files``, ``references``,
``splits`` and ``own_checks``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from datacheck.schema.dataset_constraints import SPECIAL_SHARES
from datacheck.schema.intervals import Interval, nanoseconds_of
from datacheck.text import find_variants

#: The rules of a schema about the dataset, by their keys.
SCHEMA_RULES: Final = (
    "dimensions",
    "num_rows",
    "num_files",
    "sequence",
    "determines",
    "references",
    "splits",
    "own_checks",
)


def field_rules(field: Any) -> Iterator[tuple[str, Any]]:
    """The name and the function of a check of a series, for each constraint of a field on the dataset."""
    if field.min_distinct is not None or field.max_distinct is not None:
        yield "distinct", partial(_distinct, lowest=field.min_distinct, highest=field.max_distinct)
    if field.covers is not None:
        yield "covers", partial(_covers, members=field.covers)
    if field.no_variants:
        yield "no_variants", _has_no_variants
    for name in ("mean", "std"):
        if (interval := getattr(field, name)) is not None:
            yield name, partial(_statistic, name=name, interval=interval)
    for quantile, interval in field.quantiles.items():
        yield f"quantile {quantile}", partial(_quantile, quantile=float(quantile), interval=interval)
    if field.max_age is not None:
        yield "max_age", partial(_is_fresh, max_age=field.max_age)
    for name, interval in field.share.items():
        yield f"share of {name}", partial(_share, name=name, interval=interval)


def frame_rules(schema: Any) -> Iterator[tuple[str, Any]]:
    """The name and the function of a check of a data frame, for each rule of a schema about it."""
    if schema.num_rows is not None:
        yield "num_rows", partial(_has_rows, interval=schema.num_rows)
    for sequence in schema.sequence:
        yield f"sequence {sequence.label}", partial(_follows, sequence=sequence)
    for rule in schema.determines:
        yield rule.label, partial(_determines, rule=rule)


def _has_no_variants(series: Any) -> bool:
    return not find_variants(series.value_counts().to_dict())


def _distinct(series: Any, lowest: int | None, highest: int | None) -> bool:
    number = series.nunique()
    return (lowest is None or number >= lowest) and (highest is None or number <= highest)


def _covers(series: Any, members: tuple[Any, ...]) -> bool:
    return bool(set(members) <= set(series.dropna().unique().tolist()))


def _finite(series: Any) -> Any:
    import numpy as np

    values = series.dropna().to_numpy(dtype=np.float64)
    return values[np.isfinite(values)]


def _statistic(series: Any, name: str, interval: Interval) -> bool:
    import math

    values = _finite(series)
    if len(values) < (1 if name == "mean" else 2):
        return False
    found = float(values.mean()) if name == "mean" else float(values.std(ddof=1))
    return math.isfinite(found) and _admits(interval, found)


def _quantile(series: Any, quantile: float, interval: Interval) -> bool:
    import numpy as np

    values = _finite(series)
    return bool(len(values)) and _admits(interval, float(np.quantile(values, quantile, method="inverted_cdf")))


def _admits(interval: Interval, value: float) -> bool:
    from fractions import Fraction

    return interval.admits(Fraction(value))


def _is_fresh(series: Any, max_age: str) -> bool:
    """Whether the newest time is recent enough; a time without a zone is in UTC."""
    import pandas as pd

    times = series.dropna()
    if not len(times) or pd.api.types.is_numeric_dtype(times.dtype):
        return False
    age = pd.Timestamp.now("UTC") - pd.to_datetime(times, utc=True).max()
    return bool(age.as_unit("ns").value <= nanoseconds_of(max_age))


def _share(series: Any, name: str, interval: Interval) -> bool:
    from fractions import Fraction

    import numpy as np

    present = series.dropna()
    if name == "null":
        found, total = len(series) - len(present), len(series)
    elif name in SPECIAL_SHARES and series.dtype.kind in "fiu":
        values = series.to_numpy(dtype=np.float64)
        is_one = np.isnan(values) if name == "nan" else np.isinf(values) if name == "inf" else values == 0
        found, total = int(is_one.sum()), len(values)
    else:
        found, total = int((present.astype(str) == name).sum()), len(present)
    return bool(total) and interval.admits(Fraction(found, total), interval.decimal)


def _has_rows(frame: Any, interval: Interval) -> bool:
    return interval.admits(len(frame))


def _follows(frame: Any, sequence: Any) -> Any:
    """True for each row that follows the one before it in its group; one verdict for rules about groups."""
    import pandas as pd

    passes = pd.Series(True, index=frame.index)
    if sequence.by:
        keys = frame.groupby(list(sequence.by), dropna=False, sort=False).ngroup()
    else:
        keys = pd.Series(0, index=frame.index)
    if sequence.num_rows is not None and not keys.map(keys.value_counts()).map(sequence.num_rows.admits).all():
        return False
    if sequence.contiguous:
        passes &= (keys == keys.shift(1)) | ~keys.duplicated()
    if sequence.on is None:
        return passes
    present = frame[sequence.on].dropna()
    before = present.groupby(keys[present.index]).shift(1)
    after, before = present[before.notna()], before.dropna()
    if sequence.required_order is not None:
        compare = {"increasing": "ge", "strictly_increasing": "gt", "decreasing": "le", "strictly_decreasing": "lt"}
        passes[after.index] &= getattr(after, compare[sequence.required_order])(before)
    if sequence.step is not None:
        passes[after.index] &= (after - before).map(partial(_is_step, step=sequence.step))
    return passes


def _is_step(difference: Any, step: Interval) -> bool:
    from fractions import Fraction

    nanoseconds = getattr(difference, "value", None)
    if nanoseconds is None:
        return step.admits(Fraction(float(difference)))
    return step.admits(int(difference.as_unit("ns").value))


def _determines(frame: Any, rule: Any) -> Any:
    """True for each row that agrees with the first one of its key."""
    import pandas as pd

    present = frame.dropna(subset=[*rule.fields, *rule.determine])
    passes = pd.Series(True, index=frame.index)
    for name in rule.determine:
        passes[present.index] &= present[name] == present.groupby(list(rule.fields))[name].transform("first")
    return passes
