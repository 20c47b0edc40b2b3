"""What the checks of label files share: problems with the places where they are, and boxes in their images."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from datacheck.findings import Finding
from datacheck.text import join_limited, plain

#: The most of a file that tells what it is.
HEAD_BYTES = 1 << 16
#: Boxes may reach so far beyond their image, in pixels and as a share: writers round differently.
SLACK, SLACK_SHARE = 1.0, 1e-3
NAMES_SHOWN = 3
#: For each image, the label files that say its size, each with the width and the height.
Sizes: TypeAlias = dict[str, list[tuple[str, float, float]]]


@dataclass(slots=True)
class Problems:
    """What is wrong in one label file, or in a folder of them: for each kind of problem, how often and the first places."""

    uri: str
    noun: str
    num_checked: int = 0
    places: dict[Any, tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, problem: Any, *places: object, number: int = 1) -> None:
        """Add ``number`` times a problem, with the first places."""
        before, shown = self.places.get(problem, (0, []))
        shown += [plain(str(place), 60) for place in places[: NAMES_SHOWN - len(shown)]]
        self.places[problem] = before + number, shown

    def findings(self) -> Iterator[Finding]:
        for problem, (number, places) in self.places.items():
            more = f" and {number - len(places):,} more" if number > len(places) else ""
            detail = f"{problem}: {self.noun} {join_limited(places)}{more}"
            yield Finding("DC607", self.uri, None, number, max(self.num_checked, number), detail=detail)


def is_inside(left: float, top: float, right: float, bottom: float, size: tuple[float, float]) -> bool:
    return left >= -SLACK and top >= -SLACK and right <= size[0] + SLACK and bottom <= size[1] + SLACK


def image_of(label: str, images: Sequence[str]) -> str | None:
    """The image that a label file means, if that is clear: of several, the one below the file's folder."""
    if len(images) > 1:
        images = [uri for uri in images if uri.startswith(f"{posixpath.dirname(label)}/")]
    return images[0] if len(images) == 1 else None


def number_of(value: Any) -> float | None:
    """A finite number; None for anything else."""
    try:
        found = float(value) if not isinstance(value, bool | str) else math.nan
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
