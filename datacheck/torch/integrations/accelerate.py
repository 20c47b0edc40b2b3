"""Accelerate: ``guard = datacheck.accelerate.guard(accelerator, model, optimizer)``."""

from __future__ import annotations

from typing import Any

from datacheck.errors import UsageError
from datacheck.torch.guard.guard import Guard
from datacheck.torch.integrations.clipping import check_before
from datacheck.torch.integrations.options import check_options


def guard(accelerator: Any, model: Any, optimizer: Any, **options: Any) -> Guard:
    """Guard a training loop of Accelerate, after ``accelerator.prepare``::

        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        with datacheck.accelerate.guard(accelerator, model, optimizer, on_trip="skip"):
            ...                                   # the loop, as it is

    The step is checked before ``accelerator.clip_grad_norm_`` and ``clip_grad_value_``, once all its micro-batches have run.
    ``accelerator.save_state`` saves the state of the guard, and ``load_state`` restores it.

    Args:
        accelerator: knows the scaler, and the schedulers that were prepared before this.
        model: the module that ``accelerator.prepare`` returned.
        optimizer: the optimizer that it returned, or several.
        **options: the options of :class:`~datacheck.torch.Guard`, except scaler, accumulation and clipping.

    Raises :class:`~datacheck.errors.UsageError` for options that a guard does not take.
    """
    check_options(options, "scheduler")
    if not hasattr(accelerator, "sync_gradients"):
        raise UsageError(f"datacheck.accelerate.guard: expected an Accelerator, got {type(accelerator).__name__}")
    schedulers = [getattr(one, "scheduler", one) for one in getattr(accelerator, "_schedulers", ())]
    made = Guard(
        model, optimizer, scaler=getattr(accelerator, "scaler", None), **{"scheduler": schedulers or None, **options}
    )

    def check() -> bool:
        return not accelerator.sync_gradients or made.check_once()

    check_before(made, accelerator, check, "clip_grad_norm_", "clip_grad_value_")
    accelerator.register_for_checkpointing(made)
    return made
