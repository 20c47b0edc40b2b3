"""The SafeDatasets behind a trainer's loaders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from datacheck.torch.loader.dataset import SafeDataset

__all__ = ["safe_datasets_in"]

#: Attributes under which loaders and datasets keep the dataset that they wrap.
_INNER = ("dataset", "datasets", "base_dataloader", "dataloader", "iterables", "loaders", "flattened")
MAX_DEPTH = 8


def safe_datasets_in(loader: Any) -> list[SafeDataset[Any]]:
    """Every SafeDataset in a loader, or in a collection of loaders, each once."""
    return list({id(found): found for found in _find(loader, 0)}.values())


def _find(value: Any, depth: int) -> Iterator[SafeDataset[Any]]:
    if isinstance(value, SafeDataset):
        yield value
    elif depth < MAX_DEPTH:
        for part in _parts(value):
            yield from _find(part, depth + 1)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    own = getattr(value, "__dict__", {})
    return [
        getattr(value, name) for name in _INNER if name in own or isinstance(getattr(type(value), name, None), property)
    ]
