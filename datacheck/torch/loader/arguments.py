"""Check the arguments of a SafeDataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset

from datacheck.errors import UsageError

if TYPE_CHECKING:
    from datacheck.torch.loader.config import OnBad, Policy

__all__ = ["check_cleaning", "check_dataset", "check_pool", "is_stream"]


def is_stream(dataset: Any) -> bool:
    """Whether a dataset is iterated rather than indexed."""
    if isinstance(dataset, IterableDataset):
        return True
    return hasattr(dataset, "__iter__") and not hasattr(dataset, "__getitem__")


def check_dataset(dataset: Any) -> None:
    """Raise ``UsageError`` for anything that is not a dataset."""
    if isinstance(dataset, DataLoader):
        raise UsageError(
            "expected a Dataset, got a DataLoader; wrap its dataset: DataLoader(SafeDataset(loader.dataset), ...)"
        )
    if isinstance(dataset, str | bytes | os.PathLike):
        raise UsageError(f"expected a Dataset, got {dataset!r}; open paths with datacheck.torch.open_dataset")
    if not is_stream(dataset) and not hasattr(dataset, "__getitem__"):
        raise UsageError(
            f"expected a Dataset, got {type(dataset).__name__}, which has neither __getitem__ nor __iter__"
        )


def check_cleaning(on_bad: OnBad, policies: Sequence[Policy], cleaning: Any, statistics: Any) -> None:
    """Raise ``UsageError`` unless there are cleaning rules exactly where the policy repairs."""
    if cleaning is None and "repair" in policies:
        raise UsageError("on_bad='repair' requires cleaning='pipeline.yaml' or a list of cleaning rules")
    if cleaning is not None and "repair" not in policies:
        raise UsageError(
            f"cleaning is used for repairs only, and on_bad={on_bad!r} repairs nothing; set on_bad='repair'"
        )
    if statistics is not None and cleaning is None:
        raise UsageError("statistics require the cleaning rules they were fitted for: cleaning='pipeline.yaml'")


def check_pool(pool: Sequence[int], num_samples: int | None, name: str) -> None:
    """Raise ``UsageError`` unless ``replace_from`` lists indices of the dataset."""
    indices = np.asarray(pool)
    if indices.ndim != 1 or not indices.size or indices.dtype.kind not in "iu":
        raise UsageError("replace_from must be a non-empty sequence of sample indices")
    if num_samples is not None and not (indices.min() >= 0 and indices.max() < num_samples):
        raise UsageError(
            f"replace_from has indices from {indices.min()} to {indices.max()}, but {name} has {num_samples:,} samples"
        )
