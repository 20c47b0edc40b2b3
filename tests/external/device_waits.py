"""Counts what a guard adds to a step on an accelerator that is none: its tensors lie on the host, and every operation is seen.

Prints, for each way of training, how often the host waits in one step because of the guard.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from datacheck.torch import Guard

_setup_privateuseone_for_python_backend("pretended")
device_module = torch.get_device_module("pretended")
device_module.get_rng_state = lambda *_: torch.zeros(1, dtype=torch.uint8)
device_module.set_rng_state = lambda *_: None

DEVICE, HOST = torch.device("pretended", 0), torch.device("cpu")
Optimizers = Callable[[nn.Module], Sequence[torch.optim.Optimizer]]
counts: Counter[str] = Counter()


class OnDevice(torch.Tensor):
    """A tensor that says that it is on the device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnDevice:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
            requires_grad=inner.requires_grad,
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner.detach()

    def tolist(self) -> Any:
        counts["wait"] += 1
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        is_to_host = name == "_to_copy" and kwargs.get("device") == HOST
        is_into_host = name == "copy_" and not isinstance(args[0], OnDevice)
        is_read = name in ("_local_scalar_dense", "nonzero", "equal", "is_nonzero")
        counts["wait"] += is_read or ((is_to_host or is_into_host) and not kwargs.get("non_blocking"))
        if "device" in kwargs:
            kwargs["device"] = HOST
        made = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if is_to_host or not func._schema.returns:
            return made if is_to_host else None
        if name.endswith("_"):
            return args[0]
        return tree_map(lambda value: OnDevice(value) if isinstance(value, torch.Tensor) else value, made)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


class Factories(TorchDispatchMode):
    """Makes tensors on the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("device") is not None and torch.device(kwargs["device"]).type == DEVICE.type:
            return OnDevice(func(*args, **{**kwargs, "device": HOST}))
        return func(*args, **kwargs)


def on_device(model: nn.Module) -> nn.Module:
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(OnDevice(parameter.detach())))
    return model


def count_waits(optimizers: Optimizers, losses: int = 1, **options: Any) -> int:
    """How often a late step waits because of the guard."""
    waits = []
    for is_guarded in (False, True):
        torch.manual_seed(0)
        with Factories():
            model = on_device(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
            made = optimizers(model)
            guard = Guard(model, made, every_n_steps=1000, **options) if is_guarded else None
            for number in range(16):
                if number == 15:
                    counts.clear()
                for part in [made] if losses == 1 else [[one] for one in made]:
                    for optimizer in part:
                        optimizer.zero_grad()
                    model(OnDevice(torch.ones(3, 4))).square().mean().backward()
                    for optimizer in part:
                        optimizer.step()
            waits.append(counts["wait"])
            if guard is not None:
                guard.remove()
    return waits[1] - waits[0]


def one(model: nn.Module) -> Sequence[torch.optim.Optimizer]:
    return [torch.optim.AdamW(model.parameters(), foreach=False)]


def fused(model: nn.Module) -> Sequence[torch.optim.Optimizer]:
    return [torch.optim.AdamW(model.parameters(), fused=True)]


def two(model: nn.Module) -> Sequence[torch.optim.Optimizer]:
    return [torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.SGD(model[2].parameters(), 0.1)]


if __name__ == "__main__":
    found = {
        "fused, defer=False": count_waits(fused, defer=False),
        "not fused": count_waits(one),
        "two optimizers of one loss": count_waits(two),
        "two optimizers, a loss each": count_waits(two, losses=2),
        "loss_spike": count_waits(one, loss_spike=10.0),
        "grad_spike": count_waits(one, grad_spike=10.0),
        "clip": count_waits(one, on_trip="clip"),
        "warn": count_waits(one, on_trip="warn"),
        "layers": count_waits(one, watch="layers"),
    }
    print(json.dumps(found))
