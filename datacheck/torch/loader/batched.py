"""Load many samples of a dataset in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.data import Subset

__all__ = ["has_batched_path", "load_batch"]


def has_batched_path(dataset: Any) -> bool:
    """Whether a dataset loads whole batches. ``Subset`` always has the method; the dataset inside it decides."""
    if isinstance(dataset, Subset) and type(dataset).__getitems__ is Subset.__getitems__:
        return has_batched_path(dataset.dataset)
    return callable(getattr(dataset, "__getitems__", None))


def load_batch(dataset: Any, keys: list[int], transform: Callable[[Any], Any] | None) -> list[Any] | None:
    """The samples of ``keys``; None if they must be loaded one by one.

    One bad row makes the whole call fail, and not every dataset returns a list with one sample per key.
    """
    try:
        samples = dataset.__getitems__(keys)
        if not isinstance(samples, list | tuple) or len(samples) != len(keys):
            return None
        return list(samples) if transform is None else list(map(transform, samples))
    except Exception:  # loading one by one shows which one raised
        return None
