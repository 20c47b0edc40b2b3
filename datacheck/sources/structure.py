"""Finds arrays, tensors and floats inside mappings and sequences, by dotted path, and reads them as columns.

For what ``torch.load`` returns and for data in memory. torch is used only if it has been imported: without it nothing
can be a tensor.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from datacheck.batch import Batch, Column
from datacheck.errors import SourceError
from datacheck.leaves import FLOAT_FORMATS, IntArray
from datacheck.sources.base import TARGET_BATCH_BYTES, TARGET_UNIT_BYTES, RowsAre, split_rows
from datacheck.sources.members import Member
from datacheck.sources.numpy_pickles import PickledArray

if TYPE_CHECKING:
    import torch


Array = np.ndarray[Any, Any]

#: How many levels of nesting are followed.
MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class FoundArray:
    """A tensor (or the floats of a list, or one float, as an array) and its path.

    ``values`` are the stored values, ``rows`` the row of each if that is not its position (a sparse tensor), ``problem`` says
    why they cannot be checked.
    """

    name: str | None
    values: Any
    rows: IntArray | None = None
    problem: str = ""
    dtype: str = ""

    @property
    def num_rows(self) -> int:
        if self.problem:
            return 0
        num_rows: int = self.values.shape[0] if self.values.ndim else 1
        return num_rows

    @property
    def row_bytes(self) -> int:
        if self.problem:
            return 0
        # A quantized value is checked as float32.
        width = 4 if getattr(self.values, "is_quantized", False) else self.values.dtype.itemsize
        row_bytes: int = math.prod(self.values.shape[1:]) * width
        return row_bytes

    @property
    def is_copied(self) -> bool:
        """Whether reading rows copies them."""
        values = self.values
        return not isinstance(values, np.ndarray) and not (
            values.is_contiguous() and not values.is_quantized and not values.is_conj() and not values.is_neg()
        )

    def with_rows(self, rows: RowsAre | None) -> FoundArray:
        """The same array with the first axis as its rows or, for ``"file"``, as the one row of its file."""
        if rows != "file" or self.problem:
            return self
        if self.rows is not None:
            return replace(self, values=None, rows=None, problem="cannot read a sparse tensor as one sample")
        return replace(self, values=self.values[None])

    def member(self) -> Member:
        problem = self.problem
        if self.rows is not None:
            problem = f"{self.name!r} is sparse"
        is_scalar = not problem and self.values.ndim == 0
        return Member(self.name or "", self.num_rows, self.row_bytes, is_scalar, problem=problem)


def find_arrays(uri: str, structure: object, limit: int, *, with_plain: bool = False) -> list[FoundArray]:
    """Every tensor and float in a structure of mappings, sequences and tensor datasets, in order.

    ``with_plain`` adds integers, booleans and text, and lists of numbers as one array: all that belongs to a sample.
    A structure may contain itself, so no container is entered twice on one path. More than ``limit`` values or
    ``MAX_DEPTH`` levels raise ``SourceError`` (DC904).
    """
    found: list[FoundArray] = []
    names: dict[str | None, int] = {}
    visited = 0
    # One iterator for each level, so that what waits to be visited takes no memory.
    stack: list[tuple[Iterator[tuple[str, object]], int]] = [(iter([("", structure)]), 0)]
    above: set[int] = set()
    while stack:
        parts, owner = stack[-1]
        step = next(parts, None)
        if step is None:
            stack.pop()
            above.discard(owner)
            continue
        path, value = step
        visited += 1
        if visited > limit or len(stack) > MAX_DEPTH + 1:
            problem = f"it holds more than {limit:,} values, or more than {MAX_DEPTH} levels of nesting"
            raise SourceError("DC904", uri, problem, "if the file is trusted, raise the limit max_members")
        plain_value = _plain_value(value) if with_plain else None
        if plain_value is not None:
            found.append(FoundArray(path or None, plain_value))
            continue
        skipped = (type(None),) if with_plain else _SKIPPED
        children = None if id(value) in above else _children(value, skipped=skipped)
        if children is not None:
            above.add(id(value))
            stack.append((_named(path, children), id(value)))
            continue
        for one in _found_in_value(path or None, value):
            # Keys 1 and "1" have the same path: both are checked.
            names[one.name] = names.get(one.name, 0) + 1
            twice = names[one.name] > 1
            found.append(FoundArray(f"{one.name}#{names[one.name]}", *_rest(one)) if twice else one)
    return found


def _named(path: str, parts: Iterable[tuple[object, object]]) -> Iterator[tuple[str, object]]:
    return ((f"{path}.{key}" if path else str(key), part) for key, part in parts)


def _rest(found: FoundArray) -> tuple[Any, IntArray | None, str, str]:
    return found.values, found.rows, found.problem, found.dtype


#: Types that neither are nor contain a float.
_SKIPPED = (int, bool, str, bytes, bytearray, type(None))


def _plain_value(value: object) -> Array | None:
    """An integer, a boolean, text, or a list of numbers as an array; None for anything else."""
    is_list = isinstance(value, list | tuple) and bool(value) and set(map(type, value)) <= {int, float, bool}
    if not is_list and not isinstance(value, int | str | bytes):
        return None
    array = np.asarray(value)
    return None if array.dtype.hasobject else array


def _children(value: object, *, skipped: tuple[type, ...] = _SKIPPED) -> Iterator[tuple[object, object]] | None:
    """The parts of a container that may contain arrays; None for anything else, and for a list of floats."""
    torch = sys.modules.get("torch")
    parts: Iterable[tuple[object, object]]
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        if _floats(value) is not None:
            return None
        parts = enumerate(value)
    elif isinstance(value, set | frozenset):
        parts = enumerate(value)
    elif torch is not None and isinstance(value, torch.utils.data.TensorDataset):
        parts = [("tensors", value.tensors)]
    else:
        return None
    return ((key, part) for key, part in parts if type(part) not in skipped)


def _floats(values: Sequence[Any]) -> Array | None:
    """A list of floats (and integers among them) as one array; None for any other list."""
    types = set(map(type, values))
    if float not in types or not types <= {float, int}:
        return None
    try:
        return np.array([float(value) for value in values], np.float64)
    except OverflowError:
        return None


def _found_in_value(name: str | None, value: Any) -> Iterator[FoundArray]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        yield _found_in_tensor(name, value.detach())
    elif isinstance(value, PickledArray):
        yield FoundArray(name, value.values, problem="" if value.values is not None else value.problem)
    elif isinstance(value, np.ndarray):
        yield FoundArray(name, value)
    elif isinstance(value, np.generic | float | complex):
        yield FoundArray(name, np.asarray(value))
    elif isinstance(value, list | tuple) and (floats := _floats(value)) is not None:
        yield FoundArray(name, floats)
    elif torch is not None and isinstance(value, torch.UntypedStorage | torch.TypedStorage):
        yield FoundArray(name, None, problem="a bare storage has no dtype")
    elif not (isinstance(value, _PLAIN) or (torch is not None and isinstance(value, torch.dtype | torch.device))):
        yield FoundArray(name, None, problem=f"cannot check an object of type {type(value).__name__}")


#: Values that cannot be NaN, and containers that contain themselves.
_PLAIN = (*_SKIPPED, list, tuple, dict, set, frozenset)


def _found_in_tensor(name: str | None, tensor: torch.Tensor) -> FoundArray:
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_meta:
        return FoundArray(name, None, problem="a tensor on the device 'meta' has no values", dtype=dtype)
    if tensor.is_nested:
        return FoundArray(name, None, problem="cannot check a nested tensor", dtype=dtype)
    if tensor.layout is torch.sparse_coo:
        indices = tensor._indices()
        rows = indices[0].numpy().astype(np.int64) if len(indices) else None
        return FoundArray(name, tensor._values(), rows if rows is not None else np.zeros(tensor._nnz(), np.int64))
    if tensor.layout in (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
        return FoundArray(name, tensor.values(), _compressed_rows(tensor))
    if tensor.layout is not torch.strided:
        return FoundArray(name, None, problem=f"cannot check the layout {tensor.layout}", dtype=dtype)
    if tensor.is_quantized and tensor.dtype not in (torch.quint8, torch.qint8, torch.qint32):
        return FoundArray(name, None, problem=f"cannot check the dtype {dtype}", dtype=dtype)
    try:
        to_column(name, tensor[:0] if tensor.ndim else tensor)
    except (TypeError, RuntimeError, NotImplementedError):
        return FoundArray(name, None, problem=f"cannot check the dtype {dtype}", dtype=dtype)
    return FoundArray(name, tensor)


def _compressed_rows(tensor: torch.Tensor) -> IntArray:
    """The row of each stored value of a compressed sparse matrix; its position in a blocked or batched one."""
    import torch

    num_values = tensor.values().shape[0]
    if tensor.ndim == 2 and tensor.layout is torch.sparse_csc:
        return tensor.row_indices().numpy().astype(np.int64)
    if tensor.ndim == 2 and tensor.layout is torch.sparse_csr:
        lengths = np.diff(tensor.crow_indices().numpy().astype(np.int64))
        if len(lengths) and lengths.min() >= 0 and lengths.sum() == num_values:
            return np.repeat(np.arange(len(lengths)), lengths.astype(np.int64))
    return np.arange(num_values)


def to_column(name: str | None, values: Any) -> Column:
    """A tensor or NumPy array as a column, without a copy if possible."""
    if isinstance(values, np.ndarray):
        return Column(name, values)
    import torch

    tensor = values.detach()
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.dtype is torch.complex32:
        tensor = torch.view_as_real(tensor.reshape(tensor.shape or (1,)).resolve_conj())
    tensor = tensor.resolve_conj().resolve_neg()
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype in FLOAT_FORMATS:
        storage = torch.uint16 if FLOAT_FORMATS[dtype].itemsize == 2 else torch.uint8
        return Column(name, tensor.view(storage).numpy(), dtype)
    return Column(name, tensor.numpy())


def batches_of_array(found: FoundArray, start: int, count: int) -> Iterator[Batch]:
    """Rows of one tensor."""
    if found.problem:
        yield Batch((Column(found.name, np.empty(0, np.uint8), found.dtype or None, found.problem),), 0)
        return
    for batch in batches_of_table([found], start, count):
        if found.rows is None:
            yield batch
        else:
            rows = found.rows[batch.row_start : batch.row_start + batch.num_rows]
            yield Batch(batch.columns, batch.num_rows, rows=rows)


def batches_of_table(found: list[FoundArray], start: int, count: int) -> Iterator[Batch]:
    """Rows of tensors with equal numbers of rows, as columns."""
    target = TARGET_BATCH_BYTES if any(one.is_copied for one in found) else TARGET_UNIT_BYTES
    for first, number in split_rows(count, sum(one.row_bytes for one in found), target):
        begin, end = start + first, start + first + number
        columns = [to_column(one.name, one.values[begin:end] if one.values.ndim else one.values) for one in found]
        yield Batch(tuple(columns), number, begin)
