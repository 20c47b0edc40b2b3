"""Field by field: what is otherwise in a data set than in the training data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datacheck.checks.rules import format_value
from datacheck.findings import Finding
from datacheck.profile.compare.drift import category_drift, number_drift, rate_chance
from datacheck.profile.compare.thresholds import Thresholds
from datacheck.profile.dataset import DataProfile
from datacheck.profile.infer.suggested_bounds import value_in_words
from datacheck.profile.leaf import LeafProfile
from datacheck.profile.sample import Sample
from datacheck.profile.vocabulary import Vocabulary
from datacheck.schema.dtypes import canonical_dtype, dtype_kind
from datacheck.schema.model import Schema
from datacheck.text import count, join_limited, plain, quantity

__all__ = ["Side", "field_findings", "new_words"]

#: How often each value must have been seen on average for a field to be one of categories.
_TIMES_SEEN = 5
_NUMBERS = ("integer", "float")
_RATES = (
    ("null", ("num_nulls",), "num_slots"),
    ("NaN", ("num_nan",), "num_present"),
    ("inf", ("num_posinf", "num_neginf"), "num_present"),
)


@dataclass(frozen=True, slots=True)
class Side:
    """The training data, and how other data is held to it.

    ``identities`` are the fields that are keys by themselves: that their values are other ones is as it should be.
    """

    train: DataProfile
    schema: Schema
    limits: Thresholds
    max_categories: int
    identities: frozenset[str] = frozenset()


def new_words(side: Side, other: DataProfile) -> dict[str | None, frozenset[Any]]:
    """The categories of the training data, of each field of which other data has further ones."""
    known: dict[str | None, frozenset[Any]] = {}
    for path in _paths(side.train):
        if path in side.identities:
            continue
        counts = _categories(path, side.train, side)
        if isinstance(counts, dict) and counts.keys() < counts.keys() | (_counts(other.of_path(path)) or {}).keys():
            known[path] = frozenset(counts)
    return known


def _paths(profile: DataProfile) -> dict[str | None, None]:
    """Every path, in order of first appearance."""
    return dict.fromkeys(path for file in profile.files for path in file.fields)


def field_findings(side: Side, other: DataProfile, name: str, *, drift: bool) -> Iterator[Finding]:
    """Every difference between the training data and another data set that is called ``name``."""
    known, here = _paths(side.train), _paths(other)
    for path in [path for path in known if not _is_excluded(path, side.limits.exclude)]:
        if path in here:
            yield from _Pair(side, other, name, path).findings(drift=drift)
        elif here:
            yield Finding("DC001", name, path, 1, 1, detail="the training data has it")
    for path in here:
        if known and path not in known and not _is_excluded(path, side.limits.exclude):
            yield Finding("DC315", name, path, 1, 1, detail="the training data has no such field")


def _is_excluded(path: str | None, exclude: Sequence[str]) -> bool:
    """Whether a field, or one that it is inside of, is left out."""
    return path is not None and any(path == name or path.startswith((f"{name}.", f"{name}[]")) for name in exclude)


@dataclass(frozen=True, slots=True)
class _Pair:
    """One field of both data sets."""

    side: Side
    other: DataProfile
    name: str
    path: str | None

    def findings(self, *, drift: bool) -> Iterator[Finding]:
        train, other = self.side.train.of_path(self.path), self.other.of_path(self.path)
        problem = _problem(self.side.train, self.path) or _problem(self.other, self.path)
        if problem:
            yield self._finding("DC315", problem)
            return
        kinds = {_kind(profile.dtype) for profile in [*train, *other] if profile.num_present}
        yield from self._dtypes(kinds)
        if drift:
            yield from self._rates(train, other)
        if self.path in self.side.identities or not _present(train) or not _present(other):
            return
        if len(kinds) > 1 and not kinds <= set(_NUMBERS):
            yield self._finding("DC315", "its values are not of one kind")
            return
        categories = _categories(self.path, self.side.train, self.side)
        if categories is not None:
            yield from self._categories(categories, other, drift=drift)
        elif drift and all(profile.sample is not None for profile in [*train, *other] if profile.num_present):
            yield from self._numbers(train, other)
        elif drift and not kinds <= {"container"}:
            yield self._finding("DC315", f"values of {plain(train[0].dtype, 60)} have no order and no categories")

    def _finding(self, code: str, detail: str, rule: str | None = None) -> Finding:
        return Finding(code, self.name, self.path, 1, 1, rule=rule, detail=detail)

    def _dtypes(self, kinds: set[str]) -> Iterator[Finding]:
        first, second = _dtypes(self.side.train, self.path), _dtypes(self.other, self.path)
        if first == second:
            return
        text_files = _is_csv(self.side.train, self.path) or _is_csv(self.other, self.path)
        if text_files and (kinds <= set(_NUMBERS) or len(kinds) < 2):
            # A text file has no dtype of its own: whole numbers are read as such wherever all of them are.
            return
        named = [" and ".join(plain(dtype, 60) for dtype in dtypes) for dtypes in (second, first)]
        yield self._finding("DC003", f"{named[0]}, in the training data {named[1]}")

    def _rates(self, train: list[LeafProfile], other: list[LeafProfile]) -> Iterator[Finding]:
        limits = self.side.limits
        for word, numbers, of in _RATES:
            known, here = _rate(train, numbers, of), _rate(other, numbers, of)
            if not known[1] or not here[1] or not (known[0] or here[0]):
                continue
            difference = abs(here[0] / here[1] - known[0] / known[1])
            if difference > limits.rate and rate_chance(known, here) < limits.significance:
                detail = f"{_rate_in_words(known)} in the training data to {_rate_in_words(here)}"
                yield Finding("DC313", self.name, self.path, here[0] or 1, here[1], rule=word, detail=detail)

    def _numbers(self, train: list[LeafProfile], other: list[LeafProfile]) -> Iterator[Finding]:
        known, here = _numbers(train), _numbers(other)
        if not len(known) or not len(here):
            return
        found, limits = number_drift(known, here), self.side.limits
        is_psi = found.psi > limits.psi and found.psi_chance < limits.significance
        is_ks = found.ks > limits.ks and found.ks_chance < limits.significance
        if is_psi or is_ks:
            yield self._finding(
                "DC312",
                f"PSI {found.psi:.2g} (limit {limits.psi:g}), KS {found.ks:.2g} (limit {limits.ks:g}); the median is "
                f"{_number(found.other_median, other[0].dtype)}, in the training data "
                f"{_number(found.train_median, train[0].dtype)}",
            )

    def _categories(self, known: dict[Any, int] | str, other: list[LeafProfile], *, drift: bool) -> Iterator[Finding]:
        if isinstance(known, str):
            yield self._finding("DC315", known)
            return
        counts = _counts(other)
        yield from self._new(known, counts)
        if not drift or not counts:
            return
        found, limits = category_drift(known, counts), self.side.limits
        if found.distance > limits.distance and found.chance < limits.significance:
            share = f"{_percent(found.other_share)} are {plain(format_value(found.category), 40)!r}"
            yield self._finding(
                "DC312",
                f"Jensen-Shannon distance {found.distance:.2g} (limit {limits.distance:g}); {share}, "
                f"in the training data {_percent(found.train_share)}",
            )

    def _new(self, known: dict[Any, int], counts: dict[Any, int] | None) -> Iterator[Finding]:
        if counts is None:
            limit = self.side.max_categories
            yield self._finding(
                "DC314", f"more than {count(limit)} different ones, in the training data {len(known):,}"
            )
            return
        for file in self.other.files:
            news = file.news.get(self.path)
            if news is None:
                continue
            words = join_limited([format_value(value) for value in news.counts], 5)
            number = sum(news.counts.values())
            checked = max(file.num_rows, number)
            yield Finding("DC314", file.uri, self.path, number, checked, tuple(news.examples), detail=words)


def _categories(path: str | None, profile: DataProfile, side: Side) -> dict[Any, int] | str | None:
    """How often each category stands; why there are none, in words; None for a field that is not one of categories."""
    held = [leaf for leaf in profile.of_path(path) if leaf.num_present]
    kinds = {_kind(leaf.dtype) for leaf in held}
    field = side.schema.field_for(path)
    is_code = kinds == {"integer"} and field is not None and field.isin is not None
    if not held or not (kinds in ({"string"}, {"bool"}) or is_code):
        return None
    counts = _counts(held)
    if counts is None:
        return f"it has more than {count(side.max_categories)} different values"
    if kinds == {"string"} and len(counts) * _TIMES_SEEN > sum(counts.values()):
        return f"its {quantity(len(counts), 'different value')} are too many of {sum(counts.values()):,} for categories"
    return counts


def _counts(profiles: list[LeafProfile]) -> dict[Any, int] | None:
    """The counts of all dtypes together; None where there are too many values."""
    held = [profile.vocabulary for profile in profiles if profile.num_present]
    if not held or any(words is None for words in held):
        return None
    merged = Vocabulary(max(words.limit for words in held if words is not None))
    for words in held:
        if words is not None:
            merged.merge(words)
    return merged.counts


def _numbers(profiles: list[LeafProfile]) -> np.ndarray[Any, Any]:
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


def _present(profiles: list[LeafProfile]) -> int:
    return sum(profile.num_present for profile in profiles)


def _problem(profile: DataProfile, path: str | None) -> str:
    problems = [file.fields[path].problem for file in profile.files if path in file.fields]
    return next((problem for problem in problems if problem), "")


def _dtypes(profile: DataProfile, path: str | None) -> list[str]:
    found = {dtype for file in profile.files if path in file.fields for dtype in file.fields[path].dtype.split(" and ")}
    return sorted(found)


def _is_csv(profile: DataProfile, path: str | None) -> bool:
    return any(not file.has_dtypes for file in profile.files if path in file.fields)


def _rate(profiles: list[LeafProfile], numbers: tuple[str, ...], of: str) -> tuple[int, int]:
    return (
        sum(getattr(profile, name) for profile in profiles for name in numbers),
        sum(getattr(profile, of) for profile in profiles),
    )


def _rate_in_words(rate: tuple[int, int]) -> str:
    return f"{_percent(rate[0] / rate[1])} ({count(rate[0])} of {count(rate[1])})"


def _number(value: float, dtype: str) -> str:
    return value_in_words(round(value), dtype) if _kind(dtype) in ("date", "timestamp") else f"{value:.6g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
