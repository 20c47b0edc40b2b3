"""Replaying the step of a bundle."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datacheck._version import __version__
from datacheck.errors import UsageError
from datacheck.text import plain
from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.bundle import Bundle
from datacheck.torch.guard.explain import replay_part
from datacheck.torch.guard.names import unwrap_model
from datacheck.torch.guard.step_parts import LossFunction, Part, probe_part
from datacheck.torch.replay_state import read_random_state, write_random_state
from datacheck.torch.structure import map_structure


@dataclass(frozen=True, slots=True)
class BundleReplay:
    """The result of a replay: the diagnosis, None if everything is finite, and what differs from the run."""

    diagnosis: Diagnosis | None
    differences: list[str] = field(default_factory=list)


def replay_bundle(bundle: Bundle, built: Any) -> BundleReplay:
    """Replay a bundle with what the user's ``build`` returned: ``(model, loss_fn)``, or a mapping with these names.

    A bundle from the user's own loop needs the model only.
    """
    model, loss_fn = _model_and_loss(built)
    model = unwrap_model(model)
    bundle.load_into(model)
    differences = _differences(bundle, model)
    now = read_random_state(frozenset())
    try:
        for part in bundle.parts:
            found = _replay_part(part, model, loss_fn, differences)
            if found is not None:
                return BundleReplay(found.at_step(bundle.step), differences)
    finally:
        write_random_state(now)
    return BundleReplay(None, differences)


def _model_and_loss(built: Any) -> tuple[nn.Module, LossFunction | None]:
    model, loss_fn = built, None
    if isinstance(built, Mapping):
        model, loss_fn = built.get("model"), built.get("loss_fn")
    elif isinstance(built, (tuple, list)) and len(built) == 2:
        model, loss_fn = built
    if not isinstance(model, nn.Module) or not (loss_fn is None or callable(loss_fn)):
        raise UsageError(
            "build() must return (model, loss_fn): a torch.nn.Module, and the loss_fn(model, batch) of the run"
        )
    return model, loss_fn


def _replay_part(
    record: Mapping[str, Any], model: nn.Module, loss_fn: LossFunction | None, differences: list[str]
) -> Diagnosis | None:
    is_whole = bool(record["is_whole"])
    if is_whole and loss_fn is None:
        raise UsageError("this bundle needs the run's loss function: build() must return (model, loss_fn)")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    random = {}
    for name, state in record["random"].items():
        if name in ("torch", "python", "numpy") or _is_here(name):
            random[name] = state
        else:
            note = f"the random state of {plain(name)} is not used, since this machine has no such device"
            differences.extend([note] if note not in differences else [])
    try:
        write_random_state(random)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"the bundle's random states are invalid: {plain(str(error))}") from error
    if not is_whole and record["root"] not in dict(model.named_modules()):
        raise UsageError(f"the model does not match the bundle: it has no submodule '{plain(record['root'])}'")
    batch = _moved(record["batch"], device)
    if is_whole and loss_fn is not None:
        return replay_part(Part(loss_fn, batch, random), model)
    return replay_part(probe_part(str(record["root"]), batch, random), model)


def _is_here(device: str) -> bool:
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UsageError(f"the bundle names an unknown device: '{plain(device)}'") from error
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return here is not None and here.type == kind


def _moved(value: Any, device: torch.device) -> Any:
    def move(leaf: Any) -> Any:
        if isinstance(leaf, SimpleNamespace):
            return SimpleNamespace(**_moved(vars(leaf), device))
        if not isinstance(leaf, Tensor) or leaf.device == device:
            return leaf
        return leaf.detach().to(device).requires_grad_(leaf.requires_grad)

    return map_structure(value, move)


def _differences(bundle: Bundle, model: nn.Module) -> list[str]:
    devices = sorted({str(p.device) for p in model.parameters() if p.device.type != "cpu"})
    here = {
        "datacheck": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": ", ".join(devices) or "cpu",
    }
    return [
        f"{name}: {bundle.versions.get(name)} in the run, {value} here"
        for name, value in here.items()
        if bundle.versions.get(name) != value
    ]
