"""Parameters, buffers and optimizer state after an update, and how far the weights moved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datacheck.torch._compat import foreach_sub_
from datacheck.torch.guard.history import Update
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.guard.norms import squares, sum_squares, total_norm
from datacheck.torch.values import can_be_nonfinite, count_nonfinite, plain_tensor

#: An update is measured on a sample of values of the largest parameters, in runs of a cache line: 128 KiB of copies at most.
SAMPLED_PARAMETERS = 16
SAMPLED_VALUES = 1024
RUN_LENGTH = 16
#: Samples in host memory that wait to be measured: so many, in so many bytes, and at least the last two.
MAX_SAMPLES, SAMPLE_BYTES = 16, 1 << 17

_VDOT = np.vdot
_NOTHING: dict[str, Any] = {}


class BadTensor(NamedTuple):
    """A non-finite tensor: its kind (``gradient``, ``parameter``, ``buffer`` or ``optimizer``), name and counts."""

    kind: str
    name: str
    num_bad: int
    num_values: int


class StateMonitor:
    """Checks parameters, buffers and optimizer state.

    Tensors that were non-finite before the first step (a buffer with a mask of -inf) are expected to be: if one does harm,
    the loss or a gradient shows it. ``before`` is the monitor that this one replaces after parameters were added or removed.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Sequence[NamedParameter],
        optimizers: Sequence[Optimizer],
        before: StateMonitor | None = None,
    ) -> None:
        self._model = model
        self.parameters = parameters
        self._optimizers = optimizers
        self._expected: frozenset[tuple[str, str]] | None = None
        self._known: frozenset[tuple[str, str]] = frozenset()
        if before is not None and before._expected is not None:
            self._expected = before._expected
            new = (bad for bad in self._count() if (bad.kind, bad.name) not in before._known)
            self._expected |= {(bad.kind, bad.name) for bad in new if bad.kind != "optimizer"}
            self._note_known()

    def _tensors(self) -> Iterator[tuple[str, str, Tensor]]:
        for parameter in self.parameters:
            yield "parameter", parameter.name, parameter.tensor
        for name, buffer in self._model.named_buffers():
            yield "buffer", name, buffer
        for parameter in self.parameters:
            state = self._optimizers[parameter.optimizer].state.get(parameter.tensor)
            for key, value in (state or {}).items():
                yield from _state_tensors(parameter.name, str(key), value)

    def _unexpected(self) -> Iterator[Tensor]:
        """The tensors that should be finite. Names are built only if some are left out."""
        if self._expected:
            yield from (tensor for kind, name, tensor in self._tensors() if (kind, name) not in self._expected)
            return
        yield from (parameter.tensor for parameter in self.parameters)
        yield from self._model.buffers()
        for parameter in self.parameters:
            for value in self._optimizers[parameter.optimizer].state.get(parameter.tensor, _NOTHING).values():
                if type(value) is Tensor:
                    yield value
                else:
                    yield from (tensor for _, _, tensor in _state_tensors("", "", value))

    def learn(self) -> None:
        """Note which tensors are non-finite before training starts."""
        if self._expected is None:
            self._expected = frozenset((bad.kind, bad.name) for bad in self._count())
            self._note_known()

    def _note_known(self) -> None:
        self._known = frozenset((kind, name) for kind, name, _ in self._tensors())

    def _count(self) -> Iterator[BadTensor]:
        for kind, name, tensor in self._tensors():
            if not can_be_nonfinite(tensor) or (tensor.is_cpu and math.isfinite(squares(tensor))):
                continue
            num_bad, num_values = count_nonfinite(tensor)
            if num_bad:
                yield BadTensor(kind, name, num_bad, num_values)

    def measure(self) -> tuple[float, Tensor | None]:
        """A sum of squares over everything in host memory, and a norm left on the accelerator."""
        here: list[Tensor] = []
        elsewhere: list[Tensor] = []
        for tensor in self._unexpected():
            if tensor.is_cpu:
                here.append(tensor)
            elif can_be_nonfinite(tensor):
                elsewhere.append(tensor)
        total = sum_squares(here) or 0.0
        return total, total_norm(elsewhere) if elsewhere else None

    def find(self) -> list[BadTensor]:
        """The tensors that have become non-finite, with exact counts; parameters first."""
        return [bad for bad in self._count() if (bad.kind, bad.name) not in (self._expected or ())]


