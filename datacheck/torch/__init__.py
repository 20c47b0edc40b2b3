"""Training watched and explained: a guard over the step, a diagnosis of what went wrong, and forms that do not.

Nothing here loads torch until it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "ChainLink": "datacheck.torch.diagnosis",
    "Diagnosis": "datacheck.torch.diagnosis",
    "Guard": "datacheck.torch.guard",
    "NonFiniteError": "datacheck.torch.diagnosis",
    "SampleOrigin": "datacheck.torch.loader.provenance",
    "batch_origins": "datacheck.torch.loader.provenance",
    "diagnose": "datacheck.torch.microscope",
    "safe": "datacheck.torch.safe",
}

__all__ = [
    "ChainLink",
    "Diagnosis",
    "Guard",
    "NonFiniteError",
    "SampleOrigin",
    "batch_origins",
    "diagnose",
    "safe",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(home)
    value = module if home == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
