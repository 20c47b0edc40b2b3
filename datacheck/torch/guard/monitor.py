"""Checking a step before its update, with one host sync at most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from datacheck.text import count, quantity
from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.config import GuardConfig
from datacheck.torch.guard.deferred import DeferredNumbers
from datacheck.torch.guard.distributed import describe_ranks
from datacheck.torch.guard.history import HistoryBuffer, SpikeDetector
from datacheck.torch.guard.layer_monitor import LayerMonitor
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.guard.norms import exact_squares
from datacheck.torch.guard.step_numbers import StepNumbers, UnreadUpdate, read_anywhere, read_on_host
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Signals, Trip
from datacheck.torch.guard.update_check import UpdateCheck
from datacheck.torch.guard.update_monitor import BadTensor
from datacheck.torch.values import count_nonfinite


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of a check. ``is_overflow``: gradients overflowed under a loss scale, which the scaler deals with.
    ``diagnosis`` is set where the trip needs no replay. ``is_held``: an earlier step forbids the update.
    """

    trip: Trip | None = None
    is_overflow: bool = False
    is_held: bool = False
    diagnosis: Diagnosis | None = None


_CLEAN = Reading()
_OVERFLOW = Reading(is_overflow=True)


@dataclass(frozen=True, slots=True)
class _BadCounts:
    """What is non-finite: this rank's gradients and losses, and the counts over all ranks."""

    gradients: tuple[BadTensor, ...]
    losses: tuple[float, ...]
    num_gradients: int
    num_losses: int
    ranks: tuple[int, ...] = ()


