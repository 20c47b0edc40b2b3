"""Parameters and their names without wrappers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from datacheck.torch._compat import WRAPPER_ATTRIBUTES, without_compile_wrapper


@dataclass(frozen=True, slots=True)
class NamedParameter:
    """A parameter, its name in the model, and the position of its optimizer."""

    name: str
    tensor: Tensor
    optimizer: int


def unwrapped_name(name: str) -> str:
    """A name without the parts that wrappers add: ``encoder.weight`` for ``module._orig_mod.encoder.weight``."""
    if "module" not in name and "_orig_mod" not in name:
        return name
    parts = name.split(".")
    kept = [
        part for position, part in enumerate(parts) if part not in WRAPPER_ATTRIBUTES or (part == "module" and position)
    ]
    return ".".join(kept)


def unwrap_model(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(model, (DistributedDataParallel, nn.DataParallel)):
            model = model.module
            continue
        inner = without_compile_wrapper(model)
        if inner is model:
            return model
        model = inner


def named_parameters(model: nn.Module, optimizers: Sequence[Optimizer]) -> list[NamedParameter]:
    """Every parameter of the optimizers, once. Those outside the model are named by their position."""
    names = {id(parameter): unwrapped_name(name) for name, parameter in model.named_parameters()}
    found: dict[int, NamedParameter] = {}
    for number, optimizer in enumerate(optimizers):
        for group_number, group in enumerate(optimizer.param_groups):
            for position, tensor in enumerate(group["params"]):
                name = names.get(id(tensor)) or f"optimizer{number}.group{group_number}.parameter{position}"
                found.setdefault(id(tensor), NamedParameter(name, tensor, number))
    return list(found.values())
