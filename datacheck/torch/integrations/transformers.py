"""The Trainer of Transformers, and the trainers of trl, which build on it: ``guard(trainer, on_trip="skip")``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from datacheck.errors import UsageError
from datacheck.torch.guard.guard import Guard
from datacheck.torch.guard.log import GuardReport
from datacheck.torch.integrations.clipping import check_before, wrap_method
from datacheck.torch.integrations.options import check_options
from datacheck.torch.integrations.replay import attributes_kept, replaced
from datacheck.torch.loader.collate import SafeCollate
from datacheck.torch.loader.dataset import SafeDataset

if TYPE_CHECKING:

    class ExportableState: ...

    class TrainerCallback: ...

else:
    try:
        from transformers.trainer_callback import ExportableState, TrainerCallback
    except ModuleNotFoundError as error:
        message = "datacheck.transformers needs Transformers: pip install 'transformers[torch]'"
        raise ModuleNotFoundError(message, name=error.name) from None

__all__ = ["TrainerGuard", "guard"]

#: Collectives of Accelerate with which trl gathers its metrics. A replay runs on one rank, and its metrics are discarded.
_COLLECTIVES = ("gather", "gather_for_metrics", "reduce", "pad_across_processes")


def guard(trainer: Any, *, safe_dataset: bool | Mapping[str, Any] = False, **options: Any) -> TrainerGuard:
    """Guard the training of a ``Trainer`` of Transformers, or of one of trl (SFT, DPO, GRPO and so on)::

        trainer = SFTTrainer(...)
        datacheck.transformers.guard(trainer, on_trip="skip")
        trainer.train()

    Each step is checked before it is clipped and before the optimizer updates. The state of the guard is part of the
    checkpoints, so that ``resume_from_checkpoint`` goes on with it.

    Args:
        trainer: the trainer, before ``train``.
        safe_dataset: whether to wrap its training dataset in :class:`~datacheck.torch.SafeDataset` and its collator in
            :class:`~datacheck.torch.SafeCollate`; or the options of that ``SafeDataset``. For trl, which accepts only a
            ``datasets.Dataset`` itself.
        **options: the options of :class:`~datacheck.torch.Guard`, except what the trainer knows: optimizer, scaler, scheduler,
            accumulation and clipping.

    Raises :class:`~datacheck.errors.UsageError` for options that a guard does not take, and if the trainer has one already.
    """
    check_options(options)
    for name in ("compute_loss", "training_step", "add_callback"):
        if not callable(getattr(trainer, name, None)):
            raise UsageError(f"datacheck.transformers.guard: expected a Trainer, got {type(trainer).__name__}")
    if any(isinstance(callback, _Steps) for callback in trainer.callback_handler.callbacks):
        raise UsageError(
            "datacheck.transformers.guard: this trainer has a guard already; call remove() of that one first"
        )
    if safe_dataset:
        _make_safe(trainer, safe_dataset if isinstance(safe_dataset, Mapping) else {})
    return TrainerGuard(trainer, options)


def _make_safe(trainer: Any, options: Mapping[str, Any]) -> None:
    if trainer.train_dataset is None:
        raise UsageError("safe_dataset: this trainer has no train_dataset")
    if not isinstance(trainer.train_dataset, SafeDataset):
        trainer.train_dataset = SafeDataset(trainer.train_dataset, **options)
    if not isinstance(trainer.data_collator, SafeCollate):
        trainer.data_collator = SafeCollate(trainer.data_collator)


class TrainerGuard:
    """The guard of a ``Trainer``. :func:`guard` makes it.

    Attributes:
        guard: the :class:`~datacheck.torch.Guard` of the last training, which :meth:`report` and ``history`` outlive; None
            before the first.
    """

    def __init__(self, trainer: Any, options: Mapping[str, Any]) -> None:
        self.guard: Guard | None = None
        self._trainer = trainer
        self._options = options
        #: The losses since the last update, each the part that it adds to the loss of the step.
        self._losses: list[Tensor] = []
        self._steps = _Steps(self)
        self._memory = _Memory(self)
        for callback in (self._steps, self._memory):
            trainer.add_callback(callback)
        methods = {"train": self._train, "compute_loss": self._compute_loss, "training_step": self._training_step}
        self._put_back = [wrap_method(trainer, name, wrapper) for name, wrapper in methods.items()]

    def report(self) -> GuardReport:
        """Every anomaly and every action. Raises :class:`~datacheck.errors.UsageError` before training has started."""
        if self.guard is None:
            raise UsageError("the trainer has not trained yet")
        return self.guard.report()

    def remove(self) -> None:
        """Remove the guard from the trainer."""
        self.end(None)
        for put_back in self._put_back:
            put_back()
        for callback in (self._steps, self._memory):
            self._trainer.remove_callback(callback)

    # What the trainer does, in this order.

    def _train(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            self.end(error)
            raise
        self.end(None)
        return result

    def begin(self, saved: Mapping[str, Any] | None) -> None:
        """Training begins, or is resumed with what the guard saved."""
        trainer = self._trainer
        made = Guard(
            trainer.model_wrapped,
            trainer.optimizer,
            scaler=getattr(trainer.accelerator, "scaler", None),
            scheduler=trainer.lr_scheduler,
            **{"step_name": "train/global_step", **self._options},
        )
        self.guard = made
        if saved:
            made.load_state_dict(saved)
        self._losses.clear()
        check_before(made, trainer.accelerator, self.check, "clip_grad_norm_", "clip_grad_value_")

    def _compute_loss(self, original: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self.guard is not None and self.guard.is_attached and model.training and torch.is_grad_enabled():
            # The trainer takes the labels out of its inputs.
            kept = dict(inputs) if isinstance(inputs, Mapping) else inputs
            step = self._trainer.state.global_step + 1
            self.guard.begin(kept, _Replay(self._trainer, original, args, kwargs), step=step)
        return original(model, inputs, *args, **kwargs)

    def _training_step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        loss = original(*args, **kwargs)
        self._losses.append(loss.detach())
        return loss

    def check(self) -> bool:
        """Check the step, once: before the gradients are clipped if they are. Returns whether the update may be made."""
        if self.guard is None or not self.guard.is_attached or self.guard.is_replaying:
            return True
        losses, self._losses = self._losses, []
        makes_update = self.guard.check_once(torch.stack(losses).sum() if losses else None)
        if not makes_update:
            _drop_nonfinite(getattr(self._trainer, "_metrics", None))
        return makes_update

    def end(self, error: BaseException | None) -> None:
        """Training has ended."""
        if self.guard is not None and self.guard.is_attached:
            self.guard.finished(error)


class _Replay:
    """``compute_loss`` again, on this rank only, without entries in the trainer's metrics."""

    def __init__(self, trainer: Any, compute_loss: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self._trainer = trainer
        self._compute_loss = compute_loss
        self._args = args
        self._kwargs = kwargs

    def __call__(self, model: nn.Module, inputs: Any) -> Tensor:
        trainer = self._trainer
        inputs = dict(inputs) if isinstance(inputs, Mapping) else inputs
        with _on_one_rank(trainer.accelerator), attributes_kept([trainer]), trainer.compute_loss_context_manager():
            result = self._compute_loss(model, inputs, *self._args, **self._kwargs)
        return result[0] if isinstance(result, tuple) else result  # type: ignore[no-any-return]


@contextmanager
def _on_one_rank(accelerator: Any) -> Iterator[None]:
    with ExitStack() as stack:
        if accelerator.num_processes > 1:
            stack.enter_context(replaced(accelerator, **dict.fromkeys(_COLLECTIVES, _identity)))
        yield


def _identity(value: Any, *_args: Any, **_kwargs: Any) -> Any:
    return value


def _drop_nonfinite(metrics: Any) -> None:
    """Take out of the lists that trl averages what a skipped step added to them."""
    if not isinstance(metrics, MutableMapping):
        return
    for name, values in list(metrics.items()):
        if not isinstance(values, list):
            _drop_nonfinite(values)
            continue
        values[:] = [value for value in values if not isinstance(value, float) or math.isfinite(value)]
        if not values:
            # There is no average of nothing.
            del metrics[name]


class _Steps(TrainerCallback):
    """Passes on when training begins, and when a step that was not clipped is about to update."""

    def __init__(self, owner: TrainerGuard) -> None:
        self._owner = owner

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._owner.begin(_saved_in(state.stateful_callbacks))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._owner.check()


class _Memory(TrainerCallback, ExportableState):
    """Puts the state of the guard into checkpoints. The trainer may replace it by a copy without an owner."""

    def __init__(self, owner: TrainerGuard | None = None) -> None:
        self._owner = owner
        self.saved: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        if self._owner is not None and self._owner.guard is not None:
            self.saved = self._owner.guard.state_dict()
        return {"args": {}, "attributes": {"saved": self.saved}}


def _saved_in(callbacks: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = callbacks.get(_Memory.__name__)
    if isinstance(found, list):
        found = found[-1] if found else None
    return found["attributes"]["saved"] or None if isinstance(found, Mapping) else None
