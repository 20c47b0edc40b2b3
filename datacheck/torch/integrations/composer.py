"""Composer: ``Trainer(callbacks=[GuardCallback(on_trip="skip")])``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datacheck.torch.integrations.callback import GuardHolder

if TYPE_CHECKING:

    class Algorithm: ...

    class Callback: ...

    class Event:
        AFTER_TRAIN_BATCH: object

else:
    try:
        from composer.core import Algorithm, Callback, Event
    except ModuleNotFoundError as error:
        message = "datacheck.composer needs Composer: pip install mosaicml"
        raise ModuleNotFoundError(message, name=error.name) from None

__all__ = ["GuardCallback"]


class GuardCallback(GuardHolder, Callback):
    """Guards the training of a Composer ``Trainer``::

        trainer = Trainer(model, train_dataloader, callbacks=[GuardCallback(on_trip="skip")])

    Each step is checked after its last backward pass and before algorithms such as gradient clipping see it. The state of
    the guard is part of the checkpoints.

    Args:
        **options: options of :class:`~datacheck.torch.Guard`, except what the trainer knows: optimizers, scaler, schedulers,
            accumulation and clipping.

    Raises :class:`~datacheck.errors.UsageError` for options that a guard does not take.
    """

    def __init__(self, **options: Any) -> None:
        self._prepare(options)

    def fit_start(self, state: Any, logger: Any) -> None:
        scaler = state.scaler if state.scaler is not None and state.scaler.is_enabled() else None
        schedulers = list(state.schedulers)
        self._start(state.model, state.optimizers, scaler=scaler, scheduler=schedulers, step_name="time/batch")
        state.algorithms[:] = [one for one in state.algorithms if not isinstance(one, _CheckFirst)]
        # After an event, the last algorithm is the first to run.
        state.algorithms.append(_CheckFirst(self))

    def epoch_start(self, state: Any, logger: Any) -> None:
        self._set_epoch(state.train_dataloader, int(state.timestamp.epoch.value))

    def before_forward(self, state: Any, logger: Any) -> None:
        self.guard.begin(state.batch, _Replay(state), step=int(state.timestamp.batch.value))

    def before_backward(self, state: Any, logger: Any) -> None:
        self._losses.append(_total(state.loss).detach())

    def check(self) -> None:
        """Check the step, before an algorithm clips its gradients."""
        self.guard.check(self._take_losses())

    def fit_end(self, state: Any, logger: Any) -> None:
        self.guard.finished()

    def close(self, state: Any, logger: Any) -> None:
        if self._guard is not None:
            self._guard.remove()


class _Replay:
    """The forward pass and the loss of a Composer model again, under the trainer's precision."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def __call__(self, model: Any, batch: Any) -> Tensor:
        from composer.core.precision import get_precision_context

        with get_precision_context(self._state.precision, self._state.precision_config):
            return _total(model.loss(model.forward(batch), batch))


class _CheckFirst(Algorithm):
    """Composer runs algorithms before callbacks, so what must come before gradient clipping has to be one."""

    def __init__(self, owner: GuardCallback) -> None:
        self._owner = owner

    def match(self, event: Any, state: Any) -> bool:
        return bool(event == Event.AFTER_TRAIN_BATCH)

    def apply(self, event: Any, state: Any, logger: Any) -> None:
        self._owner.check()


def _total(loss: Any) -> Tensor:
    """The loss of a model that may return several: as the trainer does, the one called ``total``, or their sum."""
    if isinstance(loss, Mapping):
        return loss["total"] if "total" in loss else _total(list(loss.values()))
    if isinstance(loss, list | tuple):
        return torch.stack([one.mean() for one in loss]).sum()
    return loss.mean()  # type: ignore[no-any-return]
