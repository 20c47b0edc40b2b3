"""Screens for one value of a sample: True only if it is certainly clean. They take a microsecond or two for small values.

A screen may give a false alarm, which the exact check then clears, but never misses. Tensors, and small arrays as Python
floats, are summed: a NaN stays NaN, an infinity stays infinite or becomes NaN, and no later addend makes the sum finite
again. Large arrays use the sum of squares of :mod:`datacheck.numerics`, over the same short rows.
"""

from __future__ import annotations

import cmath
import datetime
import enum
import math
import pathlib
import sys
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from numpy.ma import MaskedArray

from datacheck.leaves import FLOAT_FORMATS, has_nonfinite
from datacheck.numerics import SCREEN_WIDTH, Bounds, is_finite, to_float
from datacheck.torch.values import as_numpy, dtype_name

Screen = Callable[[Any], bool]
Array = np.ndarray[Any, Any]

#: Up to this many values, Python's ``sum`` is faster than a NumPy call.
SMALL = 48

_PLAIN = (bool, int, str, bytes, bytearray, type(None), type, type(Ellipsis), range, slice)
_TIMES = (datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, np.datetime64, np.timedelta64)
_OBJECTS = (enum.Enum, pathlib.PurePath, uuid.UUID, torch.dtype, torch.device, torch.Size)
#: Types without floating-point values.
HARMLESS: tuple[type, ...] = (*_PLAIN, *_TIMES, *_OBJECTS, np.integer, np.bool_, np.character)


def always(_: Any) -> bool:
    return True


def never(_: Any) -> bool:
    return False


def screen_kind(kind: type) -> Screen | None:
    """The screen for every NaN and infinity in values of a type; None for a container or an unknown type."""
    if issubclass(kind, torch.Tensor):
        return screen_tensor
    if issubclass(kind, np.ndarray):
        return never if issubclass(kind, MaskedArray) else screen_array
    if issubclass(kind, float | np.floating):
        return math.isfinite
    if issubclass(kind, complex | np.complexfloating):
        return cmath.isfinite
    if issubclass(kind, Decimal):
        return Decimal.is_finite
    if issubclass(kind, HARMLESS):
        return always
    if is_image(kind):
        return screen_image
    return None


