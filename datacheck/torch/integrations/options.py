"""The options of a guard that is made later, when the trainer has a model and its optimizers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from datacheck.errors import UsageError, nearest_name
from datacheck.torch.guard.actions import read_actions
from datacheck.torch.guard.config import GuardConfig
from datacheck.torch.guard.guard import Guard

#: What a trainer knows better than its user could say.
_KNOWN_BY_TRAINER = {
    "accumulation_steps": "the trainer accumulates",
    "max_grad_norm": "the trainer clips",
    "model": "the trainer has it",
    "optimizer": "the trainer has it",
    "scaler": "the trainer has it",
    "scheduler": "the trainer has it",
}


def check_options(options: Mapping[str, Any], *allowed: str) -> None:
    """Raise :class:`~datacheck.errors.UsageError` for options that a guard would not take, before training starts.

    ``allowed`` are those that this trainer cannot know.
    """
    known = inspect.signature(Guard).parameters
    for name in options:
        if name in _KNOWN_BY_TRAINER and name not in allowed:
            raise UsageError(f"{name}: leave it out: {_KNOWN_BY_TRAINER[name]}")
        if name not in known:
            raise UsageError(f"{name}: unknown option of a guard{nearest_name(name, known)}")
    names = {field.name for field in fields(GuardConfig)}
    config = GuardConfig(**{name: value for name, value in options.items() if name in names})
    read_actions(options.get("on_trip", "raise"), config.max_skips)
