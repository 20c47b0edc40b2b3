"""Screen many samples at once: join the values at one path of all samples, and screen them together.

A call of NumPy or torch costs at least a microsecond, so 256 small vectors in one array cost a hundredth of 256 calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from datacheck.torch.loader.path_screens import PathScreens, TypedScreen
from datacheck.torch.loader.screens import NumberScreen, Screen, always

#: Larger arrays are screened alone: joining them would cost more than it saves.
LARGE = 4096
#: Fewer samples are screened one by one.
FEW = 8


def columns_are_clean(node: PathScreens, values: Sequence[Any]) -> bool:
    """Whether all values at one path are certainly clean."""
    kinds = set(map(type, values))
    if len(values) < FEW or len(kinds) != 1:
        return all(map(node.screen, values))
    first = values[0]
    kind = type(first)
    if kind is dict or kind is tuple:
        return _containers_are_clean(node, values, list(first) if kind is dict else range(len(first)))
    screen = node.screens.get(kind) or node.learn(first)
    if screen is always:
        return True
    joined: Any = None
    if isinstance(screen, NumberScreen):
        return screen.test_many(values)
    if screen is math.isfinite:
        return math.isfinite(sum(map(float, values)))
    if kind is torch.Tensor and first.numel() <= LARGE and first.layout is torch.strided:
        joined = _join_tensors(values, first, screen)
    elif kind is np.ndarray and first.ndim > 0 and first.size <= LARGE:
        joined = _join_arrays(values, first, screen)
    elif isinstance(screen, TypedScreen) and issubclass(kind, np.generic):
        joined = np.array(values)
    if joined is None:
        return all(map(screen, values))
    if isinstance(screen, TypedScreen):
        return screen(first) and screen.test_values(joined)
    return screen(joined)


def _containers_are_clean(node: PathScreens, values: Sequence[Any], names: Sequence[Any]) -> bool:
    """The same of dicts and tuples of the same parts, part by part; of others, sample by sample."""
    if any(len(value) != len(names) for value in values):
        return all(map(node.screen, values))
    try:
        columns = [(name, [value[name] for value in values]) for name in names]
    except KeyError:
        return all(map(node.screen, values))
    return node.has_required(names) and all(columns_are_clean(node.child(name), column) for name, column in columns)


def _join_tensors(values: Sequence[torch.Tensor], first: torch.Tensor, screen: Screen) -> torch.Tensor | None:
    if isinstance(screen, TypedScreen):
        dtype, shape = first.dtype, first.shape
        if any(value.dtype is not dtype for value in values):
            return None
        if screen.has_shape and any(value.shape != shape for value in values):
            return None
    try:
        return torch.cat(values) if first.dim() else torch.stack(values)  # type: ignore[arg-type]
    except (RuntimeError, TypeError, NotImplementedError):
        return None


def _join_arrays(
    values: Sequence[np.ndarray[Any, Any]], first: np.ndarray[Any, Any], screen: Screen
) -> np.ndarray[Any, Any] | None:
    dtype, shape = first.dtype, first.shape
    # Joined with text, numbers would become text, which hides a NaN.
    if any(value.dtype != dtype for value in values):
        return None
    if isinstance(screen, TypedScreen) and screen.has_shape and any(value.shape != shape for value in values):
        return None
    try:
        return np.concatenate(values)
    except ValueError:
        return None
