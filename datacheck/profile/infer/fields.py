"""One field of an inferred schema: what its leaves say, in the words of a schema, and what was seen, in a comment."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from datacheck.checks.structure import FieldFacts
from datacheck.profile.infer.suggested_bounds import bounds_of, float_bounds, value_in_words
from datacheck.profile.leaf import LeafProfile
from datacheck.schema.dtypes import canonical_dtype, dtype_kind, largest_float
from datacheck.text import count, plain, quantity

__all__ = ["MAX_WORDS", "Seen", "describe", "words_of"]

#: Distinct texts that are listed at most, and integers: more of these are rather numbers than codes.
MAX_WORDS, MAX_INTEGER_WORDS = 50, 10
#: How often a value must have been seen on average, for the list to be whole.
_TIMES_SEEN = 10
_MAX_WORDS_LENGTH = 2000
#: Rows from which on a rule may rest on all of them being alike, or all different.
_MANY = 1000
_SOME = 100
_FEW = 10
#: How surprising it must be that integers are all different, in repetitions that chance would have made.
_CHANCE = 10

_KEY_NAME = re.compile(
    r"(?i:(?:^|[_\-. ])(?:id|ids|key|uuid|guid|idx|index|hash|sha\d+|md5)$)|[a-z](?:Id|ID|Key|Uuid|UUID)$"
)
_CSV_NUMBERS = {"int64", "uint64", "float64"}


@dataclass(slots=True)
class Seen:
    """What all files say of one path."""

    path: str | None
    facts: list[FieldFacts] = field(default_factory=list)
    profiles: list[LeafProfile] = field(default_factory=list)
    is_csv: bool = True
    is_everywhere: bool = True
    is_unique: bool = False

    @property
    def dtypes(self) -> list[str]:
        """The logical dtypes, each once."""
        return list(dict.fromkeys(dtype for facts in self.facts for dtype in facts.dtype.split(" and ")))

    @property
    def is_container(self) -> bool:
        return any(dtype == "struct" or dtype.startswith("list<") for dtype in self.dtypes)

    @property
    def is_list(self) -> bool:
        return all(dtype.startswith("list<") for dtype in self.dtypes)

    @property
    def dtype(self) -> str | None:
        """The dtype that holds in every file, and that a schema can name."""
        dtypes = set(self.dtypes)
        if self.is_csv:
            # A text file has the dtype that it is read with.
            dtypes -= {"null"}
            dtypes = {"float64"} if len(dtypes) > 1 and dtypes <= _CSV_NUMBERS else dtypes
        if len(dtypes) != 1 or self.is_container:
            return None
        (dtype,) = dtypes
        return dtype if dtype != "null" and canonical_dtype(dtype) == dtype else None

    def total(self, name: str) -> int:
        return sum(getattr(profile, name) for profile in self.profiles)


def words_of(seen: Seen) -> dict[str, Any]:
    """What a schema says of a field, without its defaults."""
    dtype = seen.dtype
    words: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    shape = _shape(seen)
    if shape is not None:
        words["shape"] = shape
    if seen.total("num_nulls") or "null" in seen.dtypes:
        words["nullable"] = True
    if seen.total("num_nan"):
        words["allow_nan"] = True
    if seen.total("num_infinite"):
        words["allow_inf"] = True
    if not seen.is_everywhere:
        words["required"] = False
    if seen.is_unique and _may_be_key(seen):
        words["unique"] = True
        return words
    members = _members(seen)
    if members is not None:
        words["isin"] = members
        return words
    for word, bound in zip(("ge", "le"), _bounds(seen), strict=True):
        if bound is not None:
            words[word] = bound
    return words


def _shape(seen: Seen) -> list[int | None] | None:
    shapes = [facts.shape for facts in seen.facts if facts.shape is not None]
    if len(shapes) < len(seen.facts) or len({len(shape) for shape in shapes}) != 1:
        return None
    if len({facts.is_array for facts in seen.facts}) != 1 or (seen.path or "").endswith("[]"):
        return None
    common = [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True)]
    if seen.facts[0].is_array:
        return [None, *common[1:]] if common else []
    if common == [None] and seen.is_list:
        return _length(seen)
    return common if common and any(size is not None for size in common) else None


def _length(seen: Seen) -> list[int | None] | None:
    """The length that all lists have, where it is no accident."""
    lengths = {length for profile in seen.profiles if profile.lengths is not None for length in profile.lengths}
    if len(lengths) == 1 and seen.total("num_present") >= _SOME:
        (length,) = lengths
        return [length] if length > 1 else None
    return None


def _may_be_key(seen: Seen) -> bool:
    """Whether it is no accident that all values differ."""
    num_rows = seen.total("num_slots")
    if _KEY_NAME.search(seen.path or ""):
        return num_rows >= _FEW
    (profile,) = seen.profiles
    if num_rows < _MANY:
        return False
    if profile.dtype == "string":
        return True
    # As many repetitions would be expected of random values from the range that was seen.
    return num_rows**2 > _CHANCE * 2 * (int(profile.high) - int(profile.low) + 1)


def _members(seen: Seen) -> list[Any] | None:
    profile = _only(seen.profiles, seen.dtype)
    if profile is None or profile.vocabulary is None or not profile.vocabulary.counts:
        return None
    kind = dtype_kind(profile.dtype)
    members = sorted(profile.vocabulary.counts)
    if kind not in ("string", "integer") or len(members) > (MAX_WORDS if kind == "string" else MAX_INTEGER_WORDS):
        return None
    if profile.num_present < _TIMES_SEEN * len(members) * (1 if kind == "string" else 2):
        return None
    return members if sum(len(str(member)) for member in members) <= _MAX_WORDS_LENGTH else None


def _only(profiles: Iterable[LeafProfile], dtype: str | None) -> LeafProfile | None:
    """The one profile that has values, where it is of the field's dtype."""
    held = [profile for profile in profiles if profile.num_present]
    return held[0] if len(held) == 1 and held[0].dtype == dtype else None


