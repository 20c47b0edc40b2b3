"""Hooks in the user's own loop: on the model to see where a step begins, on the optimizers to check it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from datacheck.torch._compat import current_graph_task_id
from datacheck.torch.guard.closure_check import ClosureCheck
from datacheck.torch.guard.grad_scaler import fused_scale
from datacheck.torch.guard.hooks import Hook
from datacheck.torch.guard.loss_replay import call_sites
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.guard.step_parts import detach_all, probe_part, restore_captured
from datacheck.torch.guard.step_runner import StepRunner
from datacheck.torch.guard.step_state import Phase, Source

__all__ = ["LoopHooks"]


class LoopHooks:
    """Opens a step at the first call of the model after an update, and checks it when an optimizer is about to update."""

    def __init__(self, runner: StepRunner) -> None:
        self._runner = runner
        self._state = runner.state
        self._handles: list[RemovableHandle] = []
        self._closure: ClosureCheck | None = None

    @property
    def is_attached(self) -> bool:
        return bool(self._handles)

    def attach(self) -> None:
        if self._handles:
            return
        training = self._runner.training
        for optimizer in training.optimizers:
            self._handles.append(optimizer.register_step_pre_hook(Hook(self._before_update)))
            self._handles.append(optimizer.register_step_post_hook(Hook(self._after_update)))
        model = training.model
        is_collection = isinstance(model, (nn.ModuleList, nn.ModuleDict))
        for name, root in list(model.named_children()) if is_collection else [("", model)]:
            hook = Hook(self._make_forward_hook(name))
            try:
                self._handles.append(root.register_forward_pre_hook(hook, with_kwargs=True, prepend=True))
            except RuntimeError:
                # TorchScript takes no hooks: a step then begins where the last one ended.
                continue

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._runner.release_updates()
        self._state.close()

    def _make_forward_hook(self, root: str) -> Callable[..., Any]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if torch.compiler.is_compiling():
                return None
            layers, state = self._runner.layers, self._state
            if layers is not None and current_graph_task_id() == -1:
                layers.is_on = torch.is_grad_enabled()
            if state.source is not Source.LOOP:
                return None
            if state.substitutes:
                return restore_captured((args, kwargs), state.substitutes.pop(0))
            return None if state.phase is Phase.DIAGNOSE else self._before_forward(root, args, kwargs)

        return hook

    def _before_forward(self, root: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # In a backward pass, activation checkpointing calls the model again.
        if current_graph_task_id() != -1 or not torch.is_grad_enabled():
            return
        runner, state = self._runner, self._state
        if not state.awaits_update or runner.was_left_out_by_scaler():
            runner.judge_left_out_step()
            runner.begin()
        random = runner.training.random
        began_with = random.read() if state.parts else random.state
        batch = tuple(map(detach_all, args)), {name: detach_all(value) for name, value in kwargs.items()}
        runner.add_part(probe_part(root, batch, began_with, call_sites()))

    def _parameters_of(self, optimizer: Optimizer) -> list[NamedParameter]:
        training = self._runner.training
        if len(training.optimizers) == 1:
            return training.parameters
        index = training.optimizers.index(optimizer)
        return [parameter for parameter in training.parameters if parameter.optimizer == index]

    def _before_update(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        runner, state = self._runner, self._state
        if runner.held:
            runner.held.release(optimizer)
        if state.source is Source.GUARD:
            # Checked by Guard.step already.
            runner.reduce_rates(optimizer)
            return None
        runner.training.refresh()
        decided = state.decisions.pop(id(optimizer), None)
        if decided is not None:
            self._apply(optimizer, makes_update=decided)
            return None
        if not state.is_open or id(optimizer) in state.updated:
            runner.begin(late=True)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._check_update(optimizer)
            return None
        self._closure = ClosureCheck(runner, optimizer, closure, self._parameters_of(optimizer))
        self._allow_update(optimizer)
        if len(args) > 1:
            return (args[0], self._closure, *args[2:]), kwargs
        return args, {**kwargs, "closure": self._closure}

    def _check_update(self, optimizer: Optimizer) -> None:
        runner = self._runner
        scale, may_overflow = fused_scale(optimizer)
        makes_update = runner.check(
            self._parameters_of(optimizer),
            self._state.losses,
            scale,
            may_overflow=may_overflow,
            optimizer=runner.training.optimizers.index(optimizer),
        )
        self._apply(optimizer, makes_update=makes_update)

    def _apply(self, optimizer: Optimizer, *, makes_update: bool) -> None:
        if makes_update:
            self._allow_update(optimizer)
        else:
            self._runner.held.hold(optimizer)

    def _allow_update(self, optimizer: Optimizer) -> None:
        self._runner.monitor.updates.before_update()
        self._runner.reduce_rates(optimizer)

    def _after_update(self, optimizer: Optimizer, *_: Any) -> None:
        runner, state = self._runner, self._state
        was_held = bool(runner.held) and runner.held.release(optimizer)
        if state.source is Source.GUARD:
            return
        state.updated.add(id(optimizer))
        if self._closure is not None:
            was_held = state.is_closure_held
            if was_held:
                self._closure.undo()
            self._closure = None
        if not was_held:
            runner.after_update()
        if len(state.updated) == len(runner.training.optimizers):
            runner.close()
