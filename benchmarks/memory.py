"""Peak memory of scans and jobs over files of 4 GB, each in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import Bench
from benchmarks.clean import plant_for_cleaning
from benchmarks.inputs import plant, write_npy, write_parquet
from benchmarks.jobs import MEAN, write_pipeline
from benchmarks.results import Claim, Section
from benchmarks.timing import Timing
from datacheck.jobs.executors.local import default_workers

__all__ = ["Peak", "measure", "measure_peak"]

_FULL_BYTES = 4_000_000_000
_TARGET_MB = 600
_COLUMNS, _ROWS_EACH, _FEATURES = 32, 500_000, 256
#: Also measured, since a machine of many processors has so many workers unless told otherwise; on a part of the file,
#: since the peak does not depend on how many row groups there are.
_MANY_WORKERS, _PART_GROUPS = 8, 16


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes that were resident at most, above those before the job, and the seconds of the whole process."""

    num_bytes: int
    seconds: float


def measure(bench: Bench) -> Section:
    """Parquet, then ``.npy``: one file lies on the disk at a time, with what is made of it."""
    section = Section(
        "memory",
        f"peak memory above the interpreter with imports, files of {_FULL_BYTES * bench.scale / 1e9:g} GB",
        [
            "A process of its own for each: VmHWM at the end, less VmRSS after the same job on a tiny file.",
            "Mapped pages of the input count. run: learn means, drop, impute, write. Timed once, as a whole process.",
        ],
    )
    if not sys.platform.startswith("linux"):
        section.notes.append("Not measured: it needs /proc.")
        return section
    num_groups = max(1, round(_FULL_BYTES * bench.scale / (_ROWS_EACH * _COLUMNS * 4)))
    rows_each = min(_ROWS_EACH, bench.rows(_FULL_BYTES // (_COLUMNS * 4), 100))
    with bench.room("memory") as room:
        tiny = _write_table(room / "tiny.parquet", 1, 1000)
        real = _write_table(room / "real.parquet", num_groups, rows_each)
        _measure_jobs(section, room, "parquet", tiny, real, _COLUMNS)
        real.unlink()
        part = _write_table(room / "part.parquet", min(_PART_GROUPS, num_groups), rows_each)
        peak = _measure_run(room, _MANY_WORKERS, tiny, part, _COLUMNS)
        _add(section, f"run, parquet, part of the file, {_MANY_WORKERS} workers", part, peak, None)
    with bench.room("memory") as room:
        tiny = _write_array(room / "tiny.npy", 1000)
        real = _write_array(room / "real.npy", bench.rows(_FULL_BYTES // 4 // _FEATURES, 100))
        _measure_jobs(section, room, "npy", tiny, real, None)
    return section


def measure_peak(job: str, workers: int, tiny: Path, real: Path) -> Peak:
    """Run ``benchmarks.memory_child`` and read what it prints."""
    words = [sys.executable, "-m", "benchmarks.memory_child", job, str(workers), str(tiny), str(real)]
    started = time.perf_counter()
    done = subprocess.run(words, capture_output=True, check=True, text=True)
    seconds = time.perf_counter() - started
    printed = json.loads(done.stdout)
    return Peak(printed["peak"] - printed["before"], seconds)


def _measure_jobs(section: Section, room: Path, kind: str, tiny: Path, real: Path, num_columns: int | None) -> None:
    workers = default_workers()
    _add(section, f"scan, {kind}, {workers} workers", real, measure_peak("scan", workers, tiny, real))
    what = f"run, {kind}, {workers} workers"
    _add(section, what, real, _measure_run(room, workers, tiny, real, num_columns))


def _measure_run(room: Path, workers: int, tiny: Path, real: Path, num_columns: int | None) -> Peak:
    outputs = [room / f"out-{data.stem}" for data in (tiny, real)]
    files = [room / f"{data.stem}.yaml" for data in (tiny, real)]
    for file, data, output in zip(files, (tiny, real), outputs, strict=True):
        write_pipeline(file, data, output, MEAN, num_columns)
    try:
        return measure_peak("run", workers, *files)
    finally:
        for output in outputs:
            shutil.rmtree(output, ignore_errors=True)


def _add(section: Section, what: str, data: Path, peak: Peak, target: float | None = _TARGET_MB) -> None:
    section.add_timings([Timing(what, (peak.seconds,), data.stat().st_size)])
    section.claims.append(Claim(what, peak.num_bytes / 1e6, target, unit="MB"))


def _write_table(path: Path, num_row_groups: int, rows_each: int) -> Path:
    fill = partial(plant_for_cleaning, share=1e-4)
    return write_parquet(path, num_row_groups, rows_each, _COLUMNS, fill, use_dictionary=False)


def _write_array(path: Path, num_rows: int) -> Path:
    def fill(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        plant(block, 1e-5)
        return block

    return write_npy(path, (num_rows, _FEATURES), "float32", fill)
