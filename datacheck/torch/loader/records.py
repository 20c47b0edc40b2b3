"""The record of a bad sample, which is sent between processes and kept in reports and quarantine files."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import NoneType
from typing import Any

from datacheck.errors import SourceError
from datacheck.findings import Example, Finding, typed
from datacheck.sources.probe import read_head
from datacheck.storage import storage_of
from datacheck.text import plain
from datacheck.torch.loader.provenance import SampleOrigin

#: The length of a kept traceback: its end, where the error is.
MAX_TRACEBACK = 4000
#: No dataset has more samples.
_MAX_INDEX = 1 << 63


class SampleVerdict(StrEnum):
    """The outcome of checking a sample that failed its first check.

    Attributes:
        BAD: failed twice; it is not loaded again.
        TRANSIENT: an error of the file system or the network outlasted its retries; says nothing about the sample.
        UNSTABLE: failed once and was clean the second time.
        REPAIRED: served with its bad values replaced.
        KILLED: was being loaded when its process was killed, perhaps because of it.
    """

    BAD = "bad"
    TRANSIENT = "passing"
    UNSTABLE = "unstable"
    REPAIRED = "repaired"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class SampleError:
    """What the dataset raised for a sample."""

    kind: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class BadSample:
    """One sample that was not served as the dataset returned it.

    The rows in ``findings`` are the origin's, or else the index. ``epoch`` and ``worker`` met it first.
    """

    index: int
    verdict: SampleVerdict
    findings: tuple[Finding, ...]
    origin: SampleOrigin | None = None
    error: SampleError | None = None
    epoch: int = 0
    worker: int | None = None

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of its findings, without duplicates."""
        return tuple(dict.fromkeys(finding.code for finding in self.findings))

    @property
    def message(self) -> str:
        """The sample in one line: its index and findings."""
        reasons = "; ".join(f"{finding.code} {finding.describe(more_rows=False)}" for finding in self.findings)
        return f"sample {self.index}: {reasons}"

    def to_dict(self) -> dict[str, Any]:
        """The sample as plain JSON values."""
        return {
            "index": self.index,
            "verdict": self.verdict.value,
            "codes": list(self.codes),
            "findings": [finding.to_dict() for finding in self.findings],
            "origin": None if self.origin is None else asdict(self.origin),
            "error": None if self.error is None else asdict(self.error),
            "epoch": self.epoch,
            "worker": self.worker,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> BadSample:
        """The sample that :meth:`to_dict` wrote; raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        origin, error = (typed(record[name], dict, NoneType) for name in ("origin", "error"))
        if not 0 <= typed(record["index"], int) < _MAX_INDEX:
            raise ValueError(f"index: expected 0 to {_MAX_INDEX:,}, got {plain(str(record['index']), 40)}")
        if origin is not None:
            typed(origin["uri"], str, NoneType)
            for name in ("index", "row_group", "row", "replaces"):
                typed(origin[name], int, NoneType)
        return cls(
            record["index"],
            SampleVerdict(record["verdict"]),
            tuple(Finding.from_dict(finding) for finding in typed(record["findings"], list)),
            None if origin is None else SampleOrigin(**origin),
            None if error is None else SampleError(**{name: typed(value, str) for name, value in error.items()}),
            typed(record["epoch"], int),
            typed(record["worker"], int, NoneType),
        )


def describe_error(error: BaseException) -> SampleError:
    """An exception as text, with its traceback and its causes."""
    # JSON and pandas refuse lone surrogates, which file names may contain.
    text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode()
    if len(text) > MAX_TRACEBACK:
        text = f"…{text[1 - MAX_TRACEBACK :]}"
    return SampleError(type(error).__name__, plain(str(error), 400), text)


def error_finding(error: BaseException, uri: str, row: int | None, row_group: int | None, file: str | None) -> Finding:
    """The finding for a sample that raised, with the code of a scanned file with the same problem.

    ``file`` is the file of the sample if it has one of its own.
    """
    code, detail = "DC901", f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SourceError):
        code, detail = error.code, error.problem
    else:
        problem = _file_problem(error, file)
        if problem is not None:
            code, detail = problem
    return unreadable(detail, uri, row, row_group, code)


def unreadable(detail: str, uri: str, row: int | None, row_group: int | None, code: str = "DC901") -> Finding:
    """The finding for a sample that cannot be loaded."""
    examples = (Example(row, row_group),) if row is not None else ()
    return Finding(code, uri, None, 1, 1, examples, detail=plain(detail, 400))


def _file_problem(error: BaseException, file: str | None) -> tuple[str, str] | None:
    """The code and problem of a file that is missing, empty, or a Git LFS pointer."""
    name = file or (error.filename if isinstance(error, OSError) else None)
    # An origin need not be a file: members of archives have names too.
    if not isinstance(name, str) or not (isinstance(error, FileNotFoundError) or storage_of(name).exists(name)):
        return None
    try:
        read_head(name)
    except SourceError as problem:
        return problem.code, problem.problem
    return None
