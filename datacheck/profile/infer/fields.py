"""Suggest one field of a schema from its profiles, and describe the observed values in a comment."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from datacheck.checks.structure import FieldFacts
from datacheck.profile.infer.suggested_bounds import float_bounds, suggest_bounds
from datacheck.profile.leaf import LeafProfile
from datacheck.profile.notes.leaf_notes import LeafNotes
from datacheck.profile.notes.suspects import Suspects, find_suspects
from datacheck.profile.notes.texts import TextNotes
from datacheck.schema.dtypes import canonical_dtype, dtype_kind, largest_float
from datacheck.text import find_variants

#: Distinct texts to list at most, and distinct integers: more integers are probably numbers, not codes.
MAX_TEXTS, MAX_CODES = 50, 10
#: How often a value must occur on average for the list to be taken as complete.
_MIN_OCCURRENCES = 10
_MAX_LIST_LENGTH = 2000
#: Rows needed to take distinct values as a key, in general and in a field with the name of a key.
_MIN_KEY_ROWS, _MIN_NAMED_KEY_ROWS = 1000, 10
#: Lists needed to take their common length as a rule.
_MIN_LISTS = 100
#: The largest share of values that look like faults among the others.
_MAX_FAULTY = 0.05
#: Distinct integers are a key if random ones would repeat more often than this.
_MIN_REPETITIONS = 10

_KEY_NAME = re.compile(
    r"(?i:(?:^|[_\-. ])(?:id|ids|key|uuid|guid|idx|index|hash|sha\d+|md5)$)|[a-z](?:Id|ID|Key|Uuid|UUID)$"
)
_TEXT_FILE_NUMBERS = {"int64", "uint64", "float64"}


@dataclass(slots=True)
class FieldSummary:
    """The facts and profiles of one path in all files."""

    path: str | None
    facts: list[FieldFacts] = field(default_factory=list)
    profiles: list[LeafProfile] = field(default_factory=list)
    notes: list[LeafNotes] = field(default_factory=list)
    is_untyped: bool = True
    is_everywhere: bool = True
    is_unique: bool = False

    @property
    def dtypes(self) -> list[str]:
        """The distinct logical dtypes."""
        return list(dict.fromkeys(dtype for facts in self.facts for dtype in facts.dtype.split(" and ")))

    @property
    def is_container(self) -> bool:
        return any(dtype == "struct" or dtype.startswith("list<") for dtype in self.dtypes)

    @property
    def is_list(self) -> bool:
        return all(dtype.startswith("list<") for dtype in self.dtypes)

    @property
    def dtype(self) -> str | None:
        """The dtype of every file, if there is one and a schema can name it."""
        dtypes = set(self.dtypes)
        if self.is_untyped:
            # The dtypes of a text file are only how it was read.
            dtypes -= {"null"}
            dtypes = {"float64"} if len(dtypes) > 1 and dtypes <= _TEXT_FILE_NUMBERS else dtypes
        if len(dtypes) != 1 or self.is_container:
            return None
        (dtype,) = dtypes
        return dtype if dtype != "null" and canonical_dtype(dtype) == dtype else None

    def total(self, name: str) -> int:
        return sum(getattr(profile, name) for profile in self.profiles)

    @property
    def texts(self) -> list[TextNotes]:
        return [notes.texts for notes in self.notes if notes.texts is not None]

    def suspects(self) -> list[Suspects]:
        """What is suspicious at the ends of the values of each dtype, beside the profiles that have values."""
        return [
            find_suspects(profile, notes.numbers) if notes.numbers is not None else Suspects(profile.low, profile.high)
            for profile, notes in zip(self.profiles, self.notes, strict=True)
            if profile.low is not None
        ]


def suggest_field(summary: FieldSummary, *, permissive: bool = True) -> dict[str, Any]:
    """Suggest the constraints of a field, without defaults.

    Unless ``permissive``, what looks like a fault is not made legal: a few NaN or infinities, sentinels, outliers, rare
    variants of a text, a few blank texts.
    """
    dtype = summary.dtype
    record: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    shape = _suggest_shape(summary)
    if shape is not None:
        record["shape"] = shape
    if summary.total("num_nulls") or "null" in summary.dtypes:
        record["nullable"] = True
    present = summary.total("num_present")
    if summary.total("num_nan") and (permissive or not _is_rare(summary.total("num_nan"), present)):
        record["allow_nan"] = True
    if summary.total("num_infinite") and (permissive or not _is_rare(summary.total("num_infinite"), present)):
        record["allow_inf"] = True
    if not permissive:
        record |= _suggest_text_rules(summary)
    if not summary.is_everywhere:
        record["required"] = False
    if summary.is_unique and _may_be_key(summary):
        record["unique"] = True
        return record
    members = _suggest_members(summary, permissive)
    if members is not None:
        record["isin"] = members
        return record
    for name, bound in zip(("ge", "le"), _suggest_bounds(summary, permissive), strict=True):
        if bound is not None:
            record[name] = bound
    return record


def _is_rare(number: int, total: int) -> bool:
    """Whether the values of a kind are few enough to look like faults."""
    return 0 < number <= _MAX_FAULTY * total


def _suggest_text_rules(summary: FieldSummary) -> dict[str, Any]:
    """The rules that all but a few texts keep."""
    if len(summary.texts) != 1 or summary.dtype != "string":
        return {}
    (texts,) = summary.texts
    kinds = {"not_blank": texts.blank.count, "stripped": texts.padded.count, "printable": texts.damaged.count}
    return {key: True for key, number in kinds.items() if _is_rare(number, texts.num_texts)}


def _suggest_shape(summary: FieldSummary) -> list[int | None] | None:
    shapes = [facts.shape for facts in summary.facts if facts.shape is not None]
    if len(shapes) < len(summary.facts) or len({len(shape) for shape in shapes}) != 1:
        return None
    if len({facts.is_array for facts in summary.facts}) != 1 or (summary.path or "").endswith("[]"):
        return None
    common = [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True)]
    if summary.facts[0].is_array:
        return [None, *common[1:]] if common else []
    if common == [None] and summary.is_list:
        return _suggest_length(summary)
    return common if common and any(size is not None for size in common) else None


def _suggest_length(summary: FieldSummary) -> list[int | None] | None:
    """The length that all lists have, unless there are too few lists to tell."""
    lengths = {length for profile in summary.profiles if profile.lengths is not None for length in profile.lengths}
    if len(lengths) == 1 and summary.total("num_present") >= _MIN_LISTS:
        (length,) = lengths
        return [length] if length > 1 else None
    return None


def looks_like_key(name: str) -> bool:
    """Whether a field is named like a key: ``id``, ``patient_id``, ``sha256``."""
    return _KEY_NAME.search(name) is not None


def _may_be_key(summary: FieldSummary) -> bool:
    """Whether the values are all different by more than chance."""
    num_rows = summary.total("num_slots")
    if looks_like_key(summary.path or ""):
        return num_rows >= _MIN_NAMED_KEY_ROWS
    (profile,) = summary.profiles
    if num_rows < _MIN_KEY_ROWS:
        return False
    if profile.dtype == "string":
        return True
    # The expected number of repetitions among random values from the observed range (the birthday problem).
    return num_rows**2 > _MIN_REPETITIONS * 2 * (int(profile.high) - int(profile.low) + 1)


def _suggest_members(summary: FieldSummary, permissive: bool) -> list[Any] | None:
    profile = only_profile(summary.profiles, summary.dtype)
    if profile is None or profile.vocabulary is None or not profile.vocabulary.counts:
        return None
    kind = dtype_kind(profile.dtype)
    members = sorted(profile.vocabulary.counts)
    if kind not in ("string", "integer") or len(members) > (MAX_TEXTS if kind == "string" else MAX_CODES):
        return None
    if kind == "string" and not permissive:
        counts = profile.vocabulary.counts
        variants = {text for text, usual in find_variants(counts).items() if _is_rare(counts[text], counts[usual])}
        members = [text for text in members if text not in variants]
    if profile.num_present < _MIN_OCCURRENCES * len(members) * (1 if kind == "string" else 2):
        return None
    return members if sum(len(str(member)) for member in members) <= _MAX_LIST_LENGTH else None


def only_profile(profiles: Iterable[LeafProfile], dtype: str | None) -> LeafProfile | None:
    """The only profile with values, if it has the field's dtype."""
    held = [profile for profile in profiles if profile.num_present]
    return held[0] if len(held) == 1 and held[0].dtype == dtype else None


def _suggest_bounds(summary: FieldSummary, permissive: bool) -> tuple[Any, Any]:
    held = [profile for profile in summary.profiles if profile.low is not None]
    dtypes = [dtype for dtype in summary.dtypes if not (summary.is_untyped and dtype == "null")]
    # A bound applies to every file, so it must compare with all of their dtypes.
    kinds = {dtype_kind(dtype) if canonical_dtype(dtype) == dtype else None for dtype in dtypes}
    if not held or None in kinds or not (kinds <= {"integer", "float"} or len(dtypes) == 1):
        return None, None
    ends: list[Any] = held if permissive else summary.suspects()
    low, high = min(end.low for end in ends), max(end.high for end in ends)
    if kinds <= {"integer", "float"} and (len(dtypes) > 1 or "float" in kinds):
        limit = min(largest_float(dtype) for dtype in dtypes)
        return float_bounds(low, high, limit)
    return suggest_bounds(low, high, str(*kinds), dtypes[0])
