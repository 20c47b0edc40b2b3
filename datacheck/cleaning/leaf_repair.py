"""Repairing one leaf, which is copied when the first value is replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import take_rows
from datacheck.checks.missing import UNMENTIONED
from datacheck.checks.sentinels import find_missing
from datacheck.cleaning.fit.statistics import Learned, Statistics
from datacheck.cleaning.limits import Limits, find_limits
from datacheck.cleaning.masks import as_features, describe_field, feature_indices, num_features, require_features
from datacheck.cleaning.plan import Step, is_learned
from datacheck.cleaning.rules import Clip, Impute, NanToNum, Replace, Scalar, ToNull
from datacheck.cleaning.values import dtype_family, encode, find_incompatibility
from datacheck.cleaning.violations import LeafViolations, find_violations
from datacheck.errors import CleaningError
from datacheck.leaves import BoolArray, IntArray, Leaf, arrow_validity
from datacheck.numerics import neginf_mask, posinf_mask, suspicious, to_float
from datacheck.schema.model import Field
from datacheck.text import quantity

Array = np.ndarray[Any, Any]

_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class RepairCount:
    """How many values of a field one rule replaced. ``code`` is the code they violated; None for clipped finite values."""

    rule: int
    action: str
    field: str | None
    code: str | None
    num_values: int


class LeafRepair:
    """Applies the repairs of one leaf, one after the other.

    ``leaf`` is the result so far. The given leaf is never written to: it may be mapped from the input, and the
    quarantine needs the original values. ``violations`` says where its violations are, if that is known. ``has_nulls`` is
    False for an array, whose values cannot be null.
    """

    def __init__(
        self, leaf: Leaf, field: Field, violations: LeafViolations | None = None, *, has_nulls: bool = True
    ) -> None:
        self.leaf = leaf
        self.has_nulls = has_nulls
        self.field = field
        self._violations = violations
        self.changed = False
        self.counts: list[RepairCount] = []

    def run(self, step: Step, statistics: Statistics | None) -> BoolArray | None:
        """Apply one repair. Returns the mask of replaced values for a rule with an indicator."""
        rule = step.rule
        problem = find_incompatibility(rule, self.leaf.dtype)
        if problem is not None:
            self._refuse(step, problem)
            return None
        learned = self._find_learned(step, statistics) if is_learned(rule) else None
        if isinstance(rule, Clip):
            self._clip(step, find_limits(step, self.leaf, self.field, learned))
            return None
        if isinstance(rule, ToNull):
            self._make_null(step)
            return None
        if isinstance(rule, Replace):
            found = find_missing(self.leaf, rule.to_replace)
            if found is not None:
                fill = self._encode(step, rule.value)
                self._count(step, {None: self._put(np.flatnonzero(found), fill)})
            return None
        if isinstance(rule, NanToNum) and dtype_family(self.leaf.dtype) == "complex":
            self._replace_parts(step)
            return None
        return self._replace(
            step, self._fills(step, learned), keep_mask=isinstance(rule, Impute) and rule.indicator is not False
        )

    def _find_learned(self, step: Step, statistics: Statistics | None) -> Learned:
        learned = None if statistics is None else statistics.find(step.index, self.leaf.path)
        if learned is None:
            raise CleaningError(
                f"{step.location}: no statistics for {describe_field(self.leaf.path)}; "
                "run 'datacheck fit' on a training split that contains this field"
            )
        if learned.per_feature and len(learned.values) != require_features(self.leaf, step.location):
            raise CleaningError(
                f"{step.location}: {describe_field(self.leaf.path)} has {num_features(self.leaf)} features here, "
                f"but the statistics were learned from {len(learned.values)}"
            )
        return learned

    def _refuse(self, step: Step, problem: str) -> None:
        """Raise if there is a value that the rule cannot repair. Nulls in a nullable field need no repair."""
        if isinstance(step.rule, NanToNum):
            return
        allowed = {"DC104"} if self.field.nullable and self.field is not UNMENTIONED else set()
        codes = sorted(step.codes - allowed)
        for code, positions in self._find(codes).items():
            if len(positions):
                raise CleaningError(
                    f"{step.location}: {quantity(len(positions), 'value')} of {describe_field(self.leaf.path)} ({code}) "
                    f"cannot be repaired: {problem}; or give the field its own rule before this one"
                )

    def _find(self, codes: Sequence[str]) -> LeafViolations:
        """The values that violate ``codes``: those found while labelling, until a repair has changed the leaf."""
        if self._violations is None or self.changed:
            return find_violations(self.leaf, codes, self.field)
        return {code: self._violations.get(code, _NONE) for code in codes}

    def _fills(self, step: Step, learned: Learned | None) -> list[tuple[str, Any]]:
        """The value to write for each code: a scalar of the leaf's dtype, or an array with one per feature."""
        rule, codes = step.rule, sorted(step.codes)
        if isinstance(rule, NanToNum):
            said = rule.replacements
            return [(code, self._encode(step, said[code])) for code in codes]
        if learned is None:
            assert isinstance(rule, Impute)
            assert rule.value is not None
            fill = self._encode(step, rule.value)
        elif learned.per_feature:
            fill = np.array([self._encode(step, values[0]) for values in learned.values])
        else:
            fill = self._encode(step, learned.values[0][0])
        return [(code, fill) for code in codes]

    def _encode(self, step: Step, value: Scalar) -> Any:
        what = f"{step.location}: the value for {describe_field(self.leaf.path)}"
        if dtype_family(self.leaf.dtype) != "string":
            return encode(value, self.leaf.dtype, what)
        if not isinstance(value, str):
            raise CleaningError(f"{what} is {value!r}; expected text")
        return value

    def _replace(self, step: Step, fills: Sequence[tuple[str, Any]], *, keep_mask: bool) -> BoolArray | None:
        found = self._find([code for code, _ in fills])
        if not keep_mask and not any(len(positions) for positions in found.values()):
            return None
        replaced = np.zeros(len(self.leaf), np.bool_)
        counts: dict[str | None, int] = {}
        for code, fill in fills:
            # A value that violates several codes is replaced, and counted, once.
            positions = found[code][~replaced[found[code]]]
            replaced[positions] = True
            counts[code] = self._put(positions, fill)
        self._count(step, counts)
        return replaced if keep_mask else None

    def _make_null(self, step: Step) -> None:
        found = {code: positions for code, positions in self._find(sorted(step.codes)).items() if len(positions)}
        if found and not self.has_nulls and self.leaf.dtype not in ("float16", "float32", "float64", "longdouble"):
            raise CleaningError(
                f"{step.location}: {describe_field(self.leaf.path)} is an array of {self.leaf.dtype}, which has neither nulls"
                " nor NaN; impute the values, or drop the rows"
            )
        nulled = np.zeros(len(self.leaf), np.bool_)
        counts: dict[str | None, int] = {}
        for code, positions in found.items():
            positions = positions[~nulled[positions]]
            nulled[positions] = True
            counts[code] = len(positions)
        if not found:
            return
        positions = np.flatnonzero(nulled)
        if not self.has_nulls:
            self._put(positions, np.nan)
        elif self.leaf.is_numeric:
            self._own()
            validity = np.ones(len(self.leaf), np.bool_) if self.leaf.validity is None else self.leaf.validity
            validity[positions] = False
            self.leaf = replace(self.leaf, validity=validity, missing=self._without_missing(positions))
        else:
            self._put(positions, None)
            self.leaf = replace(self.leaf, validity=arrow_validity(self.leaf.values))
        self._count(step, counts)

    def _without_missing(self, positions: IntArray) -> BoolArray | None:
        """Where values still stand for a missing one, once those at ``positions`` are replaced."""
        if self.leaf.missing is None:
            return None
        missing = self.leaf.missing.copy()
        missing[positions] = False
        return missing

    def _replace_parts(self, step: Step) -> None:
        """Replace in the real and in the imaginary part separately, as NumPy does."""
        values = np.ascontiguousarray(self.leaf.values)
        parts = values.view(values.real.dtype)
        validity = None if self.leaf.validity is None else np.repeat(self.leaf.validity, 2)
        inner = LeafRepair(
            replace(self.leaf, values=parts, dtype=parts.dtype.name, validity=validity, levels=()), self.field
        )
        inner.run(step, None)
        self.counts.extend(inner.counts)
        if inner.changed:
            self.leaf = replace(self.leaf, values=inner.leaf.values.view(values.dtype))
            self.changed = True

    def _clip(self, step: Step, limits: Limits) -> None:
        counts: dict[str | None, int] = {None: 0, "DC102": 0, "DC103": 0}
        if limits.per_feature:
            parts = [slice(0, len(self.leaf))]
        else:
            parts = list(suspicious(self.leaf.values, self.leaf.dtype, limits.bounds()))
        for part in parts:
            stored = self.leaf.values[part]
            values = to_float(stored, self.leaf.dtype)
            infinite = [posinf_mask(stored, self.leaf.dtype), neginf_mask(stored, self.leaf.dtype)]
            for side, mask in zip((limits.upper, limits.lower), infinite, strict=True):
                if side is not None and side.takes_infinity:
                    counts[side.infinity] += self._put_valid(part, mask, side.fill)
            for side, mask in zip((limits.upper, limits.lower), infinite, strict=True):
                if side is not None and side.takes_finite:
                    beyond = self._beyond(values, side.limit, above=side is limits.upper)
                    counts[None] += self._put_valid(part, beyond & ~mask, side.fill)
        self._count(step, counts)

    def _beyond(self, values: Array, limit: Any, *, above: bool) -> BoolArray:
        compare = np.greater if above else np.less
        with np.errstate(invalid="ignore"):
            if not isinstance(limit, np.ndarray) or limit.ndim == 0:
                mask: BoolArray = compare(values, limit)
                return mask
            mask = np.empty(len(values), np.bool_)
            compare(as_features(values, self.leaf), limit, out=as_features(mask, self.leaf))
        return mask

    def _put_valid(self, part: slice, mask: BoolArray, fill: Any) -> int:
        if self.leaf.validity is not None:
            mask = mask & self.leaf.validity[part]
        if self.leaf.missing is not None:
            mask = mask & ~self.leaf.missing[part]
        return self._put(np.flatnonzero(mask) + part.start, fill)

    def _put(self, positions: IntArray, fill: Any) -> int:
        """Write ``fill`` at flat positions, make the values there valid, and return how many there are."""
        if not len(positions):
            return 0
        self._own()
        leaf = self.leaf
        if not leaf.is_numeric:
            mask = np.zeros(len(leaf), np.bool_)
            mask[positions] = True
            leaf = self.leaf = replace(leaf, values=_fill_arrow(leaf.values, mask, fill))
        elif isinstance(fill, np.ndarray) and fill.ndim:
            leaf.values[positions] = fill[feature_indices(positions, leaf)]
        else:
            leaf.values[positions] = fill
        if leaf.validity is not None:
            leaf.validity[positions] = True
        self.leaf = replace(self.leaf, missing=self._without_missing(positions))
        return len(positions)

    def put_part(self, positions: IntArray, part: Leaf) -> None:
        """Take over the values of a part of the leaf, which were repaired, at their flat positions."""
        self._own()
        leaf = self.leaf
        values, missing = leaf.values, leaf.missing
        if leaf.is_numeric:
            values[positions] = part.values
        else:
            indices = np.arange(len(leaf), dtype=np.int64)
            indices[positions] = len(leaf) + np.arange(len(part), dtype=np.int64)
            values = take_rows(pa.concat_arrays([values, part.values]), indices)
        validity = leaf.validity
        if part.validity is not None:
            validity = np.ones(len(leaf), np.bool_) if validity is None else validity
            validity[positions] = part.validity
        if missing is not None and part.missing is not None:
            missing = missing.copy()
            missing[positions] &= part.missing
        self.leaf = replace(leaf, values=values, validity=validity, missing=missing)

    def _own(self) -> None:
        if not self.changed:
            values = self.leaf.values.copy() if self.leaf.is_numeric else self.leaf.values
            validity = None if self.leaf.validity is None else self.leaf.validity.copy()
            self.leaf = replace(self.leaf, values=values, validity=validity)
            self.changed = True

    def _count(self, step: Step, counts: dict[str | None, int]) -> None:
        self.counts.extend(
            RepairCount(step.index, step.rule.action, self.leaf.path, code, found)
            for code, found in counts.items()
            if found
        )


def _fill_arrow(values: pa.Array, mask: BoolArray, fill: str | None) -> pa.Array:
    return pc.if_else(pa.array(mask), pa.scalar(fill, values.type), values)
