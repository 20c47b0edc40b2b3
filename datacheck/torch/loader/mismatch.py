"""Say why samples could not be collated: which of them differ, in what, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datacheck.text import ordinal_list, plain

__all__ = ["describe_mismatch"]

#: Levels of nesting to compare, and differences to list.
MAX_DEPTH, MAX_LISTED = 6, 4


def describe_mismatch(samples: Sequence[Any], names: Sequence[int]) -> str:
    """The fields that are not alike in all samples, each with the samples of each shape; empty if they are alike.

    ``names`` are the numbers by which to call the samples.
    """
    seen: dict[str, dict[str, list[int]]] = {}
    for name, sample in zip(names, samples, strict=True):
        for path, form in _forms(sample, "", 0):
            seen.setdefault(path, {}).setdefault(form, []).append(name)
    parts: list[tuple[str, str]] = []
    for path, forms in seen.items():
        present = [name for group in forms.values() for name in group]
        if len(present) < len(names):
            forms["absent"] = [name for name in names if name not in present]
        # Where a container differs, so do its parts.
        is_inside = any(path.startswith(f"{other}.") for other, _ in parts)
        if len(forms) > 1 and not is_inside:
            parts.append((path, _describe(path, forms)))
    more = f"; and {len(parts) - MAX_LISTED:,} more" if len(parts) > MAX_LISTED else ""
    return "; ".join(text for _, text in parts[:MAX_LISTED]) + more


def _describe(path: str, forms: Mapping[str, Sequence[int]]) -> str:
    groups = sorted(forms.items(), key=lambda group: -len(group[1]))
    listed = [f"{form} in {ordinal_list('sample', group[:8], len(group) > 8)}" for form, group in groups[:MAX_LISTED]]
    more = f", and {len(groups) - MAX_LISTED:,} more shapes" if len(groups) > MAX_LISTED else ""
    return f"{f'{plain(path)!r} is ' if path else ''}{', '.join(listed)}{more}"


def _forms(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """What collate functions require to be alike, by path: shapes, lengths, types and keys."""
    shape = getattr(value, "shape", None)
    if value is None:
        yield path, "None"
    elif isinstance(shape, tuple):
        yield path, f"of shape {tuple(shape)}"
    elif isinstance(value, str | bytes):
        yield path, type(value).__name__
    elif isinstance(value, Mapping) or (isinstance(value, list | tuple) and depth < MAX_DEPTH):
        is_numbers = isinstance(value, list) and all(isinstance(one, int | float) for one in value)
        yield path, type(value).__name__ if isinstance(value, Mapping) else f"of length {len(value):,}"
        if not is_numbers and depth < MAX_DEPTH:
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, part in parts:
                yield from _forms(part, f"{path}.{key}" if path else str(key), depth + 1)
    else:
        yield path, "a number" if isinstance(value, int | float) else type(value).__name__
