"""Hooks for a training loop of the user's: on the model to know where a step begins, on the optimizers to check it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from datacheck.torch.diagnosis.diagnosis import NonFiniteError
from datacheck.torch.guard.hooks import Hook
from datacheck.torch.guard.loss_replay import call_sites
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.guard.snapshot import copy_optimizer, restore_optimizer
from datacheck.torch.guard.step_state import LossFunction, Part, detach_all, probe_part, restore_captured

if TYPE_CHECKING:
    from datacheck.torch.guard.step_runner import StepRunner

__all__ = ["LoopHooks", "needs_closure"]


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether ``optimizer.step`` cannot do without a closure, as LBFGS's cannot."""
    parameter = inspect.signature(type(optimizer).step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty


class LoopHooks:
    """Opens a step at the model's first call after an update, and checks it when an optimizer is about to update.

    An optimizer cannot be stopped from a hook but by an error. To hold an update, its gradients are taken away for the
    length of ``step``: optimizers pass over parameters without one, so neither moments nor weight decay move.
    """

    def __init__(self, runner: StepRunner) -> None:
        self._runner = runner
        self._handles: list[RemovableHandle] = []
        self._is_open = False
        self._stepped: set[int] = set()
        self._scale_version = -1
        self._held: dict[int, Callable[[], None]] = {}
        self._whole: tuple[LossFunction, Any] | None = None
        self._closure: _ClosureRun | None = None
        #: Arguments for the next calls of the model, while a loop's loss is made again.
        self.substitutes: list[Any] = []

    @property
    def is_attached(self) -> bool:
        return bool(self._handles)

    @property
    def is_open(self) -> bool:
        """Whether a step has begun whose update has not been made."""
        return self._is_open and not self._stepped

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
        self.put_back()
        self._is_open = False

    def opened(self) -> None:
        """A step has begun."""
        self._is_open = True
        self._stepped.clear()
        self._scale_version = self._version_of_scale()

    def closed(self) -> None:
        """The step is over, whether or not an optimizer was called: the next call of the model opens another."""
        self._is_open = False

    def _version_of_scale(self) -> int:
        # The scale's version counter tells without a host sync whether the scaler was updated.
        scaler = self._runner.training.scaler
        scale = None if scaler is None else getattr(scaler, "_scale", None)
        return scale._version if isinstance(scale, Tensor) else -1

    def _make_forward_hook(self, root: str) -> Callable[..., Any]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if torch.compiler.is_compiling():
                return None
            runner = self._runner
            if runner.layers is not None and torch._C._current_graph_task_id() == -1:
                runner.layers.is_on = torch.is_grad_enabled()
            if runner.is_driving or self._whole is not None:
                return None
            if self.substitutes:
                return restore_captured((args, kwargs), self.substitutes.pop(0))
            return None if runner.is_replaying else self._before_forward(root, args, kwargs)

        return hook

    def _before_forward(self, root: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        runner = self._runner
        if torch._C._current_graph_task_id() != -1:
            return
        if not torch.is_grad_enabled():
            return
        training = runner.training
        if not self._is_open or self._stepped or self._was_left_out():
            self.look_back()
            runner.begin()
        random = training.random.read() if runner.context.parts else training.random.state
        runner.context.add(probe_part(root, (detach_all(args), detach_all(kwargs)), random, call_sites()))

    def _was_left_out(self) -> bool:
        """Whether the scaler has left the step out that is open: no optimizer was called, yet the scale was updated."""
        return self._is_open and not self._stepped and self._version_of_scale() != self._scale_version

    def look_back(self) -> None:
        """Look at the last step, if the scaler left it out: no optimizer's hook was called then."""
        if self._was_left_out():
            self._is_open = False
            self._runner.left_out_by_scaler()

    def note_loss(self, loss: Tensor) -> None:
        """The user's loop has a loss."""
        if not self._is_open or self._stepped:
            self._runner.begin(late=True)
        self._runner.context.losses.append(loss.detach())

    def _parameters_of(self, optimizer: Optimizer) -> list[NamedParameter]:
        training = self._runner.training
        number = training.optimizers.index(optimizer)
        if len(training.optimizers) == 1:
            return training.parameters
        return [parameter for parameter in training.parameters if parameter.optimizer == number]

    def _before_update(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        runner = self._runner
        if self._held:
            self._put_back(optimizer)
        if runner.is_driving:
            if runner.training.lr_factor != 1.0:
                self._scale_rates(optimizer)
            return None
        runner.training.refresh()
        if not self._is_open or id(optimizer) in self._stepped:
            runner.begin(late=True)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is not None:
            runner.monitor.before_update()
            self._scale_rates(optimizer)
            self._closure = _ClosureRun(self, optimizer, closure)
            if len(args) > 1:
                return (args[0], self._closure, *args[2:]), kwargs
            return args, {**kwargs, "closure": self._closure}
        # A fused optimizer under a GradScaler gets gradients that are scaled, and is told if they overflowed.
        scale = getattr(optimizer, "grad_scale", None)
        may_overflow = getattr(optimizer, "found_inf", None) is not None
        make = runner.check_before(
            self._parameters_of(optimizer),
            runner.context.losses,
            1.0 if scale is None else scale,
            may_overflow=may_overflow,
            which=runner.training.optimizers.index(optimizer),
        )
        if make:
            runner.monitor.before_update()
            self._scale_rates(optimizer)
        else:
            self.hold(optimizer)
        return None

    def _after_update(self, optimizer: Optimizer, *_: Any) -> None:
        was_held = bool(self._held) and self._put_back(optimizer)
        runner = self._runner
        if runner.is_driving:
            return
        self._stepped.add(id(optimizer))
        if self._closure is not None:
            was_held = self._closure.is_held
            if was_held:
                self._closure.undo()
            self._closure = None
        if not was_held:
            runner.updated()
        if len(self._stepped) == len(runner.training.optimizers):
            runner.close()

    def hold(self, optimizer: Optimizer) -> None:
        """Keep ``optimizer.step`` from changing anything until it is over."""
        gradients = []
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                gradients.append((parameter, parameter.grad))
                parameter.grad = None
        # Some optimizers count steps in their groups.
        options = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]

        def put_back() -> None:
            for parameter, gradient in gradients:
                parameter.grad = gradient
            for group, kept in zip(optimizer.param_groups, options, strict=True):
                group.update(kept)

        self._held[id(optimizer)] = put_back

    def _scale_rates(self, optimizer: Optimizer) -> None:
        """Take the reduced learning rate in for the length of this update."""
        factor = self._runner.training.lr_factor
        if factor == 1.0:
            return
        rates = [(group, group["lr"]) for group in optimizer.param_groups if "lr" in group]
        for group, rate in rates:
            group["lr"] = rate * factor
        number = id(optimizer)

        def put_back() -> None:
            for group, rate in rates:
                group["lr"] = rate

        self._held[-number] = put_back

    def put_back(self) -> None:
        """Give back what was taken for the length of a step that was never over."""
        for optimizer in self._runner.training.optimizers:
            self._put_back(optimizer)

    def _put_back(self, optimizer: Optimizer) -> bool:
        """Give back what was taken for the length of a step; whether the update was held."""
        rates, gradients = self._held.pop(-id(optimizer), None), self._held.pop(id(optimizer), None)
        for put_back in (rates, gradients):
            if put_back is not None:
                put_back()
        return gradients is not None

    def step_with(self, optimizer: Optimizer, closure: Callable[[], Tensor], loss_fn: LossFunction, batch: Any) -> Any:
        """``optimizer.step(closure)``, where the guard knows what the closure runs."""
        self._whole = (loss_fn, batch)
        try:
            return optimizer.step(closure)  # type: ignore[arg-type]
        finally:
            self._whole = None
            self._closure = None

    def hold_closure(self) -> None:
        """The closure that runs has tripped already, and the update is not to be made."""
        if self._closure is not None:
            self._closure.is_held = True


class _ClosureRun:
    """A closure that is checked after each evaluation.

    Once the update is held, it gives no gradients, which ends the search. What the search had already done to the
    weights is undone.
    """

    def __init__(self, hooks: LoopHooks, optimizer: Optimizer, closure: Callable[[], Any]) -> None:
        self._hooks = hooks
        self._optimizer = optimizer
        self._closure = closure
        self._image = (
            copy_optimizer(optimizer, offload=False, with_parameters=True) if needs_closure(optimizer) else None
        )
        self._last: Any = None
        self.is_held = False

    def __call__(self) -> Any:
        if self.is_held:
            return self._last
        runner, hooks = self._hooks._runner, self._hooks
        training, context = runner.training, runner.context
        context.clear()
        training.random.begin()
        if hooks._whole is not None:
            context.add(Part(*hooks._whole, training.random.state))
        else:
            context.closure = self._closure
        try:
            value = self._closure()
            if not self.is_held:
                is_loss = isinstance(value, Tensor) and value.numel() == 1
                losses = [value.detach()] if is_loss else context.losses
                parameters = hooks._parameters_of(self._optimizer)
                self.is_held = not runner.check_before(parameters, losses, 1.0)
        except NonFiniteError:
            self.undo()
            raise
        if self.is_held and id(self._optimizer) not in hooks._held:
            hooks.hold(self._optimizer)
        self._last = value
        return value

    def undo(self) -> None:
        if self._image is not None:
            restore_optimizer(self._optimizer, self._image)
