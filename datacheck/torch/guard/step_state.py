"""The state of the step that runs: the only place where the guard keeps it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from torch import Tensor

from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.bad_batches import BadBatch
from datacheck.torch.guard.call_stack import Frame, OpenCall, Place
from datacheck.torch.guard.loop_replay import LoopCall
from datacheck.torch.guard.step_parts import LossFunction, Part
from datacheck.torch.guard.trip import Trip
from datacheck.torch.replay_state import RandomState

#: Parts of a step that are kept.
MAX_PARTS = 16
#: What is observed in a step and may be read one step later.
_OBSERVED = ("parts", "calls", "losses", "grad_losses", "reached", "num_parts_done", "num_dropped_parts")


class Phase(Enum):
    """What happens to a step now.

    A clean step goes from IDLE to OBSERVE and back. After an anomaly the policy decides, the step is replayed for a
    diagnosis, and the actions act. The replay comes before the actions, since these change weights, gradients and buffers.
    """

    IDLE = "idle"
    OBSERVE = "observe"
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


@dataclass(slots=True, eq=False)
class StepState:
    """One step, from its first forward pass to its update. Hooks and ``Guard.step`` feed it; :meth:`clear` empties it."""

    phase: Phase = Phase.IDLE
    source: Source = Source.LOOP

    # Observed.
    parts: list[Part] = field(default_factory=list)
    num_dropped_parts: int = 0
    #: Calls of backward in the user's loop, and how many of the parts came before the last of them.
    calls: list[LoopCall] = field(default_factory=list)
    num_parts_done: int = 0
    #: The last of the parts when backward was last called, from whatever it started.
    last_part: Part | None = None
    #: The positions of the optimizers whose parameters these calls reach.
    reached: frozenset[int] = frozenset()
    #: Where the program was when the step before ended, or the guard was attached.
    began_after: Place = ()
    #: The calls that the program was in when the guard was attached.
    outside: frozenset[OpenCall] = frozenset()
    #: The random states after the last call of backward, or after the step before.
    random_after_call: RandomState = field(default_factory=dict)
    losses: list[Tensor] = field(default_factory=list)
    #: Losses whose gradients were returned to the loop. In a step without a backward call they are its losses. The last one is
    #: provisional if its gradients have a graph: a later loss may be computed from them.
    grad_losses: list[Tensor] = field(default_factory=list)
    is_provisional: bool = False
    #: Whether their gradients are of the weights themselves; copies of the weights count only where nothing else does.
    are_own: bool = False
    #: Whether ``Guard.begin`` reports the batches of this step.
    is_reported: bool = False
    #: The record of a batch of this step that was bad in an earlier run.
    known_bad: BadBatch | None = None
    #: The one of the parts that the diagnosis is about; None if that is unknown.
    bad_part: Part | None = None
    #: Calls of ``Guard.step`` since the last update.
    num_micro_batches: int = 0
    #: Optimizers that have updated, by identity.
    updated: set[int] = field(default_factory=set)
    #: Whether the ``step`` of a scaler is running, whether the optimizer has stepped since it began, and whether the scaler
    #: has skipped an update of this step.
    is_scaler_stepping: bool = False
    has_stepped: bool = False
    is_skipped_by_scaler: bool = False
    #: Whether the model was last called with gradients: its modules are then watched where it turns them off, too.
    has_gradients: bool = False
    #: Whether the start of the next step is kept already: in a loop, only the end of a forward pass may be noticed.
    is_start_kept: bool = False
    #: Whether the forward pass went by unnoticed.
    began_late: bool = False
    #: What the closure of ``Guard.step`` evaluates.
    whole_part: tuple[LossFunction, Any] | None = None
    #: Whether the closure has tripped and the update must not be made.
    is_closure_held: bool = False
    #: What was observed in the step before, whose numbers are still on their way to the host.
    previous: dict[str, Any] | None = None

    # Decided.
    #: The trip of this step.
    trip: Trip | None = None
    #: Whether the update may be made, by identity of an optimizer that was checked and has not stepped since.
    decisions: dict[int, bool] = field(default_factory=dict)
    #: Whether the update may be made in spite of gradients that were non-finite before the weights changed: None where none
    #: were. Where it may not, they are zeros now, and so is what is added to them.
    decided_early: bool | None = None
    #: Whether non-finite gradients may have gone into the update, since no action dealt with the trip.
    is_unresolved: bool = False
    #: The diagnosis of the last trip that was explained, in this step or before.
    diagnosis: Diagnosis | None = None
    #: The step, with its diagnosis, whose non-finite gradients were still there when this step began.
    stale_gradients: tuple[int, Diagnosis | None] | None = None

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
        self.decided_early = None
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
        self.last_part = None
        self.losses.clear()
        self.grad_losses.clear()
        self.is_provisional = self.are_own = False
        self.known_bad = None
        self.bad_part = None
        self.num_dropped_parts = 0

    def _observed(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _OBSERVED}

    def set_aside(self) -> None:
        """Forget what was observed only when the numbers of this step have been read, in the next one."""
        self.previous = self._observed()
        self.parts, self.calls, self.losses, self.grad_losses = [], [], [], []
        self.clear()

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """Run the block with what was observed in the step before."""
        now = self._observed()
        self._observe(self.previous or StepState()._observed())
        try:
            yield
        finally:
            self._observe(now)

    def _observe(self, observed: Mapping[str, Any]) -> None:
        for name, value in observed.items():
            setattr(self, name, value)

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

    def was_called_from(self, frames: tuple[Frame, ...]) -> bool:
        """Whether the model was called in this step from where it is called now: so the loop has come round."""
        places = [(frame.code, frame.offset) for frame in frames]
        return any(
            all((known.code, known.offset) == place for known, place in zip(part.frames, places, strict=False))
            for part in self.parts
        )

    def add_call(self, call: LoopCall) -> None:
        """Keep a call of backward; of more than ``MAX_PARTS``, the last ones."""
        if len(self.calls) == MAX_PARTS:
            del self.calls[0]
        self.calls.append(call)
        self.num_parts_done = len(self.parts)

    @property
    def known_losses(self) -> list[Tensor]:
        """The losses of this step."""
        return self.losses or self.grad_losses

    def add_grad_loss(self, loss: Tensor, *, keeps_graph: bool, is_own: bool) -> None:
        """Keep a loss whose gradients are returned to the loop: of the weights, or of what may be a copy of them."""
        if self.are_own and not is_own:
            return
        if is_own and not self.are_own:
            self.grad_losses.clear()
            self.are_own, self.is_provisional = True, False
        if self.is_provisional:
            self.grad_losses.pop()
        self.grad_losses.append(loss)
        self.is_provisional = keeps_graph

    @contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """Run the block in a phase, and go back to the one before unless the block closed the step."""
        before, self.phase = self.phase, phase
        try:
            yield
        finally:
            if self.phase is phase:
                self.phase = before
