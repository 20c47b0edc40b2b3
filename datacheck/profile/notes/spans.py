"""Where the values of a field lie in one file, to be compared with other files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from datacheck.profile.leaf import LeafProfile


@dataclass(frozen=True, slots=True)
class Span:
    """The 5 % and the 95 % quantile of a field in one file, and its extremes; None for a field that has no order.

    ``count`` is the number of values.
    """

    middle: tuple[float, float] | None = None
    low: Any = None
    high: Any = None
    count: int = 0

    @classmethod
    def of(cls, profile: LeafProfile) -> Span:
        values = profile.sample.values() if profile.sample is not None else np.empty(0)
        middle = tuple(map(float, np.quantile(values, (0.05, 0.95)))) if len(values) else None
        return cls(middle, profile.low, profile.high, profile.num_present)  # type: ignore[arg-type]

    def merged(self, other: Span | None) -> Span:
        """The span of two parts of a file: it covers both middles, and is never narrower than either."""
        if other is None or other.low is None:
            return self
        if self.low is None:
            return other
        middles = [middle for middle in (self.middle, other.middle) if middle is not None]
        middle = (min(low for low, _ in middles), max(high for _, high in middles)) if middles else None
        return Span(middle, min(self.low, other.low), max(self.high, other.high), self.count + other.count)
