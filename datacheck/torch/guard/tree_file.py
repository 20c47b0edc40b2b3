"""Trees of plain values and tensors on disk: ``tree.json`` and ``tensors.safetensors``. No pickle, no code.

Reading returns plain values, tensors and NumPy arrays. A dataclass becomes a :class:`types.SimpleNamespace` with the same
attributes, and a named tuple one of a new class: their own classes would have to be imported by names from the file.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datacheck.errors import SourceError, UsageError
from datacheck.text import plain
from datacheck.torch._compat import sparse_parts
from datacheck.torch.values import dtype_name

TREE_FILE = "tree.json"
TENSOR_FILE = "tensors.safetensors"
MAX_DEPTH = 64
#: The largest tree file to read: 256 MiB. Tensors are in the other file.
MAX_TREE_BYTES = 1 << 28

_NATIVE = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8}
    | {torch.int8, torch.int16, torch.int32, torch.int64}
)
_DTYPES = {dtype_name(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}


def write_tree(tree: Any, directory: Path) -> None:
    """Write ``tree`` into an existing ``directory``. Raises :class:`UsageError` naming a part that cannot be written."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    record = _encode(tree, "", tensors, 0)
    save_file(tensors, directory / TENSOR_FILE)
    (directory / TREE_FILE).write_text(json.dumps(record, allow_nan=False), encoding="utf-8")


