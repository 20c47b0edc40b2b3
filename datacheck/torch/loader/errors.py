"""Errors and warnings of the loader."""

from __future__ import annotations

import re
import sys
import warnings

from datacheck.errors import DatacheckError

__all__ = ["BadSampleError", "BadSampleWarning", "TooManyBadSamplesError", "warn_at_caller"]


class BadSampleError(DatacheckError):
    """A sample is bad, and by the policy nothing is served instead.

    The message names the index, the origin, the field and the code; the cause is what the dataset raised. ``index`` and
    ``codes`` are read from the message, since a ``DataLoader`` worker passes on nothing else.
    """

    @property
    def index(self) -> int | None:
        """The index of the sample."""
        found = re.search(r"\bsample (\d+)\b", str(self))
        return int(found[1]) if found else None

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of its findings, without duplicates."""
        return tuple(dict.fromkeys(re.findall(r"\bDC\d{3}\b", str(self))))


class TooManyBadSamplesError(DatacheckError):
    """More samples are bad than ``max_bad_fraction`` allows."""


class BadSampleWarning(UserWarning):
    """Warns of the first bad sample of a run, and of values that cannot be checked."""


#: Packages whose frames lie between a sample and the user's line. A forked worker still has the frames of the line that
#: started the loader.
_INNER = frozenset({"datacheck", "torch", "torchdata", "multiprocessing"})


def warn_at_caller(message: str) -> None:
    """Warn at the line of the user's code that asked for the sample."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INNER:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, BadSampleWarning, stacklevel=level)
