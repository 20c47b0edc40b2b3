"""What an update left behind: parameters, buffers and optimizer state, and how far the weights moved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datacheck.torch.sentinel.measure import count_nonfinite, is_watched, plain_tensor, squares, total_norm
from datacheck.torch.sentinel.names import NamedParameter

__all__ = ["BadTensor", "StateWatch", "UpdateSample"]

#: An update is measured on so many values of so many parameters: 256 KiB of copies at most.
SAMPLED_PARAMETERS = 16
SAMPLED_VALUES = 2048


class BadTensor:
    """A tensor that is not finite: its kind (``parameter``, ``buffer`` or ``optimizer``), name and counts."""

    __slots__ = ("kind", "name", "num_bad", "num_values")

    def __init__(self, kind: str, name: str, num_bad: int, num_values: int) -> None:
        self.kind = kind
        self.name = name
        self.num_bad = num_bad
        self.num_values = num_values


class StateWatch:
    """Looks at parameters, buffers and optimizer state.

    What was not finite before the first step (a mask of -inf that is kept as a buffer) is left out: if it does harm,
    the loss or a gradient shows it.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[NamedParameter], optimizers: Sequence[Optimizer]) -> None:
        self._model = model
        self._parameters = parameters
        self._optimizers = optimizers
        self._expected: frozenset[tuple[str, str]] | None = None

    def _tensors(self) -> Iterator[tuple[str, str, Tensor]]:
        for parameter in self._parameters:
            yield "parameter", parameter.name, parameter.tensor
        for name, buffer in self._model.named_buffers():
            yield "buffer", name, buffer
        for parameter in self._parameters:
            state = self._optimizers[parameter.optimizer].state.get(parameter.tensor)
            for key, value in (state or {}).items():
                yield from _state_tensors(parameter.name, str(key), value)

    def learn(self) -> None:
        """Note what is not finite before training starts."""
        if self._expected is None:
            self._expected = frozenset((bad.kind, bad.name) for bad in self._count())

    def _count(self) -> Iterator[BadTensor]:
        for kind, name, tensor in self._tensors():
            if not is_watched(tensor) or (tensor.is_cpu and math.isfinite(squares(tensor))):
                continue
            num_bad, num_values = count_nonfinite(tensor)
            if num_bad:
                yield BadTensor(kind, name, num_bad, num_values)

    def measure(self) -> tuple[float, Tensor | None]:
        """A sum of squares over everything in host memory, and a norm that an accelerator will know later."""
        expected = self._expected or ()
        total, elsewhere = 0.0, []
        for kind, name, tensor in self._tensors():
            if expected and (kind, name) in expected:
                continue
            if tensor.is_cpu:
                total += squares(tensor)
            elif is_watched(tensor):
                elsewhere.append(tensor)
        return total, total_norm(elsewhere) if elsewhere else None

    def find(self) -> list[BadTensor]:
        """Exactly what is not finite and was before; parameters first."""
        return [bad for bad in self._count() if (bad.kind, bad.name) not in (self._expected or ())]


def _state_tensors(parameter: str, key: str, value: Any) -> Iterator[tuple[str, str, Tensor]]:
    if isinstance(value, Tensor):
        yield "optimizer", f"{parameter}.{key}", value
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            yield from _state_tensors(parameter, f"{key}.{position}", item)


class UpdateSample:
    """The norm of an update over the norm of the weights, on a fixed sample of the weights.

    A copy of all weights would double their memory; the sample is spread evenly over the largest parameters. The sample
    after one update is the one before the next, so each update is read once.
    """

    def __init__(self, parameters: Sequence[NamedParameter]) -> None:
        floats = [p.tensor for p in parameters if p.tensor.dtype.is_floating_point and p.tensor.requires_grad]
        dense = [t for t in floats if plain_tensor(t).is_contiguous() and t.numel() and t.device.type != "meta"]
        self._chosen = sorted(dense, key=Tensor.numel, reverse=True)[:SAMPLED_PARAMETERS]
        self._pointers: list[int] = []
        self._views: list[Any] = []
        self._now: Any = None
        self._before: Any = None
        self._is_numpy = False
        if self._chosen:
            self._prepare()

    def _prepare(self) -> None:
        """Views into the weights; made again when a parameter was given other memory (``model.to``)."""
        self._pointers = [tensor.data_ptr() for tensor in self._chosen]
        views = []
        for tensor in self._chosen:
            flat = plain_tensor(tensor).view(-1)
            views.append(flat[:: max(1, -(-flat.numel() // SAMPLED_VALUES))])
        self._is_numpy = all(view.is_cpu and view.dtype is torch.float32 for view in views)
        if self._is_numpy:
            self._views = [view.numpy() for view in views]
            self._before, self._now = np.concatenate(self._views), np.concatenate(self._views)
        else:
            self._views = views
            self._before = [view.float() for view in views]

    def moved(self) -> float | Tensor | None:
        """How far the weights moved since the last call; on an accelerator a tensor that it will know later."""
        if not self._chosen:
            return None
        if [tensor.data_ptr() for tensor in self._chosen] != self._pointers:
            self._prepare()
            return None
        if not self._is_numpy:
            now = [view.float() for view in self._views]
            torch._foreach_sub_(self._before, now)
            ratio = total_norm(self._before) / total_norm(now).clamp_min(1e-30)
            self._before = now
            return ratio
        now, before = self._now, self._before
        np.concatenate(self._views, out=now)
        np.subtract(now, before, out=before)
        with np.errstate(over="ignore"):
            moved, weight = float(before.dot(before)), float(now.dot(now))
        self._now, self._before = before, now
        return math.sqrt(moved / weight) if weight > 0 else moved
