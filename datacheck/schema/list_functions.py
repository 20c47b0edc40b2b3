"""What the language does with lists: bring two to the same lengths, index them, reduce them, tell their sizes.

Each function returns its result and the rows that it could not judge: those in which two lists have different lengths or
an index is beyond the end, or those whose integers need more than 64 bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.schema.axes import Axes, lengths_of, picked, repeated
from datacheck.schema.operands import TIMES, ExpressionTypeError, Operand, both_valid, described, numbers
from datacheck.schema.reductions import (
    count_of,
    distinct_of,
    is_sorted,
    reduce_numbers,
    reduce_truth,
    without_nulls,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datacheck.leaves import BoolArray
    from datacheck.schema.axes import Axis, Index


#: The functions of the axes of an image.
IMAGE_SIZES: Final = ("height", "width", "channels")
_SAFE_SUM: Final = 9.2e18
_EXACT_FLOAT: Final = 2**53


def spread(value: Operand, axes: Axes) -> Operand:
    """One value per row, for each value of the row's list. Where it is null, so is the list."""
    present = both_valid(axes.present, value.valid)
    axes = replace(axes, present=present)
    if getattr(value.values, "ndim", 1) == 0 or isinstance(value.values, str):
        return replace(value, valid=None, axes=axes)
    return replace(value, values=repeated(value.values, axes.runs()), valid=None, inexact=None, axes=axes)


def pair_lists(left: Operand, right: Operand) -> tuple[Operand, Operand, BoolArray | None]:
    """Two operands with the same axes; one value per row goes with each value of a list.

    Lists of different lengths in one row have no values, and the row is in the mask.
    """
    first, second = left.axes, right.axes
    if first is None or second is None:
        if first is not None:
            right = spread(right, first)
            return replace(left, axes=right.axes), right, None
        if second is not None:
            left = spread(left, second)
            return left, replace(right, axes=left.axes), None
        return left, right, None
    if first.ndim != second.ndim:
        raise ExpressionTypeError(
            f"lists of {first.ndim} and {second.ndim} axes do not go together; index or reduce one of them, such as x[0]"
            " or sum(x, axis=-1)"
        )
    present = both_valid(first.present, second.present)
    unmatched = np.zeros(first.num_rows, np.bool_)
    for depth in range(first.ndim):
        assert left.axes is not None
        assert right.axes is not None
        ours, theirs = left.axes.sizes[depth], right.axes.sizes[depth]
        if _is_same(ours, theirs):
            continue
        count = left.axes.count(depth)
        differ = np.flatnonzero(lengths_of(ours, count) != lengths_of(theirs, count))
        if len(differ):
            unmatched[left.axes.owners(differ, depth)] = True
            left, right = _keep(left, ~unmatched), _keep(right, ~unmatched)
    if not unmatched.any():
        axes = replace(first, present=present)
        return replace(left, axes=axes), replace(right, axes=axes), None
    if present is not None:
        unmatched &= present
    assert left.axes is not None
    axes = replace(left.axes, present=both_valid(present, ~unmatched))
    return replace(left, axes=axes), replace(right, axes=axes), unmatched


def _is_same(first: Axis, second: Axis) -> bool:
    if isinstance(first, int) or isinstance(second, int):
        return isinstance(first, int) and isinstance(second, int) and first == second
    return first is second or np.array_equal(first, second)


def _keep(value: Operand, rows: BoolArray) -> Operand:
    assert value.axes is not None
    axes, mask = value.axes.keep_rows(rows)
    valid = None if value.valid is None else value.valid[mask]
    values = value.values if getattr(value.values, "ndim", 1) == 0 else picked(value.values, mask)
    return replace(value, values=values, valid=valid, inexact=None, axes=axes)


def take_item(value: Operand, indexes: Sequence[Index]) -> tuple[Operand, BoolArray | None]:
    """``x[indexes]``, and the rows in which an index is beyond the end."""
    axes = value.axes
    if axes is None:
        raise ExpressionTypeError(f"{described(value)} has no values inside it, so it cannot be indexed")
    if value.values is None:
        raise ExpressionTypeError(
            f'{described(value)} cannot be indexed; write field("x[].a") for a field of its structs'
        )
    try:
        fast = _take_regular(value, axes, axes.full(indexes))
        if fast is not None:
            return fast, None
        kept, positions, beyond = axes.item(indexes)
    except ValueError as error:
        raise ExpressionTypeError(f"{described(value)} {error}") from None
    values, valid = value.values, value.valid
    if not len(values) and len(positions):  # every index is beyond the end
        is_text = isinstance(values, pa.Array)
        values = pa.nulls(len(positions), values.type) if is_text else np.zeros(len(positions), values.dtype)
        valid = None if valid is None else np.ones(len(positions), np.bool_)
    else:
        values, valid = picked(values, positions), None if valid is None else valid[positions]
    is_known = both_valid(axes.present, None if beyond is None else ~beyond)
    if kept is None:
        return replace(value, values=values, valid=both_valid(valid, is_known), inexact=None, axes=None), beyond
    kept = replace(kept, present=is_known)
    return replace(value, values=values, valid=valid, inexact=None, axes=kept), beyond


