"""Gradients that are finite in every micro-batch of a step, and whose sum is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from datacheck.text import quantity
from datacheck.torch.diagnosis.diagnosis import ChainLink, Diagnosis
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.values import count_nonfinite, dtype_name


def explain_sum(
    losses: Iterable[Callable[[], Tensor]], parameters: Sequence[NamedParameter], step: int
) -> Diagnosis | None:
    """The diagnosis of gradients that overflow only as the sum over the micro-batches; None if they do not.

    ``losses`` compute the loss of each micro-batch again, as backward was called with it.
    """
    trained = [parameter for parameter in parameters if parameter.tensor.requires_grad]
    sums: list[Tensor | None] = [None] * len(trained)
    number = 0
    for number, compute in enumerate(losses, 1):
        with torch.enable_grad():
            loss = compute()
            gradients: Sequence[Tensor | None] = torch.autograd.grad(
                loss, [one.tensor for one in trained], allow_unused=True
            )
        for position, gradient in enumerate(gradients):
            if gradient is None:
                continue
            before = sums[position]
            total = gradient if before is None else before + gradient
            num_bad, num_values = count_nonfinite(total)
            if num_bad and count_nonfinite(gradient)[0]:
                # Not the sum's fault.
                return None
            if num_bad:
                return _describe(trained[position].name, total, (num_bad, num_values), number, step)
            sums[position] = total
    return None


def _describe(name: str, total: Tensor, counts: tuple[int, int], number: int, step: int) -> Diagnosis:
    num_bad, num_values = counts
    return Diagnosis(
        code="DC403",
        phase="backward",
        cause="float16-overflow" if total.dtype is torch.float16 else "overflow",
        explanation=(
            f"the gradients of each micro-batch are finite, and their sum over the first {quantity(number, 'micro-batch')}"
            f" overflows {dtype_name(total.dtype)} in {num_bad:,} of {num_values:,} values of '{name}'"
        ),
        remedy="(loss / accumulation_steps).backward()  # the mean of the micro-batches instead of their sum",
        module=name.rpartition(".")[0] or None,
        op="accumulation of gradients",
        field=name,
        chain=(ChainLink("accumulation of gradients", "backward", None, None, None, num_bad, num_values),),
        step=step,
    )
