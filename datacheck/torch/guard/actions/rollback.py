"""Go back to an earlier state."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from datacheck.errors import SourceError, UsageError
from datacheck.text import plain, quantity
from datacheck.torch.guard.actions.base import Action, Outcome
from datacheck.torch.guard.snapshot import copy_training, restore_training
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.tree_file import read_tree, write_tree
from datacheck.torch.guard.trip import Trip


class _Image(NamedTuple):
    """A snapshot: the step and the number of updates after which it was taken, and the state or its folder."""

    step: int
    num_updates: int
    state: dict[str, Any] | Path


class Rollback(Action):
    """Keep snapshots of model, optimizers, scaler, schedulers and random states, and go back to the last one.

    A snapshot is taken before the first step and after every ``every_n_steps`` good updates. The last ``keep`` are kept, in
    host memory or under ``directory`` on disk, and never a non-finite state. A second trip before the next snapshot goes
    back one further. The data loader is not rewound, so the bad batch does not come again.
    """

    name = "rollback"
    is_terminal = True
    handles_late = True

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
                raise UsageError(f"rollback: {name}={value!r}: expected an integer of at least 1")
        self.every_n_steps = every_n_steps
        self.keep = keep
        self.directory = None if directory is None else Path(directory)
        self._images: deque[_Image] = deque()
        self._num_good = 0
        self._is_fresh = False
        self._has_begun = False

    @property
    def steps(self) -> list[int]:
        """The steps after which the kept snapshots were taken, oldest first."""
        return [image.step for image in self._images]

    def before_step(self, training: Training, /) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._keep(training)

    def after_update(self, training: Training, /) -> None:
        self._num_good += 1
        if self._num_good % self.every_n_steps == 0 and self._is_finite(training):
            self._keep(training)

    def _is_finite(self, training: Training) -> bool:
        """Whether everything is finite, on every rank."""
        num_bad = float(len(training.state.find()))
        return (training.rank_group.sum([num_bad])[0] if training.rank_group else num_bad) == 0

    def _keep(self, training: Training, /) -> None:
        state: dict[str, Any] | Path = copy_training(training)
        if self.directory is not None:
            state = self._write(state, training, self.directory)
        self._images.append(_Image(training.step, training.num_updates, state))
        self._is_fresh = True
        while len(self._images) > self.keep:
            old = self._images.popleft()
            if isinstance(old.state, Path):
                shutil.rmtree(old.state, ignore_errors=True)

    @staticmethod
    def _write(state: Any, training: Training, directory: Path) -> Path:
        rank = "" if training.rank_group is None else f"-rank{training.rank_group.rank}"
        target = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            target = Path(tempfile.mkdtemp(prefix=f"step-{training.step:08d}{rank}-", dir=directory))
            write_tree(state, target)
        except OSError as error:
            if target is not None:
                shutil.rmtree(target, ignore_errors=True)
            raise UsageError(
                f"rollback: cannot write the snapshot of step {training.step} to {plain(str(directory))}: "
                f"{plain(str(error))}; choose a writable directory with enough space, or none to keep snapshots in memory"
            ) from error
        return target

    def act(self, _trip: Trip, training: Training, /) -> tuple[Outcome, str]:
        if not self._images:
            return Outcome.NO_DECISION, "no snapshot to go back to"
        if not self._is_fresh and len(self._images) > 1:
            self._images.pop()
        try:
            image = self._images[-1]
            state = read_tree(image.state) if isinstance(image.state, Path) else image.state
        except SourceError as error:
            self._images.pop()
            if self._images:
                return self.act(_trip, training)
            return Outcome.NO_DECISION, f"no snapshot can be read: {error}"
        restore_training(training, state)
        self._is_fresh = False
        undone = quantity(training.num_updates - image.num_updates, "update")
        training.num_updates = image.num_updates
        training.went_back_to = image.step
        return Outcome.SKIP_UPDATE, f"back to the state after step {image.step}: {undone} undone"