def is_image(kind: type) -> bool:
    """Whether a type is Pillow's image, without importing Pillow."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and issubclass(kind, pillow.Image)


def screen_image(image: Any) -> bool:
    # Decodes an image that was only opened; a truncated one raises here.
    image.load()
    return image.mode != "F" or screen_array(np.asarray(image))


_SUMMED = frozenset({torch.float32, torch.float64})


def screen_tensor(tensor: torch.Tensor) -> bool:
    # Each call of torch costs, most of all right after a JPEG was decoded, so common tensors take the fewest.
    dtype = tensor.dtype
    is_float = dtype.is_floating_point
    try:
        if is_float and tensor.numel() <= SMALL and tensor.dim() <= 1:
            return math.isfinite(sum(tensor.tolist()) if tensor.dim() else tensor.item())
        if dtype in _SUMMED:
            # torch sums in any layout, at memory speed and without a copy.
            return math.isfinite((tensor.detach() if tensor.requires_grad else tensor).sum().item())
        if not (is_float or dtype.is_complex):
            return not tensor.is_quantized
        array = as_numpy(tensor)
    except (RuntimeError, TypeError, NotImplementedError):
        return False  # sparse, nested, or on the meta device
    return screen_array_values(array, dtype_name(dtype))


def screen_array(array: Array) -> bool:
    kind = array.dtype.kind
    if kind == "f" or kind == "c":
        return screen_array_values(array, array.dtype.name)
    return kind in "?biuSUTmM"


def screen_array_values(array: Array, dtype: str) -> bool:
    """Whether every value of an array of a logical dtype is certainly finite."""
    size = array.size
    if size == 0 or not has_nonfinite(dtype):
        return True
    if dtype in ("float32", "float64") and array.dtype.isnative:
        if size <= SMALL:
            return math.isfinite(sum(array.ravel().tolist()))
        if array.flags.c_contiguous:
            return _squares(array.reshape(-1))
        # Permuted dimensions, as of images, are still contiguous in memory order.
        ordered = array.transpose(sorted(range(array.ndim), key=array.strides.__getitem__, reverse=True))
        if ordered.flags.c_contiguous:
            return _squares(ordered.reshape(-1))
        # One pass over a non-contiguous array; a copy first would be two.
        return bool(np.isfinite(array).all())
    return is_finite(_flat(array, dtype), dtype)


def _flat(array: Array, dtype: str) -> Array:
    flat = (array.T if array.flags.f_contiguous else array).reshape(-1)
    storage = FLOAT_FORMATS.get(dtype)
    return flat if storage is None else flat.view(storage)


def _squares(flat: Array) -> bool:
    whole = flat.size // SCREEN_WIDTH * SCREEN_WIDTH
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        tail = flat[whole:]
        if not math.isfinite(tail.dot(tail)):
            return False
        if whole == 0:
            return True
        rows = flat[:whole].reshape(-1, SCREEN_WIDTH)
        return math.isfinite(np.add.reduce(np.vecdot(rows, rows)))


def screen_range(array: Array, dtype: str, bounds: Bounds) -> bool:
    """Whether every value of an array of a logical dtype is certainly finite and within bounds."""
    if array.size == 0:
        return True
    if dtype in FLOAT_FORMATS or dtype == "float16":
        array = to_float(_flat(array, dtype), dtype)
    smallest, largest = array.min(), array.max()
    if has_nonfinite(dtype) and not (math.isfinite(smallest) and math.isfinite(largest)):
        return False
    return bounds.hold(smallest, largest)


class NumberScreen:
    """The screen for Python numbers with bounds."""

    __slots__ = ("_bounds", "_is_float")

    def __init__(self, bounds: Bounds, *, is_float: bool) -> None:
        self._bounds, self._is_float = bounds, is_float

    def __call__(self, value: Any) -> bool:
        return (not self._is_float or math.isfinite(value)) and self._bounds.hold(value, value)

    def test_many(self, values: Sequence[Any]) -> bool:
        # The sum first: with a NaN, min and max depend on the order.
        return (not self._is_float or math.isfinite(sum(values))) and self._bounds.hold(min(values), max(values))


def finite_screen(dtype: str, *, is_tensor: bool) -> Screen:
    """The screen for tensors or arrays of one logical dtype that must be finite."""
    if is_tensor and dtype not in FLOAT_FORMATS:
        return screen_tensor
    return _guarded(lambda array: screen_array_values(array, dtype), is_tensor)


def range_screen(bounds: Bounds, dtype: str, *, is_tensor: bool) -> Screen:
    """The screen for tensors or arrays of one logical dtype with bounds."""
    by_array = _guarded(lambda array: screen_range(array, dtype, bounds), is_tensor)
    if not is_tensor or dtype in FLOAT_FORMATS:
        return by_array
    small = NumberScreen(bounds, is_float=has_nonfinite(dtype))

    def screen(tensor: torch.Tensor) -> bool:
        if tensor.numel() > SMALL or tensor.dim() > 1 or tensor.numel() == 0 or tensor.layout is not torch.strided:
            return by_array(tensor)
        values = [tensor.item()] if tensor.dim() == 0 else tensor.tolist()
        return small.test_many(values)

    return screen


def _guarded(screen: Callable[[Array], bool], is_tensor: bool) -> Screen:
    if not is_tensor:
        return lambda value: screen(np.asarray(value))

    def of_tensor(tensor: torch.Tensor) -> bool:
        try:
            return screen(as_numpy(tensor))
        except (RuntimeError, TypeError, NotImplementedError):
            return False  # sparse, nested, or on the meta device

    return of_tensor
