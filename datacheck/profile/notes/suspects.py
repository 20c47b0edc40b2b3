"""Which values at the ends of a field look like faults: sentinels, and outliers far beyond the middle of the values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from datacheck.profile.leaf import LeafProfile
from datacheck.profile.notes.numbers import NUM_ENDS, NumberNotes
from datacheck.profile.notes.tally import Tally

Array = np.ndarray[Any, Any]
Side = Literal["low", "high"]

#: Values to have seen before one of them is called an outlier.
_MIN_VALUES = 20
#: Different values in the middle: fewer are codes, which have no outliers.
_MIN_DISTINCT = 5
#: How often a value must occur to be a sentinel, and how far from the next it must be, in ranges of the middle 98 %.
_MIN_REPEATS, _MIN_GAP, _MIN_KNOWN_GAP = 3, 1.0, 0.25
#: How far beyond the middle 98 % an outlier is, in ranges of it.
_FAR = 10
#: What people write for a missing number.
_KNOWN = frozenset(
    sign * value
    for sign in (1, -1)
    for value in (99, 999, 9999, 99999, 999999, 999.9, 999.99, 9999.99, 8888, 888, 32767, 32768, 2**31 - 1, 2**31)
)


@dataclass(slots=True)
class Suspects:
    """The suspicious values of a field, with their tallies, and the range of the others.

    ``is_heavy`` names the sides at which so many values are far out that the distribution has a heavy tail.
    """

    low: Any
    high: Any
    middle: tuple[float, float] | None = None
    sentinels: dict[Any, Tally] = field(default_factory=dict)
    outliers: dict[Side, dict[Any, Tally]] = field(default_factory=lambda: {"low": {}, "high": {}})
    is_heavy: set[Side] = field(default_factory=set)

    def outside(self, side: Side) -> dict[Any, Tally]:
        """The suspicious values beyond one end of the range of the others."""
        found = {
            value: tally
            for value, tally in self.sentinels.items()
            if (value < self.low if side == "low" else value > self.high)
        }
        return {**found, **({} if side in self.is_heavy else self.outliers[side])}


def find_suspects(profile: LeafProfile, notes: NumberNotes) -> Suspects:
    """Find the suspicious values of a leaf, from the ends towards the middle."""
    suspects = Suspects(profile.low, profile.high)
    if profile.sample is None or notes.num_finite < _MIN_VALUES:
        return suspects
    sample = profile.sample.values()
    ends: dict[Side, list[tuple[Any, Tally]]] = {"low": list(notes.low), "high": list(notes.high)}
    while any(_strip(side, ends, sample, suspects) for side in ends):
        pass
    # What is out of sight may lie as far out.
    for side in ends:
        if len(suspects.outliers[side]) >= NUM_ENDS - 1 and not ends[side][1:]:
            suspects.is_heavy.add(side)
    for side in suspects.is_heavy:
        setattr(suspects, side, profile.low if side == "low" else profile.high)
    return suspects


def _strip(side: Side, ends: dict[Side, list[tuple[Any, Tally]]], sample: Array, suspects: Suspects) -> bool:
    """Take the outermost value at one end for a sentinel or an outlier, if it is one."""
    if len(ends[side]) < 2:
        return False
    (value, tally), (following, _) = ends[side][:2]
    rest = sample[~np.isin(sample, [float(value), *map(float, suspects.sentinels)])]
    if len(rest) < _MIN_VALUES // 2:
        return False
    least, greatest = (float(bound) for bound in np.quantile(rest, (0.01, 0.99)))
    width, gap = greatest - least, abs(float(following) - float(value))
    if not width or len(np.unique(rest[:1000])) < _MIN_DISTINCT:
        return False
    needed = _MIN_KNOWN_GAP if value in _KNOWN or abs(float(value)) >= 1e19 else _MIN_GAP
    distance = least - float(value) if side == "low" else float(value) - greatest
    if tally.count >= _MIN_REPEATS and gap >= needed * width and distance >= needed * width:
        suspects.sentinels[value] = tally
    elif distance > _FAR * width:
        suspects.outliers[side][value] = tally
    else:
        suspects.middle = suspects.middle or (least, greatest)
        return False
    suspects.middle = (least, greatest)
    del ends[side][0]
    setattr(suspects, side, following)
    return True