def _take_regular(value: Operand, axes: Axes, indexes: Sequence[Any]) -> Operand | None:
    """``x[indexes]`` of arrays of one shape, by NumPy; None for other lists, or an index beyond the end."""
    shape = axes.shape
    if shape is None or not isinstance(value.values, np.ndarray):
        return None
    if any(isinstance(index, int) and not -size <= index < size for index, size in zip(indexes, shape, strict=True)):
        return None

    def part(flat: Any) -> Any:
        return flat.reshape(axes.num_rows, *shape)[(slice(None), *indexes)]

    values, valid = part(value.values), None if value.valid is None else part(value.valid).reshape(-1)
    inner = replace(axes, sizes=values.shape[1:]) if values.ndim > 1 else None
    if inner is None:
        valid = both_valid(valid, axes.present)
    return replace(value, values=values.reshape(-1), valid=valid, inexact=None, axes=inner)


def size_of(value: Operand, axis: int | None) -> tuple[Operand, BoolArray | None]:
    """``size(x, axis)``, the number of all values without an axis; and the rows whose lists differ in size along it."""
    axes = value.axes
    if axes is None:
        raise ExpressionTypeError(f"size() expects a list, got {described(value)}")
    if axis is None:
        return _sizes(axes.runs(), axes.present), None
    depth = _depth_of(axes, axis)
    size = axes.sizes[depth]
    if isinstance(size, int) or depth == 0:
        return _sizes(size, axes.present), None
    outer = replace(axes, sizes=axes.sizes[:depth])
    lengths, runs, count = np.diff(size), outer.runs(), axes.num_rows
    least, has_any = reduce_numbers("min", lengths, runs, count)
    most, _ = reduce_numbers("max", lengths, runs, count)
    unmatched: BoolArray = least != most
    valid = both_valid(both_valid(has_any, axes.present), ~unmatched)
    return Operand("number", least, valid), unmatched if unmatched.any() else None


def _sizes(size: Axis, present: BoolArray | None) -> Operand:
    return Operand("number", np.int64(size) if isinstance(size, int) else np.diff(size), present)


def image_size(function: str, value: Operand) -> tuple[Operand, BoolArray | None]:
    """The height, width or channels of images: ``(H, W)``, or with channels first or last, on the shorter of the two."""
    axes = value.axes
    if axes is None or axes.ndim not in (2, 3):
        found = described(value) if axes is None else f"a value of {axes.ndim} {'axis' if axes.ndim == 1 else 'axes'}"
        raise ExpressionTypeError(f"{function}() expects an image of 2 or 3 axes, got {found}; write size(x, axis)")
    if axes.ndim == 2:
        if function == "channels":
            return Operand("number", np.int64(1), axes.present), None
        return size_of(value, 0 if function == "height" else 1)
    parts = [size_of(value, axis) for axis in range(3)]
    first, middle, last = (operand.values for operand, _ in parts)
    channels_first = first <= last
    chosen = {
        "height": np.where(channels_first, middle, first),
        "width": np.where(channels_first, last, middle),
        "channels": np.where(channels_first, first, last),
    }[function]
    valid: BoolArray | None = None
    unmatched = np.zeros(axes.num_rows, np.bool_)
    for operand, rows in parts:
        valid = both_valid(valid, operand.valid)
        unmatched |= False if rows is None else rows
    return Operand("number", chosen, valid), unmatched if unmatched.any() else None


def _depth_of(axes: Axes, axis: int) -> int:
    if not -axes.ndim <= axis < axes.ndim:
        raise ExpressionTypeError(
            f"axis {axis} does not exist in a list of {axes.ndim} {'axis' if axes.ndim == 1 else 'axes'}"
        )
    return axis % axes.ndim


