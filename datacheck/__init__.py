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
    from datacheck.errors import DatacheckError, FindingsError
    from datacheck.findings import Example, Finding, Severity
    from datacheck.gate.checking import check, scan
    from datacheck.jobs.decorators import check_input, check_output, check_types
    from datacheck.jobs.in_memory import CleanData, clean_data
    from datacheck.jobs.pipeline import Pipeline, load_pipeline
    from datacheck.jobs.requeue import requeue
    from datacheck.jobs.run import clean, fit, run
    from datacheck.profile.compare.compare import compare
    from datacheck.profile.compare.thresholds import Thresholds
    from datacheck.profile.infer.infer import infer
    from datacheck.profile.notes.find import find_notes
    from datacheck.reports.report import Report
    from datacheck.reports.run_report import RunReport
    from datacheck.schema import Field, Schema
    from datacheck.sources.base import ReadOptions


__all__ = [
    "CleanData",
    "DatacheckError",
    "DatasetCheck",
    "Example",
    "Field",
    "Finding",
    "FindingsError",
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
    "check_input",
    "check_output",
    "check_types",
    "clean",
    "clean_data",
    "compare",
    "find_notes",
    "fit",
    "infer",
    "load_pipeline",
    "load_schema",
    "own_check",
    "requeue",
    "run",
    "scan",
]

#: Public name -> its module, which is imported on first use, so that importing datacheck is fast.
_MODULES = {
    "CleanData": "datacheck.jobs.in_memory",
    "DatacheckError": "datacheck.errors",
    "DatasetCheck": "datacheck.checks.own_checks",
    "Example": "datacheck.findings",
    "Field": "datacheck.schema",
    "Finding": "datacheck.findings",
    "FindingsError": "datacheck.errors",
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
    "check_input": "datacheck.jobs.decorators",
    "check_output": "datacheck.jobs.decorators",
    "check_types": "datacheck.jobs.decorators",
    "clean": "datacheck.jobs.run",
    "clean_data": "datacheck.jobs.in_memory",
    "compare": "datacheck.profile.compare.compare",
    "find_notes": "datacheck.profile.notes.find",
    "fit": "datacheck.jobs.run",
    "infer": "datacheck.profile.infer.infer",
    "load_pipeline": "datacheck.jobs.pipeline",
    "load_schema": "datacheck.storage.documents",
    "own_check": "datacheck.checks.own_checks",
    "requeue": "datacheck.jobs.requeue",
    "run": "datacheck.jobs.run",
    "scan": "datacheck.gate.checking",
}


#: What needs other libraries: the guard in trainers, and the transformer of scikit-learn. Imported on first use.
_DOORS = frozenset({"accelerate", "composer", "fastai", "lightning", "sklearn", "transformers"})


def __getattr__(name: str) -> Any:
    if name in _DOORS:
        return importlib.import_module(f"datacheck.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'datacheck' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
