"""What a step showed before the update, and what is wrong with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from datacheck.findings import Finding
from datacheck.torch.guard.history import Spike
from datacheck.torch.guard.update_monitor import BadTensor

__all__ = ["Signals", "Trip"]


@dataclass(frozen=True, slots=True)
class Signals:
    """The numbers of one step: the loss (the mean over micro-batches and ranks, where known) and the gradient norm."""

    step: int
    loss: float | None
    gradient_norm: float | None

    @property
    def is_finite(self) -> bool:
        return (self.loss is None or math.isfinite(self.loss)) and (
            self.gradient_norm is None or math.isfinite(self.gradient_norm)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """A step that something is wrong with.

    ``code`` is DC450 to DC455, ``signals`` the numbers of the step, ``bad`` the gradients (or, after an update, the
    parameters, buffers and optimizer states) that are not finite, ``spike`` how far out a finite value was. ``ranks``
    are the ranks that saw it themselves, where there are several. ``layers`` names, in order, the modules whose output
    was not finite, where layers are watched.
    """

    code: str
    signals: Signals
    detail: str
    bad: tuple[BadTensor, ...] = ()
    spike: Spike | None = None
    ranks: tuple[int, ...] = ()
    layers: tuple[str, ...] = field(default=())

    @property
    def step(self) -> int:
        return self.signals.step

    @property
    def is_spike(self) -> bool:
        """Whether everything is finite and only unusually large: the update would do no lasting harm by itself."""
        return self.spike is not None

    @property
    def is_late(self) -> bool:
        """Whether the update has already been made."""
        return self.code == "DC455"

    def to_finding(self) -> Finding:
        """The trip as a finding."""
        first = self.bad[0] if self.bad else None
        return Finding(
            self.code,
            f"step {self.step}",
            field=None if first is None else first.name,
            num_violations=sum(bad.num_bad for bad in self.bad) or 1,
            num_checked=sum(bad.num_values for bad in self.bad) or 1,
            detail=self.detail,
        )

    def __str__(self) -> str:
        finding = self.to_finding()
        return f"{finding.code} {finding.message}"
