"""Find every value that would poison training, show exactly where it is, and repair, drop or quarantine it.

>>> import datacheck, numpy
>>> report = datacheck.scan(numpy.array([1.0, numpy.nan], numpy.float32))
>>> report.ok
False
>>> print(report.findings[0].message)
1 of 2 values are NaN in the array (<memory>, row 1)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from datacheck._version import __version__

if TYPE_CHECKING:
    from datacheck.checks.own_checks import DatasetCheck, ValueCheck, own_check
    from datacheck.cleaning.fit.statistics import Statistics
    from datacheck.errors import DatacheckError
    from datacheck.findings import Example, Finding, Severity
    from datacheck.gate.checking import check
    from datacheck.jobs.pipeline import Pipeline, load_pipeline
    from datacheck.jobs.run import clean, fit, run
    from datacheck.jobs.scan import scan
    from datacheck.profile.compare.compare import compare
    from datacheck.profile.compare.thresholds import Thresholds
    from datacheck.profile.infer.infer import infer
    from datacheck.profile.notes.find import find_notes
    from datacheck.reports.report import Report
    from datacheck.reports.run_report import RunReport
    from datacheck.schema import Field, Schema, load_schema
    from datacheck.sources.base import ReadOptions


__all__ = [
    "DatacheckError",
    "DatasetCheck",
    "Example",
    "Field",
    "Finding",
    "Pipeline",
    "ReadOptions",
    "Report",
    "RunReport",
    "Schema",
    "Severity",
    "Statistics",
    "Thresholds",
    "ValueCheck",
    "__version__",
    "check",
    "clean",
    "compare",
    "find_notes",
    "fit",
    "infer",
    "load_pipeline",
    "load_schema",
    "own_check",
    "run",
    "scan",
]

#: Public name -> its module, which is imported on first use, so that importing datacheck is fast.
_MODULES = {
    "DatacheckError": "datacheck.errors",
    "DatasetCheck": "datacheck.checks.own_checks",
    "Example": "datacheck.findings",
    "Field": "datacheck.schema",
    "Finding": "datacheck.findings",
    "Pipeline": "datacheck.jobs.pipeline",
    "ReadOptions": "datacheck.sources.base",
    "Report": "datacheck.reports.report",
    "RunReport": "datacheck.reports.run_report",
    "Schema": "datacheck.schema",
    "Severity": "datacheck.findings",
    "Statistics": "datacheck.cleaning.fit.statistics",
    "Thresholds": "datacheck.profile.compare.thresholds",
    "ValueCheck": "datacheck.checks.own_checks",
    "check": "datacheck.gate.checking",
    "clean": "datacheck.jobs.run",
    "compare": "datacheck.profile.compare.compare",
    "find_notes": "datacheck.profile.notes.find",
    "fit": "datacheck.jobs.run",
    "infer": "datacheck.profile.infer.infer",
    "load_pipeline": "datacheck.jobs.pipeline",
    "load_schema": "datacheck.schema",
    "own_check": "datacheck.checks.own_checks",
    "run": "datacheck.jobs.run",
    "scan": "datacheck.jobs.scan",
}


#: The guard in trainers: ``datacheck.lightning`` and so on, imported on first use.
_TRAINERS = frozenset({"accelerate", "composer", "fastai", "lightning", "transformers"})


def __getattr__(name: str) -> Any:
    if name in _TRAINERS:
        return importlib.import_module(f"datacheck.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'datacheck' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
