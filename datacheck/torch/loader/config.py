"""The settings of a SafeDataset, and whether they are valid."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from torch.utils.data import DataLoader, IterableDataset

from datacheck.errors import UsageError, nearest_name

Policy: TypeAlias = Literal["replace", "raise", "skip", "repair"]
OnBad: TypeAlias = Policy | Sequence[Policy]


def parse_policies(on_bad: OnBad) -> tuple[Policy, ...]:
    """One policy, or ``("repair", other)``; raises ``UsageError`` for anything else."""
    named: tuple[Any, ...] = tuple(on_bad) if isinstance(on_bad, list | tuple) else (on_bad,)
    known = get_args(Policy)
    for name in named:
        if name not in known:
            raise UsageError(
                f"on_bad: unknown policy {name!r}"
                + (nearest_name(str(name), known) or f"; known policies: {', '.join(known)}")
            )
    if named == ("repair",):
        return ("repair", "replace")
    if len(named) == 1 or (len(named) == 2 and named[0] == "repair" and named[1] != "repair"):
        return named
    raise UsageError(
        f"on_bad: expected one policy or ('repair', other), got {named}; the second one is for samples that cannot be repaired"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeConfig:
    """The settings of a :class:`SafeDataset`.

    ``policy`` is for bad samples that are not repaired; ``repairs`` says whether to try.
    """

    policy: Policy
    repairs: bool
    max_bad_fraction: float
    max_attempts: int
    retries: int
    backoff: float
    retry_on: tuple[type[BaseException], ...]
    seed: int
    replace_from: Sequence[int] | None
    transform: Callable[[Any], Any] | None

    def __post_init__(self) -> None:
        # Otherwise a mistake would only show in a worker, at the first bad sample.
        are_exceptions = isinstance(self.retry_on, tuple) and all(map(_is_exception, self.retry_on))
        for name, is_valid, expected in (
            ("max_bad_fraction", _is_number(self.max_bad_fraction) and 0 <= self.max_bad_fraction <= 1, "from 0 to 1"),
            ("max_attempts", _is_integer(self.max_attempts) and self.max_attempts >= 1, "an integer >= 1"),
            ("retries", _is_integer(self.retries) and self.retries >= 0, "an integer >= 0"),
            ("backoff", _is_number(self.backoff) and self.backoff >= 0, "seconds >= 0"),
            ("seed", _is_integer(self.seed), "an integer"),
            ("retry_on", are_exceptions, "an exception class or a tuple of them"),
        ):
            if not is_valid:
                raise UsageError(f"{name} must be {expected}, got {getattr(self, name)!r}")
        if self.transform is not None and not callable(self.transform):
            raise UsageError(f"transform must be a function of a sample, got {type(self.transform).__name__}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


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
