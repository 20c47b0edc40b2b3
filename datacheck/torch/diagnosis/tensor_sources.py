"""What an address belongs to: a parameter, a buffer, a field of the batch, or a constant of the program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from datacheck.torch.diagnosis.batches import Array, array_leaves, number_lists
from datacheck.torch.diagnosis.memory import Geometry
from datacheck.torch.values import bad_positions, dense_parts

if TYPE_CHECKING:
    from collections.abc import Iterable


#: Floating-point dtypes of NumPy whose memory torch can share.
_SHARED = frozenset({"float16", "float32", "float64", "complex64", "complex128"})


@dataclass(frozen=True, slots=True)
class TensorSource:
    """``kind`` is ``parameter``, ``buffer``, ``input`` or ``constant``; ``name`` its qualified name or path."""

    kind: str
    name: str | None = None
    geometry: Geometry | None = None
    tensor: torch.Tensor | None = None


class TensorSources:
    """Finds the source of an address."""

    def __init__(self, modules: Iterable[nn.Module], batch: object) -> None:
        self._sources: list[tuple[int, int, TensorSource]] = []
        self._arrays: list[tuple[str | None, np.ndarray[Any, Any]]] = []
        for path, leaf in array_leaves(batch):
            self._add_leaf(path, leaf)
        self._arrays.extend(number_lists(batch))
        for module in modules:
            for name, parameter in module.named_parameters():
                self._add("parameter", name, parameter)
            for name, buffer in module.named_buffers():
                self._add("buffer", name, buffer)

    def _add_leaf(self, path: str | None, leaf: Array) -> None:
        if isinstance(leaf, np.ndarray):
            if leaf.dtype.kind not in "fc":
                return
            self._arrays.append((path, leaf))
            if leaf.dtype.name not in _SHARED or not leaf.dtype.isnative or any(stride < 0 for stride in leaf.strides):
                # torch cannot share this memory, so a tensor made of it is a copy.
                return
            leaf = torch.from_numpy(leaf if leaf.flags.writeable else leaf.copy())
        self._add("input", path, leaf)

    def _add(self, kind: str, name: str | None, tensor: torch.Tensor) -> None:
        for part in dense_parts(tensor.detach()):
            if part.numel() and part.device.type != "meta":
                geometry = Geometry.of(part)
                self._sources.append((geometry.start, geometry.stop, TensorSource(kind, name, geometry, part)))

    def find(self, address: int) -> TensorSource:
        """The source of an address; a constant of the program where it belongs to nothing else."""
        for start, stop, tensor_source in self._sources:
            if (
                start <= address < stop
                and tensor_source.geometry is not None
                and tensor_source.geometry.position(address) is not None
            ):
                return tensor_source
        return TensorSource("constant")

    def copied_from(self, values: torch.Tensor) -> TensorSource | None:
        """The field of the batch that a tensor is a copy of: the same shape, with bad values at the same positions."""
        bad = bad_positions(values)
        for path, array in self._arrays:
            if array.shape == tuple(values.shape):
                found = np.flatnonzero(~np.isfinite(array).reshape(-1))
                if len(found) and np.array_equal(found, bad):
                    return TensorSource("input", path, Geometry.of(values), values)
        for _, _, tensor_source in self._sources:
            given = tensor_source.tensor if tensor_source.kind == "input" else None
            if (
                given is not None
                and given.shape == values.shape
                and len(bad)
                and np.array_equal(bad_positions(given), bad)
            ):
                return tensor_source
        return None
