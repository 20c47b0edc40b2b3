"""A bundle: a folder with plain values and tensors from which a step is replayed elsewhere."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datacheck._version import __version__
from datacheck.errors import SourceError, UsageError
from datacheck.text import join_limited, plain
from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.history import HistoryBuffer
from datacheck.torch.guard.names import unwrap_model, unwrapped_name
from datacheck.torch.guard.snapshot import copy_optimizer
from datacheck.torch.guard.step_state import StepState
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.tree_file import read_tree, write_tree

FORMAT = "datacheck-bundle"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Bundle:
    """The contents of a bundle.

    ``parts`` holds the step's micro-batches, each a mapping with ``batch``, ``random`` and ``is_whole``. If that is false,
    ``batch`` is the ``(args, kwargs)`` of a call of the model, or of its part ``root``. ``tensors`` holds parameters and
    buffers by name from the start of the step; ``modes`` tells for each module whether it was in training mode.
    """

    step: int
    parts: tuple[Mapping[str, Any], ...]
    tensors: Mapping[str, Tensor]
    modes: Mapping[str, bool]
    optimizers: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str]
    trip: Mapping[str, Any] | None
    diagnosis: Diagnosis | None
    history: Mapping[str, Any]

    def load_into(self, model: nn.Module) -> None:
        """Load the step's weights, buffers and modes into a model. Raises :class:`UsageError` if they do not fit."""
        now = dict([*model.named_parameters(), *model.named_buffers()])
        missing = [name for name in self.tensors if name not in now]
        unknown = [name for name, _ in model.named_parameters() if name not in self.tensors]
        if missing or unknown:
            parts = [f"missing {join_limited(missing, 4)}"] if missing else []
            parts += [f"unexpected {join_limited(unknown, 4)}"] if unknown else []
            raise UsageError(f"the model does not match the bundle: {'; '.join(parts)}")
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                if now[name].shape != tensor.shape:
                    shapes = f"{tuple(now[name].shape)}, expected {tuple(tensor.shape)}"
                    raise UsageError(f"the model does not match the bundle: '{plain(name)}' has shape {shapes}")
                now[name].copy_(tensor)
        for name, module in model.named_modules():
            module.training = self.modes.get(name, module.training)


def write_bundle(path: Path, training: Training, state: StepState, history: HistoryBuffer) -> Path:
    """Write the step to a new folder ``path``, all of it or nothing."""
    if path.exists():
        raise UsageError(f"{plain(str(path))} already exists; a bundle is never overwritten")
    model = unwrap_model(training.model)
    with training.buffers.replay():
        tensors = dict([*model.named_parameters(), *model.named_buffers()])
        tree = {
            "format": FORMAT,
            "version": VERSION,
            "step": training.step,
            "parts": [
                {"batch": part.batch, "random": part.random, "is_whole": part.is_whole, "root": part.root}
                for part in state.parts
            ],
            "tensors": {
                unwrapped_name(name): tensor for name, tensor in tensors.items() if tensor.device.type != "meta"
            },
            "modes": {unwrapped_name(name): module.training for name, module in model.named_modules()},
            "optimizers": [
                {"class": type(optimizer).__qualname__, **copy_optimizer(optimizer)}
                for optimizer in training.optimizers
            ],
            "scaler": training.scaler.state_dict(),
            "versions": {
                "datacheck": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "device": ", ".join(map(str, sorted(training.devices(), key=str))) or "cpu",
            },
            "trip": None if state.trip is None else state.trip.to_finding().to_dict(),
            "diagnosis": None if state.diagnosis is None else state.diagnosis.to_dict(),
            "history": history.to_dict(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            write_tree(tree, draft)
            draft.replace(path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    return path


def _part(record: Any) -> Mapping[str, Any]:
    """One part, checked to be what :func:`write_bundle` writes. The user's own values may be anything."""
    if not isinstance(record, dict):
        raise ValueError("a part is not a mapping")
    batch, random, root = record["batch"], record["random"], record["root"]
    if not isinstance(random, dict) or not all(isinstance(name, str) for name in random):
        raise ValueError("the random states are not a mapping")
    if not isinstance(root, str) or not isinstance(record["is_whole"], bool):
        raise ValueError("a part has no valid root or is_whole")
    if not record["is_whole"]:
        args, kwargs = batch
        if (
            not isinstance(args, tuple)
            or not isinstance(kwargs, dict)
            or not all(isinstance(key, str) for key in kwargs)
        ):
            raise ValueError("the arguments of a call are not (args, kwargs)")
    return record


def read_bundle(path: Path) -> Bundle:
    """Read a bundle. Raises :class:`SourceError` if it is not a readable bundle."""
    tree = read_tree(path)
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise SourceError("DC909", str(path), "is not a datacheck bundle")
    if tree.get("version") != VERSION:
        raise SourceError(
            "DC909",
            str(path),
            f"has version {plain(str(tree.get('version')))}",
            f"this datacheck reads version {VERSION}",
        )
    try:
        if not isinstance(tree["parts"], list) or not tree["parts"]:
            raise ValueError("it has no parts of a step")
        return Bundle(
            step=int(tree["step"]),
            parts=tuple(map(_part, tree["parts"])),
            tensors=dict(tree["tensors"]),
            modes=dict(tree["modes"]),
            optimizers=tuple(tree["optimizers"]),
            versions=dict(tree["versions"]),
            trip=tree["trip"],
            diagnosis=None if tree["diagnosis"] is None else Diagnosis.from_dict(tree["diagnosis"]),
            history=dict(tree["history"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError("DC901", str(path), f"is not a valid bundle: {plain(str(error))}") from error