def reduce_lists(function: str, value: Operand, axis: int | None, enough: int | None = None) -> tuple[Operand, Any]:
    """One value of each list, or of each list along ``axis``; and where an integer needs more than 64 bits.

    ``enough`` is the number from which on ``nunique`` need not be exact.
    """
    if value.axes is None and function in ("any", "all") and value.kind == "bool":
        return value, None
    if value.axes is None:
        hint = "; with several arguments it is the smallest or largest of them" if function in ("min", "max") else ""
        raise ExpressionTypeError(f"{function}() expects a list, got {described(value)}{hint}")
    value, axes, depth = _reduced_axis(value, value.axes, axis)
    runs, count = axes.runs(depth), axes.count(depth)
    if function in ("nunique", "is_sorted"):
        found, inexact = _reduced_order(function, value, runs, count, enough), None
    else:
        found, inexact = _reduced(function, value, runs, count)
    if depth:
        return replace(found, axes=replace(axes, sizes=axes.sizes[:depth])), inexact
    return replace(found, valid=both_valid(found.valid, axes.present)), inexact


def _reduced_axis(value: Operand, axes: Axes, axis: int | None) -> tuple[Operand, Axes, int]:
    """The values with the axis to reduce at the end, their axes, and how many axes stay."""
    if axis is None:
        return value, axes, 0
    depth = _depth_of(axes, axis)
    if depth == axes.ndim - 1:
        return value, axes, depth
    shape = axes.shape
    if shape is None or not isinstance(value.values, np.ndarray):
        raise ExpressionTypeError(f"only the last axis of lists of different lengths can be reduced, not axis {axis}")

    def moved(flat: Any) -> Any:
        return np.moveaxis(flat.reshape(axes.num_rows, *shape), 1 + depth, -1).reshape(-1)

    sizes = (*shape[:depth], *shape[depth + 1 :], shape[depth])
    valid = None if value.valid is None else moved(value.valid)
    return replace(value, values=moved(value.values), valid=valid), replace(axes, sizes=sizes), axes.ndim - 1


def _reduced(function: str, value: Operand, runs: Axis, count: int) -> tuple[Operand, Any]:
    if function in ("any", "all"):
        return _reduced_truth(function, value, runs, count), None
    if function == "count":
        marks = np.ones(len(value.values), np.bool_) if value.valid is None else value.valid
        return Operand("number", count_of(marks & value.values if value.kind == "bool" else marks, runs, count)), None
    problem = f"{function}() expects a list of numbers, got {described(value)}"
    is_extreme = function in ("min", "max") and value.kind in ("number", *TIMES)
    values = value.values if is_extreme else numbers(value, problem)
    values, runs = without_nulls(values, value.valid, runs, count)
    reduced, valid = reduce_numbers(function, values, runs, count)
    inexact = None
    if function in ("sum", "mean") and values.dtype.kind == "i" and len(values):
        longest = runs if isinstance(runs, int) else int(np.diff(runs).max(initial=0))
        if max(abs(int(values.min())), abs(int(values.max()))) * longest >= _EXACT_FLOAT:
            estimate, _ = reduce_numbers("sum", values.astype(np.float64), runs, count)
            inexact = np.abs(estimate) >= (_SAFE_SUM if function == "sum" else _EXACT_FLOAT)
    return Operand(value.kind if is_extreme else "number", reduced, valid), inexact


def _reduced_truth(function: str, value: Operand, runs: Axis, count: int) -> Operand:
    """Three-valued: one true is enough for ``any``, one false for ``all``, whatever is null."""
    if value.kind != "bool":
        raise ExpressionTypeError(f"{function}() expects true or false, such as x > 0, got {described(value)}")
    truth = np.broadcast_to(value.values, (_total(runs, count),))
    if value.valid is None:
        return Operand("bool", reduce_truth(function, truth, runs, count))
    decides = value.valid & (truth if function == "any" else ~truth)
    decided = reduce_truth("any", decides, runs, count)
    unknown = reduce_truth("any", ~value.valid, runs, count) & ~decided
    return Operand("bool", decided if function == "any" else ~decided, ~unknown)


def _total(runs: Axis, count: int) -> int:
    return runs * count if isinstance(runs, int) else int(runs[-1])


def _reduced_order(function: str, value: Operand, runs: Axis, count: int, enough: int | None) -> Operand:
    if value.kind not in ("number", "bool", "text", *TIMES):
        raise ExpressionTypeError(f"{function}() expects a list of values, got {described(value)}")
    values: Any = value.values
    if isinstance(values, pa.Array):
        if function == "is_sorted":
            values = pc.rank(values, tiebreaker="min")
        else:
            values = pc.fill_null(pc.dictionary_encode(values).indices, 0)
        values = values.to_numpy(zero_copy_only=False).astype(np.int64)
    values, runs = without_nulls(values, value.valid, runs, count)
    if function == "nunique":
        return Operand("number", distinct_of(values, runs, count, enough))
    return Operand("bool", is_sorted(values, runs, count))
