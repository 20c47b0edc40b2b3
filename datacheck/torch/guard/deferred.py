"""Numbers of a step that are read one step later, so that the host never waits for an accelerator.

What must not wait is decided on the device: a flag that says whether the gradients are non-finite goes to the fused optimizer
as ``found_inf``, as a GradScaler would give it, and the optimizer then changes nothing. The numbers are copied to pinned memory
on a stream of their own, and read when the next step is about to update.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datacheck.torch.guard.distributed import RankGroup, is_sharded
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.guard.norms import total_norm
from datacheck.torch.guard.step_numbers import UnreadUpdate
from datacheck.torch.guard.training_state import Training
from datacheck.torch.values import can_be_nonfinite, plain_tensor

#: Asked several times a step.
_HAS_CUDA = torch.version.cuda is not None


def can_be_deferred(training: Training) -> bool:
    """Whether a bad update can be kept from the weights without the host: by one fused optimizer, of whole parameters."""
    if len(training.optimizers) != 1 or training.scaler.is_active or is_sharded(training.model):
        return False
    return all(group.get("fused") for group in training.optimizers[0].param_groups)


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured, which takes no transfer to the host."""
    if not _HAS_CUDA or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    return torch.cuda.is_current_stream_capturing()


@dataclass(frozen=True, slots=True)
class LateNumbers:
    """What was read of an earlier step. ``is_gated``: its gradients were non-finite, and the update was not made."""

    step: int
    loss: float | None
    squares: float
    is_gated: bool
    state_squares: float
    ratio: float | None
    unread: UnreadUpdate


@dataclass(slots=True)
class _Pending:
    step: int
    names: tuple[str, ...]
    unread: UnreadUpdate
    host: Tensor
    event: Any


class DeferredNumbers:
    """The numbers of the step before, on their way to the host, and the flag of the current one."""

    def __init__(self) -> None:
        self._pending: _Pending | None = None
        self._flag: Tensor | None = None
        self._stream: Any = None

    def launch(
        self,
        step: int,
        losses: Sequence[Tensor],
        parameters: Sequence[NamedParameter],
        unread: UnreadUpdate,
        group: RankGroup | None,
    ) -> None:
        """Compute the numbers of a step where its gradients are, and start to copy them to the host."""
        gradients = [one.tensor.grad for one in parameters if one.tensor.grad is not None]
        floats = [plain_tensor(one) for one in gradients if can_be_nonfinite(one) and one.numel()]
        home = floats[0].device if floats else torch.device("cpu")
        dtype = torch.float32 if home.type == "mps" else torch.float64
        loss = (
            torch.stack([one.reshape(()).to(home, dtype, non_blocking=True) for one in losses]).mean()
            if losses
            else None
        )
        norm = total_norm(floats).to(home, dtype)
        suspect = total_norm(floats, math.inf).to(home, dtype)
        if loss is not None and group is None:
            # Over several ranks the loss of one must not decide for that rank alone: the gradients are the same on all.
            suspect = suspect + loss
        # A non-finite value minus itself is NaN.
        bad = (suspect - suspect).ne(0)
        self._flag = bad.float()
        values = {"squares": norm.square(), "bad": bad.to(dtype)}
        if loss is not None:
            values["loss"] = loss
        if unread.state is not None:
            _, on_host, on_device = unread.state
            # The sums over parameters on the host are this rank's own.
            here = torch.full((), on_host, dtype=dtype, device=home)
            values["state"] = here if on_device is None else on_device.to(home, dtype).square() + here
        if unread.ratio is not None:
            values["ratio"] = unread.ratio[1].to(home, dtype)
        host, event = self._copy(torch.stack(list(values.values())), group)
        self._pending = _Pending(step, tuple(values), unread, host, event)

    def _copy(self, values: Tensor, group: RankGroup | None) -> tuple[Tensor, Any]:
        """Copy numbers to the host after the mean over ranks, beside what the device does next."""
        if values.is_cpu:
            return (values if group is None else group.add(values) / group.size), None
        device = torch.get_device_module(values.device)
        if self._stream is None:
            self._stream = device.Stream(values.device)
        self._stream.wait_stream(device.current_stream(values.device))
        with device.stream(self._stream):
            values.record_stream(self._stream)
            total = values if group is None else group.add(values) / group.size
            host = torch.empty(total.shape, dtype=total.dtype, pin_memory=True).copy_(total, non_blocking=True)
            event = device.Event()
            event.record(self._stream)
        return host, event

    def take_flag(self) -> Tensor | None:
        """The flag for the update that follows: 1.0 where it must not be made. It is given once."""
        flag, self._flag = self._flag, None
        return flag

    def read(self) -> LateNumbers | None:
        """The numbers of the step before; they have long arrived."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        if pending.event is not None:
            pending.event.synchronize()
        values = dict(zip(pending.names, pending.host.tolist(), strict=True))
        return LateNumbers(
            step=pending.step,
            loss=values.get("loss"),
            squares=values["squares"],
            is_gated=values["bad"] > 0,
            state_squares=values.get("state", 0.0),
            ratio=values.get("ratio"),
            unread=pending.unread,
        )
