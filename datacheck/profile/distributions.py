"""The distributions of fields for a report, from the profiles of one or more datasets in the same bins."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from datacheck.checks.rules import format_value
from datacheck.jobs.execution import Execution
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.jobs.sampling import rank_of
from datacheck.jobs.scan import file_size
from datacheck.profile.data_profile import DataProfile
from datacheck.profile.dataset import FileSet, find_files, profile_files
from datacheck.profile.leaf import LeafProfile
from datacheck.profile.options import ProfileOptions
from datacheck.reports.accounts import InputAccount
from datacheck.reports.distributions import FieldDistribution, Series
from datacheck.reports.run_report import RunReport
from datacheck.reports.text import format_size
from datacheck.sources.base import ReadOptions
from datacheck.text import quantity

Array = np.ndarray[Any, Any]

_NUM_BINS = 40
_MAX_CATEGORIES = 10
#: Values beyond this part on either side are shown together, so that one sentinel does not flatten the rest.
_TAIL = 0.005
_MAX_FIELDS = 60
#: Bytes of inputs that are read a second time for the page of a run. More is represented by some of its files and units.
_MAX_BYTES = 256 << 20


def distributions(
    datasets: Mapping[str, Any],
    *,
    options: ReadOptions | None = None,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: Progress | None = None,
) -> list[FieldDistribution]:
    """The distribution of each field that holds numbers or few different values, of at most 60 fields.

    Args:
        datasets: paths by name of a dataset. All of them share the bins of numbers.
        options: how to read files.
        workers: the number of units to read at a time.
        executor: see :func:`datacheck.scan`.
        progress: receives each finished unit.

    Counts are exact. Shares of numbers come from a sample of up to 8,192 values for each field and dataset.
    """
    sets = [FileSet.of(find_files(paths, options)) for paths in datasets.values()]
    return _profiled(list(datasets), sets, Execution(workers, executor, progress or NullProgress()))


def distributions_of_run(
    report: RunReport,
    *,
    options: ReadOptions | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[FieldDistribution]:
    """The distribution of each field before and after the cleaning of a run; nothing if it published nothing.

    The bins of numbers are the output's, so that what the run removed lies outside of them.
    Of inputs beyond 256 MiB some are read, and of a file beyond that some of its units: always the same.
    """
    before: list[tuple[str, str | None]] = []
    after: list[tuple[str, str | None]] = []
    cleaned = [account for account in report.accounts if account.is_cleaned]
    chosen, looked_at = _within(cleaned, _MAX_BYTES)
    for account in chosen:
        files = account.files
        before += [(uri, name) for name, uri in files.items()] if files else [(account.uri, None)]
        after += [
            (f"{report.output.rstrip('/')}/{output['path']}", output.get("array"))
            for output in account.outputs
            if output["kind"] == "rows"
        ]
    if not before or not after:
        return []
    sets = [_named_set(before, options), _named_set(after, None)]
    execution = Execution(workers, "threads", progress or NullProgress())
    found = _profiled(["before", "after"], sets, execution, _MAX_BYTES, num_binned=1)
    return [replace(one, looked_at=looked_at) for one in found]


def _within(accounts: Sequence[InputAccount], max_bytes: int) -> tuple[list[InputAccount], str]:
    """The first inputs, at least one, up to a number of bytes; and which part of all that is, empty for all."""
    sizes = {
        account.uri: sum(map(file_size, account.files.values())) if account.files else file_size(account.uri)
        for account in accounts
    }
    ranked = sorted(accounts, key=lambda account: rank_of(account.uri))
    totals = list(itertools.accumulate(sizes[account.uri] for account in ranked))
    number = max(1, sum(total <= max_bytes for total in totals))
    names = {account.uri for account in ranked[:number]}
    chosen = [account for account in accounts if account.uri in names]
    read, whole = (sum(sizes[account.uri] for account in some) for some in (chosen, accounts))
    if read == whole and read <= max_bytes:
        return chosen, ""
    inputs = quantity(len(accounts), "input")
    return chosen, f"{len(chosen):,} of {inputs}, about {format_size(min(read, max_bytes))} of {format_size(whole)}"


def _named_set(named: Iterable[tuple[str, str | None]], options: ReadOptions | None) -> FileSet:
    files, names = [], []
    for uri, name in dict(named).items():
        found = find_files([uri], options)
        files += found
        names += [name] * len(found)
    return FileSet(files, names)


def _profiled(
    names: Sequence[str],
    sets: Sequence[FileSet],
    execution: Execution,
    max_bytes: int | None = None,
    num_binned: int | None = None,
) -> list[FieldDistribution]:
    """``num_binned`` is how many of the last datasets the bins of numbers are made for; all by default."""
    profiles = profile_files(
        sets,
        ProfileOptions(max_distinct=1000, with_samples=True),
        execution,
        max_bytes=max_bytes,
    )
    try:
        paths = dict.fromkeys(path for profile in profiles for path, _ in profile.leaves)
        found = (_field(path, names, profiles, num_binned or len(names)) for path in paths)
        return [one for one in found if one is not None][:_MAX_FIELDS]
    finally:
        for profile in profiles:
            profile.close()


def _field(
    path: str | None, names: Sequence[str], profiles: Sequence[DataProfile], num_binned: int
) -> FieldDistribution | None:
    of_path = [profile.of_path(path) for profile in profiles]
    leaves = [leaf for found in of_path for leaf in found]
    counts = [_counts(found) for found in of_path]
    if all(leaf.sample is not None for leaf in leaves) and not _are_categories(counts):
        return _numbers(path, names, of_path, num_binned)
    if any(count for count in counts):
        return _categories(path, names, of_path, counts)
    return None


def _counts(leaves: Sequence[LeafProfile]) -> Counter[str] | None:
    """The counts of each value; None where there are too many different ones."""
    total = Counter[str]()
    for leaf in leaves:
        if leaf.vocabulary is None or leaf.vocabulary.counts is None:
            return None
        total.update({format_value(value): number for value, number in leaf.vocabulary.counts.items()})
    return total


def _are_categories(counts: Sequence[Counter[str] | None]) -> bool:
    """Whether every dataset has few different values."""
    values: set[str] = set()
    for count in counts:
        if count is None:
            return False
        values |= count.keys()
    return 0 < len(values) <= _MAX_CATEGORIES


def _numbers(
    path: str | None, names: Sequence[str], of_path: Sequence[Sequence[LeafProfile]], num_binned: int
) -> FieldDistribution | None:
    samples = [
        np.concatenate([leaf.sample.values() for leaf in found if leaf.sample is not None] or [np.empty(0)])
        for found in of_path
    ]
    binned = np.concatenate(samples[-num_binned:])
    edges = _edges(binned if len(binned) else np.concatenate(samples))
    if edges is None:
        return None
    series = tuple(
        _series(name, found, *_shares(values, edges))
        for name, found, values in zip(names, of_path, samples, strict=True)
    )
    first = next(leaf for found in reversed(of_path) for leaf in found)
    ends = None
    if _unit_of(first.dtype):
        ends = (_text(edges[0], first.dtype), _text(edges[-1], first.dtype))
    elif edges[0] % 1 == 0.5 and edges[-1] % 1 == 0.5:
        ends = (f"{edges[0] + 0.5:.0f}", f"{edges[-1] - 0.5:.0f}")
    is_sampled = any(leaf.sample is not None and not leaf.sample.is_whole for found in of_path for leaf in found)
    return FieldDistribution(path, series, tuple(edges.tolist()), is_sampled=is_sampled, ends=ends)


def _edges(values: Array) -> Array | None:
    """The edges of bins over nearly all values."""
    if not len(values):
        return None
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    least, greatest = values.min(), values.max()
    span = high - low
    # A short tail is shown whole.
    low = least if low - least <= span / 2 else low
    high = greatest if greatest - high <= span / 2 else high
    if np.array_equal(values, np.rint(values)) and high - low < 2**52:
        width = max(1.0, np.ceil((high - low + 1) / _NUM_BINS))
        return np.arange(np.floor(low) - 0.5, high + width, width)
    if low == high:
        margin = max(abs(float(low)) * 0.05, 0.5)
        low, high = low - margin, high + margin
    edges: Array = np.linspace(low, high, _NUM_BINS + 1)
    return edges if np.isfinite(edges).all() and np.all(np.diff(edges) > 0) else None


def _shares(values: Array, edges: Array) -> tuple[tuple[float, ...], float, float]:
    if not len(values):
        return (0.0,) * (len(edges) - 1), 0.0, 0.0
    counts, _ = np.histogram(values, edges)
    below, above = int((values < edges[0]).sum()), int((values > edges[-1]).sum())
    return tuple((counts / len(values)).tolist()), below / len(values), above / len(values)


def _series(
    name: str, found: Sequence[LeafProfile], shares: tuple[float, ...], below: float = 0.0, above: float = 0.0
) -> Series:
    lows = [leaf.low for leaf in found if leaf.low is not None]
    highs = [leaf.high for leaf in found if leaf.high is not None]
    return Series(
        name,
        sum(leaf.num_slots for leaf in found),
        sum(leaf.num_nulls for leaf in found),
        sum(leaf.num_nan for leaf in found),
        sum(leaf.num_infinite for leaf in found),
        shares,
        below,
        above,
        _text(min(lows), found[0].dtype) if lows else "",
        _text(max(highs), found[0].dtype) if highs else "",
    )


def _unit_of(dtype: str) -> str:
    """The unit of a time that a profile holds as ticks: ``us`` of ``timestamp[us]``; empty for other dtypes."""
    kind, _, rest = dtype.partition("[")
    if kind in ("timestamp", "datetime64"):
        return rest.rstrip("]").partition(",")[0]
    return {"date32": "D", "date64": "ms"}.get(kind, "")


def _text(value: Any, dtype: str) -> str:
    unit = _unit_of(dtype)
    if unit and isinstance(value, int | float | np.number):
        text = str(np.array(int(value)).astype(f"datetime64[{unit}]"))
        return text.partition(".")[0]
    return format_value(value)


def _categories(
    path: str | None,
    names: Sequence[str],
    of_path: Sequence[Sequence[LeafProfile]],
    counts: Sequence[Counter[str] | None],
) -> FieldDistribution | None:
    if any(count is None for count in counts):
        return None
    known = [count for count in counts if count is not None]
    total = sum(known, Counter[str]())
    # By count, then by name: equal data gives equal pages.
    categories = tuple(sorted(total, key=lambda value: (-total[value], value))[:_MAX_CATEGORIES])
    series = []
    for name, found, count in zip(names, of_path, known, strict=True):
        number = sum(count.values())
        shares = tuple(count[category] / number if number else 0.0 for category in categories)
        series.append(_series(name, found, shares, above=max(0.0, 1 - sum(shares)) if number else 0.0))
    return FieldDistribution(path, tuple(series), categories=categories)
