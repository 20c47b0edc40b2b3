"""Checks gradients as soon as they are there, where the loop changes the weights before it steps an optimizer.

Sharpness-aware minimization moves them between its two backward passes, and some loops make their updates themselves. What is
read later is computed with weights that a non-finite gradient has harmed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from datacheck.findings import Severity
from datacheck.text import count, quantity
from datacheck.torch.guard.call_stack import Frame
from datacheck.torch.guard.norms import sum_squares
from datacheck.torch.guard.step_runner import StepRunner
from datacheck.torch.guard.trip import Signals, Trip
from datacheck.torch.guard.update_monitor import BadTensor, UpdateSample
from datacheck.torch.values import count_nonfinite


class EarlyCheck:
    """Knows whether that is needed, and does it. It waits for no accelerator and decides for no other rank."""

    def __init__(self, runner: StepRunner, *, is_driven_twice: bool) -> None:
        self._runner = runner
        self._is_driven_twice = is_driven_twice
        #: Whether an optimizer of the guard was stepped.
        self.is_stepped = False
        self._updates_itself = False
        self._sample: UpdateSample | None = None

    def begin(self) -> None:
        """Gradients are about to be computed."""
        if self.is_stepped or self._is_driven_twice or not self._is_possible():
            return
        sample = UpdateSample(self._runner.training.parameters)
        # Of weights that are NaN already, it would seem that they move.
        self._sample = sample if float(sample.moved() or 0.0) == 0.0 else None

    def _is_possible(self) -> bool:
        training = self._runner.training
        return training.rank_group is None and not training.scaler.is_active and not training.devices()

    def ends_step(self, frames: tuple[Frame, ...]) -> bool:
        """Whether the weights have changed since the last gradients and no optimizer was stepped: the loop updates itself.

        ``frames`` call the model. Where they did not call it before in this step, the loop moves the weights between two
        backward passes of a step.
        """
        if self._sample is None or self.is_stepped:
            return False
        if self._runner.state.decided_early is False:
            # Its updates were of 0.
            return True
        ratio, self._sample = self._sample.moved(), None
        if ratio is None or float(ratio) == 0.0:
            return False
        if not self._runner.state.was_called_from(frames):
            self._is_driven_twice = True
            return False
        if not self._updates_itself:
            self._updates_itself = True
            detail = "the loop changes the weights itself: instead of an update that must not be made, it gets gradients of 0"
            self._runner.log.add_note("the updates", detail, Severity.INFO)
        return True

    def check(self, returned: Sequence[tuple[Tensor, Tensor | None]] | None) -> None:
        """Check the loss and the gradients of the parameters, or those that were returned, each with what it is of.

        Raises where the policy stops training.
        """
        runner, training = self._runner, self._runner.training
        is_needed = self._is_driven_twice or (self._updates_itself and not self.is_stepped)
        if not is_needed or not self._is_possible():
            return
        named = [(one.name, one.tensor.grad) for one in training.parameters]
        if returned is not None:
            names = {id(one.tensor): one.name for one in training.parameters}
            # Copies of the parameters come in their order.
            order = [names.get(id(tensor)) for tensor, _ in returned]
            order = list(names.values()) if not any(order) else order
            named = [(name, gradient) for name, (_, gradient) in zip(order, returned, strict=True) if name is not None]
        known = [(name, gradient) for name, gradient in named if gradient is not None]
        trip = self._find_trip(known) if runner.state.decided_early is None else None
        if trip is not None:
            runner.monitor.history.add_step(trip.step, trip.signals.loss, trip.signals.gradient_norm)
            runner.state.decided_early = runner.resolve(trip)
        if runner.state.decided_early is False:
            # What the loop makes of them must not reach the weights.
            for _, gradient in known:
                gradient.detach().zero_()

    def _find_trip(self, gradients: Sequence[tuple[str, Tensor]]) -> Trip | None:
        losses = [float(loss) for loss in self._runner.state.known_losses]
        bad_losses = [loss for loss in losses if not math.isfinite(loss)]
        if not bad_losses and math.isfinite(sum_squares([gradient for _, gradient in gradients]) or 0.0):
            return None
        counted = [BadTensor("gradient", name, *count_nonfinite(gradient)) for name, gradient in gradients]
        bad = tuple(one for one in counted if one.num_bad)
        if not bad and not bad_losses:
            return None
        loss = bad_losses[0] if bad_losses else losses[-1] if losses else None
        known = "unknown" if loss is None else f"{loss:.6g}"
        of = f"{count(len(bad))} of {quantity(len(gradients), 'parameter')} got a non-finite gradient"
        return Trip(
            code="DC450" if bad_losses else "DC451",
            signals=Signals(self._runner.training.step, loss, math.nan if bad else None),
            detail=f"it is {known}; {of}" if bad_losses else f"{of}; the loss is {known}",
            bad=bad,
        )
