"""Describe the observed values of a field in a comment: what a person wants to see before believing a schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from datacheck.profile.infer.fields import MAX_CODES, FieldSummary, only_profile
from datacheck.profile.infer.suggested_bounds import format_extreme
from datacheck.profile.leaf import LeafProfile
from datacheck.profile.notes.judge import describe_zeros, format_counts
from datacheck.profile.notes.numbers import NumberNotes
from datacheck.profile.notes.suspects import find_suspects
from datacheck.profile.notes.texts import TextNotes
from datacheck.schema.dtypes import canonical_dtype, dtype_kind, integer_range
from datacheck.text import count, find_variants, plain, quantity

#: Values needed to show their quantiles.
_MIN_QUANTILES = 20
#: Rare members of a category to list.
_MAX_LISTED = 5


def describe(summary: FieldSummary) -> str:
    """Describe the observed values in one line: ``seen: -43 .. 1301, 9,430 nulls of 336,776``."""
    all_distinct = "all distinct" if summary.is_unique else ""
    parts = [part for part in (_format_dtypes(summary), _format_values(summary), all_distinct) if part]
    total = summary.total("num_slots")
    counts = [
        (summary.total("num_nulls"), "null", "nulls"),
        (summary.total("num_nan"), "NaN", "NaN"),
        (summary.total("num_posinf"), "+inf", "+inf"),
        (summary.total("num_neginf"), "-inf", "-inf"),
    ]
    found = [quantity(number, *names) for number, *names in counts if number]
    if num_words := summary.total("num_words"):
        words = list(dict.fromkeys(word for profile in summary.profiles for word in profile.words))
        names = ", ".join(plain(repr(word), 40) for word in words[:3]) + (", …" if num_words > len(words[:3]) else "")
        found.append(f"{count(num_words)} not numeric ({names})")
    if found:
        parts += [*found[:-1], f"{found[-1]} of {count(total)}"]
    else:
        parts.append(quantity(total, "value"))
    if not summary.is_everywhere:
        parts.append("not in every file")
    return "; ".join([f"seen: {', '.join(parts)}", *_remarks(summary)])


def _remarks(summary: FieldSummary) -> list[str]:
    """What a person wants to know before believing the constraints."""
    found: list[str] = []
    for profile, notes in zip(summary.profiles, summary.notes, strict=True):
        if profile.low is not None and profile.low == profile.high and profile.num_present > 1:
            found.append("one value only")
        if notes.numbers is not None:
            found += _remarks_on_numbers(profile, notes.numbers, summary)
        if notes.texts is not None:
            found += _remarks_on_texts(notes.texts)
        counts = profile.vocabulary.counts if profile.vocabulary is not None else None
        is_text = profile.dtype == "string"
        is_class = profile.dtype.startswith(("int", "uint")) and len(counts or ()) <= MAX_CODES
        if counts and (is_text or is_class):
            found += _remarks_on_categories(counts, is_text=is_text)
    return found


def _remarks_on_numbers(profile: LeafProfile, notes: NumberNotes, summary: FieldSummary) -> list[str]:
    found: list[str] = []
    dtype = profile.dtype
    counts = notes.common.counts
    is_float = dtype_kind(canonical_dtype(dtype)) == "float"
    if is_float and counts and 1 < len(counts) <= MAX_CODES and notes.num_finite >= _MIN_QUANTILES:
        found.append(f"only {len(counts)} different values: {format_counts(counts, dtype)}")
    elif profile.sample is not None and profile.low != profile.high and notes.num_finite >= _MIN_QUANTILES:
        quantiles = np.quantile(profile.sample.values(), (0.01, 0.5, 0.99), method="lower").tolist()
        is_time = dtype.startswith(("timestamp", "date"))
        shown = [format_extreme(int(one), dtype) if is_time else f"{one:.5g}" for one in quantiles]
        found.append("quantiles " + ", ".join(f"{q} % {one}" for q, one in zip((1, 50, 99), shown, strict=True)))
    for value, tally in find_suspects(profile, notes).sentinels.items():
        found.append(f"{format_extreme(value, dtype)} occurs {quantity(tally.count, 'time')}: a sentinel?")
    if (is_float or dtype.startswith(("int", "uint"))) and (zeros := describe_zeros(notes)):
        found.append(zeros)
    if is_float and notes.is_whole and notes.num_finite >= _MIN_QUANTILES and not counts:
        found.append("all are integers")
    if narrow := _narrower(profile, summary):
        found.append(f"{narrow} would hold them")
    if _reaches_limits(profile):
        found.append(f"they reach the limits of {dtype}: larger ones may have wrapped around")
    return found


def _reaches_limits(profile: LeafProfile) -> bool:
    """Whether integers come so close to both ends of their dtype, or to its upper end, that it may be too narrow."""
    bits = profile.dtype.lstrip("uint")
    if not profile.dtype.startswith(("int", "uint")) or bits not in ("16", "32") or profile.high is None:
        return False
    first, last = integer_range(profile.dtype)
    near = (last - first) // 100
    return bool(profile.high >= last - near and (first == 0 or profile.low <= first + near))


def _narrower(profile: LeafProfile, summary: FieldSummary) -> str:
    """The narrowest integer dtype that holds the values, if it is narrower; how a text file was read says nothing."""
    if summary.is_untyped or not profile.dtype.startswith(("int", "uint")) or profile.low is None:
        return ""
    sign = "u" if profile.low >= 0 else ""
    for bits in (8, 16, 32):
        first, last = integer_range(f"{sign}int{bits}")
        if first <= profile.low and profile.high <= last:
            return f"{sign}int{bits}" if bits < int(profile.dtype.lstrip("uint")) else ""
    return ""


def _remarks_on_texts(notes: TextNotes) -> list[str]:
    blank = notes.blank.count - notes.num_empty
    counts = [
        (notes.num_empty, "empty"),
        (blank, "blank"),
        (notes.padded.count, "with blanks at their ends"),
        (notes.damaged.count, "with U+FFFD or control characters"),
        (notes.nan_words.count, "words for a missing value"),
    ]
    return [f"{count(number)} {what}" for number, what in counts if number]


def _remarks_on_categories(counts: Mapping[Any, int], *, is_text: bool) -> list[str]:
    """Rare members of a category, texts or class ids, and variants of more frequent texts."""
    variants = find_variants(counts) if is_text else {}
    usual = max(counts.values())
    rare = {member for member, number in counts.items() if number <= 2 and usual >= 50 * number}
    members = counts if is_text else sorted(counts)
    listed = [member for member in members if member in variants or member in rare][:_MAX_LISTED]
    times = {1: "once", 2: "twice"}
    return [
        f"{plain(repr(member), 40)} {times.get(counts[member], quantity(counts[member], 'time'))}"
        + (f", a variant of {plain(repr(variants[member]), 40)}?" if member in variants else "")
        for member in listed
    ]


def _format_dtypes(summary: FieldSummary) -> str:
    if summary.is_container or summary.dtype is not None:
        return ""
    return " and ".join(plain(dtype, 60) for dtype in summary.dtypes)


def _format_values(summary: FieldSummary) -> str:
    lengths = [length for profile in summary.profiles if profile.lengths is not None for length in profile.lengths]
    if lengths:
        return f"lists of {min(lengths)} .. {max(lengths)} values"
    profile = only_profile(summary.profiles, summary.dtype)
    if profile is not None and profile.vocabulary is not None:
        counts, limit = profile.vocabulary.counts, profile.vocabulary.limit
        if profile.dtype == "string" and summary.is_unique:
            return ""
        if profile.dtype == "string":
            return (
                f"more than {limit} distinct texts"
                if counts is None
                else quantity(len(counts), "text", "distinct texts")
            )
        if profile.dtype == "bool" and counts:
            return f"{count(counts.get(True, 0))} true"
    held = [profile for profile in summary.profiles if profile.low is not None]
    if not held:
        return ""
    low = min(held, key=lambda profile: profile.low)
    high = max(held, key=lambda profile: profile.high)
    return f"{format_extreme(low.low, low.dtype)} .. {format_extreme(high.high, high.dtype)}"