def _bounds(seen: Seen) -> tuple[Any, Any]:
    held = [profile for profile in seen.profiles if profile.low is not None]
    dtypes = [dtype for dtype in seen.dtypes if not (seen.is_csv and dtype == "null")]
    # A bound is held against every file's values, so it must be one that all of their dtypes compare with.
    kinds = {dtype_kind(dtype) if canonical_dtype(dtype) == dtype else None for dtype in dtypes}
    if not held or None in kinds or not (kinds <= {"integer", "float"} or len(dtypes) == 1):
        return None, None
    low = min(profile.low for profile in held)
    high = max(profile.high for profile in held)
    if kinds <= {"integer", "float"} and (len(dtypes) > 1 or "float" in kinds):
        limit = min(largest_float(dtype) for dtype in dtypes)
        return float_bounds(low, high, limit)
    return bounds_of(low, high, str(*kinds), dtypes[0])


def describe(seen: Seen) -> str:
    """What was seen, in one line for people: ``seen: -43 .. 1301, 9,430 nulls of 336,776``."""
    parts = [part for part in (_dtypes_in_words(seen), _range_in_words(seen)) if part]
    total = seen.total("num_slots")
    told = [
        (seen.total("num_nulls"), "null", "nulls"),
        (seen.total("num_nan"), "NaN", "NaN"),
        (seen.total("num_posinf"), "+inf", "+inf"),
        (seen.total("num_neginf"), "-inf", "-inf"),
    ]
    found = [quantity(number, *names) for number, *names in told if number]
    if found:
        parts += [*found[:-1], f"{found[-1]} of {count(total)}"]
    else:
        parts.append(quantity(total, "value"))
    if not seen.is_everywhere:
        parts.append("not in every file")
    return f"seen: {', '.join(parts)}"


def _dtypes_in_words(seen: Seen) -> str:
    if seen.is_container or seen.dtype is not None:
        return ""
    return " and ".join(plain(dtype, 60) for dtype in seen.dtypes)


def _range_in_words(seen: Seen) -> str:
    words = _values_in_words(seen)
    return ", ".join(part for part in (words, "all different" if seen.is_unique else "") if part)


def _values_in_words(seen: Seen) -> str:
    lengths = [length for profile in seen.profiles if profile.lengths is not None for length in profile.lengths]
    if lengths:
        return f"lists of {min(lengths)} .. {max(lengths)} values"
    profile = _only(seen.profiles, seen.dtype)
    if profile is not None and profile.vocabulary is not None:
        if profile.dtype == "string" and seen.is_unique:
            return ""
        if profile.dtype == "string":
            known = profile.vocabulary.counts
            return (
                f"more than {profile.vocabulary.limit} different texts"
                if known is None
                else quantity(len(known), "text")
                if len(known) == 1
                else f"{len(known)} different texts"
            )
        if profile.dtype == "bool" and profile.vocabulary.counts:
            return f"{count(profile.vocabulary.counts.get(True, 0))} true"
    held = [profile for profile in seen.profiles if profile.low is not None]
    if not held:
        return ""
    low = min(held, key=lambda profile: profile.low)
    high = max(held, key=lambda profile: profile.high)
    return f"{value_in_words(low.low, low.dtype)} .. {value_in_words(high.high, high.dtype)}"
