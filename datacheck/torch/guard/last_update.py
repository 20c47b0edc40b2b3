"""The weights from before the last update: replayed with them, a step shows whether that update made it non-finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from datacheck.torch.diagnosis.dynamics import History
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.update_monitor import UpdateSample
from datacheck.torch.values import as_number, is_finite

#: Weights, and their values from before the last update in the same layout.
Before = list[tuple[Tensor, Tensor]]

#: How far the size of an update that is computed again may be from the one that was measured.
TOLERANCE = 0.02


@contextmanager
def undo_last_update(training: Training, history: History, sample: UpdateSample | None) -> Iterator[bool]:
    """Run the block with the weights from before the last update; yields False where these cannot be had.

    They are in the sample where it covers all weights. Else they are computed from the state of SGD with momentum, Adam or
    AdamW, and count only if the update has the size that was measured.
    """
    now: Before = []
    try:
        before = _find(training, history, sample)
        now = [(weights, weights.clone()) for weights, _ in before]
    except torch.cuda.OutOfMemoryError:
        before = []
    try:
        _write(before)
        yield bool(before)
    finally:
        _write(now)


def _find(training: Training, history: History, sample: UpdateSample | None) -> Before:
    sampled = None if sample is None else sample.weights_before()
    if sampled is not None:
        return sampled
    ratio, rate = history.update_ratios[-1], history.learning_rates[-1]
    if ratio is None or rate is None or len(training.optimizers) != 1:
        return []
    before = _compute(training.optimizers[0], rate)
    return before if before and _has_size(before, training.parameters, ratio) else []


def _write(values: Before) -> None:
    with torch.no_grad():
        for weights, value in values:
            weights.copy_(value)


def _has_size(before: Before, parameters: Sequence[NamedParameter], ratio: float) -> bool:
    """Whether the update from these weights to the current ones has the measured size."""
    now = [(weights, weights.clone()) for weights, _ in before]
    try:
        _write(before)
        sample = UpdateSample(parameters)
    finally:
        _write(now)
    size = sample.moved()
    return size is not None and math.isclose(float(size), ratio, rel_tol=TOLERANCE)


@torch.no_grad()
def _compute(optimizer: Optimizer, rate: float) -> Before:
    """The weights from before the update that the optimizer's state describes; empty where it does not tell.

    ``rate`` is the rate of the first group in that update: a schedule may have changed all of them since.
    """
    first = as_number(optimizer.param_groups[0].get("lr"))
    if type(optimizer) not in (SGD, Adam, AdamW) or not first:
        return []
    before: Before = []
    for group in optimizer.param_groups:
        # AdamW of older versions of torch has no such option.
        is_decoupled = group.get("decoupled_weight_decay", type(optimizer) is AdamW)
        options = {**group, "lr": float(group["lr"]) * rate / first, "is_decoupled": is_decoupled}
        for parameter in group["params"]:
            state = optimizer.state.get(parameter)
            if not state and parameter.requires_grad and type(optimizer) is SGD:
                return []
            if not state:
                continue
            value = (_before_sgd if type(optimizer) is SGD else _before_adam)(parameter.detach(), state, options)
            if value is None or not is_finite(value):
                return []
            # Its own version counter: a graph of the loop that holds the weights stays valid.
            before.append((parameter.data, value))
    return before


def _before_sgd(weights: Tensor, state: dict[str, Any], options: dict[str, Any]) -> Tensor | None:
    buffer = state.get("momentum_buffer")
    if buffer is None or options["nesterov"]:
        return None
    before: Tensor = weights + options["lr"] * buffer
    return before


def _before_adam(weights: Tensor, state: dict[str, Any], options: dict[str, Any]) -> Tensor:
    first, second = map(float, options["betas"])
    step = float(state["step"])
    square = state["max_exp_avg_sq" if options["amsgrad"] else "exp_avg_sq"]
    denominator = square.sqrt() / math.sqrt(1 - second**step) + options["eps"]
    before: Tensor = weights + options["lr"] / (1 - first**step) * state["exp_avg"] / denominator
    return before / (1 - options["lr"] * options["weight_decay"]) if options["is_decoupled"] else before
