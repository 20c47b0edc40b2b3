"""What ``Guard.step`` does: it runs the step itself and feeds it to the runner."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from datacheck.errors import UsageError
from datacheck.torch._compat import mark_stepped
from datacheck.torch.guard.batch_values import BatchKeeper
from datacheck.torch.guard.closure_check import requires_closure
from datacheck.torch.guard.raised_errors import handle_error
from datacheck.torch.guard.step_parts import LossFunction, Part
from datacheck.torch.guard.step_runner import StepRunner
from datacheck.torch.guard.step_state import Source


class DrivenStep:
    """Runs zero_grad, forward, backward, check and update."""

    def __init__(self, runner: StepRunner, *, is_driven_twice: bool = False) -> None:
        self._runner = runner
        self._config = runner.config
        self._training = runner.training
        self._is_on = not runner.is_off
        self._batches = BatchKeeper()
        self._is_driven_twice = is_driven_twice
        self._closure_optimizer = next((o for o in self._training.optimizers if requires_closure(o)), None)

    def run(self, loss_fn: LossFunction, batch: Any, update: bool | None) -> Tensor:
        """Run one micro-batch and, if it is the last one (or ``update`` says so), the update; returns the loss."""
        if self._is_driven_twice:
            raise UsageError(
                "step makes one backward pass, and this optimizer needs two in each update: keep your own loop, and write"
                " with Guard(model, optimizer): around it"
            )
        state = self._runner.state
        state.num_micro_batches += 1
        is_last = state.num_micro_batches >= self._config.accumulation_steps if update is None else update
        if state.num_micro_batches == 1:
            for optimizer in self._training.optimizers:
                optimizer.zero_grad()
            if self._is_on:
                self._runner.begin()
        is_over = True
        try:
            if self._closure_optimizer is not None:
                return self._step_with_closure(self._closure_optimizer, loss_fn, batch)
            if self._is_on:
                random = self._training.random
                start = random.state if state.num_micro_batches == 1 else random.read()
                state.source = Source.GUARD
                kept = self._batches.keep(batch)
                self._runner.add_part(
                    Part(loss_fn, batch, start, weight=1 / self._config.accumulation_steps, kept=kept)
                )
            loss = self._run_part(loss_fn, batch, is_last=is_last)
            is_over = is_last or loss is None
            if loss is None:
                return torch.full((), float("nan"))
            if self._is_on:
                self._batches.review([part.kept for part in state.parts[-1:]])
                state.losses.append(loss)
            if is_last:
                self._finish()
            return loss
        finally:
            if is_over:
                state.num_micro_batches = 0
            state.source = Source.LOOP

    def _run_part(self, loss_fn: LossFunction, batch: Any, *, is_last: bool) -> Tensor | None:
        model = self._training.model
        if is_last or not isinstance(model, DistributedDataParallel):
            return self._backward(loss_fn, batch)
        with model.no_sync():
            return self._backward(loss_fn, batch)

    def _backward(self, loss_fn: LossFunction, batch: Any) -> Tensor | None:
        """The detached loss, after its backward pass; None where the step is over already."""
        loss = self._forward(loss_fn, batch)
        if loss is None:
            return None
        num_parts = self._config.accumulation_steps
        self._training.scaler.backward(loss if num_parts == 1 else loss / num_parts)
        return loss.detach()

    def _forward(self, loss_fn: LossFunction, batch: Any) -> Tensor | None:
        """The loss; None where a non-finite value made the code raise, and the actions let training go on."""
        try:
            loss = loss_fn(self._training.model, batch)
        except Exception as error:
            if self._is_on and handle_error(self._runner, error):
                return None
            raise
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shown = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise UsageError(
                f"loss_fn(model, batch) returned {shown}; expected a tensor with one value, such as loss.mean()"
            )
        return loss

    def _finish(self) -> None:
        """Check the gradients and, unless the actions decide otherwise, update."""
        runner, training = self._runner, self._training
        is_overflow = False
        if self._is_on:
            reading = runner.check_scaled()
            is_overflow = reading.is_overflow
            if not runner.decide(reading):
                for optimizer in training.optimizers:
                    mark_stepped(optimizer)
                return
            runner.monitor.updates.before_update()
        if self._config.max_grad_norm is not None and not is_overflow:
            self._clip(self._config.max_grad_norm)
        self._update()
        if self._is_on:
            runner.after_overflow() if is_overflow else runner.after_update()
            runner.close()

    def _clip(self, max_norm: float) -> None:
        training = self._training
        for optimizer in training.optimizers:
            training.scaler.unscale(optimizer)
        try:
            torch.nn.utils.clip_grad_norm_([parameter.tensor for parameter in training.parameters], max_norm)
        except NotImplementedError as error:
            raise UsageError(
                "max_grad_norm: torch cannot clip sparse gradients; leave it out, or give the embedding sparse=False"
            ) from error

    def _update(self) -> None:
        training = self._training
        try:
            for optimizer in training.optimizers:
                training.scaler.step(optimizer)
        except BaseException:
            # No hook is called after a step that raised.
            self._runner.release_updates()
            raise
        training.scaler.update()

    def _step_with_closure(self, optimizer: Optimizer, loss_fn: LossFunction, batch: Any) -> Tensor:
        """A step of an optimizer that evaluates the loss itself, many times: LBFGS."""
        config, state = self._config, self._runner.state
        if len(self._training.optimizers) > 1 or config.accumulation_steps > 1 or config.max_grad_norm is not None:
            raise UsageError(
                f"{type(optimizer).__name__} evaluates its loss itself: step takes no second optimizer, "
                "accumulation_steps or max_grad_norm with it"
            )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self._forward(loss_fn, batch)
            if loss is None:
                state.is_closure_held = True
                return torch.full((), float("nan"))
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        state.source, state.whole_part = Source.GUARD_CLOSURE, (loss_fn, batch)
        try:
            return torch.as_tensor(optimizer.step(closure)).detach()  # type: ignore[arg-type]
        finally:
            state.whole_part = None
