"""Compare a dataset with the training data field by field: dtypes, rates, distributions and categories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datacheck.checks.rules import format_value
from datacheck.checks.structure import describe_shape
from datacheck.findings import Finding
from datacheck.profile.compare.drift import category_drift, number_drift, rate_chance
from datacheck.profile.compare.thresholds import Thresholds
from datacheck.profile.data_profile import DataProfile
from datacheck.profile.infer.suggested_bounds import format_extreme
from datacheck.profile.leaf import LeafProfile
from datacheck.profile.sample import Sample
from datacheck.profile.vocabulary import Vocabulary
from datacheck.schema.dtypes import canonical_dtype, dtype_kind
from datacheck.schema.model import Schema
from datacheck.text import count, join_limited, plain, quantity

#: How often each text must occur on average for its field to be categorical.
_MIN_OCCURRENCES = 5
_NUMBERS = ("integer", "float")
_RATES = (
    ("null", ("num_nulls",), "num_slots"),
    ("NaN", ("num_nan",), "num_present"),
    ("inf", ("num_posinf", "num_neginf"), "num_present"),
)


@dataclass(frozen=True, slots=True)
class Reference:
    """The training data, and the settings for comparing other data with it.

    ``single_keys`` are the fields that are keys by themselves, so their values are expected to be new. ``key_fields`` are the
    fields of every key; their values are compared as part of the key.
    """

    train: DataProfile
    schema: Schema
    limits: Thresholds
    max_categories: int
    single_keys: frozenset[str] = frozenset()
    key_fields: frozenset[str] = frozenset()


def fields_with_new_categories(reference: Reference, other: DataProfile) -> dict[str | None, frozenset[Any]]:
    """The known categories of each field in which other data has further ones."""
    known: dict[str | None, frozenset[Any]] = {}
    for path in _paths(reference.train):
        if path in reference.single_keys:
            continue
        counts = _count_categories(path, reference.train, reference)
        if isinstance(counts, dict) and not (_merge_counts(other.of_path(path)) or {}).keys() <= counts.keys():
            known[path] = frozenset(counts)
    return known


def _paths(profile: DataProfile) -> dict[str | None, None]:
    """Every path, in order of first appearance."""
    return dict.fromkeys(path for file in profile.files for path in file.fields)


def compare_fields(reference: Reference, other: DataProfile, name: str, *, drift: bool) -> Iterator[Finding]:
    """Yield every difference between the training data and another dataset, called ``name``."""
    train_paths, other_paths = _paths(reference.train), _paths(other)
    for path in [path for path in train_paths if not _is_excluded(path, reference.limits.exclude)]:
        if path in other_paths:
            yield from _FieldPair(reference, other, name, path).findings(drift=drift)
        elif other_paths:
            yield Finding("DC001", name, path, 1, 1, detail="the training data has it")
    for path in other_paths:
        if train_paths and path not in train_paths and not _is_excluded(path, reference.limits.exclude):
            yield Finding("DC315", name, path, 1, 1, detail="the training data has no such field")


def _is_excluded(path: str | None, exclude: Sequence[str]) -> bool:
    """Whether a field, or one that contains it, is excluded."""
    return path is not None and any(path == name or path.startswith((f"{name}.", f"{name}[]")) for name in exclude)


@dataclass(frozen=True, slots=True)
class _FieldPair:
    """One field of both datasets."""

    reference: Reference
    other: DataProfile
    name: str
    path: str | None

    def findings(self, *, drift: bool) -> Iterator[Finding]:
        train, other = self.reference.train.of_path(self.path), self.other.of_path(self.path)
        problem = _problem(self.reference.train, self.path) or _problem(self.other, self.path)
        if problem:
            yield self._finding("DC315", problem)
            return
        kinds = {_kind(profile.dtype) for profile in [*train, *other] if profile.num_present}
        yield from self._compare_dtypes(kinds)
        yield from self._compare_shapes()
        if drift:
            yield from self._compare_rates(train, other)
        if self.path in self.reference.single_keys or not _num_present(train) or not _num_present(other):
            return
        if len(kinds) > 1 and not kinds <= set(_NUMBERS):
            yield self._finding("DC315", "its values are of different kinds")
            return
        categories = _count_categories(self.path, self.reference.train, self.reference)
        if isinstance(categories, dict) and "integer" in kinds and not self._has_categories():
            # Codes or numbers: what is new is said, and how they are distributed is compared as for numbers.
            if kinds == {"integer"}:
                yield from self._compare_vocabularies(categories, _merge_counts(other))
            categories = None
        if categories is not None:
            yield from self._compare_categories(categories, other, drift=drift)
        elif drift and all(profile.sample is not None for profile in [*train, *other] if profile.num_present):
            yield from self._compare_numbers(train, other)
        elif drift and not kinds <= {"container"}:
            yield self._finding("DC315", f"values of {plain(train[0].dtype, 60)} have neither an order nor categories")

    def _has_categories(self) -> bool:
        """Whether the schema lists the values."""
        field = self.reference.schema.field_for(self.path)
        return field is not None and field.isin is not None

    def _finding(self, code: str, detail: str, rule: str | None = None) -> Finding:
        return Finding(code, self.name, self.path, 1, 1, rule=rule, detail=detail)

    def _compare_dtypes(self, kinds: set[str]) -> Iterator[Finding]:
        first, second = _dtypes(self.reference.train, self.path), _dtypes(self.other, self.path)
        if first == second:
            return
        text_files = _lacks_dtypes(self.reference.train, self.path) or _lacks_dtypes(self.other, self.path)
        if text_files and (kinds <= set(_NUMBERS) or len(kinds) < 2):
            # A text file has no dtypes of its own: a column is read as integers if all its numbers are integers.
            return
        named = [" and ".join(plain(dtype, 60) for dtype in dtypes) for dtypes in (second, first)]
        yield self._finding("DC003", f"{named[0]}, but {named[1]} in the training data")

    def _compare_shapes(self) -> Iterator[Finding]:
        first, second = _shapes(self.reference.train, self.path), _shapes(self.other, self.path)
        if first and second and first != second:
            named = [" and ".join(map(describe_shape, sorted(shapes, key=str))) for shapes in (second, first)]
            yield self._finding("DC004", f"{named[0]}, but {named[1]} in the training data")

    def _compare_rates(self, train: list[LeafProfile], other: list[LeafProfile]) -> Iterator[Finding]:
        limits = self.reference.limits
        for rule, numbers, total in _RATES:
            before, after = _rate(train, numbers, total), _rate(other, numbers, total)
            if not before[1] or not after[1] or not (before[0] or after[0]):
                continue
            difference = abs(after[0] / after[1] - before[0] / before[1])
            if difference > limits.rate and rate_chance(before, after) < limits.significance:
                detail = f"{_format_rate(before)} in the training data to {_format_rate(after)}"
                yield Finding("DC313", self.name, self.path, after[0] or 1, after[1], rule=rule, detail=detail)

    def _compare_numbers(self, train: list[LeafProfile], other: list[LeafProfile]) -> Iterator[Finding]:
        before, after = _sample(train), _sample(other)
        if not len(before) or not len(after):
            return
        found, limits = number_drift(before, after), self.reference.limits
        is_psi = found.psi > limits.psi and found.psi_chance < limits.significance
        is_ks = found.ks > limits.ks and found.ks_chance < limits.significance
        if is_psi or is_ks:
            yield self._finding(
                "DC312",
                f"PSI {found.psi:.2g} (limit {limits.psi:g}), KS {found.ks:.2g} (limit {limits.ks:g}); the median is "
                f"{_format_number(found.other_median, other[0].dtype)}, in the training data "
                f"{_format_number(found.train_median, train[0].dtype)}",
            )

    def _compare_categories(
        self, known: dict[Any, int] | str, other: list[LeafProfile], *, drift: bool
    ) -> Iterator[Finding]:
        if isinstance(known, str):
            if self.path not in self.reference.key_fields:
                yield self._finding("DC315", known)
            return
        counts = _merge_counts(other)
        yield from self._compare_vocabularies(known, counts)
        if not drift or not counts:
            return
        found, limits = category_drift(known, counts), self.reference.limits
        if found.distance > limits.distance and found.chance < limits.significance:
            share = f"{_format_percent(found.other_share)} are {plain(format_value(found.category), 40)!r}"
            yield self._finding(
                "DC312",
                f"Jensen-Shannon distance {found.distance:.2g} (limit {limits.distance:g}); {share}, "
                f"in the training data {_format_percent(found.train_share)}",
            )

    def _compare_vocabularies(self, known: dict[Any, int], counts: dict[Any, int] | None) -> Iterator[Finding]:
        if counts is None:
            limit = self.reference.max_categories
            yield self._finding(
                "DC314", f"more than {count(limit)} distinct values, in the training data {len(known):,}"
            )
            return
        for file in self.other.files:
            new = file.new_values.get(self.path)
            if new is None:
                continue
            detail = join_limited([format_value(value) for value in new.counts], 5)
            number = sum(new.counts.values())
            checked = max(file.num_rows, number)
            yield Finding("DC314", file.uri, self.path, number, checked, tuple(new.examples), detail=detail)


def _count_categories(path: str | None, profile: DataProfile, reference: Reference) -> dict[Any, int] | str | None:
    """The count of each category; the reason if the field has too many; None if the field is not categorical."""
    held = [leaf for leaf in profile.of_path(path) if leaf.num_present]
    kinds = {_kind(leaf.dtype) for leaf in held}
    field = reference.schema.field_for(path)
    if not held or kinds not in ({"string"}, {"bool"}, {"integer"}):
        return None
    counts = _merge_counts(held)
    if kinds == {"integer"} and (field is None or field.isin is None):
        # Integers are codes where every one of them repeats; among numbers, the extreme ones are rare.
        repeats = counts is not None and min(counts.values()) >= _MIN_OCCURRENCES
        return counts if repeats else None
    if counts is None:
        return f"it has more than {count(reference.max_categories)} distinct values"
    if kinds == {"string"} and len(counts) * _MIN_OCCURRENCES > sum(counts.values()):
        return f"{quantity(len(counts), 'distinct text')} among {sum(counts.values()):,} are too many for categories"
    return counts


def _merge_counts(profiles: list[LeafProfile]) -> dict[Any, int] | None:
    """The counts of all dtypes together; None if there are too many distinct values."""
    vocabularies = [profile.vocabulary for profile in profiles if profile.num_present]
    known = [vocabulary for vocabulary in vocabularies if vocabulary is not None]
    if not known or len(known) < len(vocabularies):
        return None
    merged = Vocabulary(max(vocabulary.limit for vocabulary in known))
    for vocabulary in known:
        merged.merge(vocabulary)
    return merged.counts


def _sample(profiles: list[LeafProfile]) -> np.ndarray[Any, Any]:
    samples = [profile.sample for profile in profiles if profile.sample is not None]
    if len(samples) == 1:
        return samples[0].values()
    merged = Sample()
    for sample in samples:
        merged.merge(sample)
    return merged.values()


def _kind(dtype: str) -> str:
    if dtype == "struct" or dtype.startswith("list<"):
        return "container"
    known = canonical_dtype(dtype)
    return (dtype_kind(known) if known else None) or dtype


def _num_present(profiles: list[LeafProfile]) -> int:
    return sum(profile.num_present for profile in profiles)


def _problem(profile: DataProfile, path: str | None) -> str:
    problems = [file.fields[path].problem for file in profile.files if path in file.fields]
    return next((problem for problem in problems if problem), "")


def _dtypes(profile: DataProfile, path: str | None) -> list[str]:
    found = {dtype for file in profile.files if path in file.fields for dtype in file.fields[path].dtype.split(" and ")}
    return sorted(found)


def _shapes(profile: DataProfile, path: str | None) -> set[tuple[int | None, ...]]:
    """The shapes of an array: of a weight as a whole, of other arrays the shape of a row."""
    facts = [file.fields[path] for file in profile.files if path in file.fields]
    arrays = [one for one in facts if one.is_array and one.shape is not None]
    return {one.shape if one.is_parameter else (None, *one.shape[1:]) for one in arrays if one.shape is not None}


def _lacks_dtypes(profile: DataProfile, path: str | None) -> bool:
    return any(not file.has_dtypes for file in profile.files if path in file.fields)


def _rate(profiles: list[LeafProfile], numbers: tuple[str, ...], total: str) -> tuple[int, int]:
    return (
        sum(getattr(profile, name) for profile in profiles for name in numbers),
        sum(getattr(profile, total) for profile in profiles),
    )


def _format_rate(rate: tuple[int, int]) -> str:
    return f"{_format_percent(rate[0] / rate[1])} ({count(rate[0])} of {count(rate[1])})"


def _format_number(value: float, dtype: str) -> str:
    return format_extreme(round(value), dtype) if _kind(dtype) in ("date", "timestamp") else f"{value:.6g}"


def _format_percent(share: float) -> str:
    return f"{100 * share:.3g} %"
