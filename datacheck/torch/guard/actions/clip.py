"""Zero non-finite gradient values, clip the rest, and update."""

from __future__ import annotations

import math

import torch

from datacheck.errors import UsageError
from datacheck.text import quantity
from datacheck.torch.guard.actions.base import Action, Outcome
from datacheck.torch.guard.norms import exact_squares
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip
from datacheck.torch.values import count_nonfinite, plain_tensor, zero_nonfinite


class Clip(Action):
    """Set non-finite gradient values to 0, clip the rest to ``max_norm`` (default 1.0) or ``max_value``, and update.

    If every gradient value is non-finite, as after a non-finite loss, the update is skipped.
    """

    name = "clip"
    is_terminal = True

    def __init__(
        self, max_norm: float | None = None, *, max_value: float | None = None, limit: int | None = None
    ) -> None:
        super().__init__(limit=limit)
        if max_norm is not None and max_value is not None:
            raise UsageError("clip: expected max_norm or max_value, got both")
        for name, value in (("max_norm", max_norm), ("max_value", max_value)):
            if value is not None and not value > 0:
                raise UsageError(f"clip: {name}={value!r}: expected a number above 0")
        self.max_value = max_value
        self.max_norm = 1.0 if max_norm is None and max_value is None else max_norm

    @torch.no_grad()
    def act(self, trip: Trip, training: Training, /) -> tuple[Outcome, str]:
        gradients = [p.tensor.grad for p in training.parameters if p.tensor.grad is not None]
        shares = [
            share for p, share in zip(training.parameters, training.shares, strict=True) if p.tensor.grad is not None
        ]
        counts = [count_nonfinite(gradient) for gradient in gradients]
        num_bad, num_values = sum(bad for bad, _ in counts), sum(total for _, total in counts)
        for gradient, (bad, _) in zip(gradients, counts, strict=True):
            if bad:
                zero_nonfinite(gradient)
        total = sum(exact_squares([g]) * share for g, share in zip(gradients, shares, strict=True))
        if training.rank_group is not None:
            total, all_bad, all_values = training.rank_group.sum([total, float(num_bad), float(num_values)])
            num_bad, num_values = int(all_bad), int(all_values)
        zeroed = f"{quantity(num_bad, 'non-finite gradient value')} set to 0"
        if num_bad == num_values:
            training.buffers.restore()
            return Outcome.SKIP_UPDATE, f"no gradient value of step {trip.step} was finite: the update was skipped"
        scale = training.gradient_scale
        norm = math.sqrt(total) / scale
        if self.max_value is not None:
            for gradient in gradients:
                plain_tensor(gradient).clamp_(-self.max_value * scale, self.max_value * scale)
            done = f"values clipped to {self.max_value:g}"
        else:
            assert self.max_norm is not None
            factor = min(1.0, self.max_norm / (norm + 1e-6))
            if factor < 1.0:
                for gradient in gradients:
                    plain_tensor(gradient).mul_(factor)
            done = f"norm clipped from {norm:.4g} to {min(norm, self.max_norm):.4g}"
        return Outcome.MAKE_UPDATE, f"{zeroed}, {done}" if num_bad else done
