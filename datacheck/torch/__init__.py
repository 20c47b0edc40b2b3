"""Bad samples in the loader, anomalies in training and their diagnosis, and numerically safe operations.

Nothing here loads torch until it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datacheck.torch.diagnosis.diagnose_step import diagnose
    from datacheck.torch.diagnosis.diagnosis import ChainLink, Diagnosis, NonFiniteError
    from datacheck.torch.diagnosis.precision_loss import PrecisionWarning
    from datacheck.torch.guard.actions import Action, Clip, GuardWarning, Outcome, ReduceLR, Rollback, Skip
    from datacheck.torch.guard.config import GuardConfig
    from datacheck.torch.guard.decision import Decision
    from datacheck.torch.guard.guard import Guard
    from datacheck.torch.guard.trip import Trip
    from datacheck.torch.loader.collate import SafeCollate
    from datacheck.torch.loader.dataset import SafeDataset
    from datacheck.torch.loader.errors import BadSampleError, BadSampleWarning, TooManyBadSamplesError
    from datacheck.torch.loader.file_dataset import open_dataset
    from datacheck.torch.loader.provenance import SampleOrigin, batch_origins
    from datacheck.torch.loader.records import BadSample
    from datacheck.torch.loader.report import DatasetReport
    from datacheck.torch.loader.stream import continue_and_report

#: The public names by module.
_MODULES = {
    "diagnosis.diagnose_step": ("diagnose",),
    "diagnosis.diagnosis": ("ChainLink", "Diagnosis", "NonFiniteError"),
    "diagnosis.precision_loss": ("PrecisionWarning",),
    "guard.actions": ("Action", "Clip", "GuardWarning", "Outcome", "ReduceLR", "Rollback", "Skip"),
    "guard.config": ("GuardConfig",),
    "guard.decision": ("Decision",),
    "guard.guard": ("Guard",),
    "guard.trip": ("Trip",),
    "loader.collate": ("SafeCollate",),
    "loader.dataset": ("SafeDataset",),
    "loader.errors": ("BadSampleError", "BadSampleWarning", "TooManyBadSamplesError"),
    "loader.file_dataset": ("open_dataset",),
    "loader.provenance": ("SampleOrigin", "batch_origins"),
    "loader.records": ("BadSample",),
    "loader.report": ("DatasetReport",),
    "loader.stream": ("continue_and_report",),
    "safe": ("safe",),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}

__all__ = [
    "Action",
    "BadSample",
    "BadSampleError",
    "BadSampleWarning",
    "ChainLink",
    "Clip",
    "DatasetReport",
    "Decision",
    "Diagnosis",
    "Guard",
    "GuardConfig",
    "GuardWarning",
    "NonFiniteError",
    "Outcome",
    "PrecisionWarning",
    "ReduceLR",
    "Rollback",
    "SafeCollate",
    "SafeDataset",
    "SampleOrigin",
    "Skip",
    "TooManyBadSamplesError",
    "Trip",
    "batch_origins",
    "continue_and_report",
    "diagnose",
    "open_dataset",
    "safe",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(f"{name} needs torch: pip install 'datacheck-ml[torch]'", name="torch") from None
    value = module if home == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
