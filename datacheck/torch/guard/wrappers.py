"""The optimizers and the model inside what trainers wrap around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn
from torch.optim import Optimizer

#: Attributes under which wrappers keep the optimizer that makes the update: of Accelerate, Lightning and Fabric, fastai,
#: and of sharpness-aware minimization (SAM).
_INNER = ("optimizer", "_optimizer", "opt", "base_optimizer", "base")
#: The same for a list of optimizers, as in torchtitan's containers.
_INNER_LISTS = ("optimizers",)
MAX_DEPTH = 8


def plain_optimizers(given: Any) -> list[Any]:
    """Every optimizer of an optimizer, a wrapper, a container, or a collection of these, in order and each once.

    Anything else is returned as it is.
    """
    return list({id(optimizer): optimizer for optimizer in _unwrap(given, 0)}.values())


def optimizer_groups(given: Any) -> list[tuple[Any, ...]]:
    """The same, grouped by container: they share a loss and step together."""
    several = _inner(given)
    if several is not None and len(several) > 1:
        return [tuple(plain_optimizers(several))]
    if isinstance(given, Iterable) and not isinstance(given, Optimizer | str):
        return [group for one in given for group in optimizer_groups(one)]
    return [(optimizer,) for optimizer in plain_optimizers(given)]


def _unwrap(given: Any, depth: int) -> Iterator[Any]:
    inner = None if depth > MAX_DEPTH else _inner(given)
    if inner is not None:
        for optimizer in inner:
            yield from _unwrap(optimizer, depth + 1)
    elif isinstance(given, Iterable) and not isinstance(given, Optimizer | str):
        for optimizer in given:
            yield from _unwrap(optimizer, depth + 1)
    else:
        yield given


def _inner(given: Any) -> list[Optimizer] | None:
    """The optimizers that a wrapper passes its calls on to; None for an optimizer of its own."""
    for name in _INNER_LISTS:
        several = getattr(given, name, None)
        if isinstance(several, list | tuple) and several and all(isinstance(one, Optimizer) for one in several):
            return list(several)
    for name in _INNER:
        one = getattr(given, name, None)
        if one is not given and isinstance(one, Optimizer) and _is_delegated(given, one):
            return [one]
    return None


def _is_delegated(outer: Any, inner: Optimizer) -> bool:
    """Whether a wrapper has no state of its own: one such as Lookahead, which changes weights itself, is not unwrapped.

    SAM moves the weights there and back between two backward passes: its own ``step`` may never be called.
    """
    if not isinstance(outer, Optimizer) or steps_twice(outer):
        return True
    return outer.state is inner.state and outer.param_groups is inner.param_groups


def steps_twice(optimizer: Any) -> bool:
    """Whether an optimizer updates in two steps, with a backward pass before each: SAM and those after it."""
    return hasattr(optimizer, "first_step") and hasattr(optimizer, "second_step")


def is_flat_sharded(module: nn.Module) -> bool:
    """Whether a module is FSDP's first version, found by name, since importing it is slow."""
    return any(
        kind.__name__ == "FullyShardedDataParallel" and kind.__module__.startswith("torch.distributed.fsdp")
        for kind in type(module).__mro__
    )


def plain_model(model: Any) -> Any:
    """The module inside Fabric's wrapper, which calls it; any other module as it is."""
    inner = getattr(model, "_forward_module", None)
    return inner if isinstance(model, nn.Module) and isinstance(inner, nn.Module) else model
