"""Errors and warnings of the loader."""

from __future__ import annotations

import re
import sys
import warnings
from types import FrameType

from datacheck.errors import DatacheckError


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
_INNER = frozenset(
    {"datacheck", "torch", "torchdata", "multiprocessing", "contextlib", "tqdm", "rich", "accelerate", "transformers"}
    | {"trl", "fastai", "fastcore", "lightning", "lightning_fabric", "pytorch_lightning"}
)

#: Of a worker that has no such frames: the line that sent it the dataset.
_sent_from: tuple[str, int] | None = None


def find_caller() -> tuple[FrameType, int]:
    """The frame of the user's code that is running, and how many frames lie above the function that called this one."""
    level, frame = 0, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INNER:
        level, frame = level + 1, frame.f_back
    return frame, level


def place_of_caller() -> tuple[str, int]:
    """File and line of the user's code that is running."""
    frame, _ = find_caller()
    return _sent_from if _sent_from is not None and _is_spawned(frame) else (frame.f_code.co_filename, frame.f_lineno)


def set_sender(place: tuple[str, int]) -> None:
    """Say which line sent this process its dataset."""
    global _sent_from
    _sent_from = place


def warn_at_caller(message: str) -> None:
    """Warn at the line of the user's code that asked for the sample."""
    frame, level = find_caller()
    if _sent_from is not None and _is_spawned(frame):
        warnings.warn_explicit(message, BadSampleWarning, *_sent_from)
    else:
        warnings.warn(message, BadSampleWarning, stacklevel=level + 1)


def _is_spawned(frame: FrameType) -> bool:
    """Whether a frame is the outermost one of a process that was spawned: a program on Python's command line."""
    return frame.f_back is None and frame.f_code.co_filename == "<string>"
