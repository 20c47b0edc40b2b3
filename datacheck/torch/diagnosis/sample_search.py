"""Finds the samples that cause a fault: guessed from positions, and reported only where replays without them agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

__all__ = ["attribute_samples"]

#: Replays of a part of the batch for one diagnosis.
MAX_REPLAYS = 80
#: Clean samples that are replayed together with a suspected one.
COMPANY = 3

#: Whether a batch of these samples alone reproduces the fault; None where it cannot be run.
ReproducesOn = Callable[[Sequence[int]], bool | None]


def attribute_samples(
    size: int, reproduces_on: ReproducesOn, guesses: Iterable[Sequence[int]], max_seconds: float
) -> tuple[int, ...]:
    """The exact positions of the samples that cause the fault; empty where that cannot be determined.

    A set of samples causes it if the others alone are clean, and adding any one of the set to the others reproduces it.
    ``guesses`` are tried first; then the batch is halved.
    """
    if size == 1:
        return ()
    search = _Search(size, reproduces_on, time.monotonic() + max_seconds)
    for guess in guesses:
        chosen = sorted(set(guess))
        if chosen and len(chosen) < size and search.confirm(chosen):
            return tuple(chosen)
    if search.reproduces(range(size)):
        found = search.halve(list(range(size)))
        if found and len(found) < size and search.confirm(found):
            return tuple(found)
        if found is not None and len(found) == size:
            return tuple(found)
    return ()


class _Search:
    def __init__(self, size: int, reproduces_on: ReproducesOn, deadline: float) -> None:
        self._size = size
        self._reproduces_on = reproduces_on
        self._deadline = deadline
        self._known: dict[tuple[int, ...], bool | None] = {}

    def reproduces(self, samples: Iterable[int]) -> bool | None:
        key = tuple(samples)
        if not key:
            return False
        if key not in self._known:
            if len(self._known) >= MAX_REPLAYS or time.monotonic() > self._deadline:
                return None
            self._known[key] = self._reproduces_on(key)
        return self._known[key]

    def confirm(self, chosen: Sequence[int]) -> bool:
        """Whether the other samples are clean alone, and any one of the chosen added to them reproduces the fault."""
        chosen_samples = set(chosen)
        others = [position for position in range(self._size) if position not in chosen_samples]
        if self.reproduces(others) is not False:
            return False
        # A few clean samples suffice for code that cannot take a batch of one.
        company = others[:COMPANY]
        return all(self.reproduces(sorted([*company, position])) is True for position in chosen)

    def halve(self, samples: list[int]) -> list[int] | None:
        """The samples that reproduce the fault on their own, by halving; None where a part could not be run."""
        if len(samples) == 1:
            return samples
        found: list[int] = []
        middle = len(samples) // 2
        for part in (samples[:middle], samples[middle:]):
            outcome = self.reproduces(part)
            if outcome is None:
                return None
            if outcome:
                inner = self.halve(part)
                if inner is None:
                    return None
                found.extend(inner)
        return found
