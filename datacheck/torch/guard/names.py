"""Parameters by the names that people know them by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

__all__ = ["NamedParameter", "named_parameters", "unwrap_model", "unwrapped_name"]

#: What wrappers put in front of a module's or a parameter's name.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


@dataclass(frozen=True, slots=True)
class NamedParameter:
    """A parameter, its name in the model, and the position of the optimizer that has it."""

    name: str
    tensor: Tensor
    optimizer: int


def unwrapped_name(name: str) -> str:
    """A name without what wrappers put in: ``encoder.weight`` for ``module._orig_mod.encoder.weight``."""
    if "module" not in name and "_orig_mod" not in name:
        return name
    parts = name.split(".")
    kept = [part for position, part in enumerate(parts) if part not in WRAPPERS or (part == "module" and position)]
    return ".".join(kept)


def unwrap_model(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(model, (DistributedDataParallel, nn.DataParallel)):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def named_parameters(model: nn.Module, optimizers: Sequence[Optimizer]) -> list[NamedParameter]:
    """Every parameter that an optimizer has, once. Those that are no part of the model get a name by their place."""
    names = {id(parameter): unwrapped_name(name) for name, parameter in model.named_parameters()}
    found: dict[int, NamedParameter] = {}
    for number, optimizer in enumerate(optimizers):
        for group_number, group in enumerate(optimizer.param_groups):
            for position, tensor in enumerate(group["params"]):
                name = names.get(id(tensor)) or f"optimizer{number}.group{group_number}.parameter{position}"
                found.setdefault(id(tensor), NamedParameter(name, tensor, number))
    return list(found.values())
