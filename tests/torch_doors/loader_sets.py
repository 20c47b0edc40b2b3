"""Data sets that the tests of the loader share: at the top of a module, so that spawned workers find them."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from datacheck.torch import SafeDataset


class Numbered(Dataset[Any]):
    """``size`` samples ``(vector of its index, index)``; NaN at ``nan``, a ``ValueError`` at ``broken``.

    ``loads`` counts how often each was asked for, in this process.
    """

    def __init__(self, size: int, nan: tuple[int, ...] = (), broken: tuple[int, ...] = ()) -> None:
        self.size, self.nan, self.broken = size, nan, broken
        self.loads: dict[int, int] = {}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.size:
            raise IndexError(index)
        self.loads[index] = self.loads.get(index, 0) + 1
        if index in self.broken:
            raise ValueError(f"no sample {index}")
        vector = torch.full((4,), float(index))
        if index in self.nan:
            vector[2] = float("nan")
        return vector, index


class Batched(Numbered):
    """The same, given many at a time; the whole call fails where one of them is broken."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.calls: list[list[int]] = []

    def __getitems__(self, indices: list[int]) -> list[Any]:
        self.calls.append(list(indices))
        return [self[index] for index in indices]


class Listed(Dataset[Any]):
    """Samples from a list; a function is called for its sample each time."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        sample = self.samples[index]
        return sample() if callable(sample) else sample


class FailsFirst:
    """Raises ``error`` for the first ``times`` calls, then returns ``value``."""

    def __init__(self, error: Exception, times: int, value: Any) -> None:
        self.error, self.left, self.value = error, times, value

    def __call__(self) -> Any:
        if self.left:
            self.left -= 1
            raise self.error
        return self.value


class Stream(IterableDataset[Any]):
    """The samples of a map-style dataset one after the other, each worker its share; a class of its own iterates."""

    def __init__(self, inner: Dataset[Any]) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        return _Pass(self.inner)


class _Pass(Iterator[Any]):
    def __init__(self, inner: Any) -> None:
        self.inner = inner
        worker = get_worker_info()
        self.next, self.step = (0, 1) if worker is None else (worker.id, worker.num_workers)

    def __next__(self) -> Any:
        if self.next >= len(self.inner):
            raise StopIteration
        index, self.next = self.next, self.next + self.step
        return self.inner[index]


class GeneratorStream(Stream):
    """The same as a generator, which is over once it raised."""

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self.inner)):  # type: ignore[arg-type]
            yield self.inner[index]


class KillsItsWorker(Numbered):
    """Kills the process that asks for sample ``last``, if it is a worker."""

    def __init__(self, size: int, last: int, **options: Any) -> None:
        super().__init__(size, **options)
        self.last = last

    def __getitem__(self, index: int) -> Any:
        if index == self.last and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class BatchedKillsItsWorker(KillsItsWorker):
    """The same, given many at a time."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


class Flaky(Numbered):
    """Sample ``index`` raises ``EIO`` the first time that any process asks for it."""

    def __init__(self, size: int, index: int, marker: Path) -> None:
        super().__init__(size)
        self.index, self.marker = index, marker

    def __getitem__(self, index: int) -> Any:
        if index == self.index and not self.marker.exists():
            self.marker.touch()
            raise OSError(errno.EIO, "Input/output error")
        return super().__getitem__(index)


def indices_of(loader: DataLoader[Any]) -> list[int]:
    """The indices of the samples that a loader over :class:`Numbered` gives, in their order; none of them is bad."""
    found: list[int] = []
    for vectors, indices in loader:
        assert torch.isfinite(vectors).all()
        assert torch.equal(vectors[:, 0].long(), indices)
        found += indices.tolist()
    return found


@contextmanager
def ending(loader: DataLoader[Any]) -> Iterator[Iterator[Any]]:
    """A pass over a loader that is expected to fail."""
    batches = iter(loader)
    with ended(batches):
        yield batches


@contextmanager
def ended(batches: Any) -> Iterator[None]:
    """End the workers of a pass that is not finished, at once: torch waits five seconds for each."""
    interval = torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL
    try:
        yield
    finally:
        torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.1
        if hasattr(batches, "_shutdown_workers"):
            batches._shutdown_workers()
        torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = interval


def safe_of(dataset: Any, **options: Any) -> SafeDataset[Any]:
    """A SafeDataset without a cap, for datasets of a few samples."""
    return SafeDataset(dataset, **{"max_bad_fraction": 1.0, "backoff": 0.0, **options})


def numpy_is_finite(value: Any) -> bool:
    """What NumPy says of every number in a structure: the oracle."""
    if isinstance(value, Mapping):
        return all(map(numpy_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(numpy_is_finite, value))
    if isinstance(value, torch.Tensor):
        value = value.detach().to(torch.complex128 if value.is_complex() else torch.float64).numpy()
    array = np.asarray(value)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
