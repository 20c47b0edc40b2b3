"""Samples asked of a data set many at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.data import Subset

__all__ = ["has_batched_path", "load_together"]


def has_batched_path(dataset: Any) -> bool:
    """Whether a data set gives many samples at once. ``Subset`` says so always, and means it where its own set does."""
    if isinstance(dataset, Subset) and type(dataset).__getitems__ is Subset.__getitems__:
        return has_batched_path(dataset.dataset)
    return callable(getattr(dataset, "__getitems__", None))


def load_together(dataset: Any, keys: list[int], transform: Callable[[Any], Any] | None) -> list[Any] | None:
    """The samples of ``keys``; None where they cannot be had together, so that each must be asked for alone.

    One bad row makes the whole call fail, and a data set may return something else than a list with a sample for each.
    """
    try:
        samples = dataset.__getitems__(keys)
        if not isinstance(samples, list | tuple) or len(samples) != len(keys):
            return None
        return list(samples) if transform is None else list(map(transform, samples))
    except Exception:  # whatever is wrong with one of them is found when they are asked for one by one
        return None
