"""Diagnoses one training step."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from datacheck.errors import UsageError
from datacheck.schema.loading import SchemaLike
from datacheck.storage.documents import load_schema
from datacheck.torch.diagnosis.examine import examine
from datacheck.torch.diagnosis.precision_loss import PrecisionWarning
from datacheck.torch.diagnosis.preflight import note_arguments

if TYPE_CHECKING:
    from collections.abc import Callable

    from datacheck.torch.diagnosis.diagnosis import Diagnosis


def diagnose(
    loss_fn: Callable[..., torch.Tensor], model: Any = None, batch: Any = None, *, schema: SchemaLike = None
) -> Diagnosis | None:
    """Run a training step's forward and backward pass, and say what makes its loss or a gradient non-finite.

    ``diagnose(loss_fn, model, batch)`` calls ``loss_fn(model, batch)``; ``diagnose(fn)`` calls ``fn()``, which needs
    neither a module nor an optimizer: gradients are taken with respect to whatever leaf tensors it uses. It must return
    a tensor with one value. Weights, buffers, gradients and random state are as before when it returns. With ``schema``,
    in any form that ``datacheck.load_schema`` takes, samples that caused the fault and violate it make it a fault in the
    data.

    Returns None if the loss and every gradient are finite; warns (:class:`~datacheck.torch.PrecisionWarning`) where half
    precision lost values silently: an infinity that a division turned into 0, an epsilon that rounds to 0. Raises
    :class:`~datacheck.errors.UsageError` for a loss that is not a scalar. An error of the function itself is passed on,
    unless a non-finite value caused it.
    """
    if not callable(loss_fn):
        raise UsageError(f"expected a function that returns the loss, got {type(loss_fn).__name__}")
    if isinstance(loss_fn, nn.Module) and callable(model) and not isinstance(model, nn.Module):
        raise UsageError("expected diagnose(loss_fn, model, batch), got the model first")
    known = None if schema is None else load_schema(schema)
    if model is None and batch is None:
        return examine(loss_fn, note_lost=_warn)
    modules = model if isinstance(model, nn.Module) else None
    try:
        return examine(
            lambda: loss_fn(model, batch),
            model=modules,
            batch=batch,
            replay_on=lambda part: loss_fn(model, part),
            schema=known,
            note_lost=_warn,
        )
    except (IndexError, RuntimeError) as error:
        note_arguments(error)
        raise


def _warn(place: str, detail: str) -> None:
    warnings.warn(f"{place}: {detail}", PrecisionWarning, stacklevel=4)
