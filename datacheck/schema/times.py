"""Times in ISO 8601 as exact integer nanoseconds."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

#: Nanoseconds per Arrow unit of time.
NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1, "D": 86_400 * 10**9}

_CLOCK = r"(\d{2}:\d{2}(?::\d{2})?)(?:\.(\d{1,9}))?"
_MOMENT = re.compile(rf"(\d{{4}}-\d{{2}}-\d{{2}})(?:[T ]{_CLOCK}(Z|[+-]\d{{2}}:?\d{{2}})?)?", re.ASCII)
_CLOCK_ONLY = re.compile(_CLOCK, re.ASCII)
_EPOCH = datetime.date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Moment:
    """A time: nanoseconds since 1970 (in UTC if it has an offset), and which parts were written."""

    nanoseconds: int
    num_digits: int
    has_clock: bool
    has_offset: bool


def parse_moment(text: str) -> Moment | None:
    """Parse a date, or a date with a time and an optional offset; None if ``text`` is neither."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction, offset = match.groups()
    try:
        days = datetime.date.fromisoformat(day).toordinal() - _EPOCH
        total = days * NANOSECONDS["D"] + (_of_day(clock, fraction) if clock else 0)
    except ValueError:
        return None
    if offset and offset != "Z":
        hours, minutes = int(offset[1:3]), int(offset[-2:])
        if hours > 23 or minutes > 59:
            return None
        total -= (hours * 3600 + minutes * 60) * 10**9 * (-1 if offset[0] == "-" else 1)
    return Moment(total, len(fraction or ""), clock is not None, offset is not None)


def parse_clock(text: str) -> Moment | None:
    """Parse a time of day, in nanoseconds since midnight; None if ``text`` is not one."""
    match = _CLOCK_ONLY.fullmatch(text)
    if match is None:
        return None
    try:
        return Moment(_of_day(*match.groups()), len(match[2] or ""), True, False)
    except ValueError:
        return None


def _of_day(clock: str, fraction: str | None) -> int:
    time = datetime.time.fromisoformat(clock)
    seconds = time.hour * 3600 + time.minute * 60 + time.second
    return seconds * 10**9 + int((fraction or "0").ljust(9, "0"))
