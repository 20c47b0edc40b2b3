"""Find the file and row that a sample comes from, for many kinds of datasets."""

from __future__ import annotations

import bisect
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from datacheck.storage import storage_of
from datacheck.storage.os_calls import local_uri
from datacheck.torch.loader.provenance import SampleOrigin

#: Attributes with the list of files of a dataset, torchvision's first.
_FILE_LISTS = ("samples", "imgs", "files", "paths", "filenames")


def origin_of(dataset: Any, index: int) -> SampleOrigin | None:
    """The origin of a sample; None where the dataset does not tell.

    A dataset tells by a method ``origin(index)`` that returns a :class:`SampleOrigin`, a path, or a path and a row; or by a
    list of its files (``samples``, as in torchvision's folders). Looks inside ``Subset`` and ``ConcatDataset``.
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
            if isinstance(path, str | os.PathLike) and _is_file_path(os.fspath(path)):
                return SampleOrigin(index, os.fspath(path))
    return None


def _is_file_path(path: str) -> bool:
    """Whether a string names a file, or a missing one in a folder that exists: ``samples`` may also be a list of texts."""
    if "://" in path:
        # No request is made for a name.
        return not any(map(str.isspace, path))
    try:
        if storage_of(path).exists(path):
            return True
        folder = local_uri(path).rpartition("/")[0]
        return bool(folder) and storage_of(path).stat(folder).kind == "folder"
    except (OSError, ValueError):
        return False


def _as_origin(index: int, origin: Any) -> SampleOrigin | None:
    if origin is None or isinstance(origin, SampleOrigin):
        return origin
    if isinstance(origin, str | os.PathLike):
        return SampleOrigin(index, os.fspath(origin))
    uri, row = origin
    return SampleOrigin(index, os.fspath(uri), None, int(row))


def origin_of_streamed(sample: Any, position: int) -> SampleOrigin | None:
    """The origin that a sample of a stream holds, as WebDataset's do (``__url__`` and ``__key__``)."""
    if not isinstance(sample, Mapping):
        return None
    url, key = sample.get("__url__"), sample.get("__key__")
    if not isinstance(key, str):
        return None
    return SampleOrigin(position, f"{url}#{key}" if isinstance(url, str) else key)
