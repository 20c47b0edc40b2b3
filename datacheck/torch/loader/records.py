"""What is known of a bad sample: a value that travels between processes, into reports and into quarantine files."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from datacheck.errors import SourceError
from datacheck.findings import Example, Finding
from datacheck.sources.probe import read_head
from datacheck.text import plain
from datacheck.torch.loader.provenance import SampleOrigin

__all__ = ["BadSample", "SampleError", "Verdict", "describe_error", "error_finding", "unreadable"]

#: Characters of a traceback that are kept: its end, where the error is.
MAX_TRACEBACK = 4000


class Verdict(StrEnum):
    """What was found of a sample.

    ``bad`` samples were looked at twice, and are known from then on. A ``passing`` error of the file system or the network
    outlasted its retries, and says nothing of the sample. An ``unstable`` sample was bad once and clean the second time.
    A ``repaired`` one was bad and is served with its values replaced. A ``killed`` one was being loaded when the process
    that loaded it ended, which the sample may or may not have caused.
    """

    BAD = "bad"
    PASSING = "passing"
    UNSTABLE = "unstable"
    REPAIRED = "repaired"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class SampleError:
    """What the data set raised for a sample."""

    kind: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class BadSample:
    """One sample that was not served as the data set gave it.

    ``findings`` say what is wrong and where in the sample; their rows are those of the origin, or the index. ``epoch`` and
    ``worker`` are those that met it first.
    """

    index: int
    verdict: Verdict
    findings: tuple[Finding, ...]
    origin: SampleOrigin | None = None
    error: SampleError | None = None
    epoch: int = 0
    worker: int | None = None

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of what is wrong, each once."""
        return tuple(dict.fromkeys(finding.code for finding in self.findings))

    @property
    def message(self) -> str:
        """The sample in one line: its index, and what is wrong with it."""
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
        return cls(
            int(record["index"]),
            Verdict(record["verdict"]),
            tuple(Finding.from_dict(finding) for finding in record["findings"]),
            None if record["origin"] is None else SampleOrigin(**record["origin"]),
            None if record["error"] is None else SampleError(**record["error"]),
            int(record["epoch"]),
            record["worker"],
        )


def describe_error(error: BaseException) -> SampleError:
    """An exception as text, with its traceback and its causes."""
    # Half a surrogate, as file names may have it, is no text for JSON or pandas.
    text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode()
    if len(text) > MAX_TRACEBACK:
        text = f"…{text[1 - MAX_TRACEBACK :]}"
    return SampleError(type(error).__name__, plain(str(error), 400), text)


def error_finding(error: BaseException, uri: str, row: int | None, row_group: int | None, file: str | None) -> Finding:
    """The finding for a sample that raised: the code that the main job gives a file with the same fault.

    ``file`` is the file of the sample, where it has one of its own.
    """
    code, detail = "DC901", f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SourceError):
        code, detail = error.code, error.problem
    else:
        told = _look_at_file(error, file)
        if told is not None:
            code, detail = told
    return unreadable(detail, uri, row, row_group, code)


def unreadable(detail: str, uri: str, row: int | None, row_group: int | None, code: str = "DC901") -> Finding:
    """The finding for a sample that cannot be had."""
    place = (Example(row, row_group),) if row is not None else ()
    return Finding(code, uri, None, 1, 1, place, detail=plain(detail, 400))


def _look_at_file(error: BaseException, file: str | None) -> tuple[str, str] | None:
    """What the file itself says: it is missing, it is empty, it is a pointer."""
    name = file or (error.filename if isinstance(error, OSError) else None)
    # An origin need not be a file: the member of an archive has a name too.
    if not isinstance(name, str) or not (isinstance(error, FileNotFoundError) or os.path.lexists(name)):
        return None
    try:
        read_head(name)
    except SourceError as problem:
        return problem.code, problem.problem
    return None
