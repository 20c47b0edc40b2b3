"""From what a profile knows to notes: one finding for each thing that looks wrong, with the rule that would forbid it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from datacheck.findings import Finding
from datacheck.profile.infer.suggested_bounds import float_bounds, format_extreme, suggest_bounds
from datacheck.profile.leaf import LeafProfile
from datacheck.profile.notes.leaf_notes import LeafNotes
from datacheck.profile.notes.numbers import LARGEST, NumberNotes
from datacheck.profile.notes.steps import StepNotes
from datacheck.profile.notes.suspects import Suspects, find_suspects
from datacheck.profile.notes.tally import Tally
from datacheck.profile.notes.texts import TextNotes
from datacheck.profile.notes.vectors import VectorNotes
from datacheck.schema.dtypes import canonical_dtype, dtype_kind, largest_float
from datacheck.schema.field_parts import NAMELESS
from datacheck.schema.times import NANOSECONDS
from datacheck.text import count, describe_variants, find_variants, plain, quantity

#: Values to have seen before a field is called constant, or one of few values.
_MIN_CONSTANT, _MIN_FEW = 10, 100
#: Different floats that are few, and how many of them a note lists.
_FEW, _MAX_LISTED = 10, 10
#: Texts that are blank in so large a share are meant.
_MAX_BLANK_SHARE = 0.5


def judge_leaf(
    profile: LeafProfile, notes: LeafNotes | None, uri: str, *, is_derived: bool = False
) -> Iterator[Finding]:
    """The notes on the values of one path and dtype; ``uri`` is the file to name where no other is known.

    What describes the values of a column (``is_derived``), such as the size of images, may well be the same in all.
    """
    judge = _Judge(profile, uri)
    if not is_derived:
        yield from judge.constant()
    if profile.vocabulary is not None and profile.vocabulary.counts:
        yield from judge.categories(profile.vocabulary.counts)
    if notes is not None and notes.numbers is not None:
        yield from judge.numbers(notes.numbers)
    if notes is not None and notes.vectors is not None:
        yield from judge.vectors(notes.vectors)
    if notes is not None and notes.texts is not None:
        yield from judge.texts(notes.texts)
    if notes is not None and notes.steps is not None:
        yield from judge.steps(notes.steps)


def format_counts(counts: Mapping[Any, int], dtype: str) -> str:
    """``-1 (45), 0 (792), 1 (63)``."""
    shown = [f"{_show(value, dtype)} ({count(number)})" for value, number in sorted(counts.items())[:_MAX_LISTED]]
    return ", ".join(shown) + (", …" if len(counts) > _MAX_LISTED else "")


def _show(value: Any, dtype: str) -> str:
    return repr(plain(value, 40)) if isinstance(value, str) else format_extreme(value, dtype)


class _Judge:
    """The notes on one leaf."""

    def __init__(self, profile: LeafProfile, uri: str) -> None:
        self._profile = profile
        self._uri = uri

    def _note(
        self,
        code: str,
        detail: str,
        violations: int,
        checked: int,
        tallies: Iterable[Tally] = (),
        rule: str | None = None,
    ) -> Finding:
        """A finding at the places of the first of ``tallies`` that has any."""
        places = Tally(uri=self._uri)
        for tally in tallies:
            places.merge(tally)
        places.examples.sort(key=lambda example: (example.row or 0, example.index))
        return Finding(
            code, places.uri or self._uri, self._profile.path, violations, checked, tuple(places.examples), rule, detail
        )

    def _show(self, value: Any) -> str:
        return _show(value, self._profile.dtype)

    def constant(self) -> Iterator[Finding]:
        profile = self._profile
        counts = profile.vocabulary.counts if profile.vocabulary is not None else None
        has_others = profile.num_nan or profile.num_infinite or profile.num_present < _MIN_CONSTANT
        if has_others or profile.lengths is not None:
            return
        values = [profile.low] if profile.low is not None and profile.low == profile.high else list(counts or ())
        if len(values) == 1:
            detail = f"{self._show(values[0])}. As a rule: min_distinct: 2"
            yield self._note("DC504", detail, profile.num_present, profile.num_present)

    def categories(self, counts: Mapping[Any, int]) -> Iterator[Finding]:
        if self._profile.dtype == "string":
            yield from self._variants(counts)
        elif self._profile.dtype.startswith(("int", "uint")):
            yield from self._missing_classes(counts)

    def _variants(self, counts: Mapping[str, int]) -> Iterator[Finding]:
        found = find_variants(counts)
        if found:
            detail = f"variants of others: {describe_variants(found, counts)}. As a rule: no_variants: true"
            total = sum(counts[text] for text in found)
            yield self._note("DC509", detail, total, self._profile.num_present, rule="variants")

    def _missing_classes(self, counts: Mapping[int, int]) -> Iterator[Finding]:
        least, greatest = min(counts), max(counts)
        size = greatest - least + 1
        absent = [number for number in range(least, greatest) if number not in counts] if size <= 1000 else []
        is_classes = least in (0, 1) and size >= 4 and self._profile.num_present >= 10 * size
        if absent and is_classes and len(absent) <= max(1, size // 10):
            listed = ", ".join(map(str, absent[:_MAX_LISTED]))
            name = "the array" if self._profile.path is None else f"'{plain(self._profile.path)}'"
            rule = f"covers, with every class from {least} to {greatest}"
            detail = f"{least} to {greatest} do not occur in {name}: {listed}. As a rule: {rule}"
            yield self._note("DC507", detail, len(absent), size)

    def numbers(self, notes: NumberNotes) -> Iterator[Finding]:
        suspects = find_suspects(self._profile, notes)
        for value, tally in suspects.sentinels.items():
            yield self._sentinel(value, tally, suspects, notes)
        yield from self._outliers(suspects, notes)
        yield from self._overflows(notes)
        counts = notes.common.counts
        is_float = dtype_kind(canonical_dtype(self._profile.dtype)) == "float"
        if counts and is_float and 2 <= len(counts) <= _FEW and notes.num_finite >= _MIN_FEW:
            detail = f"only {len(counts)} different ones: {format_counts(counts, self._profile.dtype)}"
            detail = f"{detail}. As a rule: isin, with those that are meant"
            yield self._note("DC506", detail, notes.num_finite, notes.num_finite)
        # A null beside them makes floats of class ids in many readers.
        if counts and is_float and max(map(abs, counts)) < 2**53 and all(float(value).is_integer() for value in counts):
            yield from self._missing_classes({int(value): number for value, number in counts.items()})

    def _sentinel(self, value: Any, tally: Tally, suspects: Suspects, notes: NumberNotes) -> Finding:
        is_low = value < suspects.low
        shown, nearest = self._show(value), suspects.low if is_low else suspects.high
        following = f"{nearest:.4g}" if isinstance(nearest, float) else self._show(nearest)
        bound = self._bound("low" if is_low else "high", suspects)
        detail = (
            f"{shown}, far {'below' if is_low else 'above'} the others, which {'begin' if is_low else 'end'} at {following};"
            f" is it a sentinel? As a rule: missing: [{shown}]{f', or {bound}' if bound else ''}"
        )
        return self._note("DC501", detail, tally.count, notes.num_finite, [tally], rule=shown)

    def _outliers(self, suspects: Suspects, notes: NumberNotes) -> Iterator[Finding]:
        found = {side: values for side, values in suspects.outliers.items() if values}
        if not found or suspects.middle is None:
            return
        tallies = [tally for values in found.values() for tally in values.values()]
        extremes = [self._show(min(values) if side == "low" else max(values)) for side, values in found.items()]
        middle = " .. ".join(f"{bound:.4g}" for bound in suspects.middle)
        if self._profile.dtype.startswith(("timestamp", "date")):
            middle = " .. ".join(self._show(int(bound)) for bound in suspects.middle)
        bounds = [bound for side in found if (bound := self._bound(side, suspects))]
        rule = f". As a rule: {', '.join(bounds)}" if bounds else ""
        detail = f"{' and '.join(extremes)}, while 98 % lie in {middle}{rule}"
        yield self._note("DC502", detail, sum(tally.count for tally in tallies), notes.num_finite, tallies)

    def _bound(self, side: str, suspects: Suspects) -> str:
        """The bound that the other values keep, as written in a schema."""
        dtype = canonical_dtype(self._profile.dtype)
        kind = dtype_kind(dtype)
        if kind == "float":
            found = float_bounds(suspects.low, suspects.high, largest_float(str(dtype)))
        else:
            found = suggest_bounds(suspects.low, suspects.high, str(kind), str(dtype))
        bound = found[0] if side == "low" else found[1]
        return "" if bound is None else f"{'ge' if side == 'low' else 'le'}: {bound}"

    def _overflows(self, notes: NumberNotes) -> Iterator[Finding]:
        for name in sorted(LARGEST, reverse=True):
            tally = notes.overflows[name]
            is_told = name == "float16" and tally.count == notes.overflows["float32"].count
            if tally.count and self._profile.dtype != name and not is_told:
                detail = f"become infinite in {name}. As a rule: dtype: {name}, coerce: true"
                yield self._note("DC503", detail, tally.count, notes.num_finite, [tally], rule=name)
        ticks = _ticks_of_nanoseconds(self._profile.dtype)
        if ticks is not None:
            at_ends = {**notes.low.tallies, **notes.high.tallies}
            beyond = [tally for value, tally in at_ends.items() if abs(value) > ticks]
            if beyond:
                span = "(1677-09-21 to 2262-04-11)"
                detail = f"do not fit timestamp[ns] {span}. As a rule: dtype: timestamp[ns], coerce: true"
                number = sum(tally.count for tally in beyond)
                yield self._note("DC503", detail, number, notes.num_finite, beyond, rule="timestamp[ns]")

    def vectors(self, notes: VectorNotes) -> Iterator[Finding]:
        path = plain(self._profile.path or NAMELESS).removesuffix("[]")
        for tally, kind, rule in (
            (notes.zero, "all zero", f"any({path} != 0)"),
            (notes.constant, "one value throughout", f"max({path}) > min({path})"),
        ):
            if tally.count:
                detail = f"are {kind}. As a rule: expr: {rule}"
                yield self._note("DC505", detail, tally.count, notes.num_vectors, [tally], rule=kind)
        for axis, found in sorted((notes.channels or {}).items()):
            same = np.flatnonzero(found.low == found.high)
            if notes.num_vectors < 2 or not 0 < 2 * len(same) <= len(found.low):
                continue
            last = len(notes.shape or ()) - 1
            name = "the last axis" if axis == last else f"axis {axis + 1}"
            listed = ", ".join(map(str, same[:_MAX_LISTED].tolist())) + (", …" if len(same) > _MAX_LISTED else "")
            values = np.unique(found.low[same]).tolist()
            shown = self._show(values[0]) if len(values) == 1 else f"{len(values)} constants"
            where = f"{'index' if len(same) == 1 else 'indices'} {listed} of {name}"
            number = self._profile.num_present // len(found.low) * len(same)
            rule = f"bounds for {'it' if len(same) == 1 else 'them'} under {'columns' if axis == last else 'channels'}"
            detail = f"{shown} at {where}. As a rule: {rule}"
            yield self._note("DC504", detail, number, number, rule=f"axis {axis + 1}")

    def steps(self, notes: StepNotes) -> Iterator[Finding]:
        found = notes.uneven(self._profile.path or NAMELESS)
        if found is not None:
            number = sum(tally.count for tally in found.tallies)
            yield self._note("DC516", found.detail, number, found.num_steps, found.tallies)

    def texts(self, notes: TextNotes) -> Iterator[Finding]:
        total = notes.num_texts
        is_category = self._profile.vocabulary is not None and self._profile.vocabulary.counts is not None
        if notes.blank.count and notes.blank.count <= _MAX_BLANK_SHARE * total:
            kinds = {0: "blank", notes.blank.count: "empty"}.get(notes.num_empty, "empty or blank")
            detail = f"{kinds}. As a rule: not_blank: true"
            yield self._note("DC508", detail, notes.blank.count, total, [notes.blank])
        if notes.padded.count and (is_category or notes.padded.count <= _MAX_BLANK_SHARE * total):
            detail = "short ones with blanks at their ends. As a rule: stripped: true"
            yield self._note("DC509", detail, notes.padded.count, total, [notes.padded], rule="blanks")
        if notes.damaged.count:
            detail = "have U+FFFD or control characters. As a rule: printable: true"
            yield self._note("DC510", detail, notes.damaged.count, total, [notes.damaged])
        if notes.nan_words.count and notes.nan_words.count <= _MAX_BLANK_SHARE * total:
            words = list(dict.fromkeys(example.value for example in notes.nan_words.examples))
            detail = f"As a rule: missing: [{', '.join(plain(repr(word), 40) for word in words)}]"
            yield self._note("DC515", detail, notes.nan_words.count, total, [notes.nan_words])
        if notes.num_looked >= _MIN_CONSTANT:
            if notes.num_numbers == notes.num_looked:
                yield self._note("DC511", "are numbers. As a rule: dtype: float64, coerce: true", total, total)
            elif notes.looks_like and 2 * notes.num_lookalikes > notes.num_looked:
                detail = f"{notes.looks_like.removeprefix('they ')}. As a rule: dtype: float64"
                yield self._note("DC511", detail, total, total)


def _ticks_of_nanoseconds(dtype: str) -> float | None:
    """The greatest number of ticks of a time dtype that 64 bits of nanoseconds hold; None for other dtypes."""
    for unit, name in (("s", "[s"), ("ms", "[ms"), ("us", "[us"), ("D", "[day")):
        if dtype.startswith(("timestamp", "date")) and name in dtype:
            return (2**63 - 1) / NANOSECONDS[unit]
    return None


def describe_zeros(notes: NumberNotes) -> str:
    """``5.7 % zeros``, if a field of other numbers has some; empty otherwise."""
    if not 0 < notes.num_zeros < notes.num_finite:
        return ""
    return f"{quantity(notes.num_zeros, 'zero')} ({100 * notes.num_zeros / notes.num_finite:.2g} %)"
