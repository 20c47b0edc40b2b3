"""Identify a dataset by its class, its length, and the paths, strings and arrays it holds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Subset

from datacheck.torch.values import as_numpy

#: Entries of a list, or values of an array, that are hashed.
NUM_PROBES = 4096


def fingerprint_of(dataset: Any) -> str:
    """A string that is the same for the same dataset in another process or run, computed in milliseconds.

    It covers classes, lengths, and attributes that are strings, paths, arrays, tensors, and lists of them: what a dataset
    reads from. It ignores numbers, functions and other objects, which may change while the data stays. A method or attribute
    ``fingerprint`` of the dataset takes precedence, as does ``_fingerprint`` of Hugging Face datasets.
    """
    digest = hashlib.blake2b(digest_size=16)
    _add_dataset(digest, dataset)
    return f"blake2b:{digest.hexdigest()}"


def _add_dataset(digest: Any, dataset: Any) -> None:
    for name in ("fingerprint", "_fingerprint"):
        own = getattr(dataset, name, None)
        own = own() if callable(own) else own
        if isinstance(own, str):
            _add_text(digest, own)
            return
    _add_text(digest, f"{type(dataset).__module__}.{type(dataset).__qualname__}")
    if isinstance(dataset, Subset):
        _add_value(digest, dataset.indices)
        _add_dataset(digest, dataset.dataset)
        return
    if isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            _add_dataset(digest, part)
        return
    if isinstance(dataset, Sized):
        try:
            _add_text(digest, str(len(dataset)))
        except TypeError:
            _add_text(digest, "without a length")
    attributes = getattr(dataset, "__dict__", {})
    for name in sorted(attributes):
        value = attributes[name]
        if isinstance(value, torch.utils.data.Dataset) and value is not dataset:
            _add_text(digest, name)
            _add_dataset(digest, value)
        elif _is_content(value):
            _add_text(digest, name)
            _add_value(digest, value)


def _is_content(value: Any) -> bool:
    if isinstance(value, str | os.PathLike | np.ndarray | torch.Tensor):
        return True
    if isinstance(value, Mapping):
        return len(value) > 0 and all(_is_content(part) for part in _sample_of(list(value.values())))
    return isinstance(value, Sequence) and len(value) > 0 and _is_entry(value[0])


def _is_entry(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(isinstance(part, str | os.PathLike | np.ndarray | torch.Tensor) for part in value)
    return isinstance(value, int | str | os.PathLike | np.ndarray | torch.Tensor)


def _add_value(digest: Any, value: Any) -> None:
    if isinstance(value, str | os.PathLike):
        _add_text(digest, os.fsdecode(value))
    elif isinstance(value, torch.Tensor):
        _add_tensor(digest, value)
    elif isinstance(value, np.ndarray):
        _add_text(digest, f"{value.dtype} {value.shape}")
        flat = value.reshape(-1) if value.flags.c_contiguous else value.flat
        chosen = np.asarray(flat[_positions(value.size)])
        digest.update(
            str(chosen.tolist()).encode() if value.dtype.hasobject else np.ascontiguousarray(chosen).tobytes()
        )
    elif isinstance(value, Mapping):
        for key in sorted(map(str, value)):
            _add_text(digest, key)
        for part in _sample_of(list(value.values())):
            _add_value(digest, part)
    elif isinstance(value, Sequence):
        _add_text(digest, str(len(value)))
        for part in _sample_of(value):
            _add_value(digest, part)
    elif isinstance(value, int):
        _add_text(digest, str(value))


def _add_tensor(digest: Any, value: torch.Tensor) -> None:
    _add_text(digest, f"{value.dtype} {tuple(value.shape)}")
    if value.layout is torch.strided and not value.is_meta:
        flat = value.detach().reshape(-1)
        chosen = flat[torch.from_numpy(_positions(flat.numel()))]
        digest.update(np.ascontiguousarray(as_numpy(chosen)).tobytes())


def _positions(size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.unique(np.linspace(0, max(size - 1, 0), min(size, NUM_PROBES)).astype(np.int64))


def _sample_of(values: Sequence[Any]) -> list[Any]:
    return [values[position] for position in _positions(len(values)).tolist()]


def _add_text(digest: Any, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    digest.update(len(data).to_bytes(8, "little") + data)