class Monitor:
    """Reads the loss and the gradients of a step, and keeps the histories. ``updates`` checks what updates leave behind."""

    def __init__(self, training: Training, config: GuardConfig, layers: LayerMonitor | None) -> None:
        self._training = training
        self._config = config
        self._layers = layers
        self.history = HistoryBuffer(config.history_length)
        self.updates = UpdateCheck(training, config, self.history)
        self._loss_spikes = _spike_detector(config.loss_spike, config)
        self._gradient_spikes: dict[int, SpikeDetector | None] = {}
        #: Where the numbers of a step are read only in the next one.
        self.deferred: DeferredNumbers | None = None
        self._watches_spikes = config.loss_spike is not None or config.grad_spike is not None

    def state_dict(self) -> dict[str, Any]:
        """The histories, as plain values."""
        detectors = {position: one.values for position, one in self._gradient_spikes.items() if one is not None}
        return {
            "history": self.history.to_dict(),
            "loss_spikes": None if self._loss_spikes is None else self._loss_spikes.values,
            "gradient_spikes": {str(position): values for position, values in detectors.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        self.history.load_dict(state["history"])
        if self._loss_spikes is not None:
            self._loss_spikes.load(state["loss_spikes"] or ())
        for position, values in state["gradient_spikes"].items():
            detector = self._gradient_detector(int(position))
            if detector is not None:
                detector.load(values)

    def _gradient_detector(self, optimizer: int) -> SpikeDetector | None:
        if optimizer not in self._gradient_spikes:
            self._gradient_spikes[optimizer] = _spike_detector(self._config.grad_spike, self._config)
        return self._gradient_spikes[optimizer]

    def check(
        self,
        losses: Sequence[Tensor],
        parameters: Sequence[NamedParameter],
        scale: Tensor | float = 1.0,
        *,
        may_overflow: bool = False,
        optimizer: int = 0,
        grad_norm: Tensor | float | None = None,
    ) -> Reading:
        """Check a step that has gradients and no update yet.

        ``scale`` is the loss scale in the gradients; ``may_overflow`` says that a scaler deals with infinities.
        ``optimizer`` is the position of the one that is about to update: each has a history of its own. ``grad_norm`` is
        the norm over all ranks where it is known already: the gradients are then read only if it is non-finite.
        """
        training, updates = self._training, self.updates
        numbers = None
        if self.deferred is not None:
            self.deferred.launch(training.step, losses, parameters, updates.unread, training.rank_group)
            updates.unread = UnreadUpdate()
            return _CLEAN
        if training.rank_group is None and updates.is_read:
            numbers = read_on_host(losses, parameters, scale, grad_norm)
        if numbers is None:
            shares = {} if training.rank_group is None else training.shares_by_parameter
            numbers, ratio = read_anywhere(
                losses, parameters, scale, updates.unread, training.rank_group, shares, grad_norm=grad_norm
            )
            updates.add_ratio(ratio)
            late = None if math.isfinite(numbers.state_squares) else updates.find_trip()
            if late is not None:
                return Reading(late)
            updates.unread.state = None
        training.gradient_scale = numbers.scale
        loss = numbers.loss
        if not math.isfinite(numbers.squares) or not (loss is None or math.isfinite(loss)):
            return self._confirm(losses, parameters, numbers, may_overflow=may_overflow, optimizer=optimizer)
        return self._check_spikes(loss, math.sqrt(numbers.squares) / (numbers.scale or 1.0), optimizer)

    def read_deferred(self) -> Trip | None:
        """Read the numbers of the step before, which have long arrived; returns its trip."""
        late = None if self.deferred is None else self.deferred.read()
        if late is None:
            return None
        if late.unread.ratio is not None and late.ratio is not None:
            update, _ = late.unread.ratio
            update.ratio = late.ratio
            self.history.add_update(update)
        self.history.add_step(late.step, late.loss, math.sqrt(late.squares) if late.squares >= 0 else late.squares)
        is_bad_loss = late.loss is not None and not math.isfinite(late.loss)
        if late.is_gated or is_bad_loss:
            group = self._training.rank_group
            done = (
                "the update was left out on the device"
                if late.is_gated
                else "the update was made: its gradients are finite"
            )
            known = "unknown" if late.loss is None else f"{late.loss:.6g}"
            return Trip(
                code="DC450" if is_bad_loss else "DC451",
                signals=Signals(late.step, late.loss, late.squares),
                detail=f"it is {known}; {done}" if is_bad_loss else f"the loss is {known}; {done}",
                ranks=() if group is None else tuple(range(group.size)),
                is_gated=late.is_gated,
                was_made=not late.is_gated,
            )
        if not math.isfinite(late.state_squares):
            self.updates.unread.state = late.unread.state
            return self.updates.find_trip()
        return None

    def _confirm(
        self,
        losses: Sequence[Tensor],
        parameters: Sequence[NamedParameter],
        numbers: StepNumbers,
        *,
        may_overflow: bool,
        optimizer: int,
    ) -> Reading:
        """Count exactly, since squares of large finite values overflow too."""
        step = self._training.step
        bad = self._count_bad(losses, parameters)
        if not bad.num_gradients and not bad.num_losses:
            norm = self._exact_norm(parameters) / (numbers.scale or 1.0)
            return self._check_spikes(numbers.loss, norm, optimizer)
        gradient_norm = numbers.squares if bad.num_gradients else None
        if may_overflow and not bad.num_losses:
            self.history.add_step(step, numbers.loss, None)
            return _OVERFLOW
        self.history.add_step(step, numbers.loss, gradient_norm)
        code, detail = self._describe(bad, numbers.loss, len(parameters))
        signals = Signals(step, numbers.loss, gradient_norm)
        layers = () if self._layers is None else self._layers.nonfinite_layers()
        return Reading(
            Trip(code=code, signals=signals, detail=detail, bad=bad.gradients, ranks=bad.ranks, layers=layers)
        )

    def _count_bad(self, losses: Sequence[Tensor], parameters: Sequence[NamedParameter]) -> _BadCounts:
        gradients = []
        flags = [0.0] * len(parameters)
        for position, parameter in enumerate(parameters):
            if parameter.tensor.grad is not None:
                num_bad, num_values = count_nonfinite(parameter.tensor.grad)
                if num_bad:
                    flags[position] = 1.0
                    gradients.append(BadTensor("gradient", parameter.name, num_bad, num_values))
        bad_losses = tuple(value for value in map(float, losses) if not math.isfinite(value))
        group = self._training.rank_group
        if group is None:
            return _BadCounts(tuple(gradients), bad_losses, len(gradients), len(bad_losses))
        ranks = group.ranks_where(bool(gradients or bad_losses))
        num_losses, *all_flags = group.sum([float(len(bad_losses)), *flags])
        # A parameter that is bad on several ranks is one parameter.
        num_gradients = sum(flag > 0 for flag in all_flags)
        return _BadCounts(tuple(gradients), bad_losses, num_gradients, int(num_losses), ranks)

    def _describe(self, bad: _BadCounts, loss: float | None, num_parameters: int) -> tuple[str, str]:
        """The code and the detail of a trip."""
        where = "" if self._training.rank_group is None else f", on {describe_ranks(bad.ranks)}"
        if bad.num_losses:
            value = bad.losses[0] if bad.losses else loss
            of = f"{quantity(bad.num_gradients, 'parameter')} of {count(num_parameters)}"
            return "DC450", f"it is {value}{where}; {of} got a non-finite gradient"
        known = "unknown" if loss is None else f"{loss:.6g}"
        of = f"{count(bad.num_gradients)} of {quantity(num_parameters, 'parameter')}"
        return "DC451", f"in {of}{where}; the loss is {known}"

    def _exact_norm(self, parameters: Sequence[NamedParameter]) -> float:
        group = self._training.rank_group
        shares = {} if group is None else self._training.shares_by_parameter
        total = sum(
            exact_squares([parameter.tensor.grad]) * shares.get(id(parameter.tensor), 1.0)
            for parameter in parameters
            if parameter.tensor.grad is not None
        )
        return math.sqrt(group.sum([total])[0] if group else total)

    def _check_spikes(self, loss: float | None, norm: float, optimizer: int) -> Reading:
        step = self._training.step
        self.history.add_step(step, loss, norm)
        if not self._watches_spikes:
            return _CLEAN
        # Both take in every step, whether or not the other one trips.
        loss_spike = self._loss_spikes.add(loss) if self._loss_spikes else None
        detector = self._gradient_detector(optimizer)
        gradient_spike = detector.add(norm) if detector else None
        for code, spike in (("DC452", loss_spike), ("DC453", gradient_spike)):
            if spike is not None:
                detail = (
                    f"{spike.value:.4g}, {spike.deviations:.0f} deviations above the median {spike.median:.4g} of the"
                    " last steps"
                )
                return Reading(Trip(code=code, signals=Signals(step, loss, norm), detail=detail, spike=spike))
        return _CLEAN


def _spike_detector(threshold: float | None, config: GuardConfig) -> SpikeDetector | None:
    return None if threshold is None else SpikeDetector(threshold, warmup=config.warmup_steps)
