"""Where the samples of a data set come from, asked of data sets of many kinds."""

from __future__ import annotations

import bisect
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from datacheck.torch.loader.provenance import SampleOrigin

__all__ = ["origin_of", "origin_of_streamed"]

#: Attributes in which data sets of files keep them, torchvision's first.
_FILE_LISTS = ("samples", "imgs", "files", "paths", "filenames")


def origin_of(dataset: Any, index: int) -> SampleOrigin | None:
    """The origin of a sample; None where the data set does not give one.

    A data set gives it by a method ``origin(index)`` that returns a :class:`SampleOrigin`, or a path, or a path and a row;
    or by a list of its files (``samples``, as torchvision's folders have it). ``Subset`` and ``ConcatDataset`` are looked
    through.
    """
    found = _find(dataset, index)
    return None if found is None else replace(found, index=index)


def _find(dataset: Any, index: int) -> SampleOrigin | None:
    if isinstance(dataset, Subset):
        return _find(dataset.dataset, dataset.indices[index])
    if isinstance(dataset, ConcatDataset):
        part = bisect.bisect_right(dataset.cumulative_sizes, index)
        start = dataset.cumulative_sizes[part - 1] if part else 0
        return _find(dataset.datasets[part], index - start)
    method = getattr(dataset, "origin", None)
    if callable(method):
        return _as_origin(index, method(index))
    for name in _FILE_LISTS:
        files = getattr(dataset, name, None)
        if isinstance(files, Sequence) and not isinstance(files, str) and len(files) > index:
            entry = files[index]
            path = entry[0] if isinstance(entry, tuple | list) and entry else entry
            if isinstance(path, str | os.PathLike) and _is_place_of_file(os.fspath(path)):
                return SampleOrigin(index, os.fspath(path))
    return None


def _is_place_of_file(path: str) -> bool:
    """Whether a text names a file, or the place of one that is gone: a list of samples may also be one of texts."""
    try:
        return os.path.lexists(path) or (os.sep in path and os.path.isdir(os.path.dirname(path)))  # noqa: PTH112, PTH120
    except ValueError:
        return False


def _as_origin(index: int, told: Any) -> SampleOrigin | None:
    if told is None or isinstance(told, SampleOrigin):
        return told
    if isinstance(told, str | os.PathLike):
        return SampleOrigin(index, os.fspath(told))
    uri, row = told
    return SampleOrigin(index, os.fspath(uri), None, int(row))


def origin_of_streamed(sample: Any, position: int) -> SampleOrigin | None:
    """The origin that a sample of a stream carries, as WebDataset's do (``__url__`` and ``__key__``)."""
    if not isinstance(sample, Mapping):
        return None
    url, key = sample.get("__url__"), sample.get("__key__")
    if not isinstance(key, str):
        return None
    return SampleOrigin(position, f"{url}#{key}" if isinstance(url, str) else key)
