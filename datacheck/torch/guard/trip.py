"""An anomaly in a step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from datacheck.findings import Finding
from datacheck.torch.guard.history import Spike
from datacheck.torch.guard.update_monitor import BadTensor

#: What a guard trips at by itself.
_CODES = frozenset({"DC450", "DC451", "DC452", "DC453", "DC454", "DC455", "DC456"})


@dataclass(frozen=True, slots=True)
class Signals:
    """The numbers of one step.

    Attributes:
        step: the step, from 1.
        loss: the mean over micro-batches and ranks; None if unknown.
        gradient_norm: the global norm; None if unknown.
    """

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
    """An anomaly in a step: what a guard found, before it acts.

    Attributes:
        code: DC450 to DC456; of a batch that breaks the schema, the code of the rule.
        signals: the numbers of the step.
        detail: what was found, in words.
        bad: the non-finite gradients or, after an update, the non-finite parameters, buffers and optimizer states.
        spike: how far out a finite value was; None if something is non-finite.
        ranks: the ranks that found it themselves, if several train together.
        layers: with ``watch="layers"``, the modules with a non-finite output, in order.
        is_gated: whether the update was left out on the device, which is known one step later.
        was_made: whether the update was made although the loss was non-finite, since that was known one step later.
        finding: what breaks the schema in a batch of a step that is finite; its code is then the trip's.
    """

    code: str
    signals: Signals
    detail: str
    bad: tuple[BadTensor, ...] = ()
    spike: Spike | None = None
    ranks: tuple[int, ...] = ()
    layers: tuple[str, ...] = field(default=())
    finding: Finding | None = None
    is_gated: bool = False
    was_made: bool = False

    @property
    def step(self) -> int:
        return self.signals.step

    @property
    def is_spike(self) -> bool:
        """Whether everything is finite, only unusually large, so that the update does no lasting harm."""
        return self.spike is not None

    @property
    def breaks_schema(self) -> bool:
        """Whether the step is finite, and a batch of it breaks the schema."""
        return self.code not in _CODES

    @property
    def is_known(self) -> bool:
        """Whether nothing was looked at, since a batch of the step was bad in a run before."""
        return self.code == "DC456"

    @property
    def is_late(self) -> bool:
        """Whether the update has already been made."""
        return self.code == "DC455"

    def to_finding(self) -> Finding:
        """The trip as a finding for reports."""
        if self.finding is not None:
            return self.finding
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
