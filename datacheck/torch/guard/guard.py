"""The guard: cheap enough to leave on, it stops a step before the weights are harmed, and says why."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn
from torch.optim import Optimizer

from datacheck.errors import UsageError
from datacheck.reports.run_file import read_events, run_file_name
from datacheck.schema.loading import SchemaLike
from datacheck.torch._private_names import warn_missing
from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.diagnosis.dynamics import History
from datacheck.torch.guard.actions import OnTrip
from datacheck.torch.guard.bad_batches import BadBatch
from datacheck.torch.guard.call_stack import open_calls, place_of
from datacheck.torch.guard.config import GuardConfig, Watch
from datacheck.torch.guard.decision import Decision
from datacheck.torch.guard.distributed import own_rank
from datacheck.torch.guard.driven_step import DrivenStep
from datacheck.torch.guard.grad_scaler import GradScaler
from datacheck.torch.guard.log import GuardReport
from datacheck.torch.guard.loop_hooks import LoopHooks
from datacheck.torch.guard.preflight import run_preflight
from datacheck.torch.guard.raised_errors import explain_escaped_error
from datacheck.torch.guard.saved_state import load_state, save_state
from datacheck.torch.guard.step_parts import LossFunction
from datacheck.torch.guard.step_runner import StepRunner
from datacheck.torch.guard.tracking.loggers import Logger, as_loggers
from datacheck.torch.guard.tracking.tracker import Tracker
from datacheck.torch.guard.trainer_step import TrainerStep
from datacheck.torch.guard.training_state import Stateful
from datacheck.torch.guard.wrappers import is_flat_sharded, optimizer_groups, plain_model, plain_optimizers, steps_twice

#: The guard of each optimizer.
_guards: weakref.WeakKeyDictionary[Optimizer, weakref.ref[Guard]] = weakref.WeakKeyDictionary()


class Guard:
    """Watches training steps, and keeps a non-finite loss or gradient from the weights.

    Let it run the step::

        guard = Guard(model, optimizer)
        for batch in loader:
            loss = guard.step(loss_fn, batch)     # loss_fn(model, batch) -> scalar

    or wrap your own loop, unchanged::

        with Guard(model, optimizer):
            for batch in loader:
                optimizer.zero_grad()
                loss_fn(model, batch).backward()
                optimizer.step()                  # raises NonFiniteError instead of harming the weights

    As long as nothing is wrong, the trained weights are bit for bit those without it. When something is, the step is
    replayed and diagnosed: see ``NonFiniteError.diagnosis``.

    Args:
        model: the module to train: plain, compiled, in DistributedDataParallel or under ``fully_shard``. A ``ModuleList``
            or ``ModuleDict`` if several are trained together.
        optimizer: its optimizer, or several; wrapped as Accelerate, Lightning, Fabric and fastai do, or in a container with
            a list ``optimizers``.
        on_trip: what to do about an anomaly: ``"raise"``, ``"warn"``, ``"skip"``, ``"clip"``, ``"reduce_lr"``,
            ``"rollback"``, an :class:`~datacheck.torch.Action` with settings of its own, a function that takes the
            :class:`~datacheck.torch.Trip`, or several of these in order.
        scaler: the GradScaler, if you use one. Its occasional infinities are then expected.
        scheduler: the learning-rate scheduler, or several. The guard never steps them; a rollback restores them.
        watch: ``"step"`` checks the loss and the gradients; ``"layers"`` also every module's output and the gradient with
            respect to it.
        every_n_steps: updates between two checks of parameters, buffers and optimizer state. The first ten updates are all
            checked, since a bad epsilon or initial value shows there.
        accumulation_steps: calls of ``step`` per update. Each loss is divided by it.
        max_grad_norm: clip the gradient norm of every step to this, as ``torch.nn.utils.clip_grad_norm_`` does; None for
            no clipping. For ``step`` only: your own loop clips by itself.
        loss_spike: how many median absolute deviations (in units of a standard deviation) above the median of the last 128
            steps a loss counts as a spike; None for never. 10 is a cautious value.
        grad_spike: the same for the gradient norm.
        warmup_steps: finite steps to see before anything counts as a spike.
        max_skips: skipped updates in a row before the guard raises.
        min_loss_scale: a GradScaler's scale below which it counts as collapsed.
        max_diagnoses: trips to replay and explain if ``on_trip`` lets training go on: each costs up to 60 steps. A trip
            that raises is always explained.
        history_length: steps that the history keeps.
        schema: a schema for the samples of the batches, in any form that ``datacheck.load_schema`` takes; None for no schema.
            A batch that breaks it trips the step, and the diagnosis names the samples. If the step is non-finite too, the
            diagnosis says which of the samples behind that break it. What lies on an accelerator is not waited for.
        bundle_dir: folder for bundles that replay a trip; None for no bundles.
        synchronize: whether the ranks of ``torch.distributed``, if it is in use, decide together.
        skip_bad_batches: whether batches of steps that tripped in a run before, as ``load_state_dict`` or ``run_dir`` knows
            them, are skipped without another look.
        log: where to log counters of what is non-finite, and the loss, the gradient norm before clipping and the
            update-to-weight ratio, all finite: a function of a dict, a TensorBoard ``SummaryWriter``, a run of W&B,
            ``mlflow``, a logger of Lightning, an ``Accelerator``, or several. Diagnoses are logged as texts where that is
            possible. None for nowhere.
        log_every_n_steps: updates between two lines in ``log``; a step that trips is always logged.
        step_name: the name of the step among the logged numbers.
        run_dir: folder in which the guard writes ``guard.jsonl``, which ``datacheck watch RUN_DIR`` shows live. None for
            none.

        defer: whether the numbers of a step are read only in the next one, so that the host never waits for the device. A bad
            update is then left out by the optimizer itself, which must be the only one and fused, and what the guard says and
            does comes one step later. None: where that is possible, on an accelerator.

    Raises :class:`~datacheck.errors.UsageError` for an argument of the wrong type or out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Iterable[Optimizer],
        *,
        on_trip: OnTrip = "raise",
        scaler: GradScaler | None = None,
        scheduler: Stateful | Iterable[Stateful] | None = None,
        watch: Watch = "step",
        every_n_steps: int = 10,
        accumulation_steps: int = 1,
        max_grad_norm: float | None = None,
        loss_spike: float | None = None,
        grad_spike: float | None = None,
        warmup_steps: int = 20,
        max_skips: int = 10,
        min_loss_scale: float = 1.0,
        max_diagnoses: int = 3,
        history_length: int = 512,
        schema: SchemaLike = None,
        bundle_dir: Path | str | None = None,
        synchronize: bool = True,
        skip_bad_batches: bool = False,
        log: Any = None,
        log_every_n_steps: int = 10,
        step_name: str = "datacheck/step",
        defer: bool | None = None,
        run_dir: Path | str | None = None,
    ) -> None:
        given = locals()
        self.config = GuardConfig(**{setting.name: given[setting.name] for setting in fields(GuardConfig)})
        loggers = as_loggers(log, step_name)
        warn_missing("guard")
        model, optimizers, groups = plain_model(model), plain_optimizers(optimizer), optimizer_groups(optimizer)
        schedulers = list(scheduler) if isinstance(scheduler, Iterable) else [scheduler] if scheduler else []
        _check_arguments(model, optimizers, scaler, schedulers)
        self._runner = StepRunner(
            model, optimizers, on_trip=on_trip, scaler=scaler, schedulers=schedulers, config=self.config
        )
        self._runner.training.group_optimizers(groups)
        self._hooks = LoopHooks(self._runner, is_driven_twice=steps_twice(optimizer))
        self._driven_step = DrivenStep(self._runner, is_driven_twice=steps_twice(optimizer))
        self._trainer_step = TrainerStep(self._runner)
        self._tracker = self._track(loggers)
        self._on_remove: list[Callable[[], None]] = []
        #: Guards whose ``with`` block is open and whose place this one takes.
        self._suspended: list[Guard] = []
        self._num_entered = 0
        self._attach()

    def _track(self, loggers: list[Logger]) -> Tracker:
        runner, run_dir = self._runner, None if self.config.run_dir is None else Path(self.config.run_dir)
        if run_dir is not None and self.config.skip_bad_batches:
            events, _ = read_events(run_dir / run_file_name(own_rank()))
            runner.bad_batches.expect(BadBatch.from_dict(event) for event in events if event["event"] == "bad_batch")
        runner.log.tracker = Tracker(
            runner.training,
            runner.monitor.history,
            loggers,
            run_dir,
            every_n_steps=self.config.log_every_n_steps,
            on_problem=runner.log.add_note,
        )
        return runner.log.tracker

    def _attach(self) -> None:
        if self._runner.is_off:
            return
        if not self._hooks.is_attached:
            self._replace_others()
        self._hooks.attach()
        state = self._runner.state
        state.began_after = place_of(sys._getframe(1))
        state.outside = open_calls(sys._getframe(1))
        self._runner.keep_start()
        if self._runner.layers is not None:
            self._runner.layers.attach()

    def _replace_others(self) -> None:
        """Take the place of the guards of the same optimizers: a cell of a notebook may have run again."""
        for optimizer in self._runner.training.optimizers:
            known = _guards.get(optimizer)
            other = None if known is None else known()
            if other is not None and other is not self and other._hooks.is_attached:
                runner = other._runner
                runner.log.add_act("removed", runner.training.step, "a new guard of the same optimizer took its place")
                if other._num_entered:
                    self._suspended.append(other)
                other.remove()
            _guards[optimizer] = weakref.ref(self)

    def _require_attached(self) -> None:
        if not (self._hooks.is_attached or self._runner.is_off):
            raise UsageError("the guard was removed; make a new one, or enter it again: with guard: ...")

    def step(self, loss_fn: LossFunction, batch: Any, *, update: bool | None = None) -> Tensor:
        """Run one training step: zero_grad, ``loss_fn(model, batch)``, backward, check, update.

        With ``accumulation_steps`` above 1 (or ``update=False``) gradients accumulate, and the check and the update come
        with every ``accumulation_steps``-th call (or with ``update=True``). Learning-rate schedulers are left to you.

        Returns the loss, detached. Raises :class:`~datacheck.torch.NonFiniteError` if the actions stop training, and
        :class:`~datacheck.errors.UsageError` for a loss that is not a scalar.
        """
        self._require_attached()
        return self._driven_step.run(loss_fn, batch, update)

    def preflight(self, batch: Any = None, loss_fn: LossFunction | None = None) -> GuardReport:
        """Check what can be known before the first step; changes nothing, and costs training nothing.

        Always: learning rates and epsilons, the GradScaler, frozen parameters in the optimizer, non-finite parameters
        and buffers. With a ``batch``: its non-finite values. With ``loss_fn(model, batch)`` too, the step is run once.
        That finds labels and indices out of range, labels that are all ignored, targets too long for CTC, and a
        non-finite loss or gradient with its diagnosis. It also finds what half precision loses although the step is
        finite.

        Returns the findings (``DC457`` for settings and labels); ``report.ok`` says whether there are no errors. An error
        of the loss function itself is passed on. Learning rates, epsilons and the GradScaler are also checked by themselves
        at the first step, for :meth:`report`.
        """
        self._require_attached()
        return run_preflight(self._runner, batch, loss_fn)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Call ``loss.backward(**kwargs)``: the guard sees that call, and any other, by itself.

        With a ``scaler``, pass the loss unscaled: it is scaled here.
        """
        self._require_attached()
        self._runner.training.scaler.backward(loss, **kwargs)

    def begin(self, batch: Any, loss_fn: LossFunction | None = None, *, step: int | None = None) -> None:
        """Tell the guard that a micro-batch begins. For trainers and loops that report their steps themselves::

            guard.begin(batch)
            loss = ...                                # forward and backward, as the trainer does them
            if guard.check(loss=loss):                # before clipping and before the update
                optimizer.step()

        Further micro-batches before the update belong to the same step. ``loss_fn(model, batch)`` computes the loss
        again if the step must be replayed; without it the guard finds the code of the loss itself, as in any loop.
        ``step``
        is the trainer's own number of the step, by which the guard then logs.
        """
        self._require_attached()
        self._trainer_step.begin(batch, loss_fn)
        self._tracker.global_step = step

    def check(
        self,
        loss: Tensor | Sequence[Tensor] | None = None,
        grad_norm: Tensor | float | None = None,
        *,
        optimizer: Optimizer | None = None,
    ) -> Decision:
        """Check the step before its update, and decide about it.

        If the update must not be made, the next ``optimizer.step()`` changes nothing, so a trainer may call it all the same.

        Args:
            loss: the loss, unscaled, or the losses of the micro-batches; None if the guard saw them already.
            grad_norm: the total norm before clipping, over all ranks, where it was computed anyway: the gradients are then
                read only if it is non-finite.
            optimizer: the one that is about to update, if there are several and they take turns; None for all.

        Raises :class:`~datacheck.torch.NonFiniteError` if the actions stop training.
        """
        self._require_attached()
        losses = None if loss is None else [one.detach() for one in ([loss] if isinstance(loss, Tensor) else loss)]
        return self._trainer_step.check(losses, grad_norm, optimizer)

    @property
    def is_attached(self) -> bool:
        """Whether the guard watches: from its creation until it is removed."""
        return self._hooks.is_attached

    @property
    def awaits_update(self) -> bool:
        """Whether a step has begun, and no optimizer has updated or was kept from it."""
        return self._runner.state.awaits_update

    @property
    def is_replaying(self) -> bool:
        """Whether a step is being replayed for a diagnosis: a trainer's hooks that are called then must do nothing."""
        return self._trainer_step.is_replaying

    def check_once(self, loss: Tensor | Sequence[Tensor] | None = None) -> bool:
        """:meth:`check`, unless this step was checked already; returns whether the update may be made."""
        decisions = self._runner.state.decisions
        return all(decisions.values()) if decisions else self.check(loss).makes_update

    def finished(self, error: BaseException | None = None) -> None:
        """Training has ended: check what is still unchecked, and remove the guard. ``with guard:`` calls this at its end.

        Args:
            error: what ended training early. If a non-finite value has caused it, it gets the diagnosis as a note.
        """
        try:
            if error is None:
                self._hooks.finish()
                self._runner.check_last_update()
            else:
                explain_escaped_error(self._runner, error)
        finally:
            self._tracker.end(error)
            self.remove()

    def on_remove(self, function: Callable[[], None]) -> None:
        """Call a function when the guard is removed: an integration undoes there what it did to its trainer."""
        self._on_remove.append(function)

    def state_dict(self) -> dict[str, Any]:
        """What the guard must remember when training is resumed, as plain values: put it into your checkpoints.

        Counts, histories, limits of the actions, and the batches of steps that tripped.
        """
        return save_state(self._runner)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned, before the first step.

        Raises :class:`~datacheck.errors.UsageError` for anything else.
        """
        load_state(self._runner, state)

    @property
    def bad_batches(self) -> tuple[BadBatch, ...]:
        """The batches of steps that tripped, except where no batch is to blame, as in divergence."""
        return tuple(self._runner.bad_batches.found)

    def report(self) -> GuardReport:
        """Every trip and every action so far, as findings. ``str(guard.report())`` is readable text."""
        return self._runner.log.report(self._runner.training.step, self._runner.monitor.history)

    @property
    def history(self) -> History:
        """Losses, gradient norms, update-to-weight ratios and learning rates of recent steps."""
        return self._runner.monitor.history.view()

    @property
    def last_diagnosis(self) -> Diagnosis | None:
        """The diagnosis of the last trip that was explained."""
        return self._runner.state.diagnosis

    def bundle(self, path: str | Path) -> Path:
        """Write the current step to a folder, for replay elsewhere: batch, random states, weights, buffers, optimizer state.

        A step that tripped is the current one until the next begins. ``datacheck replay PATH module:build`` replays it.
        Raises :class:`~datacheck.errors.UsageError` if there is no step or the batch cannot be written. Under
        ``fully_shard`` all ranks must call it.
        """
        return self._runner.write_bundle(Path(path))

    def remove(self) -> None:
        """Remove every hook; the model and the optimizers are as they were before the guard."""
        while self._on_remove:
            self._on_remove.pop()()
        self._hooks.detach()
        if self._runner.layers is not None:
            self._runner.layers.remove()
        self._runner.state.clear()
        while self._suspended:
            other = self._suspended.pop()
            if other._num_entered:
                other._attach()

    def __enter__(self) -> Self:
        self._num_entered += 1
        self._attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._num_entered -= 1
        self.finished(error)


def _check_arguments(model: object, optimizers: Sequence[object], scaler: object, schedulers: Sequence[object]) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"Guard: expected a torch.nn.Module, got {type(model).__name__}")
    if any(is_flat_sharded(module) for module in model.modules()):
        raise UsageError(
            "Guard: FullyShardedDataParallel keeps the weights of many layers in one flat parameter, which the guard cannot"
            " read; shard the model with torch.distributed.fsdp.fully_shard(model)"
        )
    for optimizer in optimizers:
        if not isinstance(optimizer, Optimizer):
            raise UsageError(f"Guard: expected one or more torch.optim.Optimizer, got {type(optimizer).__name__}")
    if not optimizers:
        raise UsageError("Guard needs an optimizer; to check one loss without training, use diagnose(loss_fn, ...)")
    if scaler is not None and not all(hasattr(scaler, name) for name in ("is_enabled", "scale", "step", "update")):
        raise UsageError(f"scaler: expected a torch.amp.GradScaler, got {type(scaler).__name__}")
    for scheduler in schedulers:
        if not hasattr(scheduler, "state_dict") or not hasattr(scheduler, "load_state_dict"):
            raise UsageError(f"scheduler: expected learning-rate schedulers, got {type(scheduler).__name__}")
