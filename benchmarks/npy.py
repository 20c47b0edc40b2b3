"""One large ``.npy``: NaN and infinities counted, beside reductions that count nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import datacheck
from benchmarks.bench import Bench, is_installed
from benchmarks.inputs import LIMIT, plant, write_npy
from benchmarks.results import Claim, Section, speed_ratio
from benchmarks.timing import Contender, Timing, race

__all__ = ["count_bad", "measure", "torch_is_finite"]

Array = np.ndarray[Any, Any]

_FULL_BYTES = 1 << 30
_FEATURES = 256
_HALF_PEER = "float16, map: np.isfinite().all()"
_BOUNDS = {"ge": -LIMIT, "le": LIMIT}


@dataclass(frozen=True, slots=True)
class _Wide:
    """What float32 and float64 are held against."""

    dtype: str
    reduce_target: float = 0.9
    bounds_target: float = 0.6


def measure(bench: Bench) -> Section:
    """Every dtype of the targets, then dirty files."""
    section = Section(
        "npy",
        f"an .npy of {_FULL_BYTES * bench.scale / (1 << 30):g} GiB, memory-mapped, page cache warm, one thread each",
        [
            "map: the work over one map that is held open, whose pages are known to the process.",
            "file: from a path and back: open, read the header, map, work, unmap; datacheck.scan(path, workers=1) there.",
            "datacheck counts NaN, +inf and -inf; the others count nothing. The file is written as np.save writes.",
        ],
    )
    with bench.room("npy") as room:
        for wide in (_Wide("float32"), _Wide("float64")):
            _measure_wide(bench, room, wide, section)
        _measure_half(bench, room, section)
        for share in (1e-6, 1e-2):
            _measure_dirty(bench, room, share, section)
    return section


def count_bad(data: Any, schema: Any = None) -> int:
    """How many violations datacheck finds, in one thread."""
    report = datacheck.scan(data, schema, workers=1)
    return sum(finding.num_violations for finding in report.findings)


def torch_is_finite(array: Array) -> Callable[[], bool]:
    """``torch.isfinite(x).all()`` over the memory of an array, in one thread."""
    import torch

    with warnings.catch_warnings():
        # The map cannot be written to, and nobody will.
        warnings.simplefilter("ignore", UserWarning)
        tensor = torch.from_numpy(array)

    def run() -> bool:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return bool(torch.isfinite(tensor).all())
        finally:
            torch.set_num_threads(before)

    return run


def _measure_wide(bench: Bench, room: Path, wide: _Wide, section: Section) -> None:
    name, dtype = wide.dtype, np.dtype(wide.dtype)
    path = write_npy(room / f"{name}.npy", _shape(bench, dtype), dtype)
    mapped = np.load(path, mmap_mode="r")
    flat = mapped.reshape(-1)
    schema = datacheck.Schema.model_validate({"fields": {"values": {"dtype": name, **_BOUNDS}}})
    reduced, finite = "np.add.reduce", "np.isfinite().all()"
    plain, bounded = "datacheck", "datacheck, with bounds"
    works: dict[str, Callable[[], object]] = {
        f"{name}, map: {reduced}": lambda: np.add.reduce(flat),
        f"{name}, map: {finite}": lambda: bool(np.isfinite(flat).all()),
        f"{name}, map: {plain}": lambda: count_bad(mapped) == 0,
        f"{name}, map: {bounded}": lambda: count_bad(mapped, schema) == 0,
        f"{name}, file: {reduced}": lambda: np.add.reduce(_map(path)),
        f"{name}, file: {finite}": lambda: bool(np.isfinite(_map(path)).all()),
        f"{name}, file: {plain}": lambda: count_bad(path) == 0,
        f"{name}, file: {bounded}": lambda: count_bad(path, schema) == 0,
    }
    contenders = [Contender(what, run, None if reduced in what else True) for what, run in works.items()]
    timings = race(contenders, num_bytes=flat.nbytes)
    section.add_timings(timings.values())
    targets = [(plain, reduced, wide.reduce_target), (bounded, reduced, wide.bounds_target)]
    if name == "float32":
        targets.append((plain, finite, 1.5))
    for where in ("map", "file"):
        section.claims += [
            _against(f"{name}, {where}: {ours}", f"{name}, {where}: {peer}", timings, target)
            for ours, peer, target in targets
        ]
    section.claims.append(_against(f"{name}, file: {plain}", f"{name}, map: {reduced}", timings))
    if name == "float32" and is_installed("torch", section):
        section.claims.append(_against_torch(mapped, section))
    path.unlink()


def _map(path: Path) -> Array:
    mapped: Array = np.load(path, mmap_mode="r")
    return mapped.reshape(-1)


def _against_torch(mapped: Array, section: Section) -> Claim:
    """In a race of its own: it takes longer than all the others together."""
    ours, peer = "float32, map: datacheck, again", "float32, map: torch.isfinite().all()"
    contenders = [
        Contender(ours, lambda: count_bad(mapped), 0),
        Contender(peer, torch_is_finite(mapped.reshape(-1)), True),
    ]
    timings = race(contenders, num_bytes=mapped.nbytes)
    section.add_timings(timings.values())
    return _against(ours, peer, timings, 10.0)


def _measure_half(bench: Bench, room: Path, section: Section) -> None:
    paths = {
        "float16": write_npy(room / "float16.npy", _shape(bench, np.dtype(np.float16)), np.float16),
        "bfloat16": write_npy(room / "bfloat16.npy", _shape(bench, np.dtype(np.uint16)), np.uint16),
    }
    flat = np.load(paths["float16"], mmap_mode="r").reshape(-1)
    contenders = [Contender(_HALF_PEER, lambda: bool(np.isfinite(flat).all()), True)]
    for dtype, path in paths.items():
        schema = datacheck.Schema.model_validate({"fields": {"values": {"dtype": dtype}}})
        mapped = np.load(path, mmap_mode="r")
        name = dtype if dtype == "float16" else "bfloat16 as uint16"
        contenders += [
            Contender(f"{name}, map: datacheck", partial(count_bad, mapped, schema), 0),
            Contender(f"{name}, file: datacheck", partial(count_bad, path, schema), 0),
        ]
    timings = race(contenders, num_bytes=flat.nbytes)
    section.add_timings(timings.values())
    section.claims += [_against(name, _HALF_PEER, timings, 3.0) for name in timings if name != _HALF_PEER]
    for path in paths.values():
        path.unlink()


def _measure_dirty(bench: Bench, room: Path, share: float, section: Section) -> None:
    planted = 0

    def fill(block: Array) -> Array:
        nonlocal planted
        planted += plant(block, share)
        return block

    path = write_npy(room / "dirty.npy", _shape(bench, np.dtype(np.float32)), np.float32, fill)
    flat = np.load(path, mmap_mode="r").reshape(-1)
    ours, peer = (f"float32, {share:g} NaN, {what}" for what in ("file: datacheck", "map: np.isnan(), counted"))
    contenders = [
        Contender(ours, lambda: count_bad(path), planted),
        Contender(peer, lambda: int(np.count_nonzero(np.isnan(flat))), planted),
    ]
    timings = race(contenders, num_bytes=flat.nbytes)
    section.add_timings(timings.values())
    section.claims.append(_against(ours, peer, timings))
    path.unlink()


def _against(ours: str, peer: str, timings: dict[str, Timing], target: float | None = None) -> Claim:
    return speed_ratio(f"{ours} / {peer.partition(', ')[2]}", timings[ours], timings[peer], target)


def _shape(bench: Bench, dtype: np.dtype[Any]) -> tuple[int, int]:
    return bench.rows(_FULL_BYTES // dtype.itemsize // _FEATURES), _FEATURES
