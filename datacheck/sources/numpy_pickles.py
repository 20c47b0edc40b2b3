"""NumPy's arrays and numbers in files of ``torch.save``, which ``torch.load(weights_only=True)`` refuses.

torch is given stand-ins under NumPy's names. They make views of the bytes in the pickle, whose number must be that of the shape
and the dtype: nothing of NumPy is called as the file says, and nothing is allocated. Python objects in arrays are not read.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

import numpy as np

from datacheck.text import plain

#: NumPy 1 has at most 32 dimensions.
_MAX_DIMENSIONS = 32
_DTYPE = re.compile(r"[biufcSU]\d{1,9}")
_LOADING = threading.local()


class PickledArray:
    """An array or a number (``values`` has no dimensions) of a pickle, or the ``problem`` why it cannot be checked."""

    __slots__ = ("problem", "values")
    values: np.ndarray[Any, Any] | None
    problem: str

    def __new__(cls, *_: object) -> PickledArray:
        raise UnpicklingError("an array of NumPy that is not made as NumPy does")

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5 and _is_shape(state[1])):
            raise UnpicklingError("an array of NumPy without a shape")
        _, shape, dtype, is_fortran, data = state
        self._fill(dtype, shape, data, "F" if is_fortran else "C")

    def _fill(self, dtype: Any, shape: tuple[int, ...], data: Any, order: Any) -> None:
        if not isinstance(dtype, PickledDtype):
            raise UnpicklingError("an array of NumPy without a dtype")
        if dtype.numpy is None:
            self.problem = f"cannot check arrays of NumPy's dtype {plain(repr(dtype.name), 40)} in a pickle"
            return
        expected = math.prod(shape) * dtype.numpy.itemsize
        if not isinstance(data, bytes) or len(data) != expected or math.prod(max(size, 1) for size in shape) >> 48:
            found = f"{len(data):,} bytes" if isinstance(data, bytes) else f"a value of type {type(data).__name__}"
            raise UnpicklingError(f"an array of NumPy of shape {plain(str(shape), 80)} has {found}")
        self.values = np.ndarray(shape, dtype.numpy, data, order=order)


class PickledDtype:
    """A dtype of a pickle: ``numpy`` is None for what has no numbers or text of a fixed length."""

    name = ""
    numpy: np.dtype[Any] | None = None

    def __init__(self, name: Any = "", *_: object) -> None:
        _check_thread()
        if isinstance(name, str):
            self.name, self.numpy = name, _as_dtype(name)

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) >= 5 and state[1] in ("<", ">", "|", "=")):
            raise UnpicklingError("a dtype of NumPy without a byte order")
        is_plain = state[2] is None and state[3] is None and state[4] is None
        self.numpy = self.numpy.newbyteorder(state[1]) if self.numpy is not None and is_plain else None


@contextmanager
def numpy_stand_ins(serialization: Any) -> Iterator[None]:
    """Let ``torch.load`` in this thread read NumPy's values. ``serialization`` is ``torch.serialization``.

    The list of what may be loaded is one for the process. What the user has put there under the same names comes back.
    """
    replaced = [one for one in serialization.get_safe_globals() if _name_of(one) in _STAND_INS]
    ours = [(stand_in, name) for name, stand_in in _STAND_INS.items()]
    _replace_globals(serialization, replaced, ours)
    _LOADING.active = True
    try:
        yield
    finally:
        _LOADING.active = False
        _replace_globals(serialization, ours, replaced)


def is_numpy_value(name: str) -> bool:
    """Whether a pickle needs ``name`` for NumPy's values, or for empty bytes in them."""
    return name in _STAND_INS or f"builtins.{name}" in _STAND_INS


def _reconstruct(kind: Any = None, *_: object) -> PickledArray:
    _check_thread()
    if kind is not PickledArray:
        raise UnpicklingError("an array of NumPy of another class than ndarray")
    array: PickledArray = object.__new__(PickledArray)
    array.values, array.problem = None, "an array of NumPy without values"
    return array


def _scalar(dtype: Any = None, data: Any = b"", *_: object) -> PickledArray:
    array = _reconstruct(PickledArray)
    array._fill(dtype, (), data, "C")
    return array


def _empty_bytes(*arguments: object) -> bytes:
    _check_thread()
    if arguments:
        raise UnpicklingError("bytes that are not made as pickles do")
    return b""


_STAND_INS: dict[str, Any] = {
    "numpy.ndarray": PickledArray,
    "numpy.dtype": PickledDtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "builtins.bytes": _empty_bytes,
}


def _check_thread() -> None:
    if not getattr(_LOADING, "active", False):
        raise UnpicklingError("datacheck is loading NumPy's values in another thread; load the file again")


def _is_shape(shape: Any) -> bool:
    is_tuple = isinstance(shape, tuple) and len(shape) <= _MAX_DIMENSIONS
    return is_tuple and all(type(size) is int and 0 <= size < 1 << 48 for size in shape)


def _as_dtype(name: str) -> np.dtype[Any] | None:
    try:
        dtype = np.dtype(name) if _DTYPE.fullmatch(name) else None
    except (TypeError, ValueError):
        return None
    return dtype if dtype is not None and dtype.itemsize else None


def _name_of(registered: Any) -> str:
    if isinstance(registered, tuple):
        return str(registered[1])
    return f"{registered.__module__}.{registered.__qualname__}"


def _replace_globals(serialization: Any, old: list[Any], new: list[Any]) -> None:
    kept = [one for one in serialization.get_safe_globals() if one not in old]
    serialization.clear_safe_globals()
    serialization.add_safe_globals([*kept, *new])
