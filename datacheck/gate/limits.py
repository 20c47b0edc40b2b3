"""Tolerances: how many violations of a field are let through, as a number or as a share of the values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from datacheck.findings import Finding

__all__ = ["Limit"]

_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)\s*%")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``number`` violations, or at most ``percent`` of a hundred of what was checked."""

    number: int | None = None
    percent: Fraction | None = None

    @classmethod
    def parse(cls, written: Any) -> Limit:
        """The limit that ``3`` or ``'0.5%'`` stands for; raises ``ValueError``."""
        if isinstance(written, Limit):
            return written
        if isinstance(written, int) and not isinstance(written, bool) and written >= 0:
            return cls(number=written)
        if isinstance(written, str):
            if written.strip().isdecimal():
                return cls(number=int(written))
            share = _SHARE.fullmatch(written.strip())
            if share is not None and (percent := Fraction(share[1])) <= 100:
                return cls(percent=percent)
        hint = ""
        if isinstance(written, float) and 0 < written < 1:
            hint = f"; did you mean '{written * 100:g}%'?"
        raise ValueError(f"must be a number of violations such as 3, or a share such as '0.5%'{hint}")

    def admits(self, finding: Finding) -> bool:
        """Whether a finding stays within the limit."""
        if self.number is not None:
            return finding.num_violations <= self.number
        percent = self.percent or Fraction(0)
        return finding.num_violations * 100 <= percent * finding.num_checked

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.number:,}"
        return f"{float(self.percent or 0):g} %"
