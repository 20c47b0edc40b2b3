"""Go back to a state of before."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

from datacheck.errors import UsageError
from datacheck.text import quantity
from datacheck.torch.sentinel.actions.base import Action, Outcome
from datacheck.torch.sentinel.snapshot import restore_training, take_training
from datacheck.torch.sentinel.training import Training
from datacheck.torch.sentinel.tree import read_tree, write_tree
from datacheck.torch.sentinel.trip import Trip

__all__ = ["Rollback"]


class Rollback(Action):
    """Keep a snapshot of model, optimizers, scaler, schedulers and random states, and go back to it.

    One is kept before the first step and after every ``every_n_steps`` good updates, the last ``keep`` of them: in host
    memory, or under ``directory`` on disk. A state that is not finite is never kept. A second trip before a new
    snapshot was due goes back one further. Data goes on where it was: the bad batch does not come again by this.
    """

    name = "rollback"
    settles = True
    answers_late = True

    def __init__(
        self,
        every_n_steps: int = 100,
        *,
        keep: int = 1,
        directory: str | Path | None = None,
        limit: int | None = 3,
    ) -> None:
        super().__init__(limit=limit)
        for name, value in (("every_n_steps", every_n_steps), ("keep", keep)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"rollback: {name}={value!r}: it must be a whole number of at least 1")
        self.every_n_steps = every_n_steps
        self.keep = keep
        self.directory = None if directory is None else Path(directory)
        self._images: deque[tuple[int, dict[str, Any] | Path]] = deque()
        self._num_good = 0
        self._is_fresh = False

    @property
    def steps(self) -> list[int]:
        """The steps after which the kept snapshots were taken, oldest first."""
        return [step for step, _ in self._images]

    def before_step(self, training: Training, /) -> None:
        if not self._images and training.step == 0:
            self._keep(training)

    def after_update(self, training: Training, /) -> None:
        self._num_good += 1
        if self._num_good % self.every_n_steps == 0 and self._is_finite(training):
            self._keep(training)

    def _is_finite(self, training: Training) -> bool:
        """Whether everything is finite, on every rank."""
        num_bad = float(len(training.state.find()))
        return (training.peers.sum([num_bad])[0] if training.peers else num_bad) == 0

    def _keep(self, training: Training, /) -> None:
        image: dict[str, Any] | Path = take_training(training)
        if self.directory is not None:
            image = self._write(image, training)
        self._images.append((training.step, image))
        self._is_fresh = True
        while len(self._images) > self.keep:
            _, old = self._images.popleft()
            if isinstance(old, Path):
                shutil.rmtree(old, ignore_errors=True)

    def _write(self, image: Any, training: Training) -> Path:
        assert self.directory is not None
        self.directory.mkdir(parents=True, exist_ok=True)
        rank = "" if training.peers is None else f"-rank{training.peers.rank}"
        target = Path(tempfile.mkdtemp(prefix=f"step-{training.step:08d}{rank}-", dir=self.directory))
        write_tree(image, target)
        return target

    def act(self, trip: Trip, training: Training, /) -> tuple[Outcome, str]:
        if not self._images:
            return Outcome.TELL, "there is no snapshot to go back to"
        if not self._is_fresh and len(self._images) > 1:
            self._images.pop()
        step, image = self._images[-1]
        restore_training(training, read_tree(image) if isinstance(image, Path) else image)
        self._is_fresh = False
        undone = quantity(max(trip.step - step - (not trip.is_late), 0), "update")
        return Outcome.HOLD, f"back to the state after step {step}: {undone} undone"
