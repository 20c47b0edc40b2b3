"""Accumulating the values that one statistic is learned from: valid, finite, and without violations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.cleaning.fit.frequencies import DEFAULT_MAX_DISTINCT, Frequencies
from datacheck.cleaning.fit.quantiles import DEFAULT_MEMORY_BOUND, Quantiles
from datacheck.cleaning.fit.statistics import Learned, StatisticName
from datacheck.cleaning.masks import as_features, code_mask, describe_field, find_unusable
from datacheck.cleaning.plan import CleaningPlan, Step
from datacheck.cleaning.rules import Clip, Impute, Scalar
from datacheck.cleaning.values import dtype_family
from datacheck.errors import CleaningError
from datacheck.exact_moments import ExactMoments
from datacheck.exact_sums import ExactSum
from datacheck.leaves import FLOAT_FORMATS, BoolArray, Leaf
from datacheck.numerics import to_float
from datacheck.schema.model import Field
from datacheck.text import count

Array = np.ndarray[Any, Any]

#: Bytes of values that all fields together keep before sketches replace them.
_KEPT_BYTES_TOGETHER = 256 << 20
_KEEPERS = frozenset({"median", "quantiles"})

_CODE_NAMES = {"DC101": "NaN", "DC102": "+inf", "DC103": "-inf", "DC104": "null"}


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """The memory limits of one field: bytes of kept values, and number of counted distinct values."""

    kept_bytes: int = DEFAULT_MEMORY_BOUND
    max_distinct: int = DEFAULT_MAX_DISTINCT

    @classmethod
    def shared(cls, plan: CleaningPlan) -> MemoryLimits:
        """The default, or less if many fields of a validated plan keep values."""
        keepers = sum(
            any(plan.learns(step.rule, path) and statistic_of(step) in _KEEPERS for step in plan.repairs_for(path))
            for path in plan.all_paths
        )
        return cls(kept_bytes=min(DEFAULT_MEMORY_BOUND, _KEPT_BYTES_TOGETHER // max(keepers, 1)))


def statistic_of(step: Step) -> StatisticName:
    """The statistic that a learned rule needs."""
    rule = step.rule
    if isinstance(rule, Clip):
        return "quantiles"
    assert isinstance(rule, Impute)
    assert rule.strategy != "constant"
    return rule.strategy


class Accumulator:
    """Accumulates the values of a field for one rule's statistic, and merges with others of the same field.

    ``width`` is the number of features of a ``per_feature`` rule, None to learn from all values together.
    """

    def __init__(self, step: Step, path: str | None, dtype: str, width: int | None, limits: MemoryLimits) -> None:
        self.step, self.path, self.dtype, self.width, self.limits = step, path, dtype, width, limits
        self.statistic = statistic_of(step)
        self.total = 0
        self.unusable: Counter[str] = Counter()
        self.num_values = np.zeros(width or 1, np.int64)
        #: An ``ExactMoments``, of features an ``ExactSum``; None for a statistic that is no mean.
        self._sum: Any = None
        self._quantiles: list[Quantiles] = []
        self._frequencies: list[Frequencies] = []
        if self.statistic == "mean":
            self._sum = ExactMoments(squares=False) if width is None else ExactSum(width)
        elif self.statistic == "most_frequent":
            self._frequencies = [
                Frequencies(f"{step.location}: {self.name}", limits.max_distinct) for _ in self.num_values
            ]
        else:
            stored = np.dtype(np.float32) if dtype in FLOAT_FORMATS else np.dtype(dtype)
            self._quantiles = [Quantiles(stored, limits.kept_bytes // (width or 1)) for _ in self.num_values]

    @property
    def name(self) -> str:
        return describe_field(self.path)

    def empty_like(self) -> Accumulator:
        """An empty accumulator of the same field."""
        return Accumulator(self.step, self.path, self.dtype, self.width, self.limits)

    def start_sketch(self) -> None:
        """Sketch from the start, for a field that is known to exceed the memory limit."""
        for quantiles in self._quantiles:
            quantiles.start_sketch()

    def add(self, leaf: Leaf, field: Field) -> None:
        """Add the usable values of a leaf."""
        self._require_same(leaf.dtype)
        self.total += len(leaf)
        dirty = list(find_unusable(leaf, self.step.codes, field))
        for part, mask in dirty:
            if mask.all():
                self._count_unusable(leaf, field, part)
        if self.width is not None:
            self._add_features(leaf, dirty)
        else:
            self.num_values += len(leaf) - sum(int(np.count_nonzero(mask)) for _, mask in dirty)
            self._add_flat(leaf, dirty)

    def _count_unusable(self, leaf: Leaf, field: Field, part: slice) -> None:
        """Count why a slice has no usable value, for the error if the whole field has none."""
        for code in sorted({*_CODE_NAMES, *self.step.codes}):
            self.unusable[code] += int(np.count_nonzero(code_mask(leaf, code, field, part)))

    def merge(self, other: Accumulator) -> None:
        """Merge another accumulator of the same field."""
        self._require_same(other.dtype)
        if other.width != self.width:
            raise CleaningError(
                f"{self.step.location}: {self.name} has {self.width} features in some inputs and {other.width} in others; "
                "per_feature needs one shape"
            )
        self.total += other.total
        self.unusable.update(other.unusable)
        self.num_values = self.num_values + other.num_values
        if self._sum is not None:
            self._sum.merge(other._sum)
        for mine, theirs in zip(self._quantiles, other._quantiles, strict=True):
            mine.merge(theirs)
        for counted, more in zip(self._frequencies, other._frequencies, strict=True):
            counted.merge(more)

    def learn(self) -> Learned:
        """The statistic; raises ``CleaningError`` if there is nothing to learn from, or the dtype cannot hold it."""
        for feature, number in enumerate(self.num_values.tolist()):
            if not number:
                raise CleaningError(self._nothing_to_learn(feature))
        exact = all(quantiles.is_exact for quantiles in self._quantiles)
        numbers = tuple(self.num_values.tolist())
        return Learned(
            self.step.index, self.path, self.statistic, self.width is not None, exact, numbers, tuple(self._values())
        )

    def _values(self) -> list[tuple[Scalar, ...]]:
        if self._sum is not None:
            return [(mean,) for mean in self._sum.means(self.num_values.tolist())]
        if self._frequencies:
            return [(frequencies.most_frequent()[0],) for frequencies in self._frequencies]
        rule = self.step.rule
        if isinstance(rule, Clip):
            assert rule.quantiles is not None
            return [self._bounds(*quantiles.find(rule.quantiles)) for quantiles in self._quantiles]
        return [(self._median(quantiles),) for quantiles in self._quantiles]

    def _median(self, quantiles: Quantiles) -> Scalar:
        (median,) = quantiles.find([0.5])
        if dtype_family(self.dtype) != "int":
            return float(median)
        if not quantiles.is_exact:
            return round(median)
        if median.denominator != 1:
            raise CleaningError(
                f"{self.step.location}: the median of {self.name} is {float(median)!r}, which {self.dtype} cannot hold; "
                "use most_frequent or a constant"
                + ("" if self.step.rule.fields else ", or say which 'fields' the rule is for")
            )
        return int(median)

    def _bounds(self, lower: Fraction, upper: Fraction) -> tuple[Scalar, Scalar]:
        if dtype_family(self.dtype) != "int":
            return float(lower), float(upper)
        inside = -(-lower.numerator // lower.denominator), upper.numerator // upper.denominator
        return inside if inside[0] <= inside[1] else (inside[1], inside[0])

    def _add_flat(self, leaf: Leaf, dirty: list[tuple[slice, BoolArray]]) -> None:
        if not leaf.is_numeric:
            mask = np.zeros(len(leaf), np.bool_)
            for part, found in dirty:
                mask[part] = found
            self._frequencies[0].add(leaf.values.filter(pa.array(~mask)) if dirty else leaf.values)
            return
        position = 0
        for part, mask in dirty:
            self._add_clean(leaf.values[position : part.start])
            values = self._numbers(leaf.values[part])
            if self._sum is not None:
                self._sum.add(np.where(mask, 0, values))
            else:
                self._add_to(0, values[~mask])
            position = part.stop
        self._add_clean(leaf.values[position:])

    def _add_clean(self, values: Array) -> None:
        if len(values):
            values = self._numbers(values)
            if self._sum is not None:
                self._sum.add(values)
            else:
                self._add_to(0, values)

    def _add_features(self, leaf: Leaf, dirty: list[tuple[slice, BoolArray]]) -> None:
        matrix = as_features(self._numbers(leaf.values), leaf)
        usable = np.ones(len(leaf), np.bool_)
        for part, mask in dirty:
            usable[part] = ~mask
        chosen = as_features(usable, leaf)
        self.num_values += np.count_nonzero(chosen, axis=0) if dirty else len(matrix)
        if self._sum is not None:
            self._sum.add(np.where(chosen, matrix, 0) if dirty else matrix)
            return
        for feature in range(matrix.shape[1]):
            column = matrix[:, feature]
            self._add_to(feature, column[chosen[:, feature]] if dirty else column)

    def _add_to(self, feature: int, values: Array) -> None:
        (self._quantiles or self._frequencies)[feature].add(values)

    def _numbers(self, values: Array) -> Array:
        return to_float(values, self.dtype)

    def _require_same(self, dtype: str) -> None:
        if dtype != self.dtype:
            raise CleaningError(
                f"{self.step.location}: {self.name} is {self.dtype} in some inputs and {dtype} in others; "
                "give it one dtype"
            )

    def _nothing_to_learn(self, feature: int) -> str:
        statistic = {"quantiles": "quantiles", "most_frequent": "a most frequent value"}.get(
            self.statistic, f"a {self.statistic}"
        )
        start = f"{self.step.location}: nothing to learn {statistic} from"
        if self.total == 0:
            return f"{start}: there are no values of {self.name}"
        if self.width is not None:
            total = self.total // self.width
            return f"{start}: none of the {count(total)} values of feature {feature} of {self.name} can be used"
        kinds = {code: number for code, number in self.unusable.items() if number}
        if len(kinds) == 1:
            (code,) = kinds
            word = _CODE_NAMES.get(code, f"wrong ({code})")
            return f"{start}: all {count(self.total)} values of {self.name} are {word}"
        listed = ", ".join(f"{count(number)} {_CODE_NAMES.get(code, code)}" for code, number in sorted(kinds.items()))
        return f"{start}: none of the {count(self.total)} values of {self.name} can be used ({listed})"
