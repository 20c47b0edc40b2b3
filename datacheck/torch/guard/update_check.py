"""Checking what an update left behind."""

from __future__ import annotations

import math
from collections.abc import Sequence

from datacheck.text import count, join_limited
from datacheck.torch.guard.config import GuardConfig
from datacheck.torch.guard.distributed import describe_ranks
from datacheck.torch.guard.history import HistoryBuffer, Update
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.guard.step_numbers import UnreadUpdate
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Signals, Trip
from datacheck.torch.guard.update_monitor import UpdateSample

#: The first updates are all checked: a bad epsilon or initial value shows there.
EARLY_UPDATES = 10


class UpdateCheck:
    """Measures updates, and checks parameters, buffers and optimizer state after them."""

    def __init__(self, training: Training, config: GuardConfig, history: HistoryBuffer) -> None:
        self._training = training
        self._every_n_steps = config.every_n_steps
        self._history = history
        self._num_updates = 0
        self._sampled: Sequence[NamedParameter] = ()
        #: The sample by which updates are measured.
        self.sample: UpdateSample | None = None
        #: Whether the next check reads what an update left behind even in host memory.
        self.reads_late = False
        #: What the next check has yet to read.
        self.unread = UnreadUpdate()

    @property
    def is_read(self) -> bool:
        return self.unread.state is None and self.unread.ratio is None

    def before_update(self) -> None:
        """Sample the weights before the first update; later samples are those after the update before."""
        parameters = self._training.parameters
        if self._sampled is not parameters:
            if self.sample is not None:
                self.sample.measure()
            self._sampled, self.sample = parameters, UpdateSample(parameters)
            self._history.measure = self.sample.measure

    def after_update(self, *, check: bool = True) -> Trip | None:
        """Check what an update left behind, unless that would have to wait for a device or ranks: then the next check does."""
        training = self._training
        update = Update(training.step, None, training.learning_rate)
        ratio = self.sample.add(update) if self.sample else None
        if ratio is not None:
            self.unread.ratio = (update, ratio)
        else:
            self._history.add_update(update)
        self._num_updates += 1
        is_due = self._num_updates <= EARLY_UPDATES or self._num_updates % self._every_n_steps == 0
        if not check or not is_due:
            return None
        total, norm = training.state.measure()
        self.unread.state = (update.step, total, norm)
        if self.reads_late or norm is not None or training.rank_group is not None:
            return None
        return self.read_late()

    def add_ratio(self, value: float | None) -> None:
        """Take in the update-to-weight ratio that was read from the device."""
        if self.unread.ratio is not None and value is not None:
            update, _ = self.unread.ratio
            update.ratio = value
            self._history.add_update(update)
            self.unread.ratio = None

    def read_late(self) -> Trip | None:
        """Read now what the last update left behind."""
        if self.unread.state is None:
            return None
        _, total, norm = self.unread.state
        if math.isfinite(total) and (norm is None or math.isfinite(float(norm))):
            self.unread.state = None
            return None
        return self.find_trip()

    def find_trip(self) -> Trip | None:
        """Count exactly what the last update left non-finite, on all ranks."""
        training, group = self._training, self._training.rank_group
        step = training.step if self.unread.state is None else self.unread.state[0]
        self.unread.state = None
        bad = training.state.find()
        ranks = group.ranks_where(bool(bad)) if group else ()
        if not bad and not ranks:
            return None
        view = self._history.view()
        signals = Signals(step, _last(view.losses), _last(view.gradient_norms))
        detail = f"step {count(step)}"
        if len(bad) > 1:
            detail += f"; also {join_limited([other.name for other in bad[1:]], 4)}"
        if group is not None:
            detail += f"; on {describe_ranks(ranks)}"
        return Trip(code="DC455", signals=signals, detail=detail, bad=tuple(bad), ranks=ranks)


def _last(values: Sequence[float | None]) -> float | None:
    return values[-1] if values else None
