"""Notes on files together: one in another unit, arrays side by side of unequal length, overlapping splits."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from datacheck.findings import Finding
from datacheck.formats import format_of_name
from datacheck.profile.data_profile import DataProfile, FileProfile
from datacheck.profile.infer.suggested_bounds import format_extreme
from datacheck.profile.notes.spans import Span
from datacheck.profile.unit import LeafKey
from datacheck.text import join_limited, plain, quantity

#: Files needed to say that one is unlike the others, and the largest share of such files.
_MIN_FILES, _MAX_SHARE = 3, 0.25
#: How many times as far values are spread in a file of another scale, and at most in one of the same.
_SCALE, _ALIKE = 30, 10
#: How many times as many values such a file may have as the others.
_SIZE = 3
_SPLIT = re.compile(r"(?<![a-z])(train|test|val|dev|eval|holdout)(?:ing|id|idation|uation)?(?![a-z])")
#: The splits in the order of time.
_ORDER = ("train", "val", "dev", "eval", "test", "holdout")


def judge_files(profiles: Sequence[DataProfile]) -> Iterator[Finding]:
    """The notes on the files of datasets."""
    everywhere: dict[LeafKey, dict[str, Span]] = {}
    for profile in profiles:
        spans: dict[LeafKey, dict[str, Span]] = {}
        for file in profile.files:
            for key, span in file.spans.items():
                if span.low is not None:
                    spans.setdefault(key, {})[file.uri] = span
        for key, by_file in spans.items():
            yield from _unlike(key, by_file)
            everywhere.setdefault(key, {}).update(by_file)
    for key, by_file in everywhere.items():
        yield from _overlapping(key, by_file)
    yield from _unequal([file for profile in profiles for file in profile.files])


def _unlike(key: LeafKey, by_file: Mapping[str, Span]) -> Iterator[Finding]:
    """Files whose values lie apart from the values of every other file, where the others overlap."""
    path, dtype = key
    if dtype.startswith(("timestamp", "date")):
        # Files of different times are the rule.
        return
    middles = sorted((span.middle, uri) for uri, span in by_file.items() if span.middle is not None)
    if len(middles) < _MIN_FILES:
        return
    # In order, a file overlaps with another one only if it does with those that reach furthest before and after.
    odd: dict[str, tuple[float, float]] = {}
    reach = float("-inf")
    for position, ((low, high), uri) in enumerate(middles):
        following = middles[position + 1][0][0] if position + 1 < len(middles) else float("inf")
        if low > reach and high < following:
            odd[uri] = (low, high)
        reach = max(reach, high)
    if dtype.startswith("float"):
        odd = odd or _scaled(by_file)
    if not odd or len(odd) > max(1, int(_MAX_SHARE * len(middles))):
        return
    others = [span for span, uri in middles if uri not in odd]
    low, high = min(low for low, _ in others), max(high for _, high in others)
    first, (odd_low, odd_high) = next(iter(sorted(odd.items())))
    is_inside = low <= odd_low and odd_high <= high
    bound = f"ge: {low:.3g}" if odd_high < low else f"le: {high:.3g}"
    rule = "" if is_inside else f". As a rule: {bound}"
    listed = join_limited([posixpath.basename(uri) for uri in sorted(odd)], 5)
    detail = (
        f"{listed} {'has' if len(odd) == 1 else 'have'} 90 % of the values in {odd_low:.4g} .. {odd_high:.4g}, the others in"
        f" {low:.4g} .. {high:.4g}{rule}"
    )
    yield Finding("DC512", first, path, len(odd), len(middles), detail=detail)


def _scaled(by_file: Mapping[str, Span]) -> dict[str, tuple[float, float]]:
    """Files whose values are spread much further, or much less, than in the others, whose spreads are alike."""
    spans = [(middle[1] - middle[0], uri, middle) for uri, span in by_file.items() if (middle := span.middle)]
    spans = sorted(one for one in spans if one[0] > 0)
    for position in range(1, len(spans)):
        if spans[position][0] < _SCALE * spans[position - 1][0]:
            continue
        narrow, wide = spans[:position], spans[position:]
        few, most = (narrow, wide) if len(narrow) < len(wide) else (wide, narrow)
        # A file with more rows has more of a counter.
        sizes = [[by_file[uri].count for _, uri, _ in part] for part in (narrow, wide)]
        is_alike = most[-1][0] < _ALIKE * most[0][0] and max(sizes[1]) < _SIZE * min(sizes[0])
        return {uri: middle for _, uri, middle in few} if is_alike else {}
    return {}


def _overlapping(key: LeafKey, by_file: Mapping[str, Span]) -> Iterator[Finding]:
    """The training data ends after the data of another split begins."""
    path, dtype = key
    if not dtype.startswith(("timestamp", "date")):
        return
    splits: dict[str, list[tuple[str, Span]]] = {}
    for uri, span in by_file.items():
        found = _SPLIT.findall(uri.lower())
        if found:
            splits.setdefault(found[-1], []).append((uri, span))
    ranges = {
        split: (min(span.low for _, span in files), max(span.high for _, span in files))
        for split, files in splits.items()
    }
    if "train" not in ranges:
        return
    others = {split: ranges[split] for split in _ORDER if split in ranges and split != "train"}
    yield from overlapping_times(path, dtype, splits["train"][0][0], ranges["train"], others)


def overlapping_times(
    path: str | None, dtype: str, uri: str, train: tuple[Any, Any], others: Mapping[str, tuple[Any, Any]]
) -> Iterator[Finding]:
    """The note on splits whose first time is not after the last one of the training data; all are given as ticks."""
    late = {name: first for name, (first, last) in others.items() if first <= train[1] and last >= train[0]}
    if late:
        begins = ", ".join(f"{plain(name, 80)} begins {_shown(first, dtype)}" for name, first in late.items())
        rule = f"splits: {{time: {{on: {plain(path or '', 80)}}}}}"
        detail = f"train ends {_shown(train[1], dtype)}, {begins}. As a rule: {rule}"
        yield Finding("DC514", uri, path, len(late), len(others), detail=detail)


def _shown(ticks: Any, dtype: str) -> str:
    return format_extreme(ticks, dtype).removesuffix("T00:00:00")


def _unequal(files: Sequence[FileProfile]) -> Iterator[Finding]:
    """Arrays side by side with different numbers of rows: in one folder, or in one archive."""
    by_folder: dict[tuple[str, str], dict[str, FileProfile]] = {}
    for file in files:
        record = format_of_name(file.uri)
        if record is not None and record.is_one_array:
            split = _SPLIT.findall(posixpath.basename(file.uri).lower())
            stem = posixpath.basename(file.uri).partition(".")[0]
            folder = (posixpath.dirname(file.uri), split[-1] if split else "")
            by_folder.setdefault(folder, {})[stem] = file
        lengths = {
            path: facts.shape[0]
            for path, facts in file.fields.items()
            if path is not None and facts.is_array and facts.shape and facts.shape[0] is not None
        }
        yield from _lengths(lengths, file.uri)
    for arrays in by_folder.values():
        if not any(re.search(r"\d$", stem) for stem in arrays):
            yield from _lengths({stem: file.num_rows for stem, file in arrays.items()}, next(iter(arrays.values())).uri)


def _lengths(lengths: Mapping[str, int], uri: str) -> Iterator[Finding]:
    sizes = set(lengths.values())
    if len(sizes) < 2 or not _are_close(sizes):
        return
    listed = [f"{plain(name, 60)} has {quantity(number, 'row')}" for name, number in list(lengths.items())[:5]]
    detail = (
        f"{', '.join(listed)}, side by side. As a rule: one dimension name in their shapes, such as shape: [N] (DC304)"
    )
    yield Finding("DC513", uri, None, len(sizes), len(lengths), detail=detail)


def _are_close(sizes: Iterable[int]) -> bool:
    """Whether the lengths are so close that they should probably be equal."""
    return 2 * min(sizes) > max(sizes) > 1