def _state_tensors(parameter: str, key: str, value: Any) -> Iterator[tuple[str, str, Tensor]]:
    if isinstance(value, Tensor):
        yield "optimizer", f"{parameter}.{key}", value
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            yield from _state_tensors(parameter, f"{key}.{position}", item)


class UpdateSample:
    """The norm of each update over the norm of the weights, on a fixed sample of the weights.

    A copy of all weights would double their memory. The sample is spread evenly over the largest parameters. It consists
    of runs of neighbours, since single values of a large parameter would each cost a cache miss. The sample after one
    update is the one before the next, so each update is read once. In host memory, small samples are kept until there are
    ``SAMPLE_BYTES`` of them, and measured together: that costs a small step less than to measure each.
    """

    def __init__(self, parameters: Sequence[NamedParameter]) -> None:
        floats = [p.tensor for p in parameters if p.tensor.dtype.is_floating_point and p.tensor.requires_grad]
        dense = [t for t in floats if t.device.type != "meta" and t.numel() and _flat(t) is not None]
        self._chosen = sorted(dense, key=Tensor.numel, reverse=True)[:SAMPLED_PARAMETERS]
        self._is_complete = sum(t.numel() for t in floats) == sum(min(t.numel(), SAMPLED_VALUES) for t in self._chosen)
        self._pointers: list[int] = []
        self._views: list[Any] = []
        self._before: list[Tensor] = []
        self._samples: _Samples | None = None
        #: Where the ratios go that are measured together.
        self._waiting: list[Update] = []
        if self._chosen:
            self._prepare()

    def _prepare(self) -> None:
        """Make views into the weights, again after a parameter has moved to other memory (``model.to``)."""
        self._pointers = [tensor.data_ptr() for tensor in self._chosen]
        views = [_spread(flat) for flat in map(_flat, self._chosen) if flat is not None]
        self._samples = None
        self._views = views
        if all(view.is_cpu and view.dtype is torch.float32 for view in views):
            self._views = [view.numpy() for view in views]
            self._samples = _Samples(self._views)
        else:
            self._before = [view.to(torch.float32, copy=True) for view in views]

    def add(self, update: Update) -> Tensor | None:
        """Take a sample after an update, whose ratio is set here or by the next :meth:`measure`.

        On an accelerator, it is returned as a tensor that is left there.
        """
        if not self._chosen:
            return None
        if self._samples is None:
            return self._measure_with_torch()
        is_still = self._samples.take(self._views)
        if is_still and self._has_other_memory():
            # The weights have other memory now. Checked only if none has moved, since it costs as much as a sample.
            self._samples.drop_last()
            self.measure()
            self._prepare()
            return None
        self._waiting.append(update)
        if self._samples.is_full:
            self.measure()
        return None

    def measure(self) -> None:
        """Set the ratios of the updates that are not measured yet."""
        if self._samples is not None and self._waiting:
            for update, ratio in zip(self._waiting, self._samples.measure(), strict=True):
                update.ratio = ratio
            self._waiting.clear()

    def moved(self) -> float | Tensor | None:
        """The ratio since the last sample; on an accelerator a tensor that is left there."""
        update = Update(0, None, None)
        on_device = self.add(update)
        self.measure()
        return update.ratio if on_device is None else on_device

    def weights_before(self) -> list[tuple[Tensor, Tensor]] | None:
        """The weights as vectors with their values from before the last update; None where the sample has not all of them."""
        self.measure()
        row = None if self._samples is None else self._samples.before_last
        if row is None or not self._is_complete:
            return None
        flats = [_flat(tensor.data) for tensor in self._chosen]
        pieces = torch.split(torch.from_numpy(row), [tensor.numel() for tensor in self._chosen])
        return [(flat, piece) for flat, piece in zip(flats, pieces, strict=True) if flat is not None]

    def _measure_with_torch(self) -> Tensor | None:
        if self._has_other_memory():
            self._prepare()
            return None
        now = [view.to(torch.float32, copy=True) for view in self._views]
        foreach_sub_(self._before, now)
        ratio = total_norm(self._before) / total_norm(now).clamp_min(1e-30)
        self._before = now
        return ratio

    def _has_other_memory(self) -> bool:
        return [tensor.data_ptr() for tensor in self._chosen] != self._pointers


