"""DC217 for boxes: corners that are swapped, sizes that are not positive, boxes beyond the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from datacheck.checks.rules import ValueRule, uncheckable
from datacheck.leaves import BoolArray, IntArray, Leaf, Ragged, Regular
from datacheck.numerics import to_float
from datacheck.schema.meaning import BOX_FORMATS
from datacheck.schema.model import Field

Array = np.ndarray[Any, Any]

#: Coordinates of a box.
_SIZE = 4


def box_rules(leaf: Leaf, field: Field) -> list[ValueRule]:
    """The rules for the boxes of a field with such a format, each for one thing that may be wrong."""
    if field.format not in BOX_FORMATS or leaf.values is None:
        return []
    if not leaf.is_numeric:
        is_outer = leaf.dtype.startswith("list<") or leaf.dtype == "struct"
        return [] if is_outer else [uncheckable("DC217", f"format: the values are {leaf.dtype}, not coordinates")]
    aspects = [("each has 4 coordinates", _not_four), *((name, _mask(breaks)) for name, breaks in _aspects(field))]
    return [
        ValueRule("DC217", mask, "boxes", screened=False, num_units=_num_boxes, name=name) for name, mask in aspects
    ]


def _num_boxes(leaf: Leaf) -> int:
    level = leaf.levels[0] if leaf.levels else None
    if isinstance(level, Ragged):
        return int(np.count_nonzero(np.diff(level.offsets)))
    return len(leaf) // (level.shape[-1] if isinstance(level, Regular) else 1)


def _aspects(field: Field) -> Iterator[tuple[str, Callable[[Array], Any]]]:
    """What must hold of boxes ``(n, 4)``, and where it does not. A NaN breaks nothing: it is a finding of its own."""
    if field.format == "xyxy":
        yield "x1 < x2", lambda box: box[:, 0] >= box[:, 2]
        yield "y1 < y2", lambda box: box[:, 1] >= box[:, 3]
    else:
        yield "width > 0", lambda box: box[:, 2] <= 0
        yield "height > 0", lambda box: box[:, 3] <= 0
    if field.within is not None and not any(isinstance(size, str) for size in field.within):
        width, height = map(float, field.within)
        corners = _CORNERS[str(field.format)]

        def is_outside(box: Array) -> Any:
            x1, y1, x2, y2 = corners(box.astype(np.float64))
            # Half a pixel of rounding is no fault of a normalised box.
            slack = 1e-6 * max(width, height)
            return (np.minimum(x1, y1) < -slack) | (x2 > width + slack) | (y2 > height + slack)

        yield f"inside [{width:g}, {height:g}]", is_outside


_CORNERS: dict[str, Callable[[Array], tuple[Array, Array, Array, Array]]] = {
    "xyxy": lambda box: (box[:, 0], box[:, 1], box[:, 2], box[:, 3]),
    "xywh": lambda box: (box[:, 0], box[:, 1], box[:, 0] + box[:, 2], box[:, 1] + box[:, 3]),
    "cxcywh": lambda box: (
        box[:, 0] - box[:, 2] / 2,
        box[:, 1] - box[:, 3] / 2,
        box[:, 0] + box[:, 2] / 2,
        box[:, 1] + box[:, 3] / 2,
    ),
}


def _mask(breaks: Callable[[Array], Any]) -> Callable[[Leaf, slice], BoolArray]:
    def mask(leaf: Leaf, _: slice) -> BoolArray:
        found = np.zeros(len(leaf), np.bool_)
        starts, coordinates = _coordinates(leaf)
        positions = coordinates if starts is None else starts[:, None] + np.arange(_SIZE)
        if len(positions):
            with np.errstate(invalid="ignore"):
                broken = breaks(to_float(leaf.values[positions.reshape(-1)], leaf.dtype).reshape(-1, _SIZE))
            if leaf.validity is not None:
                broken = broken & leaf.validity[positions].all(axis=1)
            found[positions[broken, 0]] = True
        return found

    return mask


def _not_four(leaf: Leaf, _: slice) -> BoolArray:
    """True for the first coordinate of each vector that has other than four."""
    found = np.zeros(len(leaf), np.bool_)
    level = leaf.levels[0] if leaf.levels else None
    if isinstance(level, Ragged):
        lengths = np.diff(level.offsets)
        wrong = (lengths != _SIZE) & (lengths > 0)
        found[level.offsets[:-1][wrong]] = True
    elif not isinstance(level, Regular) or level.shape[-1] != _SIZE:
        found[:1] = True
    return found


def _coordinates(leaf: Leaf) -> tuple[IntArray | None, IntArray]:
    """The flat positions of boxes: where each starts, if its coordinates follow each other, or the positions of all four."""
    nothing = np.empty((0, _SIZE), np.int64)
    level = leaf.levels[0] if leaf.levels else None
    if isinstance(level, Ragged):
        lengths = np.diff(level.offsets)
        return level.offsets[:-1][lengths == _SIZE], nothing
    if not isinstance(level, Regular) or level.shape[-1] != _SIZE:
        return None, nothing
    everything = np.arange(len(leaf), dtype=np.int64)
    if level.axes is not None:
        return None, nothing
    if level.order == "F":
        return None, everything.reshape(_SIZE, -1).T
    return everything[::_SIZE], nothing
