"""The errors that datacheck raises on purpose.

::

    DatacheckError
    ├── UsageError              an invalid argument, or an invalid combination of arguments
    ├── ConfigurationError      an invalid schema or pipeline file; has file and path
    │   ├── SchemaError
    │   └── PipelineError
    ├── SourceError             an input that cannot be read; becomes a DC9xx finding in a job
    ├── CleaningError           a repair that cannot be learned or applied
    ├── FindingsError           data has errors, where none are accepted; has the report
    ├── OutputError             a location that cannot be written, or has another run's output
    ├── WorkerLostError         a worker process ended more than once at the same work
    └── AccountingError         rows read and rows accounted for differ: a bug in datacheck

Each prints as one message: what is wrong, where, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "AccountingError",
    "CleaningError",
    "ConfigurationError",
    "DatacheckError",
    "FindingsError",
    "OutputError",
    "PipelineError",
    "SchemaError",
    "ShardFinished",
    "SourceError",
    "UsageError",
    "WorkerLostError",
    "nearest_name",
]


class DatacheckError(Exception):
    """The base class of every error that datacheck raises on purpose."""


class UsageError(DatacheckError):
    """The arguments are invalid."""


class ConfigurationError(DatacheckError):
    """A configuration file is invalid.

    ``place`` is the file and the dotted path inside it, such as ``schemas/flights.yaml: fields.dep_delay.ge``.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")
        self.place = place
        self.problem = problem

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[str, str]]:
        return type(self), (self.place, self.problem)


class SchemaError(ConfigurationError):
    """A schema is invalid."""


class PipelineError(ConfigurationError):
    """A pipeline file is invalid."""


class SourceError(DatacheckError):
    """An input cannot be read.

    ``code`` is a ``DC9xx`` code, ``uri`` the input, ``problem`` what is wrong and ``remedy`` the suggested fix. In a job
    it becomes a finding, and the other inputs are still processed.
    """

    def __init__(self, code: str, uri: str, problem: str, remedy: str = "") -> None:
        super().__init__(f"{uri}: {problem}" + (f"; {remedy}" if remedy else ""))
        self.code = code
        self.uri = uri
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[SourceError], tuple[str, str, str, str]]:
        return type(self), (self.code, self.uri, self.problem, self.remedy)


class CleaningError(DatacheckError):
    """A repair cannot be learned (a field that is all NaN) or applied (it would change the dtype or the width)."""


class FindingsError(DatacheckError, ValueError):
    """Data has errors where none are accepted: a ``fail`` rule applies, or what a function takes or returns was checked.

    ``report`` is the :class:`~datacheck.Report` on the data.
    """

    def __init__(self, message: str, report: Any) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[type[FindingsError], tuple[str, Any]]:
        return type(self), (str(self), self.report)


class OutputError(DatacheckError):
    """Output cannot be written to the given location."""


class WorkerLostError(DatacheckError):
    """A worker process ended more than once at the same work."""


class AccountingError(DatacheckError):
    """The rows read and the rows accounted for differ. Nothing was published. This is a bug: please report it."""


class ShardFinished(Exception):  # noqa: N818 - nothing went wrong
    """A shard has done its share of a job. What the job found is for a merge to say."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """A ``; did you mean 'x'?`` with the known name nearest to ``name``, or an empty string."""
    names = list(known)
    matches = difflib.get_close_matches(name, names, n=max(1, len(names)), cutoff=0.6)
    if not matches:
        return ""

    def nearness(match: str) -> tuple[float, int]:
        # Of equally near names, prefer the one with more equal characters in place: DC101 for DC1O1, not DC311.
        ratio = difflib.SequenceMatcher(None, match, name).ratio()
        return ratio, sum(mine == theirs for mine, theirs in zip(match, name, strict=False))

    return f"; did you mean {max(matches, key=nearness)!r}?"
