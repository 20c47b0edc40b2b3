"""What can be known to go wrong before the first step: settings, weights, and the arguments of losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from datacheck.findings import Finding, Severity
from datacheck.text import count, ordinal_list
from datacheck.torch.diagnosis.batches import array_leaves
from datacheck.torch.diagnosis.frames import CodeLocation, ModuleNames, locate
from datacheck.torch.diagnosis.restore import Restorer, force_eager
from datacheck.torch.values import as_number, as_numpy, count_nonfinite, dtype_name, rounds_to_zero

if TYPE_CHECKING:
    from torch.optim import Optimizer


#: Learning rates above these change weights by more than themselves: of optimizers that normalise gradients, and others.
LARGE_NORMALISED_RATE = 1.0
LARGE_RATE = 100.0
_DEVICE_ERROR: type[Exception] | tuple[()] = getattr(torch, "AcceleratorError", ())
#: Findings of one kind that are listed.
MAX_LISTED = 8


def _unsound(place: str, rule: str, detail: str, severity: Severity | None = None, field: str | None = None) -> Finding:
    return Finding(
        "DC457", place, field=field, num_violations=1, num_checked=1, rule=rule, detail=detail, severity=severity
    )


def check_settings(optimizers: Sequence[Optimizer], scaler: Any = None) -> Iterator[Finding]:
    """Learning rates, epsilons and the GradScaler. Reads no value of a weight, so it costs nothing."""
    for optimizer in optimizers:
        name = type(optimizer).__name__
        for number, group in enumerate(optimizer.param_groups):
            place = name if len(optimizer.param_groups) == 1 else f"{name}, group {number}"
            yield from _check_rate(place, group)
            yield from _check_epsilon(place, group)
    dtypes = {p.dtype for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    if scaler is not None and scaler.is_enabled():
        if torch.float16 in dtypes:
            yield _unsound(
                "GradScaler",
                "scaler-with-half-weights",
                "weights are float16, whose gradients it refuses to unscale; keep weights in float32 and use autocast",
                Severity.ERROR,
            )
        elif dtypes == {torch.bfloat16}:
            yield _unsound("GradScaler", "scaler-without-float16", "weights are bfloat16, whose range needs no scale")


def _check_rate(place: str, group: dict[str, Any]) -> Iterator[Finding]:
    rate = as_number(group.get("lr"))
    if rate is None:
        return
    normalises = "betas" in group or "eps" in group
    if not math.isfinite(rate):
        yield _unsound(
            place,
            "learning-rate",
            f"the learning rate is {rate:g}; the first update makes the weights non-finite",
            Severity.ERROR,
        )
    elif rate > (LARGE_NORMALISED_RATE if normalises else LARGE_RATE):
        size = "about as large as the learning rate" if normalises else "the gradient times it"
        usual = f"each update is {size}"
        yield _unsound(place, "learning-rate", f"the learning rate is {rate:g}; {usual}")


def _check_epsilon(place: str, group: dict[str, Any]) -> Iterator[Finding]:
    epsilon = as_number(group.get("eps"))
    if epsilon is None:
        return
    for dtype in sorted({p.dtype for p in group["params"] if p.dtype.is_floating_point}, key=str):
        if epsilon == 0 or rounds_to_zero(epsilon, dtype):
            what = (
                "eps is 0"
                if epsilon == 0
                else f"eps={epsilon:g} is 0 in {dtype_name(dtype)}, the dtype of weights and moments"
            )
            yield _unsound(place, "epsilon", f"{what}: a gradient of 0 gives 0 / 0")


def check_values(model: nn.Module, optimizers: Sequence[Optimizer], batch: Any = None) -> Iterator[Finding]:
    """Non-finite parameters, buffers and batch fields, frozen parameters, and epsilons of modules in half precision."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    frozen = [
        names.get(id(parameter), "a parameter")
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if not parameter.requires_grad
    ]
    if frozen:
        shown = ", ".join(f"'{name}'" for name in frozen[:MAX_LISTED]) + (", …" if len(frozen) > MAX_LISTED else "")
        detail = f"{count(len(frozen))} of its parameters are frozen (requires_grad=False) and are not trained: {shown}"
        yield _unsound(type(optimizers[0]).__name__, "frozen-parameters", detail, Severity.INFO)
    yield from _check_finite("DC404", "parameter", model.named_parameters())
    yield from _check_finite("DC405", "buffer", model.named_buffers())
    given = ((path, torch.as_tensor(leaf)) for path, leaf in array_leaves(batch) if _is_numeric(leaf))
    yield from _check_finite("DC407", "field", ((path or "the batch", tensor) for path, tensor in given))
    for name, module in model.named_modules():
        yield from _check_module_epsilon(name, module)


