"""Telling an overflow that a GradScaler deals with from a step that is bad at any scale."""

from __future__ import annotations

import math
from dataclasses import replace

from datacheck.findings import Severity
from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.config import GuardConfig
from datacheck.torch.guard.distributed import is_sharded
from datacheck.torch.guard.explain import Explainer
from datacheck.torch.guard.log import GuardLog
from datacheck.torch.guard.monitor import Monitor, Reading
from datacheck.torch.guard.names import unwrap_model
from datacheck.torch.guard.step_state import StepState
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Signals, Trip
from datacheck.torch.guard.update_monitor import BadTensor

#: Consecutive overflows after which a step is replayed without a scale. A scaler's first steps often overflow less often.
OVERFLOWS_TO_DOUBT = 3
#: The most steps skipped by the scaler that are each replayed without a scale.
MAX_REPLAYS = 16


class OverflowMonitor:
    """Judges steps whose gradients overflowed under a loss scale, and the scale itself."""

    def __init__(
        self,
        training: Training,
        state: StepState,
        monitor: Monitor,
        explainer: Explainer,
        log: GuardLog,
        config: GuardConfig,
    ) -> None:
        self._training = training
        self._state = state
        self._monitor = monitor
        self._explainer = explainer
        self._log = log
        self._min_loss_scale = config.min_loss_scale
        self._num_replays = 0
        #: Steps in a row that overflowed.
        self.num_in_row = 0

    def is_doubtful(self, reading: Reading) -> bool:
        """Count an overflow; returns whether there were so many that a lower scale will not help."""
        self.num_in_row = self.num_in_row + 1 if reading.is_overflow else 0
        return self.num_in_row == OVERFLOWS_TO_DOUBT and self._is_bad_without_scale()

    def judge_skipped_step(self) -> tuple[Trip | None, Diagnosis | None]:
        """Judge a step of a loop that its scaler skipped: None for an overflow."""
        self.num_in_row += 1
        trip = self._judge_losses()
        if trip is not None or not self._may_replay():
            return trip, None
        if is_sharded(unwrap_model(self._training.model)):
            detail = "the model is sharded, so they are not replayed: only their loss is checked"
            self._log.add_note("steps that the scaler skips", detail, Severity.WARNING)
        return self._judge_replay() if self._is_bad_without_scale() else (None, None)

    def _judge_losses(self) -> Trip | None:
        step = self._training.step
        values = [float(loss) for loss in self._state.known_losses]
        bad = [value for value in values if not math.isfinite(value)]
        group = self._training.rank_group
        ranks = group.ranks_where(bool(bad)) if group else ()
        if not bad and not ranks:
            return None
        loss = bad[0] if bad else math.nan
        self._monitor.history.add_step(step, loss, None)
        detail = f"it is {loss}; the scaler skipped the update"
        return Trip(code="DC450", signals=Signals(step, loss, None), detail=detail, ranks=ranks)

    def _may_replay(self) -> bool:
        """Whether to replay this step, which costs as much as a step. After many in vain, only a third in a row is."""
        if self._num_replays >= MAX_REPLAYS and self.num_in_row != OVERFLOWS_TO_DOUBT:
            return False
        self._num_replays += 1
        return True

    def _judge_replay(self) -> tuple[Trip, Diagnosis | None]:
        """The trip of a skipped step that is non-finite without a scale too."""
        step, group = self._training.step, self._training.rank_group
        self._monitor.history.add_step(step, None, None)
        trip = Trip(
            code="DC450",
            signals=Signals(step, None, None),
            detail="so is its replay without a loss scale; the scaler skipped the update",
            ranks=group.ranks_where(True) if group else (),
        )
        found = None if group else self._explainer.explain_replay(trip)
        if found is not None and found.phase == "backward" and found.chain:
            origin = found.chain[0]
            bad = BadTensor("gradient", found.module or origin.op, origin.num_bad, origin.num_values)
            trip = replace(trip, code="DC451", bad=(bad,))
        return trip, found

    def find_collapse(self) -> Trip | None:
        """The trip of a loss scale that fell below the configured minimum; a single overflow is not a collapse."""
        scale = self._training.scaler.current_scale()
        if scale >= self._min_loss_scale:
            return None
        signals = Signals(self._training.step, None, None)
        return Trip(code="DC454", signals=signals, detail=f"{scale:g}, below {self._min_loss_scale:g}")

    def _is_bad_without_scale(self) -> bool:
        """Whether the loss or a gradient is non-finite without a loss scale too, on any rank."""
        is_bad, group = self._explainer.is_bad_without_scale(), self._training.rank_group
        return is_bad if group is None else group.sum([float(is_bad)])[0] > 0
