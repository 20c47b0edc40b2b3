"""Copy a sample with some of its values replaced, keeping all types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from datacheck.leaves import FLOAT_FORMATS
from datacheck.torch.loader.screens import is_image
from datacheck.torch.loader.walker import parts_of
from datacheck.torch.structure import with_parts
from datacheck.torch.values import dtype_name

__all__ = ["replace_values"]


def replace_values(sample: Any, values: Mapping[str | None, Any]) -> Any:
    """A copy of ``sample`` with the one-row columns in ``values``, by path, in place of its own values.

    The sample itself is not changed, since the dataset may keep it.
    """
    return _rewrite(None, sample, values) if values else sample


def _rewrite(path: str | None, value: Any, values: Mapping[str | None, Any]) -> Any:
    if path in values:
        return _converted(value, values[path])
    parts = None if isinstance(value, torch.Tensor | np.ndarray | np.generic) else parts_of(value)
    if parts is None:
        return value
    new: dict[str, Any] = {}
    for name, part in parts:
        rewritten_part = _rewrite(f"{path}.{name}" if path is not None else name, part, values)
        if rewritten_part is not part:
            new[name] = rewritten_part
    return with_parts(value, new) if new else value


def _converted(before: Any, column: Any) -> Any:
    """The one row of a column as a value of the original type."""
    if not isinstance(column, np.ndarray):
        value = column[0].as_py()
        return tuple(value) if isinstance(before, tuple) else value
    after = column[0]
    if isinstance(before, torch.Tensor):
        return _tensor_like(before, np.ascontiguousarray(after))
    if is_image(type(before)):
        image = before.copy()
        image.putdata(np.asarray(after).reshape(-1).tolist())
        return image
    if isinstance(before, np.ndarray):
        return np.asanyarray(after).reshape(before.shape)
    if isinstance(before, np.generic):
        return np.asarray(after)[()]
    return np.asarray(after).tolist()


def _tensor_like(before: torch.Tensor, array: np.ndarray[Any, Any]) -> torch.Tensor:
    tensor = torch.from_numpy(array.copy())
    if dtype_name(before.dtype) in FLOAT_FORMATS:
        tensor = tensor.view(before.dtype)
    tensor = tensor.reshape(before.shape).to(before.device, before.dtype).as_subclass(type(before))
    return tensor.requires_grad_(before.requires_grad) if before.requires_grad else tensor
