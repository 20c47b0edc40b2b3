"""Limits for tolerances: an allowed number of violations, or an allowed percentage of the values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from datacheck.findings import Finding

__all__ = ["Limit"]

_PERCENTAGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)\s*%")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``number`` violations, or at most ``percent`` percent of the checked values. One of the two is set."""

    number: int | None = None
    percent: Fraction | None = None

    @classmethod
    def parse(cls, written: Any) -> Limit:
        """Parse ``3`` or ``'0.5%'``. Raises ``ValueError``."""
        if isinstance(written, Limit):
            return written
        if isinstance(written, int) and not isinstance(written, bool) and written >= 0:
            return cls(number=written)
        if isinstance(written, str):
            if written.strip().isdecimal():
                return cls(number=int(written))
            match = _PERCENTAGE.fullmatch(written.strip())
            if match is not None and (percent := Fraction(match[1])) <= 100:
                return cls(percent=percent)
        hint = ""
        if isinstance(written, float) and 0 < written < 1:
            hint = f"; did you mean '{written * 100:g}%'?"
        raise ValueError(f"must be a number of violations such as 3, or a percentage such as '0.5%'{hint}")

    def admits(self, finding: Finding) -> bool:
        """Whether a finding is within the limit."""
        if self.number is not None:
            return finding.num_violations <= self.number
        percent = self.percent or Fraction(0)
        return finding.num_violations * 100 <= percent * finding.num_checked

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.number:,}"
        return f"{float(self.percent or 0):g} %"
