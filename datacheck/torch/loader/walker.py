"""Walk a sample: yield everything in it that holds values, by path, as columns for the checks.

Each leaf is one row, its sample: positions in a tensor are indices inside the row's value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from datacheck.batch import Column
from datacheck.leaves import IntArray, Leaf, Level, Regular
from datacheck.torch import _compat, structure
from datacheck.torch.loader.lists import ListPaths, as_arrow_list
from datacheck.torch.loader.screens import HARMLESS, is_image
from datacheck.torch.values import as_numpy, dtype_name

#: Levels of nesting to follow, which also ends a sample that contains itself.
MAX_DEPTH = 32

_NO_LISTS = ListPaths()


@dataclass(frozen=True, slots=True)
class SampleLeaf:
    """A value of a sample as a column of one row. Containers, nulls and values that cannot be checked have no column.

    Attributes:
        value: what the sample holds at the path.
        shape: of that value.
        is_typed: False for Python numbers and lists of them, which have a kind but no dtype.
        problem: why the value cannot be checked.
        levels: where the stored values of a sparse tensor are.
    """

    path: str | None
    value: Any
    column: Column | None = None
    shape: tuple[int, ...] | None = None
    is_typed: bool = True
    is_null: bool = False
    problem: str = ""
    levels: tuple[Level, ...] = ()

    def leaves(self) -> Iterator[Leaf]:
        """The leaves of the column, several for a structured dtype."""
        for leaf in self.column.leaves() if self.column is not None else ():
            yield replace(leaf, levels=self.levels) if self.levels else leaf


def parts_of(value: Any) -> Iterable[tuple[str, Any]] | None:
    """The parts of a container by name; None for anything else, and for a list of numbers, which is one leaf."""
    if isinstance(value, list) and _shape_of(value):
        return None
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return ((str(index), part) for index, part in enumerate(value.reshape(-1).tolist()))
    return structure.parts_of(value, objects=True)


def _shape_of(values: list[Any]) -> tuple[int, ...] | None:
    """The shape of a nested list of numbers; None for lists of unequal lengths or of other values."""
    if not values:
        return None
    first = values[0]
    if isinstance(first, list):
        shape = _shape_of(first)
        if shape is None or not all(isinstance(part, list) and _shape_of(part) == shape for part in values):
            return None
        return (len(values), *shape)
    return (len(values),) if set(map(type, values)) <= {float, int, bool} else None


def walk_sample(sample: Any, path: str | None = None, lists: ListPaths = _NO_LISTS) -> Iterator[SampleLeaf]:
    """Every value and container of a sample, or of its part at ``path``; ``lists`` become Arrow lists."""
    return _walk(path, sample, 0, lists)


def _walk(path: str | None, value: Any, depth: int, lists: ListPaths) -> Iterator[SampleLeaf]:
    if depth > MAX_DEPTH:
        yield SampleLeaf(path, value, problem=f"nested more than {MAX_DEPTH} levels deep")
        return
    if path is not None and lists.hold(path, value):
        is_array = isinstance(value, list) and path not in lists.entered and _shape_of(value)
        yield _walk_value(path, value) if is_array else _of_list(path, value, lists)
        return
    if isinstance(value, torch.Tensor):
        yield from _walk_tensor(path, value)
        return
    is_leaf = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.dtype.kind != "O")
    parts = None if is_leaf else parts_of(value)
    if parts is None:
        yield _walk_value(path, value)
        return
    if path is not None:
        yield SampleLeaf(path, value)
    for name, part in parts:
        yield from _walk(f"{path}.{name}" if path else name, part, depth + 1, lists)


def _of_list(path: str, value: Any, lists: ListPaths) -> SampleLeaf:
    try:
        column = Column(path, as_arrow_list(value, is_map=path in lists.maps))
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        return SampleLeaf(path, value, problem=f"its entries have different types: {error}")
    return SampleLeaf(path, value, column, is_typed=False)


def _walk_value(path: str | None, value: Any) -> SampleLeaf:
    if value is None:
        return SampleLeaf(path, value, is_null=True)
    if isinstance(value, np.ndarray | np.generic):
        return _of_array(path, value, np.asanyarray(value))
    if isinstance(value, bool | int | float | complex | list):
        return _of_python(path, value, value)
    if isinstance(value, Decimal):
        exact = _of_arrow(path, value) if value.is_finite() else None
        return _of_python(path, value, float(value)) if exact is None else replace(exact, is_typed=False)
    if is_image(type(value)):
        value.load()
        return _of_array(path, value, np.asarray(value))
    if isinstance(value, HARMLESS):
        return _of_arrow(path, value)
    return SampleLeaf(path, value, problem=f"values of type {type(value).__name__} cannot be read")


def _of_python(path: str | None, value: Any, numbers: Any) -> SampleLeaf:
    try:
        array = np.asarray(numbers)
        if array.dtype.kind == "O":  # integers beyond 64 bits
            array = array.astype(np.float64)
    except (ValueError, OverflowError):
        return SampleLeaf(path, value, problem="lists of unequal lengths are not an array")
    return replace(_of_array(path, value, array), is_typed=False)


def _of_array(path: str | None, value: Any, array: np.ndarray[Any, Any], dtype: str | None = None) -> SampleLeaf:
    return SampleLeaf(path, value, Column(path, array[None], dtype), array.shape)


def _of_arrow(path: str | None, value: Any) -> SampleLeaf:
    """Strings, bytes and times as one Arrow value; types unknown to Arrow hold no numbers."""
    try:
        return SampleLeaf(path, value, Column(path, pa.array([value])), ())
    except (pa.ArrowException, ValueError, OverflowError, TypeError):
        return SampleLeaf(path, value)


def _walk_tensor(path: str | None, value: torch.Tensor) -> Iterator[SampleLeaf]:
    tensor = value.detach()
    problem = ""
    if tensor.is_meta:
        problem = "tensors on the meta device hold no values"
    elif tensor.is_nested:
        for index, part in enumerate(tensor.unbind()):
            yield from _walk_tensor(f"{path}.{index}" if path else str(index), part)
        return
    elif tensor.layout is torch.sparse_coo:
        yield _of_sparse(path, value, *reversed(_compat.sparse_parts(tensor)))
        return
    elif tensor.layout in (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
        yield _of_sparse(path, value, tensor.values(), None)
        return
    elif tensor.layout is not torch.strided:
        problem = f"tensors with layout {tensor.layout} cannot be read"
    yield SampleLeaf(path, value, problem=problem) if problem else _of_dense(path, value, tensor)


def _of_dense(path: str | None, value: torch.Tensor, tensor: torch.Tensor) -> SampleLeaf:
    dtype = dtype_name(tensor.dtype)
    try:
        if tensor.is_quantized:
            tensor, dtype = tensor.dequantize(), "float32"
        if tensor.dtype is torch.complex32:
            tensor, dtype = torch.view_as_real(tensor.resolve_conj()), "float16"
        array = as_numpy(tensor.as_subclass(torch.Tensor))
    except (TypeError, RuntimeError, NotImplementedError):
        return SampleLeaf(path, value, problem=f"tensors of dtype {dtype} cannot be read")
    return _of_array(path, value, array, dtype)


@dataclass(frozen=True, slots=True)
class _Sparse:
    """Positions of the stored values of a sparse tensor, by their ``coordinates`` ``(dimensions, values)``."""

    coordinates: IntArray
    dense: tuple[int, ...]

    def parents(self, positions: IntArray) -> tuple[IntArray, IntArray]:
        stored, *inner = np.unravel_index(positions, (self.coordinates.shape[1], *self.dense))
        digits = [*self.coordinates[:, stored], *inner]
        return np.zeros(len(positions), np.int64), np.stack(digits, axis=1).astype(np.int64)


def _of_sparse(
    path: str | None, value: torch.Tensor, stored: torch.Tensor, coordinates: torch.Tensor | None
) -> SampleLeaf:
    """The stored values, each with its position in the tensor if the layout has coordinates."""
    found = _of_dense(path, stored, stored)
    level: Level = Regular((1, *stored.shape))
    if coordinates is not None:
        level = _Sparse(coordinates.cpu().numpy(), tuple(stored.shape[1:]))
    return replace(found, value=value, shape=tuple(value.shape), levels=(level,))
