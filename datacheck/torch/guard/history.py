"""Short histories of a run, bounded in memory, with statistics that a NaN or a spike cannot distort."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datacheck.torch.diagnosis.dynamics import History

#: A median absolute deviation is this much of a normal distribution's standard deviation.
NORMAL_MAD = 0.6745


@dataclass(slots=True, eq=False)
class Update:
    """An update that was made: the number of its step, its update-to-weight ratio, and its learning rate."""

    step: int
    ratio: float | None
    learning_rate: float | None


class HistoryBuffer:
    """The last steps of a run: loss, gradient norm, update-to-weight ratio, learning rate and loss scale of each.

    A value that was not measured is None; non-finite values are kept as they are.
    """

    __slots__ = ("_scales", "_steps", "_updates", "measure")

    def __init__(self, length: int = 512) -> None:
        self._steps: deque[tuple[int, float | None, float | None]] = deque(maxlen=length)
        self._updates: deque[Update] = deque(maxlen=length)
        self._scales: deque[tuple[int, float | None]] = deque(maxlen=length)
        #: Sets the ratios of updates that are not measured yet.
        self.measure: Callable[[], None] | None = None

    def add_step(self, step: int, loss: float | None, gradient_norm: float | None) -> None:
        """Add the numbers from before the update; a full history drops its oldest step.

        Where a step is checked several times (for several optimizers or evaluations of a closure), the first counts.
        """
        if self._steps and self._steps[-1][0] == step:
            return
        self._steps.append((step, loss, gradient_norm))

    def add_update(self, update: Update) -> None:
        """Add an update; its ratio may be set later."""
        self._updates.append(update)

    def _measured(self) -> Sequence[Update]:
        if self.measure is not None:
            self.measure()
        return self._updates

    def add_scale(self, step: int, scale: float | None) -> None:
        """Add the loss scale at the end of a step; the first counts."""
        if not self._scales or self._scales[-1][0] != step:
            self._scales.append((step, scale))

    def numbers_of(self, step: int) -> tuple[float | None, float | None]:
        """The loss and the gradient norm of a step that is among the last; None if they are not known."""
        last = self._steps[-1] if self._steps else None
        return (last[1], last[2]) if last is not None and last[0] == step else (None, None)

    def ratio_of(self, step: int) -> float | None:
        """The update-to-weight ratio of the step, if its update was the last one."""
        updates = self._measured()
        return updates[-1].ratio if updates and updates[-1].step == step else None

    def forget_after(self, step: int) -> None:
        """Forget the steps after one, since they were undone."""
        for entries in (self._steps, self._scales):
            while entries and entries[-1][0] > step:
                entries.pop()
        while self._updates and self._updates[-1].step > step:
            self._updates.pop()

    def view(self) -> History:
        """The history as plain values, oldest first."""
        updates = self._measured()
        return History(
            losses=[loss for _, loss, _ in self._steps],
            gradient_norms=[norm for _, _, norm in self._steps],
            update_ratios=[update.ratio for update in updates],
            learning_rates=[update.learning_rate for update in updates],
        )

    def curves(self) -> dict[str, tuple[tuple[int, float | None], ...]]:
        """Each number by step, for reports."""
        updates = self._measured()
        return {
            "loss": tuple((step, loss) for step, loss, _ in self._steps),
            "grad_norm": tuple((step, norm) for step, _, norm in self._steps),
            "update_ratio": tuple((update.step, update.ratio) for update in updates),
            "learning_rate": tuple((update.step, update.learning_rate) for update in updates),
            "loss_scale": tuple(self._scales),
        }

    def to_dict(self) -> dict[str, Any]:
        """The history as plain JSON values; non-finite numbers are written as text."""
        return {
            "columns": ["step", "loss", "gradient_norm"],
            "steps": [[step, _plain(loss), _plain(norm)] for step, loss, norm in self._steps],
            "update_columns": ["step", "update_ratio", "learning_rate"],
            "updates": [[one.step, _plain(one.ratio), _plain(one.learning_rate)] for one in self._measured()],
        }

    def load_dict(self, record: Mapping[str, Any]) -> None:
        """Go on from what :meth:`to_dict` returned."""
        self._steps.clear()
        self._steps.extend((int(step), _number(loss), _number(norm)) for step, loss, norm in record["steps"])
        self._updates.clear()
        updates = record["updates"]
        self._updates.extend(Update(int(step), _number(ratio), _number(rate)) for step, ratio, rate in updates)


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


@dataclass(frozen=True, slots=True)
class Spike:
    """A value ``deviations`` median absolute deviations above the ``median`` of the steps before it."""

    value: float
    median: float
    deviations: float


class SpikeDetector:
    """Detects spikes by the median and the median absolute deviation of the last finite values.

    One NaN or one spike would distort a mean; a median holds until half the window is bad. Spikes enter the window too,
    so a lasting change of level is accepted after half a window.
    """

    __slots__ = ("_threshold", "_values", "_warmup")

    def __init__(self, threshold: float, window: int = 128, warmup: int = 20) -> None:
        self._threshold = threshold
        self._warmup = warmup
        self._values: deque[float] = deque(maxlen=window)

    def add(self, value: float | None) -> Spike | None:
        """Add the next value; returns it as a spike if it is one."""
        if value is None or not math.isfinite(value):
            return None
        spike = self._judge(value) if len(self._values) >= self._warmup else None
        self._values.append(value)
        return spike

    @property
    def values(self) -> list[float]:
        """The window, oldest first."""
        return list(self._values)

    def load(self, values: Iterable[float]) -> None:
        """Go on with this window."""
        self._values.clear()
        self._values.extend(map(float, values))

    def _judge(self, value: float) -> Spike | None:
        median = statistics.median(self._values)
        if value <= median:
            return None
        spread = statistics.median(abs(other - median) for other in self._values) / NORMAL_MAD
        # A constant loss has no spread at all; one percent above its level is no spike.
        spread = max(spread, 0.01 * abs(median), 1e-12)
        deviations = (value - median) / spread
        return Spike(value, median, deviations) if deviations > self._threshold else None