class _Samples:
    """Samples of the weights, each a row, written piece by piece; the first is from before the updates of the others."""

    __slots__ = ("_number", "_pieces", "_rows", "before_last")

    def __init__(self, views: Sequence[Any]) -> None:
        size = sum(view.size for view in views)
        self._rows: Any = np.empty((max(2, min(MAX_SAMPLES, SAMPLE_BYTES // (4 * size))), size), np.float32)
        ends = np.cumsum([view.size for view in views])[:-1]
        self._pieces = [
            [piece.reshape(view.shape) for piece, view in zip(np.split(row, ends), views, strict=True)]
            for row in self._rows
        ]
        self._number = 0
        #: The weights before the last update that was measured.
        self.before_last: Any = None
        self.take(views)

    @property
    def is_full(self) -> bool:
        return self._number == len(self._rows)

    def take(self, views: Sequence[Any]) -> bool:
        """Take a sample; returns whether its first value is that of the one before."""
        number = self._number
        for piece, view in zip(self._pieces[number], views, strict=True):
            piece[...] = view
        self._number = number + 1
        # Of one value: where it has not moved, it is found out whether none has.
        return number > 0 and self._rows.item(number, 0) == self._rows.item(number - 1, 0)

    def drop_last(self) -> None:
        self._number -= 1

    def measure(self) -> list[float]:
        """The ratio of each update between two samples. The last sample becomes the first."""
        rows = self._rows[: self._number]
        samples = torch.from_numpy(rows)
        before, now = samples[:-1], samples[1:]
        weights = torch.linalg.vector_norm(now, dim=1).tolist()
        # Torch does not warn about infinities, as NumPy would.
        moves = torch.linalg.vector_norm(before - now, dim=1).tolist()
        ratios = [
            _ratio_in_double(rows[number], rows[number + 1])
            if not math.isfinite(move + weight)
            else move / weight
            if weight > 0
            else move
            for number, (move, weight) in enumerate(zip(moves, weights, strict=True))
        ]
        self.before_last = rows[-2].copy()
        self._rows[0] = rows[-1]
        self._number = 1
        return ratios


def _ratio_in_double(before: Any, now: Any) -> float:
    """The ratio for values whose squares overflow; NaN if the values themselves are non-finite."""
    with np.errstate(all="ignore"):
        before, now = before.astype(np.float64), now.astype(np.float64)
        weight = float(_VDOT(now, now))
        before -= now
        return math.sqrt(float(_VDOT(before, before)) / weight) if weight > 0 else math.nan


def _flat(tensor: Tensor) -> Tensor | None:
    """A dense tensor's values as a vector in memory order, also if channels come last or it is transposed."""
    tensor = plain_tensor(tensor)
    if not tensor.is_contiguous():
        tensor = tensor.permute(sorted(range(tensor.ndim), key=tensor.stride, reverse=True))
    return tensor.view(-1) if tensor.is_contiguous() else None


def _spread(flat: Tensor) -> Tensor:
    """Runs of neighbours, evenly spread over a vector; all of a short one."""
    number = SAMPLED_VALUES // RUN_LENGTH
    if flat.numel() <= SAMPLED_VALUES:
        return flat
    return flat.as_strided((number, RUN_LENGTH), (flat.numel() // number, 1))