def _is_numeric(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) or leaf.dtype.kind in "fiub"


def _check_finite(code: str, kind: str, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[Finding]:
    for name, tensor in tensors:
        if tensor.device.type == "meta" or isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
            continue
        num_bad, num_values = count_nonfinite(tensor)
        if num_bad:
            detail = f"{count(num_bad)} of {count(num_values)} values of the {kind} '{name}' are non-finite"
            yield Finding(
                code, "before the first step", field=name, num_violations=num_bad, num_checked=num_values, detail=detail
            )


def _check_module_epsilon(name: str, module: nn.Module) -> Iterator[Finding]:
    """An epsilon of a module of the user's own: torch's norms compute in float32."""
    if type(module).__module__.startswith("torch."):
        return
    if all(parameter.dtype is not torch.float16 for parameter in module.parameters(recurse=False)):
        return
    for attribute, value in vars(module).items():
        if "eps" in attribute.lower() and isinstance(value, float) and rounds_to_zero(value, torch.float16):
            lost = f"{attribute}={value:g} is 0 in float16"
            detail = f"{lost}, and has no effect where it is added in float16"
            yield _unsound(name or type(module).__name__, "epsilon", detail, field=name)


def check_run(
    model: nn.Module, loss_fn: Callable[..., Tensor], batch: Any, scaler: Any = None, scale: float = 1.0
) -> Iterator[Finding]:
    """Run the step once and check what its losses receive, and what it loses to half precision; restores everything."""
    from datacheck.torch.diagnosis.examine import examine

    names, restorer = ModuleNames(model), Restorer([model])
    watch = _LossArguments(names)
    error: Exception | None = None
    try:
        with force_eager(), torch.enable_grad(), watch:
            loss_fn(model, batch)
    except Exception as caught:  # the findings before it explain it
        error = caught
    finally:
        restorer.restore()
    yield from watch.findings
    if error is not None:
        if not watch.findings:
            raise error
        return
    if scaler is not None and scaler.is_enabled() and torch.float16 not in watch.dtypes:
        yield _unsound("GradScaler", "scaler-without-float16", "nothing in the step is float16, so nothing underflows")
    lost: list[tuple[str, str]] = []
    diagnosis = examine(
        lambda: loss_fn(model, batch),
        model=model,
        batch=batch,
        replay_on=lambda part: loss_fn(model, part),
        scale=scale,
        note_lost=lambda place, detail: lost.append((place, detail)),
    )
    if diagnosis is not None:
        yield diagnosis.to_finding()
    for place, detail in lost:
        yield _unsound(place, "half-precision", detail)


class _LossArguments(TorchFunctionMode):
    """Checks the targets, indices and lengths that functions of torch receive, before they run."""

    def __init__(self, names: ModuleNames) -> None:
        super().__init__()
        self.findings: list[Finding] = []
        self.dtypes: set[torch.dtype] = set()
        self._names = names

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        check = _CHECKS.get(name)
        if check is not None and len(args) >= (4 if name == "ctc_loss" else 2):
            found = check(*args, **kwargs)
            if found is not None:
                rule, detail, severity = found
                where = locate(self._names, check_run.__code__, False)
                finding = _unsound(_place(where), rule, detail, severity, where.module)
                if finding not in self.findings:
                    self.findings.append(finding)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            self.dtypes.add(result.dtype)
        return result


def note_arguments(error: BaseException) -> None:
    """Add to an error of a function of torch what is wrong with the labels or indices that it was called with."""
    entry = error.__traceback__
    # An error of a device ends its context: no value on it can be read any more.
    while entry is not None and not isinstance(error, _DEVICE_ERROR):
        code, given = entry.tb_frame.f_code, entry.tb_frame.f_locals
        check = _CHECKS.get(code.co_name)
        if check is not None and code.co_filename == nn.functional.__file__:
            first, second = (given.get(name) for name in code.co_varnames[:2])
            is_tensors = isinstance(first, Tensor) and isinstance(second, Tensor)
            found = check(first, second, ignore_index=given.get("ignore_index", -100)) if is_tensors else None
            note = "" if found is None else f"datacheck: {found[1]}"
            if note and note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            return
        entry = entry.tb_next


def _place(where: CodeLocation) -> str:
    return "the step" if where.line is None else f"{where.line.filename}:{where.line.lineno}"


#: A rule, what is wrong, and how bad it is.
_Found = tuple[str, str, Severity | None] | None


def _check_targets(scores: Tensor, target: Tensor, *_: Any, ignore_index: int = -100, **__: Any) -> _Found:
    """Class indices: in range, and at least one that counts."""
    if target.is_floating_point() or scores.dim() == 0 or not target.numel():
        return None
    num_classes = scores.shape[1] if scores.dim() > 1 else scores.shape[0]
    values = target.detach()
    counted = values[values != ignore_index]
    if not counted.numel():
        detail = f"all {count(values.numel())} labels are {ignore_index}, which is ignored: the mean is 0 / 0"
        return "labels", detail, None
    outside = (counted < 0) | (counted >= num_classes)
    if bool(outside.any()):
        found = sorted({int(value) for value in counted[outside].flatten()[:1000]})[:MAX_LISTED]
        shown = ", ".join(map(str, found))
        first = (values.ne(ignore_index) & ((values < 0) | (values >= num_classes))).nonzero()[0].tolist()
        at = f"; the first is at {first}" if first else ""
        detail = f"labels {shown} are outside the {count(num_classes)} classes of the model's output{at}"
        return "labels", detail, Severity.ERROR
    return None


def _check_indices(indices: Tensor, weight: Tensor, *_: Any, **__: Any) -> _Found:
    """Indices of an embedding: in range."""
    if not indices.numel():
        return None
    low, high = int(indices.min()), int(indices.max())
    if low >= 0 and high < weight.shape[0]:
        return None
    first = ((indices < 0) | (indices >= weight.shape[0])).nonzero()[0].tolist()
    at = f"; the first outside it is at {first}" if first else ""
    detail = f"indices go from {low} to {high}, and the table has {count(weight.shape[0])} rows{at}"
    return "indices", detail, Severity.ERROR


def _check_probabilities(_prediction: Tensor, target: Tensor, *_: Any, **__: Any) -> _Found:
    """Targets of a binary cross entropy: from 0 to 1."""
    values = target.detach()
    if values.numel() and bool(((values < 0) | (values > 1)).any()):
        return "labels", f"targets go from {float(values.min()):g} to {float(values.max()):g}, not from 0 to 1", None
    return None


def _check_alignment(
    _log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, *_: Any, **kwargs: Any
) -> _Found:
    """CTC: an input needs a frame for each label, and one more between equal ones."""
    inputs = [int(length) for length in input_lengths]
    lengths = [int(length) for length in target_lengths]
    rows = targets.detach().cpu()
    start, short = 0, []
    for sample, length in enumerate(lengths):
        row = as_numpy(rows[sample, :length] if rows.dim() == 2 else rows[start : start + length])
        start += length
        if len(row) + int((row[1:] == row[:-1]).sum()) > inputs[sample]:
            short.append(sample)
    if not short or kwargs.get("zero_infinity"):
        return None
    shown = ordinal_list("sample", short[:MAX_LISTED], len(short) > MAX_LISTED)
    detail = f"{shown}: fewer frames than labels, so no alignment exists and the loss is infinite"
    return "lengths", detail, Severity.ERROR


_CHECKS: dict[str, Callable[..., _Found]] = {
    "binary_cross_entropy": _check_probabilities,
    "binary_cross_entropy_with_logits": _check_probabilities,
    "cross_entropy": _check_targets,
    "ctc_loss": _check_alignment,
    "embedding": _check_indices,
    "nll_loss": _check_targets,
}
