"""What the loader raises, and what it warns of."""

from __future__ import annotations

import re
import sys
import warnings

from datacheck.errors import DatacheckError

__all__ = ["BadSampleError", "BadSampleWarning", "TooManyBadSamplesError", "warn_of"]


class BadSampleError(DatacheckError):
    """A sample is bad, and the policy has no sample to give instead.

    The message names the index, the origin, the field and the code; the cause is what the data set raised. It can be made
    from its message alone, which is all that a worker of a ``DataLoader`` hands on; ``index`` is then read from it.
    """

    @property
    def index(self) -> int | None:
        """The index of the sample."""
        found = re.search(r"\bsample (\d+)\b", str(self))
        return int(found[1]) if found else None

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of what is wrong with it, each once."""
        return tuple(dict.fromkeys(re.findall(r"\bDC\d{3}\b", str(self))))


class TooManyBadSamplesError(DatacheckError):
    """More of the data set is bad than ``max_bad_fraction`` allows."""


class BadSampleWarning(UserWarning):
    """The first bad sample of a run, and what it means for the run."""


def warn_of(message: str) -> None:
    """Warn where the user's code asked for the sample, not where it was looked at."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("datacheck.", "torch.")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, BadSampleWarning, stacklevel=level)
