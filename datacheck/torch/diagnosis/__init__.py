"""Diagnosis: replays a step, follows every non-finite value back, and names where it came from.

Nothing here loads torch until it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datacheck.torch.diagnosis.diagnose_step import diagnose
    from datacheck.torch.diagnosis.diagnosis import ChainLink, Diagnosis, NonFiniteError

__all__ = ["ChainLink", "Diagnosis", "NonFiniteError", "diagnose"]

_HOMES = {
    "ChainLink": "diagnosis",
    "Diagnosis": "diagnosis",
    "NonFiniteError": "diagnosis",
    "diagnose": "diagnose_step",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
