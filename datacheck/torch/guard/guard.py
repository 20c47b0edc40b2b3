"""The guard: cheap enough to leave on for ever, it stops a step before the weights are harmed, and says why."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from datacheck.errors import UsageError, nearest_name
from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.diagnosis.dynamics import History
from datacheck.torch.guard.actions import OnTrip
from datacheck.torch.guard.config import GuardConfig
from datacheck.torch.guard.log import GuardReport
from datacheck.torch.guard.step_runner import StepRunner
from datacheck.torch.guard.step_state import LossFunction, Part
from datacheck.torch.guard.training_state import Scaler, Stateful

__all__ = ["Guard"]


class Guard:
    """Watches training steps, and keeps a loss or a gradient that is not finite from the weights.

    Drive the step with it::

        guard = Guard(model, optimizer)
        for batch in loader:
            loss = guard.step(loss_fn, batch)     # loss_fn(model, batch) -> scalar

    or keep a loop and wrap it, with nothing else changed::

        with Guard(model, optimizer):
            for batch in loader:
                optimizer.zero_grad()
                loss_fn(model, batch).backward()
                optimizer.step()                  # raises NonFiniteError instead of harming the weights

    With nothing wrong, the trained weights are bit for bit those without it. On a trip the step is replayed and
    diagnosed; ``NonFiniteError.diagnosis`` says what it was.

    Args:
        model: the module that is trained: plain, compiled, in DistributedDataParallel or under ``fully_shard``. A
            ``ModuleList`` or ``ModuleDict`` where several are trained together.
        optimizer: its optimizer, or several.
        on_trip: what to do: ``"raise"``, ``"warn"``, ``"skip"``, ``"clip"``, ``"reduce_lr"``, ``"rollback"``, an
            :class:`~datacheck.torch.guard.actions.Action` with settings of its own, a function that takes the trip,
            or several of these in order.
        scaler: the GradScaler, if one is used. Its occasional infinities are then expected.
        scheduler: the learning-rate scheduler, or several. The guard never steps them; a rollback puts them back.
        **options: the fields of :class:`~datacheck.torch.guard.config.GuardConfig`: ``watch``, ``every_n_steps``,
            ``accumulation_steps``, ``max_grad_norm``, ``loss_spike``, ``grad_spike``, ``warmup_steps``, ``max_skips``,
            ``min_loss_scale``, ``max_diagnoses``, ``history_length``, ``schema``, ``bundle_dir``, ``synchronize``.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Iterable[Optimizer],
        *,
        on_trip: OnTrip = "raise",
        scaler: Scaler | None = None,
        scheduler: Stateful | Iterable[Stateful] | None = None,
        **options: Any,
    ) -> None:
        known = list(GuardConfig.__dataclass_fields__)
        for name in options:
            if name not in known:
                raise UsageError(f"Guard has no option {name!r}{nearest_name(name, known)}; it has {', '.join(known)}")
        self.config = GuardConfig(**options)
        if not isinstance(model, nn.Module):
            raise UsageError(f"Guard needs a torch.nn.Module, not {type(model).__name__}")
        optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
        for one in optimizers:
            if not isinstance(one, Optimizer):
                raise UsageError(f"Guard needs a torch.optim.Optimizer or several, not {type(one).__name__}")
        if not optimizers:
            raise UsageError(
                "Guard needs an optimizer; to look at one loss without training, use diagnose(loss_fn, ...)"
            )
        if scaler is not None and not all(hasattr(scaler, name) for name in ("is_enabled", "scale", "step", "update")):
            raise UsageError(f"scaler: Guard needs a torch.amp.GradScaler, not {type(scaler).__name__}")
        schedulers = list(scheduler) if isinstance(scheduler, Iterable) else [scheduler] if scheduler else []
        for each in schedulers:
            if not hasattr(each, "state_dict") or not hasattr(each, "load_state_dict"):
                raise UsageError(f"scheduler: Guard needs learning-rate schedulers, not {type(each).__name__}")
        self._runner = StepRunner(model, optimizers, on_trip, scaler, schedulers, self.config)
        self._runner.attach()
        self._num_parts = 0

    def step(self, loss_fn: LossFunction, batch: Any, *, update: bool | None = None) -> Tensor:
        """Run one training step: gradients to zero, ``loss_fn(model, batch)``, backward, check, update.

        With ``accumulation_steps`` above 1 (or ``update=False``) gradients are added up, and the check and the update
        are made at every ``accumulation_steps``-th call (or at ``update=True``).

        Returns the loss, detached. Raises :class:`~datacheck.torch.NonFiniteError` where the actions have it so, and
        :class:`~datacheck.errors.UsageError` for a loss that is no scalar. Learning-rate schedulers are left to you.
        """
        runner = self._runner
        runner.require_attached()
        self._num_parts += 1
        is_last = self._num_parts >= self.config.accumulation_steps if update is None else update
        if self._num_parts == 1:
            for optimizer in runner.training.optimizers:
                optimizer.zero_grad()
            runner.begin()
        try:
            if runner.closure_optimizer is not None:
                self._num_parts = 0
                return runner.step_with_closure(loss_fn, batch)
            return self._step_part(loss_fn, batch, is_last)
        except BaseException:
            self._num_parts = 0
            raise
        finally:
            runner.is_driving = False

    def _step_part(self, loss_fn: LossFunction, batch: Any, is_last: bool) -> Tensor:
        runner, training = self._runner, self._runner.training
        runner.is_driving = True
        random = training.random.state if self._num_parts == 1 else training.random.read()
        runner.context.add(Part(loss_fn, batch, random))
        if not is_last and isinstance(training.model, DistributedDataParallel):
            with training.model.no_sync():
                loss = self._backward_part(loss_fn, batch)
        else:
            loss = self._backward_part(loss_fn, batch)
        if loss is None:
            self._num_parts = 0
            return torch.full((), float("nan"))
        runner.context.losses.append(loss)
        if is_last:
            self._num_parts = 0
            runner.finish()
        return loss

    def _backward_part(self, loss_fn: LossFunction, batch: Any) -> Tensor | None:
        """The loss, detached, after its backward pass; None where the step is over already."""
        loss = self._runner.forward(loss_fn, batch)
        if loss is None:
            return None
        num_parts, scaler = self.config.accumulation_steps, self._runner.training.scaler
        part = loss if num_parts == 1 else loss / num_parts
        (part if scaler is None else scaler.scale(part)).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Call ``loss.backward(**kwargs)`` in a loop of your own, and let the guard know the loss.

        With a ``scaler``, give the loss unscaled: it is scaled here.
        """
        self._runner.require_attached()
        self._runner.note_loss(loss)
        scaler = self._runner.training.scaler
        (loss if scaler is None else scaler.scale(loss)).backward(**kwargs)  # type: ignore[no-untyped-call]

    def report(self) -> GuardReport:
        """Everything that the guard saw and did so far, as findings. ``str(guard.report())`` is for people."""
        return self._runner.log.report(self._runner.training.step)

    @property
    def history(self) -> History:
        """Losses, gradient norms, update-to-weight ratios and learning rates of the last steps."""
        return self._runner.monitor.history.view()

    @property
    def last_diagnosis(self) -> Diagnosis | None:
        """The diagnosis of the last trip that was explained."""
        return self._runner.last_diagnosis

    def bundle(self, path: str | Path) -> Path:
        """Write what replays the present step elsewhere: batch, random states, weights, buffers, optimizer state.

        The present step is the one that tripped, until the next one begins. ``datacheck replay PATH module:build``
        reads it. Raises :class:`~datacheck.errors.UsageError` if no step is there or the batch cannot be written. Under
        ``fully_shard`` all ranks must call it.
        """
        return self._runner.bundle(Path(path))

    def remove(self) -> None:
        """Take every hook away; the model and the optimizers are as they were before the guard."""
        self._runner.detach()

    def __enter__(self) -> Self:
        self._runner.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._runner.read_late()
            else:
                self._runner.explain_escape(error)
        finally:
            self.remove()
