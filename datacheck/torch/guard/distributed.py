"""The other ranks. A verdict is reduced before any rank acts on it: a rank that acted alone would hang the others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from datacheck.torch._compat import DispatchMode

#: The namespaces of operations that all ranks of a group must take part in.
_COLLECTIVES = frozenset({"c10d", "_c10d_functional", "_c10d_functional_autograd"})


def is_sharded(model: nn.Module) -> bool:
    """Whether ranks hold parts of the parameters (FSDP2, tensor parallelism)."""
    return any(hasattr(parameter, "to_local") for parameter in model.parameters())


def share_of(tensor: Tensor, size: int) -> float:
    """The weight of this rank's sum of squares, so that the sum over ``size`` ranks is the global one.

    Sharded values are on one rank each, replicated ones on every rank.
    """
    if not hasattr(tensor, "placements"):
        return 1.0 / size
    copies, mesh = 1, getattr(tensor, "device_mesh")  # noqa: B009 - a DTensor's
    for dimension, placement in enumerate(tensor.placements):
        if placement.is_replicate():
            copies *= mesh.size(dimension)
    return 1.0 / copies


class RankGroup:
    """A process group of several ranks that check the same steps."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self.size = dist.get_world_size(group)
        self.rank = dist.get_rank(group)
        backend = str(dist.get_backend(group))
        self._device = torch.device("cpu")
        if "gloo" not in backend and "mpi" not in backend and torch.accelerator.is_available():
            self._device = torch.accelerator.current_accelerator() or self._device

    def add(self, values: Tensor) -> Tensor:
        """The sum of values over all ranks. A NaN or an infinity of one rank reaches every rank."""
        total = values.to(self._device, copy=True)
        dist.all_reduce(total, group=self.group)
        return total

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all ranks of numbers on the host."""
        return [float(value) for value in self.add(torch.tensor(values, dtype=torch.float64)).tolist()]

    def ranks_where(self, flag: bool) -> tuple[int, ...]:
        """The ranks on which ``flag`` is true."""
        flags = self.sum([float(flag and rank == self.rank) for rank in range(self.size)])
        return tuple(rank for rank, flag_there in enumerate(flags) if flag_there)

    def gather(self, record: Any) -> list[Any]:
        """Each rank's plain JSON value, in rank order."""
        data = json.dumps(record, default=str).encode()
        lengths = self.sum([float(len(data)) if rank == self.rank else 0.0 for rank in range(self.size)])
        width = max(map(int, lengths))
        padded = torch.zeros(width, dtype=torch.uint8)
        padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        padded = padded.to(self._device)
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, group=self.group)
        texts = [bytes(part[: int(length)].cpu().numpy()) for part, length in zip(parts, lengths, strict=True)]
        return [json.loads(text) for text in texts]


class CollectiveInReplayError(RuntimeError):
    """A replay came to a collective. The other ranks do not replay the step, so it would wait for them forever."""


class _NoCollectives(DispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in _COLLECTIVES:
            raise CollectiveInReplayError(
                f"it reached the collective {func.__name__.partition('.')[0].strip('_')}, and the other ranks do not"
                " replay the step"
            )
        return func(*args, **(kwargs or {}))


@contextmanager
def without_collectives(group: RankGroup | None) -> Iterator[None]:
    """Run a replay on one of several ranks: a collective raises :class:`CollectiveInReplayError`."""
    if group is None:
        yield
        return
    with _NoCollectives():  # type: ignore[no-untyped-call]
        yield


def is_distributed() -> bool:
    """Whether this process is one of a process group."""
    return dist.is_available() and dist.is_initialized()


def own_rank() -> int:
    """The rank of this process among all; 0 for a single process."""
    return dist.get_rank() if is_distributed() else 0


def describe_ranks(ranks: Sequence[int]) -> str:
    """``rank 1`` or ``ranks 0, 2``."""
    return f"rank{'' if len(ranks) == 1 else 's'} {', '.join(map(str, ranks))}"


def find_rank_group(model: nn.Module) -> RankGroup | None:
    """The ranks that train this model together; None for a single process."""
    if not is_distributed():
        return None
    group = model.process_group if isinstance(model, DistributedDataParallel) else None
    return RankGroup(group) if dist.get_world_size(group) > 1 else None
