"""Checking an optimizer that evaluates the loss itself, many times a step, as LBFGS does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from datacheck.torch.diagnosis.diagnosis import NonFiniteError
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.guard.snapshot import copy_optimizer, restore_optimizer
from datacheck.torch.guard.step_parts import Part
from datacheck.torch.guard.step_runner import StepRunner


def requires_closure(optimizer: Optimizer) -> bool:
    """Whether ``optimizer.step`` cannot be called without a closure."""
    parameter = inspect.signature(type(optimizer).step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty


class ClosureCheck:
    """A closure that is checked after each evaluation.

    Once the update is held, it returns without gradients, which ends the search. :meth:`undo` then reverts what the
    search has done to the weights.
    """

    def __init__(
        self,
        runner: StepRunner,
        optimizer: Optimizer,
        closure: Callable[[], Any],
        parameters: Sequence[NamedParameter],
    ) -> None:
        self._runner = runner
        self._optimizer = optimizer
        self._closure = closure
        self._parameters = parameters
        self._before = (
            copy_optimizer(optimizer, offload=False, with_parameters=True) if requires_closure(optimizer) else None
        )
        self._last: Any = None
        self._is_repeated = False
        runner.state.is_closure_held = False

    def __call__(self) -> Any:
        runner, state = self._runner, self._runner.state
        if state.is_closure_held:
            return self._last
        # Before the first evaluation, the loop may have run backward itself and pass a closure that does nothing.
        if not state.is_reported and (self._is_repeated or not state.calls):
            self._begin_evaluation()
        self._is_repeated = True
        try:
            value = self._closure()
            decided = state.decisions.pop(id(self._optimizer), None)
            if decided is not None:
                state.is_closure_held = not decided
            elif not state.is_closure_held:
                is_loss = isinstance(value, Tensor) and value.numel() == 1
                losses = [value.detach()] if is_loss else state.known_losses
                state.is_closure_held = not runner.check(self._parameters, losses, 1.0)
        except NonFiniteError:
            self.undo()
            raise
        if state.is_closure_held and not runner.held.is_held(self._optimizer):
            runner.held.hold(self._optimizer)
        self._last = value
        return value

    def _begin_evaluation(self) -> None:
        state, random = self._runner.state, self._runner.training.random
        state.clear()
        random.begin()
        state.random_after_call = random.state
        if state.whole_part is not None:
            self._runner.add_part(Part(*state.whole_part, random.state))

    def undo(self) -> None:
        """Give the optimizer and its weights the state from before the search."""
        if self._before is not None:
            restore_optimizer(self._optimizer, self._before)
