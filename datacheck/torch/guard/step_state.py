"""The state of the step that runs: the only place where the guard keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from torch import Tensor

from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.bad_batches import BadBatch
from datacheck.torch.guard.call_stack import Place
from datacheck.torch.guard.loop_replay import LoopCall
from datacheck.torch.guard.step_parts import LossFunction, Part
from datacheck.torch.guard.trip import Trip
from datacheck.torch.replay_state import RandomState

__all__ = ["Phase", "Source", "StepState"]

#: Parts of a step that are kept.
MAX_PARTS = 16


class Phase(Enum):
    """What happens to a step now.

    A clean step goes from IDLE to OBSERVE and back. A suspicious one is confirmed, and if that makes it a trip, the policy
    decides, the step is replayed for a diagnosis, and the actions act. The replay comes before the actions, since these
    change weights, gradients and buffers.
    """

    IDLE = "idle"
    OBSERVE = "observe"
    CONFIRM = "confirm"
    DECIDE = "decide"
    DIAGNOSE = "diagnose"
    ACT = "act"


class Source(Enum):
    """Who runs the step: the user's own loop, ``Guard.step``, ``Guard.step`` with an optimizer that takes a closure, or a
    trainer that reports each micro-batch and the code of its loss.
    """

    LOOP = "loop"
    GUARD = "guard"
    GUARD_CLOSURE = "guard_closure"
    TRAINER = "trainer"


class StepState:
    """One step, from its first forward pass to its update. Hooks and ``Guard.step`` feed it; :meth:`clear` empties it."""

    __slots__ = (
        "bad_part",
        "began_after",
        "began_late",
        "calls",
        "decisions",
        "diagnosis",
        "is_closure_held",
        "is_reported",
        "is_skipped_by_scaler",
        "is_start_kept",
        "is_unresolved",
        "known_bad",
        "losses",
        "num_dropped_parts",
        "num_micro_batches",
        "num_parts_done",
        "outside",
        "parts",
        "phase",
        "random_after_call",
        "reached",
        "source",
        "stale_gradients",
        "trip",
        "updated",
        "whole_part",
    )

    def __init__(self) -> None:
        self.phase = Phase.IDLE
        self.source = Source.LOOP

        # Observed.
        self.parts: list[Part] = []
        self.num_dropped_parts = 0
        #: Calls of backward in the user's loop, and how many of the parts came before the last of them.
        self.calls: list[LoopCall] = []
        #: The positions of the optimizers whose parameters these calls reach.
        self.reached: frozenset[int] = frozenset()
        self.num_parts_done = 0
        #: Where the program was when the step before ended, or the guard was attached.
        self.began_after: Place = ()
        #: The calls that the program was in when the guard was attached.
        self.outside: frozenset[tuple[int, int]] = frozenset()
        #: The random states after the last of them, or after the step before.
        self.random_after_call: RandomState = {}
        self.losses: list[Tensor] = []
        #: Whether ``Guard.begin`` reports the batches of this step.
        self.is_reported = False
        #: The record of a batch of this step that was bad in a run before.
        self.known_bad: BadBatch | None = None
        #: The one of the parts that the diagnosis is about; None if that is unknown.
        self.bad_part: Part | None = None
        #: Calls of ``Guard.step`` since the last update.
        self.num_micro_batches = 0
        #: Optimizers that have updated, by identity.
        self.updated: set[int] = set()
        #: Whether the scaler has skipped an update of this step.
        self.is_skipped_by_scaler = False
        #: Whether the start of the next step is kept already: in a loop, only the end of a forward pass may be noticed.
        self.is_start_kept = False
        #: Whether the forward pass went by unnoticed.
        self.began_late = False
        #: What the closure of ``Guard.step`` evaluates.
        self.whole_part: tuple[LossFunction, Any] | None = None
        #: Whether the closure has tripped and the update must not be made.
        self.is_closure_held = False

        # Decided.
        #: The trip of this step.
        self.trip: Trip | None = None
        #: Whether the update may be made, by identity of an optimizer that was checked and has not stepped since.
        self.decisions: dict[int, bool] = {}
        #: Whether non-finite gradients may have gone into the update, since no action dealt with the trip.
        self.is_unresolved = False
        #: The diagnosis of the last trip that was explained, in this step or before.
        self.diagnosis: Diagnosis | None = None
        #: The step, with its diagnosis, whose non-finite gradients were still there when this step began.
        self.stale_gradients: tuple[int, Diagnosis | None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a step has begun and is not over."""
        return self.phase is not Phase.IDLE

    @property
    def awaits_update(self) -> bool:
        """Whether a step has begun, no optimizer has updated, and none was kept from it."""
        return self.phase is not Phase.IDLE and not self.updated and all(self.decisions.values())

    def open(self, random: RandomState) -> None:
        """A step begins."""
        self.phase = Phase.OBSERVE
        self.updated.clear()
        self.decisions.clear()
        self.is_reported = False
        self.source = Source.LOOP if self.source is Source.TRAINER else self.source
        self.random_after_call = random

    def close(self) -> None:
        """The step is over: the next call of the model begins another."""
        self.phase = Phase.IDLE

    def clear(self) -> None:
        """Forget what was observed; this frees the batch."""
        self.parts.clear()
        self.calls.clear()
        self.reached = frozenset()
        self.num_parts_done = 0
        self.losses.clear()
        self.known_bad = None
        self.bad_part = None
        self.num_dropped_parts = 0

    def add_part(self, part: Part) -> None:
        """Keep a part; of more than ``MAX_PARTS``, the last ones."""
        if len(self.parts) == MAX_PARTS:
            del self.parts[0]
            self.num_dropped_parts += 1
            self.num_parts_done = max(self.num_parts_done - 1, 0)
        # Its gradients will be added to those that were checked.
        self.decisions.clear()
        self.parts.append(part)

    @property
    def new_parts(self) -> tuple[Part, ...]:
        """The parts since the last call of backward."""
        return tuple(self.parts[self.num_parts_done :])

    def add_call(self, call: LoopCall) -> None:
        """Keep a call of backward; of more than ``MAX_PARTS``, the last ones."""
        if len(self.calls) == MAX_PARTS:
            del self.calls[0]
        self.calls.append(call)
        self.num_parts_done = len(self.parts)

    @contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """Run the block in a phase, and go back to the one before unless the block closed the step."""
        before, self.phase = self.phase, phase
        try:
            yield
        finally:
            if self.phase is phase:
                self.phase = before
