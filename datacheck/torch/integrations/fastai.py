"""fastai: ``Learner(dls, model, cbs=[GuardCallback(on_trip="skip")])``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from datacheck.torch.guard.wrappers import plain_optimizers
from datacheck.torch.integrations.callback import GuardHolder

if TYPE_CHECKING:

    class Callback: ...

    class CancelStepException(Exception): ...  # noqa: N818 - fastai's name

else:
    try:
        from fastai.callback.core import Callback, CancelStepException
    except ModuleNotFoundError as error:
        message = "datacheck.fastai needs fastai: pip install fastai"
        raise ModuleNotFoundError(message, name=error.name) from None

__all__ = ["GuardCallback"]


class GuardCallback(GuardHolder, Callback):
    """Guards the training of a fastai ``Learner``::

        learn = Learner(dls, model, loss_func=..., cbs=[GuardCallback(on_trip="skip")])

    Each step is checked after ``GradientAccumulation`` and before ``MixedPrecision`` and ``GradientClip``. The loss of a
    skipped step is left out of the running mean that fastai shows.

    Args:
        **options: options of :class:`~datacheck.torch.Guard`, except what the learner knows. ``"reduce_lr"`` needs an optimizer
            of torch, as ``OptimWrapper`` has one: fastai's own keep their learning rates elsewhere.

    Raises :class:`~datacheck.errors.UsageError` for options that a guard does not take.
    """

    #: After GradientAccumulation (6), before MixedPrecision (10) and GradientClip (11).
    order = 8
    run_valid = False
    learn: Any

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._prepare(options, "scheduler")
        self._proxy: _ProxyOptimizer | None = None

    def before_fit(self) -> None:
        learn = self.learn
        optimizer: Any = learn.opt
        self._proxy = None
        if not all(isinstance(one, Optimizer) for one in plain_optimizers(optimizer)):
            optimizer = self._proxy = _ProxyOptimizer(learn.opt)
        self._start(learn.model, optimizer, scaler=getattr(learn, "scaler", None))

    def before_epoch(self) -> None:
        self._set_epoch(self.learn.dls.train, int(self.learn.epoch))

    def before_batch(self) -> None:
        learn = self.learn
        self.guard.begin((tuple(learn.xb), tuple(learn.yb)), _Replay(learn.loss_func, _autocast_of(learn)))

    def before_backward(self) -> None:
        self._losses.append(self.learn.loss.detach())

    def before_step(self) -> None:
        if self.guard.check(self._take_losses()):
            return
        recorder = getattr(self.learn, "recorder", None)
        running = getattr(recorder, "smooth_loss", None)
        if running is not None and running.count:
            self.learn.loss = torch.full_like(self.learn.loss, float(running.value))
        if self._proxy is not None:
            self._proxy.step()
            raise CancelStepException
        # An optimizer of torch is held by the guard, and a scaler sees a step.

    def after_step(self) -> None:
        if self._proxy is not None and self.guard.awaits_update:
            self._proxy.step()

    def after_fit(self) -> None:
        self.guard.finished()


class _ProxyOptimizer(Optimizer):
    """An optimizer of torch that shows the guard the parameters and the state of one of fastai. Its step does nothing."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__([{"params": list(parameters)} for parameters in optimizer.param_lists], {})
        self.state = optimizer.state

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        return


class _Replay:
    def __init__(self, loss_func: Callable[..., Tensor], autocast: Any) -> None:
        self._loss_func = loss_func
        self._autocast = autocast

    def __call__(self, model: Any, batch: Any) -> Tensor:
        inputs, targets = batch
        with self._autocast():
            output = model(*inputs)
        return self._loss_func(output, *targets)


def _autocast_of(learn: Any) -> Any:
    mixed = getattr(learn, "mixed_precision", None)
    if mixed is None:
        return nullcontext
    dtype = torch.bfloat16 if "bf16" in str(mixed.amp_mode).lower() else torch.float16
    return lambda: torch.autocast("cuda", dtype=dtype)
