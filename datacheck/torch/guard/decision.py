"""What a guard decided about an update."""

from __future__ import annotations

from dataclasses import dataclass

from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.trip import Trip


@dataclass(frozen=True, slots=True)
class Decision:
    """What a guard decided about an update; true if the update may be made.

    Attributes:
        makes_update: whether the update may be made. If not, the next ``optimizer.step()`` changes nothing.
        trip: the anomaly that was found; None if nothing was.
        diagnosis: where it came from; None if it was not diagnosed.
    """

    makes_update: bool
    trip: Trip | None = None
    diagnosis: Diagnosis | None = None

    def __bool__(self) -> bool:
        return self.makes_update
