"""A plain copy of a sharded model, for a replay on one rank."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from datacheck.torch._compat import buffers_of, children_of, parameters_of

#: The most bytes of weights to gather for a replay: 4 GiB.
MAX_BYTES = 4 << 30


@torch.no_grad()
def unsharded_copy(model: nn.Module) -> nn.Module | None:
    """A copy with whole parameters, without the hooks that gather and free them; None if it would be too large.

    All ranks must call it. The model itself is not changed.
    """
    num_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return None if num_bytes > MAX_BYTES else _copy(model, {}, {})


def _copy(module: nn.Module, modules: dict[int, nn.Module], tensors: dict[int, Tensor]) -> nn.Module:
    known = modules.get(id(module))
    if known is not None:
        return known
    bare: nn.Module = nn.Module.__new__(_plain_class(type(module)))
    modules[id(module)] = bare
    attributes: dict[str, Any] = dict(vars(module))
    for name, value in attributes.items():
        if name.endswith("_hooks") or "_hooks_" in name:
            attributes[name] = type(value)() if isinstance(value, dict) else value
    attributes["_parameters"] = {name: _whole(p, tensors) for name, p in parameters_of(module).items()}
    attributes["_buffers"] = dict(buffers_of(module))
    attributes["_modules"] = {
        name: None if child is None else _copy(child, modules, tensors) for name, child in children_of(module).items()
    }
    vars(bare).update(attributes)
    return bare


def _whole(parameter: Tensor | None, tensors: dict[int, Tensor]) -> Tensor | None:
    if parameter is None or not hasattr(parameter, "full_tensor"):
        return parameter
    if id(parameter) not in tensors:
        tensors[id(parameter)] = nn.Parameter(parameter.full_tensor(), requires_grad=parameter.requires_grad)
    return tensors[id(parameter)]


def _plain_class(kind: type) -> type:
    """The user's class, without the one that ``fully_shard`` mixes in."""
    from torch.distributed.fsdp import FSDPModule

    return (
        next(base for base in kind.__mro__ if not issubclass(base, FSDPModule))
        if issubclass(kind, FSDPModule)
        else kind
    )
