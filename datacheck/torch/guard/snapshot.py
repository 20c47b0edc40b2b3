"""Snapshots of a training run: model, optimizers, scaler, schedulers, random states."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datacheck.torch.guard.training_state import Training
from datacheck.torch.replay_state import read_random_state, write_random_state


def _copied(value: Any, *, offload: bool) -> Any:
    """An independent copy; with ``offload``, tensors of an accelerator are copied to host memory."""
    if isinstance(value, Tensor):
        copied = value.detach().clone()
        return copied.cpu() if offload and not hasattr(copied, "to_local") else copied
    if isinstance(value, dict):
        return {key: _copied(item, offload=offload) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(item, offload=offload) for item in value)
    return copy.deepcopy(value)


def _restored(now: Any, then: Any, device: torch.device) -> Any:
    """The value ``then``, in the memory of ``now`` if that fits, since compiled and captured code keeps its tensors."""
    if isinstance(then, Tensor):
        if isinstance(now, Tensor) and now.shape == then.shape and now.dtype is then.dtype:
            return now.copy_(then)
        # Adam keeps its step count in host memory, beside weights that live elsewhere.
        return then.clone() if then.ndim == 0 else then.to(device, copy=True)
    if isinstance(then, dict):
        known = now if isinstance(now, dict) else {}
        return {key: _restored(known.get(key), item, device) for key, item in then.items()}
    if type(then) in (list, tuple):
        return type(then)(_restored(None, item, device) for item in then)
    return copy.deepcopy(then)


def copy_optimizer(optimizer: Optimizer, *, offload: bool = True, with_parameters: bool = False) -> dict[str, Any]:
    """An optimizer's state by position of the parameter, and its groups' options; on request with the weights."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    image: dict[str, Any] = {
        "state": {
            position: _copied(optimizer.state[parameter], offload=offload)
            for position, parameter in enumerate(parameters)
            if parameter in optimizer.state
        },
        "groups": [
            _copied({key: value for key, value in group.items() if key != "params"}, offload=offload)
            for group in optimizer.param_groups
        ],
    }
    if with_parameters:
        image["parameters"] = [_copied(parameter, offload=offload) for parameter in parameters]
    return image


@torch.no_grad()
def restore_optimizer(optimizer: Optimizer, image: Mapping[str, Any]) -> None:
    """Restore an optimizer in place. State that a parameter did not have then is removed."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for position, parameter in enumerate(parameters):
        then = image["state"].get(position)
        if then is None:
            optimizer.state.pop(parameter, None)
            continue
        now = optimizer.state.get(parameter, {})
        optimizer.state[parameter] = _restored(now, then, parameter.device)
    for group, options in zip(optimizer.param_groups, image["groups"], strict=True):
        for key in [key for key in group if key != "params" and key not in options]:
            del group[key]
        group.update({key: _restored(group.get(key), value, torch.device("cpu")) for key, value in options.items()})
    for parameter, then in zip(parameters, image.get("parameters", ()), strict=False):
        parameter.copy_(then)


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, non-persistent ones too, each once."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor for name, tensor in named if tensor.device.type != "meta"}


def copy_training(training: Training) -> dict[str, Any]:
    """The whole state, as a tree of plain values and of tensors in host memory."""
    return {
        "step": training.step,
        "model": {name: _copied(tensor, offload=True) for name, tensor in _tensors_of(training.model).items()},
        "optimizers": [copy_optimizer(optimizer) for optimizer in training.optimizers],
        "scaler": training.scaler.state_dict(),
        "schedulers": [_copied(scheduler.state_dict(), offload=True) for scheduler in training.schedulers],
        "random": read_random_state(frozenset(training.devices())),
    }


@torch.no_grad()
def restore_training(training: Training, image: Mapping[str, Any]) -> None:
    """Restore the whole state in place. The step count goes on, since the data does too."""
    now = _tensors_of(training.model)
    for name, then in image["model"].items():
        if name in now:
            now[name].copy_(then)
    for optimizer, then in zip(training.optimizers, image["optimizers"], strict=True):
        restore_optimizer(optimizer, then)
    training.scaler.load_state_dict(image["scaler"])
    for scheduler, then in zip(training.schedulers, image["schedulers"], strict=True):
        scheduler.load_state_dict(copy.deepcopy(then))
    write_random_state(image["random"])
