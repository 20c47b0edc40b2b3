"""Passes the numbers and events of a run on to loggers and to the file of the run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datacheck.reports.run_file import RunFile
from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.bad_batches import BadBatch
from datacheck.torch.guard.distributed import own_rank
from datacheck.torch.guard.history import HistoryBuffer
from datacheck.torch.guard.tracking.loggers import Logger
from datacheck.torch.guard.tracking.samples import ServedSamples
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Trip

#: The least seconds between two steps written to the file of the run: a day of training is then some megabytes.
SECONDS_BETWEEN_LINES = 1.0
_COUNTED_ACTIONS = {"skip": "skipped_steps", "clip": "clipped_steps", "rollback": "rollbacks"}


class Tracker:
    """Counts what happens, and reports it.

    Counters are cumulative and always finite, since trackers drop NaN or draw it as the last finite value. Only the first
    rank logs; every rank has a file of its own for its trips. A logger that raises is not called again: training goes on.
    """

    def __init__(
        self,
        training: Training,
        history: HistoryBuffer,
        loggers: list[Logger],
        run_dir: Path | None,
        *,
        every_n_steps: int,
        on_problem: Callable[[str, str], None],
    ) -> None:
        self._training = training
        self._history = history
        self._loggers = loggers if own_rank() == 0 else []
        self._file = None if run_dir is None else RunFile(run_dir, own_rank())
        self._every_n_steps = every_n_steps
        self._on_problem = on_problem
        self._counts = dict.fromkeys(
            ("nonfinite_loss", "nonfinite_grad_values", "trips", *_COUNTED_ACTIONS.values()), 0
        )
        #: The trainer's own number of the current step; None to use the guard's.
        self.global_step: int | None = None
        self._has_tripped = False
        self._has_begun = False
        self._last_step = 0
        self._last_line = -math.inf
        self._samples = ServedSamples()
        self.is_on = bool(self._loggers) or self._file is not None

    @property
    def _step(self) -> int:
        return self._training.step if self.global_step is None else self.global_step

    def _begin(self) -> None:
        self._has_begun = True
        model = self._training.model
        self._write(
            "start",
            model=type(model).__name__,
            num_parameters=sum(parameter.numel() for parameter in model.parameters()),
            step=self._training.step,
        )

    # Events.

    def add_trip(self, trip: Trip) -> None:
        if not self.is_on:
            return
        self._has_tripped = True
        counts = self._counts
        counts["trips"] += 1
        counts["nonfinite_loss"] += trip.code == "DC450"
        counts["nonfinite_grad_values"] += sum(bad.num_bad for bad in trip.bad if bad.kind == "gradient")
        self._write("trip", step=trip.step, code=trip.code, message=str(trip))

    def add_diagnosis(self, diagnosis: Diagnosis) -> None:
        if not self.is_on:
            return
        self._write("diagnosis", text=str(diagnosis), **diagnosis.parts())
        for logger in list(self._loggers):
            self._try(logger, lambda one: one.log_text(diagnosis.headline, str(diagnosis), self._step))

    def add_act(self, action: str, step: int, detail: str) -> None:
        if not self.is_on:
            return
        if action in _COUNTED_ACTIONS:
            self._counts[_COUNTED_ACTIONS[action]] += 1
        self._write("action", step=step, action=action, detail=detail)

    def add_bad_batches(self, batches: list[BadBatch]) -> None:
        for batch in batches:
            self._write("bad_batch", **batch.to_dict())

    # Steps.

    def end_step(self) -> None:
        """Report the step that has ended, if it is one to report. Calls after the first do nothing."""
        if not self.is_on or self._training.step == self._last_step:
            return
        self._last_step = self._training.step
        if not self._has_begun:
            self._begin()
        now = time.monotonic()
        writes = self._file is not None and (self._has_tripped or now - self._last_line >= SECONDS_BETWEEN_LINES)
        logs = self._loggers and (self._has_tripped or self._training.step % self._every_n_steps == 0)
        if not writes and not logs:
            return
        self._has_tripped = False
        numbers = self._numbers()
        if writes:
            self._last_line = now
            self._write_samples()
            self._write("step", step=self._training.step, global_step=self._step, **numbers)
        if logs:
            metrics = {
                f"datacheck/{name}": value
                for name, value in numbers.items()
                if isinstance(value, int | float) and math.isfinite(value)
            }
            for logger in list(self._loggers):
                self._try(logger, lambda one: one.log_metrics(metrics, self._step))

    def _numbers(self) -> dict[str, float | None]:
        step = self._training.step
        loss, norm = self._history.numbers_of(step)
        bad, replaced = self._samples.count()
        return {
            "loss": loss,
            "grad_norm": norm,
            "update_ratio": self._history.ratio_of(step),
            "learning_rate": self._training.learning_rate,
            "loss_scale": self._training.scaler.known_scale(is_on_host=not self._training.devices()),
            **self._counts,
            "bad_samples": bad,
            "replaced_samples": replaced,
        }

    def end(self, error: BaseException | None) -> None:
        """Training has ended, by an error or at its end."""
        if self._file is None or not self._has_begun:
            return
        self._write_samples()
        self._write(
            "end",
            step=self._training.step,
            global_step=self._step,
            error=None
            if error is None
            else f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            **self._numbers(),
        )
        self._file.close()

    # Writing.

    def _write(self, event: str, **fields: Any) -> None:
        if self._file is None:
            return
        if not self._has_begun:
            self._begin()
        try:
            self._file.write(event, **fields)
        except OSError as error:
            self._on_problem("the file of the run", f"{error.strerror}: nothing more is written to it")
            self._file = None

    def _write_samples(self) -> None:
        """Write the bad samples that are new."""
        if self._file is not None and own_rank() == 0:
            for sample in self._samples.read_new():
                self._write("bad_sample", index=sample.index, message=sample.message)

    def _try(self, logger: Logger, call: Callable[[Logger], None]) -> None:
        try:
            call(logger)
        except Exception as error:  # whatever a logger does, training goes on
            self._loggers.remove(logger)
            self._on_problem("the log", f"{type(error).__name__}: {error}: nothing more is logged there")