def read_tree(directory: Path) -> Any:
    """The tree that :func:`write_tree` wrote."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tree_file = directory / TREE_FILE
    try:
        for file in (tree_file, directory / TENSOR_FILE):
            if not stat.S_ISREG(file.stat().st_mode):
                # Reading a device or a pipe may never end.
                raise SourceError("DC901", str(file), "is not a regular file")
        if tree_file.stat().st_size > MAX_TREE_BYTES:
            raise SourceError("DC904", str(tree_file), f"larger than {MAX_TREE_BYTES:,} bytes")
        record = json.loads(tree_file.read_text(encoding="utf-8"))
        tensors = load_file(directory / TENSOR_FILE)
    except FileNotFoundError as error:
        raise SourceError("DC902", str(directory), f"{error.filename} does not exist", "is this a bundle?") from error
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise SourceError("DC901", str(directory), f"cannot be read: {plain(str(error))}") from error
    try:
        return _decode(record, tensors, 0)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise SourceError("DC901", str(tree_file), f"is not a valid tree: {plain(str(error))}") from error


def _encode(value: Any, path: str, tensors: dict[str, Tensor], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise UsageError(f"{plain(path)}: nested more than {MAX_DEPTH} deep")
    if isinstance(value, (np.ndarray, np.generic)):
        return _encode_array(value, path, tensors)
    if value is None or isinstance(value, (bool, int, str)):
        return value if type(value) in (type(None), bool, int, str) else {"is": "plain", "value": _base(value)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"is": "float", "value": str(float(value))}
    if isinstance(value, complex):
        return {"is": "complex", "value": [str(value.real), str(value.imag)]}
    if isinstance(value, (bytes, bytearray)):
        return {"is": "bytes", "value": bytes(value).hex()}
    if isinstance(value, torch.dtype):
        return {"is": "dtype", "value": dtype_name(value)}
    if isinstance(value, torch.device):
        return {"is": "device", "value": str(value)}
    if isinstance(value, Tensor):
        return _encode_tensor(value, path, tensors)

    def inner(items: Any) -> list[Any]:
        return [_encode(item, f"{path}.{key}" if path else str(key), tensors, depth + 1) for key, item in items]

    if isinstance(value, Mapping):
        keys = [_encode(key, f"{path} (a key)", tensors, depth + 1) for key in value]
        return {"is": "dict", "keys": keys, "values": inner(value.items())}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {
            "is": "namedtuple",
            "keys": list(value._fields),
            "values": inner(zip(value._fields, value, strict=True)),
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        kind = next(kind for kind in ("list", "tuple", "set", "frozenset") if isinstance(value, _KINDS[kind]))
        return {"is": kind, "values": inner(enumerate(value))}
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        return {"is": "record", "keys": names, "values": inner((name, getattr(value, name)) for name in names)}
    raise UsageError(
        f"{plain(path) or 'the batch'}: a {plain(type(value).__name__)} cannot be written to a bundle; "
        "bundles hold tensors, arrays, numbers, text, and dicts, lists, tuples and dataclasses of these"
    )


_KINDS: dict[str, type] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def _base(value: Any) -> Any:
    return str(value) if isinstance(value, str) else int(value)


def _encode_tensor(tensor: Tensor, path: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    record: dict[str, Any] = {"is": "tensor", "requires_grad": tensor.requires_grad}
    if hasattr(tensor, "full_tensor"):
        tensor = tensor.full_tensor()
    tensor = tensor.detach()
    if tensor.layout is torch.sparse_coo:
        parts = sparse_parts(tensor)
        values = [_encode_tensor(part, f"{path}.{name}", tensors) for part, name in zip(parts, "iv", strict=True)]
        return {**record, "is": "sparse", "shape": list(tensor.shape), "values": values}
    if tensor.layout is not torch.strided:
        raise UsageError(f"{plain(path)}: a tensor with layout {tensor.layout} cannot be written to a bundle")
    tensor = tensor.cpu().resolve_conj().resolve_neg().contiguous()
    record["shape"], record["dtype"] = list(tensor.shape), dtype_name(tensor.dtype)
    if tensor.dtype not in _NATIVE:
        tensor = tensor.reshape(-1).view(torch.uint8)
    record["name"] = name = f"{len(tensors)}:{path}"
    # A copy, since safetensors refuses tensors that share memory.
    tensors[name] = tensor.clone()
    return record


def _encode_array(value: Any, path: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    array = np.asarray(value)
    if array.dtype.hasobject or array.dtype.names is not None:
        raise UsageError(f"{plain(path)}: an array of {array.dtype} cannot be written to a bundle")
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    name = f"{len(tensors)}:{path}"
    tensors[name] = torch.from_numpy(flat.copy())
    kind = "array" if isinstance(value, np.ndarray) else "scalar"
    return {"is": kind, "name": name, "dtype": array.dtype.str, "shape": list(array.shape)}


def _decode(record: Any, tensors: Mapping[str, Tensor], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deep")
    if not isinstance(record, dict):
        return record
    kind = record["is"]
    if kind == "plain":
        return record["value"]
    if kind == "float":
        return float(record["value"])
    if kind == "complex":
        return complex(*map(float, record["value"]))
    if kind == "bytes":
        return bytes.fromhex(record["value"])
    if kind == "dtype":
        return _DTYPES[record["value"]]
    if kind == "device":
        return torch.device(record["value"])
    if kind == "tensor":
        return _decode_tensor(record, tensors)
    if kind in ("array", "scalar"):
        dtype = np.dtype(record["dtype"])
        if dtype.kind not in "biufcSUmM":
            raise ValueError(f"an array of {dtype}")
        array = tensors[record["name"]].numpy().view(dtype).reshape(record["shape"])
        return array.copy() if kind == "array" else array[()]
    values = [_decode(item, tensors, depth + 1) for item in record["values"]]
    if kind == "sparse":
        sparse = torch.sparse_coo_tensor(values[0], values[1], record["shape"], check_invariants=True)
        return sparse.requires_grad_(record["requires_grad"])
    if kind in _KINDS:
        return _KINDS[kind](values)
    if kind == "dict":
        keys = [_decode(key, tensors, depth + 1) for key in record["keys"]]
        return dict(zip(keys, values, strict=True))
    names = [str(key) for key in record["keys"]]
    if kind == "record":
        return SimpleNamespace(**dict(zip(names, values, strict=True)))
    if kind == "namedtuple":
        if not all(re.fullmatch(r"[A-Za-z]\w*", name) for name in names):
            raise ValueError("an invalid field name")
        return namedtuple("Record", names)(*values)
    raise ValueError(f"unknown kind {kind!r}")


def _decode_tensor(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
    tensor = tensors[record["name"]]
    dtype = _DTYPES[record["dtype"]]
    if dtype not in _NATIVE:
        tensor = tensor.view(dtype)
    return tensor.reshape(record["shape"]).requires_grad_(bool(record["requires_grad"]))
