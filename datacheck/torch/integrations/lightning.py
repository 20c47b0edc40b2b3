"""Lightning and Fabric: ``Trainer(callbacks=[GuardCallback(on_trip="skip")])`` and ``guard(fabric, model, optimizer)``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from datacheck.torch.guard.guard import Guard
from datacheck.torch.integrations.callback import GuardHolder
from datacheck.torch.integrations.clipping import check_before
from datacheck.torch.integrations.options import check_options
from datacheck.torch.integrations.replay import attributes_kept, replaced

if TYPE_CHECKING:

    class Callback: ...

else:
    try:
        from lightning.pytorch.callbacks import Callback
    except ModuleNotFoundError:
        try:
            from pytorch_lightning.callbacks import Callback
        except ModuleNotFoundError as error:
            message = "datacheck.lightning needs Lightning: pip install lightning"
            raise ModuleNotFoundError(message, name=error.name) from None

__all__ = ["GuardCallback", "guard"]


class GuardCallback(GuardHolder, Callback):
    """Guards the training of a Lightning ``Trainer``::

        trainer = Trainer(callbacks=[GuardCallback(on_trip="skip")])

    Each step is checked before it is clipped and before the optimizer updates, with automatic and with manual optimization.
    What a skipped step added to metrics that are logged with ``self.log`` is taken out again. The state of the guard is part
    of the checkpoints. ``set_epoch`` of each :class:`~datacheck.torch.SafeDataset` in the training loaders is called.

    Args:
        **options: those of :class:`~datacheck.torch.Guard`, except what the trainer knows: optimizers, scaler, schedulers,
            accumulation and clipping. ``log`` is the trainer's loggers unless it is given.

    Raises :class:`~datacheck.errors.UsageError` for options that a guard does not take.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._prepare(options)
        self._metrics: list[tuple[Any, dict[str, Any]]] = []

    # What Lightning calls, in this order.

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        self._start(
            trainer.strategy.model,
            trainer.optimizers,
            scaler=getattr(trainer.precision_plugin, "scaler", None),
            scheduler=schedulers,
            log=trainer.loggers,
            step_name="trainer/global_step",
        )

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._set_epoch(trainer.train_dataloader, trainer.current_epoch)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._metrics = _metrics_of(trainer)
        replay = _Replay(trainer, batch_idx) if pl_module.automatic_optimization else None
        self.guard.begin(batch, replay, step=trainer.global_step)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        if self.guard.is_replaying:
            return
        # It comes scaled, and divided by the number of batches that are accumulated.
        loss = loss.detach()
        if pl_module.automatic_optimization:
            loss = loss * trainer.accumulate_grad_batches
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._losses.append(loss if scaler is None else loss / scaler.scale(loss.new_ones(())))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if self.guard.is_replaying:
            return
        several = len(trainer.optimizers) > 1
        decision = self.guard.check(self._take_losses(), optimizer=_plain(optimizer) if several else None)
        if not decision:
            _restore_metrics(trainer, self._metrics)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self._guard is not None:
            self._guard.finished(exception)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.guard.finished()


class _Replay:
    """``training_step`` again, under the trainer's precision, without logging."""

    def __init__(self, trainer: Any, batch_idx: int) -> None:
        self._trainer = trainer
        self._batch_idx = batch_idx

    def __call__(self, model: Any, batch: Any) -> Tensor:
        takes_index = len(inspect.signature(model.training_step).parameters) > 1
        arguments = (batch, self._batch_idx) if takes_index else (batch,)
        modules = list(model.modules()) if isinstance(model, nn.Module) else []
        silenced = replaced(model, log=_ignore, log_dict=_ignore)
        with self._trainer.precision_plugin.train_step_context(), silenced, attributes_kept(modules):
            output = model.training_step(*arguments)
        return output["loss"] if isinstance(output, Mapping) else output  # type: ignore[no-any-return]


def guard(fabric: Any, model: Any, optimizer: Any, **options: Any) -> Guard:
    """Guard a training loop of Fabric, after ``fabric.setup``::

        model, optimizer = fabric.setup(model, optimizer)
        with datacheck.lightning.guard(fabric, model, optimizer, on_trip="skip"):
            ...

    Args:
        fabric: knows the precision and its scaler; its ``clip_gradients`` is preceded by a check.
        model: the module that ``fabric.setup`` returned.
        optimizer: the optimizer that it returned, or several.
        **options: those of :class:`~datacheck.torch.Guard`, except scaler, accumulation and clipping.

    Raises :class:`~datacheck.errors.UsageError` for options that a guard does not take.
    """
    check_options(options, "scheduler")
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    made = Guard(model, optimizer, scaler=scaler, **options)
    check_before(made, fabric, made.check_once, "clip_gradients", if_refused={"error_if_nonfinite": False})
    return made


def _ignore(*_args: Any, **_kwargs: Any) -> None:
    return None


def _plain(optimizer: Any) -> Any:
    return getattr(optimizer, "_optimizer", optimizer)


def _metrics_of(trainer: Any) -> list[tuple[Any, dict[str, Any]]]:
    """The running values of what was logged; Lightning replaces them and never writes into them."""
    results = getattr(trainer, "_results", None) or {}
    return [
        (metric, {name: getattr(metric, name) for name in metric._defaults})
        for metric in results.values()
        if getattr(metric, "is_tensor", False)
    ]


def _restore_metrics(trainer: Any, before: list[tuple[Any, dict[str, Any]]]) -> None:
    known = {id(metric) for metric, _ in before}
    for metric, values in before:
        for name, value in values.items():
            setattr(metric, name, value)
    for metric in (getattr(trainer, "_results", None) or {}).values():
        if id(metric) not in known and getattr(metric, "is_tensor", False):
            metric.reset()
