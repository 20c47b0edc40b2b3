"""Why an update produced non-finite values from finite gradients: read from the optimizer's numbers."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datacheck.text import count
from datacheck.torch.diagnosis.diagnosis import ChainLink, Diagnosis
from datacheck.torch.diagnosis.fixes.advice import ADVICE
from datacheck.torch.diagnosis.update_replay import explain_own_update
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.guard.update_monitor import BadTensor
from datacheck.torch.values import as_number, dtype_name, rounds_to_zero

#: A learning rate above this suits no optimizer.
LARGE_RATE = 10.0


def explain_update(
    bad: Sequence[BadTensor],
    parameters: Sequence[NamedParameter],
    optimizers: Sequence[Optimizer],
    verdict: Diagnosis | None,
    step: int,
) -> Diagnosis:
    """The diagnosis of tensors that became non-finite in an update."""
    if not bad:
        return _elsewhere(step)
    first = bad[0]
    if first.kind == "buffer":
        return _buffer(first, step)
    owner = next((p for p in parameters if first.name == p.name or first.name.startswith(f"{p.name}.")), parameters[0])
    optimizer = optimizers[owner.optimizer]
    group = next(g for g in optimizer.param_groups if any(p is owner.tensor for p in g["params"]))
    own = explain_own_update(optimizer)
    if own is None:
        cause, reason, remedy = _judge(optimizer, group, owner.tensor, verdict)
    else:
        found, _, op = own
        cause, remedy = found.cause, ADVICE.get(found.cause, "")
        reason = f"repeated with the same gradients, {found.explanation}, in {op}"
    name = type(optimizer).__name__
    kind = "parameter" if first.kind == "parameter" else "optimizer state"
    explanation = (
        f"the gradients were finite; after {name}.step {count(first.num_bad)} of {count(first.num_values)} values of the "
        f"{kind} '{first.name}' are non-finite: {reason}"
    )
    link = ChainLink(f"{name}.step", "optimizer", _module_of(owner.name), None, None, first.num_bad, first.num_values)
    return Diagnosis(
        code="DC406",
        phase="optimizer",
        cause=cause,
        explanation=explanation,
        remedy=remedy,
        module=_module_of(owner.name),
        op=f"{name}.step",
        field=owner.name,
        chain=(link,),
        filename=None if own is None else own[1].filename,
        lineno=None if own is None else own[1].lineno,
        source=None if own is None else own[1].source,
        step=step,
    )


def _judge(
    optimizer: Optimizer, group: dict[str, Any], parameter: Tensor, verdict: Diagnosis | None
) -> tuple[str, str, str]:
    rate, epsilon = as_number(group.get("lr")), as_number(group.get("eps"))
    moments = _dtype(optimizer, parameter)
    if epsilon is not None and (epsilon == 0 or rounds_to_zero(epsilon, moments)):
        dtype = dtype_name(moments)
        what = "eps is 0" if epsilon == 0 else f"eps={epsilon:g} is 0 in {dtype}"
        return (
            "optimizer-epsilon",
            f"{what}, and a gradient of 0 divided by it is 0 / 0",
            f"for group in optimizer.param_groups:\n    group['eps'] = {_epsilon_of(dtype)}",
        )
    if rate is not None and (not math.isfinite(rate) or rate > LARGE_RATE):
        return (
            "learning-rate-too-high",
            f"the learning rate is {rate:g}{_made_by(optimizer, rate)}",
            _lower_rate(optimizer, group),
        )
    if verdict is not None:
        return verdict.cause, verdict.explanation, verdict.remedy
    if _moment_overflows(optimizer.state.get(parameter, {})):
        return (
            "exploding-gradient",
            "the square of a gradient overflowed in the optimizer's second moment",
            "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # before optimizer.step()",
        )
    shown = "" if rate is None else f" at a learning rate of {rate:g}"
    if not bool(parameter.detach().isinf().any()) and not _overflows(parameter, rate or 1.0):
        return "unknown", f"how the update became NaN is not known{shown and f', {shown.strip()}'}", ""
    return (
        "learning-rate-too-high",
        f"the update overflowed{shown}",
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # before optimizer.step(), and a lower lr",
    )


def _made_by(optimizer: Optimizer, rate: float) -> str:
    """The schedule whose value a learning rate is, with the place of its function."""
    for schedule in (found for found in gc.get_objects() if isinstance(found, LRScheduler)):
        if schedule.optimizer is optimizer and rate in schedule.get_last_lr():
            functions = getattr(schedule, "lr_lambdas", [])
            codes = [function.__code__ for function in functions if hasattr(function, "__code__")]
            where = f" of {codes[0].co_name} ({codes[0].co_filename}:{codes[0].co_firstlineno})" if codes else ""
            return f", the value that {type(schedule).__name__}{where} gave at its step {schedule.last_epoch}"
    return ""


def _lower_rate(optimizer: Optimizer, group: dict[str, Any]) -> str:
    """The learning rate before a schedule changed it, else the optimizer's own default where that is usable."""
    usable = (as_number(group.get("initial_lr")), as_number(optimizer.defaults.get("lr")))
    rate = next((rate for rate in usable if rate is not None and rate <= LARGE_RATE), 1e-3)
    start = "  # and start the schedule at a step where it is finite" if "initial_lr" in group else ""
    return f"for group in optimizer.param_groups:\n    group['lr'] = {rate:g}{start}"


def _epsilon_of(dtype: str) -> str:
    """An epsilon that does not round to 0 in the dtype."""
    return "1e-4" if dtype == "float16" else "1e-8"


def _dtype(optimizer: Optimizer, parameter: Tensor) -> torch.dtype:
    """The dtype of the denominator: the dtype of the second moment."""
    for key in ("exp_avg_sq", "square_avg", "sum"):
        moment = optimizer.state.get(parameter, {}).get(key)
        if isinstance(moment, Tensor) and moment.dtype.is_floating_point:
            return moment.dtype
    return parameter.dtype if parameter.dtype.is_floating_point else torch.float32


def _overflows(parameter: Tensor, rate: float) -> bool:
    """Whether the gradient times the learning rate exceeds the dtype."""
    gradient = parameter.grad
    if gradient is None or gradient.layout is not torch.strided or not gradient.numel():
        return False
    return float(gradient.detach().abs().max()) * rate > torch.finfo(parameter.dtype).max


def _moment_overflows(state: dict[str, Any]) -> bool:
    moments = [state[key] for key in ("exp_avg_sq", "square_avg", "sum") if isinstance(state.get(key), Tensor)]
    return any(bool(moment.isinf().any()) for moment in moments if moment.layout is torch.strided)


def _module_of(name: str) -> str | None:
    return name.rpartition(".")[0] or None


def _buffer(bad: BadTensor, step: int) -> Diagnosis:
    return Diagnosis(
        code="DC405",
        phase="buffer",
        cause="buffer-not-finite",
        explanation=(
            f"{count(bad.num_bad)} of {count(bad.num_values)} values of the buffer '{bad.name}' became non-finite in this "
            "step, although its loss and gradients were finite; evaluation reads the buffer and will return NaN"
        ),
        remedy=(
            'Guard(model, optimizer, on_trip="rollback")  # or '
            + ("reset_running_stats() of the module" if "running_" in bad.name else "keep non-finite values out of it")
        ),
        module=_module_of(bad.name),
        field=bad.name,
        step=step,
    )


def _elsewhere(step: int) -> Diagnosis:
    return Diagnosis(
        code="DC406",
        phase="optimizer",
        cause="unknown",
        explanation="another rank has non-finite values after the update",
        remedy="read the error of the rank named in the finding",
        step=step,
    )
