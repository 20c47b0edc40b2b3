"""Short histories of a run, bounded in memory, with statistics that a NaN or a spike cannot poison."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Any

from datacheck.torch.diagnosis.dynamics import History

__all__ = ["HistoryBuffer", "Spike", "SpikeDetector"]

#: A median absolute deviation is this much of a normal distribution's standard deviation.
NORMAL_MAD = 0.6745


class HistoryBuffer:
    """The last steps of a run: loss, gradient norm, update-to-weight ratio and learning rate of each.

    A value that was not measured is None; one that was not finite stands as it was.
    """

    __slots__ = ("_steps", "_updates")

    def __init__(self, length: int = 512) -> None:
        self._steps: deque[tuple[int, float | None, float | None]] = deque(maxlen=length)
        self._updates: deque[tuple[int, float | None, float | None]] = deque(maxlen=length)

    def __len__(self) -> int:
        return len(self._steps)

    def add_step(self, step: int, loss: float | None, gradient_norm: float | None) -> None:
        """Add what was seen before the update; the oldest step goes when the history is full.

        Of several looks at one step (several optimizers, the evaluations of a closure) the first counts.
        """
        if self._steps and self._steps[-1][0] == step:
            return
        self._steps.append((step, loss, gradient_norm))

    def add_update(self, step: int, ratio: float | None, learning_rate: float | None) -> None:
        """Add an update that was made: its norm over that of the weights, and its learning rate."""
        self._updates.append((step, ratio, learning_rate))

    def truncate(self, step: int) -> None:
        """Forget the steps after ``step``: a rollback undid them."""
        for entries in (self._steps, self._updates):
            while entries and entries[-1][0] > step:
                entries.pop()

    def view(self) -> History:
        """The history as plain values, oldest first."""
        return History(
            losses=[loss for _, loss, _ in self._steps],
            gradient_norms=[norm for _, _, norm in self._steps],
            update_ratios=[ratio for _, ratio, _ in self._updates],
            learning_rates=[rate for _, _, rate in self._updates],
        )

    def to_dict(self) -> dict[str, Any]:
        """The history as plain JSON values; what is not finite is written as text."""
        return {
            "columns": ["step", "loss", "gradient_norm"],
            "steps": [[step, _plain(loss), _plain(norm)] for step, loss, norm in self._steps],
            "update_columns": ["step", "update_ratio", "learning_rate"],
            "updates": [[step, _plain(ratio), _plain(rate)] for step, ratio, rate in self._updates],
        }


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


@dataclass(frozen=True, slots=True)
class Spike:
    """A value that lies ``deviations`` median absolute deviations above the ``median`` of the steps before it."""

    value: float
    median: float
    deviations: float


class SpikeDetector:
    """Tells a spike by the median and the median absolute deviation of the last finite values.

    A mean would be poisoned by one NaN and dragged along by one spike; a median needs half the window to be bad. Spikes
    enter the window too, so that a lasting change of level is accepted after half a window and not reported for ever.
    """

    __slots__ = ("_threshold", "_values", "_warmup")

    def __init__(self, threshold: float, window: int = 128, warmup: int = 20) -> None:
        self._threshold = threshold
        self._warmup = warmup
        self._values: deque[float] = deque(maxlen=window)

    def look(self, value: float | None) -> Spike | None:
        """Take the next value in, and say whether it is a spike."""
        if value is None or not math.isfinite(value):
            return None
        spike = self._judge(value) if len(self._values) >= self._warmup else None
        self._values.append(value)
        return spike

    def _judge(self, value: float) -> Spike | None:
        median = statistics.median(self._values)
        if value <= median:
            return None
        spread = statistics.median(abs(other - median) for other in self._values) / NORMAL_MAD
        # A loss that stands still has no spread at all: one percent of its level is no spike.
        spread = max(spread, 0.01 * abs(median), 1e-12)
        deviations = (value - median) / spread
        return Spike(value, median, deviations) if deviations > self._threshold else None
