"""Looking at a step before its update and after it: one reading, and a host sync at most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datacheck.text import count, join_limited, quantity
from datacheck.torch.guard.config import GuardConfig
from datacheck.torch.guard.history import HistoryBuffer, SpikeDetector
from datacheck.torch.guard.layer_monitor import LayerMonitor
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.guard.norms import exact_squares, squares, sum_squares, total_norm
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Signals, Trip
from datacheck.torch.guard.update_monitor import BadTensor, UpdateSample
from datacheck.torch.values import count_nonfinite

__all__ = ["Monitor", "Reading"]

#: So many first updates are all looked at afterwards: a bad epsilon or initial value shows there.
EARLY_UPDATES = 10
_NO_RANKS: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a look gave. ``is_overflow``: gradients overflowed under a loss scale, which the scaler answers itself."""

    trip: Trip | None = None
    is_overflow: bool = False


_CLEAN = Reading()
_OVERFLOW = Reading(is_overflow=True)


@dataclass(slots=True)
class _Numbers:
    """One step's numbers on the host, reduced over ranks."""

    loss: float | None
    squares: float
    scale: float
    left_behind: float = 0.0


class Monitor:
    """Reads the loss and the gradients of a step, and the state after its update, and keeps the histories."""

    def __init__(self, training: Training, config: GuardConfig, layers: LayerMonitor | None) -> None:
        self._training = training
        self._config = config
        self._layers = layers
        self.history = HistoryBuffer(config.history_length)
        self._loss_spikes = _spike_detector(config.loss_spike, config)
        self._gradient_spikes: dict[int, SpikeDetector | None] = {}
        self._watches_spikes = config.loss_spike is not None or config.grad_spike is not None
        self._num_updates = 0
        self._sampled: Sequence[NamedParameter] = ()
        self._sample: UpdateSample | None = None
        # What the last update left, not yet read: numbers of an accelerator, or of this rank only.
        self._unread_state: tuple[int, float, Tensor | None] | None = None
        self._unread_ratio: tuple[int, Tensor, float | None] | None = None

    def look(
        self,
        losses: Sequence[Tensor],
        parameters: Sequence[NamedParameter],
        scale: Tensor | float = 1.0,
        *,
        may_overflow: bool = False,
        which: int = 0,
    ) -> Reading:
        """Judge a step whose gradients are there and whose update is not made yet.

        ``scale`` is what the gradients are multiplied with; ``may_overflow`` says that a scaler looks after infinities.
        ``which`` is the optimizer that is about to update, where several have histories of their own.
        """
        training = self._training
        numbers = None
        if training.rank_group is None and self._unread_state is None and self._unread_ratio is None:
            numbers = _read_host(losses, parameters, scale)
        if numbers is None:
            numbers = self._read_anywhere(losses, parameters, scale)
            if not math.isfinite(numbers.left_behind):
                late = self._late_trip()
                if late is not None:
                    return Reading(late)
            self._unread_state = None
        training.gradient_scale = numbers.scale
        loss = numbers.loss
        if not math.isfinite(numbers.squares) or not (loss is None or math.isfinite(loss)):
            return self._confirm(losses, parameters, numbers, may_overflow, which)
        return self._judge(loss, math.sqrt(numbers.squares) / (numbers.scale or 1.0), which)

    def _read_anywhere(
        self, losses: Sequence[Tensor], parameters: Sequence[NamedParameter], scale: Tensor | float
    ) -> _Numbers:
        """Everything in one transfer. A sum over ranks carries a NaN of one of them to all of them."""
        training, rank_group = self._training, self._training.rank_group
        shares = training.shares_by_parameter if rank_group is not None else {}
        total = 0.0
        elsewhere: list[tuple[Tensor, float]] = []
        for parameter in parameters:
            gradient = parameter.tensor.grad
            if gradient is not None:
                share = shares.get(id(parameter.tensor), 1.0)
                if gradient.is_cpu:
                    total += squares(gradient) * share
                else:
                    elsewhere.append((gradient, share))
        state, ratio = self._unread_state, self._unread_ratio
        state_squares = 0.0 if state is None else state[1]
        on_device = [loss for loss in losses if not loss.is_cpu]
        size = rank_group.size if rank_group else 1
        loss_sum = sum(float(loss) for loss in losses if loss.is_cpu) / (max(len(losses), 1) * size)
        shared = [torch.tensor([loss_sum, total, state_squares], dtype=torch.float64)]
        shared.extend(_padded(loss / (len(losses) * size), 0) for loss in on_device)
        for share in {share for _, share in elsewhere}:
            norm = total_norm([gradient for gradient, owner in elsewhere if owner == share])
            shared.append(_padded(norm.square() * share, 1))
        if state is not None and state[2] is not None:
            shared.append(_padded(state[2].square(), 2))
        own = [scale if isinstance(scale, Tensor) else torch.tensor(float(scale))]
        if ratio is not None:
            own.append(ratio[1])
        home = next((t.device for t in [*own, *shared] if not t.is_cpu), torch.device("cpu"))
        dtype = torch.float32 if home.type == "mps" else torch.float64
        reduced = torch.stack([part.to(home, dtype, non_blocking=True) for part in shared]).sum(0)
        if rank_group is not None:
            reduced = rank_group.add(reduced)
        rest = torch.stack([part.reshape(()).to(reduced.device, dtype, non_blocking=True) for part in own])
        loss_value, squares_value, state_value, scale_value, *ratios = torch.cat([reduced, rest]).tolist()
        if ratio is not None:
            self.history.add_update(ratio[0], ratios[0], ratio[2])
            self._unread_ratio = None
        return _Numbers(loss_value if losses else None, squares_value, scale_value, state_value)

    def look_left_out(self, losses: Sequence[Tensor]) -> Trip | None:
        """Judge the losses of a step whose gradients are gone, since a scaler left it out."""
        step = self._training.step
        values = [float(loss) for loss in losses]
        bad = [value for value in values if not math.isfinite(value)]
        ranks = self._ranks_with(bool(bad))
        if not bad and not ranks:
            return None
        loss = bad[0] if bad else math.nan
        self.history.add_step(step, loss, None)
        detail = f"it is {loss}; the scaler left the update out"
        return Trip(code="DC450", signals=Signals(step, loss, None), detail=detail, ranks=ranks)

    def trip_left_out(self) -> Trip:
        """A step that a scaler left out, whose replay is not finite without a scale either."""
        step = self._training.step
        self.history.add_step(step, None, None)
        detail = "so is its replay without a loss scale; the scaler left the update out"
        return Trip(code="DC450", signals=Signals(step, None, None), detail=detail, ranks=self._ranks_with(True))

    def _ranks_with(self, flag: bool) -> tuple[int, ...]:
        """The ranks on which ``flag`` is true; none where there is one process only."""
        rank_group = self._training.rank_group
        if rank_group is None:
            return _NO_RANKS
        seen = [0.0] * rank_group.size
        seen[rank_group.rank] = float(flag)
        return tuple(rank for rank, seen_there in enumerate(rank_group.sum(seen)) if seen_there)

    def _judge(self, loss: float | None, norm: float, which: int) -> Reading:
        step = self._training.step
        self.history.add_step(step, loss, norm)
        if not self._watches_spikes:
            return _CLEAN
        # Both take every step in, whether or not the other one trips.
        loss_spike = self._loss_spikes.look(loss) if self._loss_spikes else None
        if which not in self._gradient_spikes:
            self._gradient_spikes[which] = _spike_detector(self._config.grad_spike, self._config)
        watch = self._gradient_spikes[which]
        gradient_spike = watch.look(norm) if watch else None
        for code, spike in (("DC452", loss_spike), ("DC453", gradient_spike)):
            if spike is not None:
                detail = (
                    f"{spike.value:.4g}, {spike.deviations:.0f} deviations above the median {spike.median:.4g} of the"
                    " last steps"
                )
                return Reading(Trip(code=code, signals=Signals(step, loss, norm), detail=detail, spike=spike))
        return _CLEAN

    def _confirm(
        self,
        losses: Sequence[Tensor],
        parameters: Sequence[NamedParameter],
        numbers: _Numbers,
        may_overflow: bool,
        which: int,
    ) -> Reading:
        """Count exactly: squares of large finite values overflow too."""
        training, rank_group = self._training, self._training.rank_group
        bad = []
        flags = [0.0] * len(parameters)
        for position, parameter in enumerate(parameters):
            if parameter.tensor.grad is not None:
                num_bad, num_values = count_nonfinite(parameter.tensor.grad)
                if num_bad:
                    flags[position] = 1.0
                    bad.append(BadTensor("gradient", parameter.name, num_bad, num_values))
        bad_losses = [value for value in map(float, losses) if not math.isfinite(value)]
        num_bad_gradients, num_bad_losses, ranks = len(bad), len(bad_losses), _NO_RANKS
        if rank_group is not None:
            seen = [0.0] * rank_group.size
            seen[rank_group.rank] = float(bool(bad or bad_losses))
            losses_sum, *others = rank_group.sum([float(len(bad_losses)), *seen, *flags])
            num_bad_losses = int(losses_sum)
            ranks = tuple(rank for rank, flag in enumerate(others[: rank_group.size]) if flag)
            # A parameter that is bad on several ranks is one parameter.
            num_bad_gradients = sum(flag > 0 for flag in others[rank_group.size :])
        if not num_bad_gradients and not num_bad_losses:
            norm = self._exact_norm(parameters) / (numbers.scale or 1.0)
            return self._judge(numbers.loss, norm, which)
        gradient_norm = None if not num_bad_gradients else numbers.squares
        signals = Signals(training.step, numbers.loss, gradient_norm)
        if not num_bad_losses and may_overflow:
            self.history.add_step(training.step, numbers.loss, None)
            return _OVERFLOW
        self.history.add_step(training.step, numbers.loss, gradient_norm)
        where = f", on {_ranks(ranks)}" if rank_group is not None else ""
        if num_bad_losses:
            value = bad_losses[0] if bad_losses else numbers.loss
            gradients = quantity(num_bad_gradients, "parameter")
            detail = f"it is {value}{where}; {gradients} of {count(len(parameters))} got a gradient that is not finite"
            code = "DC450"
        else:
            known = "is not known" if numbers.loss is None else f"is {numbers.loss:.6g}"
            detail = (
                f"in {count(num_bad_gradients)} of {quantity(len(parameters), 'parameter')}{where}; the loss {known}"
            )
            code = "DC451"
        trip = Trip(code=code, signals=signals, detail=detail, bad=tuple(bad), ranks=ranks, layers=self._bad_layers())
        return Reading(trip)

    def _exact_norm(self, parameters: Sequence[NamedParameter]) -> float:
        training, rank_group = self._training, self._training.rank_group
        shares = training.shares_by_parameter if rank_group is not None else {}
        total = sum(
            exact_squares([parameter.tensor.grad]) * shares.get(id(parameter.tensor), 1.0)
            for parameter in parameters
            if parameter.tensor.grad is not None
        )
        return math.sqrt(rank_group.sum([total])[0] if rank_group else total)

    def _bad_layers(self) -> tuple[str, ...]:
        if self._layers is None:
            return ()
        return tuple(
            layer.name for layer in self._layers.read() if layer.output is not None and not math.isfinite(layer.output)
        )

    def before_update(self) -> None:
        """Note where the weights are, before the first update; afterwards that is known from the update before."""
        parameters = self._training.parameters
        if self._sampled is not parameters:
            self._sampled, self._sample = parameters, UpdateSample(parameters)

    def after_update(self, *, look: bool = True) -> Trip | None:
        """Judge what an update left behind; where that would have to wait for a device or for ranks, the next look does."""
        training = self._training
        step, rate = training.step, training.learning_rate
        ratio = self._sample.moved() if self._sample else None
        if isinstance(ratio, Tensor):
            self._unread_ratio = (step, ratio, rate)
        else:
            self.history.add_update(step, ratio, rate)
        self._num_updates += 1
        is_due = self._num_updates <= EARLY_UPDATES or self._num_updates % self._config.every_n_steps == 0
        if not look or not is_due:
            return None
        total, norm = training.state.measure()
        if norm is not None or training.rank_group is not None:
            self._unread_state = (step, total, norm)
            return None
        self._unread_state = (step, total, None)
        return self.read_late()

    def read_late(self) -> Trip | None:
        """Read what the last update left behind now."""
        if self._unread_state is None:
            return None
        _, total, norm = self._unread_state
        if math.isfinite(total) and (norm is None or math.isfinite(float(norm))):
            self._unread_state = None
            return None
        return self._late_trip()

    def _late_trip(self) -> Trip | None:
        training, rank_group = self._training, self._training.rank_group
        step = training.step if self._unread_state is None else self._unread_state[0]
        self._unread_state = None
        bad = training.state.find()
        num_bad = len(bad)
        ranks: tuple[int, ...] = ()
        if rank_group is not None:
            seen = [0.0] * rank_group.size
            seen[rank_group.rank] = float(num_bad)
            all_bad = rank_group.sum(seen)
            num_bad, ranks = int(sum(all_bad)), tuple(rank for rank, flag in enumerate(all_bad) if flag)
        if not num_bad:
            return None
        view = self.history.view()
        signals = Signals(step, view.losses[-1] if view.losses else None, _last(view.gradient_norms))
        detail = f"step {count(step)}"
        if len(bad) > 1:
            detail += f"; also {join_limited([other.name for other in bad[1:]], 4)}"
        if rank_group is not None:
            detail += f"; on {_ranks(ranks)}"
        return Trip(code="DC455", signals=signals, detail=detail, bad=tuple(bad), ranks=ranks)


def _read_host(
    losses: Sequence[Tensor], parameters: Sequence[NamedParameter], scale: Tensor | float
) -> _Numbers | None:
    """The numbers of one process in host memory; None where some are elsewhere."""
    loss = None
    if losses:
        total = 0.0
        for one in losses:
            if not one.is_cpu:
                return None
            total += one.item()
        loss = total / len(losses)
    gradients = [gradient for parameter in parameters if (gradient := parameter.tensor.grad) is not None]
    total_squares = sum_squares(gradients)
    return None if total_squares is None else _Numbers(loss, total_squares, float(scale))


def _spike_detector(threshold: float | None, config: GuardConfig) -> SpikeDetector | None:
    return None if threshold is None else SpikeDetector(threshold, warmup=config.warmup_steps)


def _padded(value: Tensor, position: int) -> Tensor:
    """A scalar at its place among the three numbers that are summed."""
    value = value.detach().reshape(()).float()
    zero = torch.zeros_like(value)
    return torch.stack([value if position == place else zero for place in range(3)])


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'' if len(ranks) == 1 else 's'} {', '.join(map(str, ranks))}"


def _last(values: Sequence[float | None]) -> float | None:
    return values[-1] if values else None
