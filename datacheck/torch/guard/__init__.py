"""The guard: watches training steps, stops bad updates, and acts on them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datacheck.torch.guard.guard import Guard

__all__ = ["Guard"]


def __getattr__(name: str) -> Any:
    if name != "Guard":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = importlib.import_module("datacheck.torch.guard.guard").Guard
    globals()[name] = value
    return value
