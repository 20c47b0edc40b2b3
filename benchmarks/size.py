"""Cost against size: four and sixteen times the rows should take four and sixteen times as long."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import datacheck
from benchmarks.bench import Bench
from benchmarks.inputs import make_schema, write_npy, write_parquet
from benchmarks.jobs import CONSTANT, run_pipeline, write_pipeline
from benchmarks.results import Claim, Section
from benchmarks.timing import Contender, Timing, race

__all__ = ["measure"]

STEPS = (1, 4, 16)
COLUMNS = 8
_ROWS_EACH = 250_000
_FULL_GROUPS = 4
_FULL_NPY_BYTES = 64 << 20
#: A line is straight enough where sixteen times the rows take no more than this times sixteen times as long.
STRAIGHT = 1.25


def measure(bench: Bench) -> Section:
    """A scan of Parquet, a scan of an ``.npy``, and a job, each at three sizes."""
    rows = bench.rows(_ROWS_EACH, 100)
    section = Section(
        "size",
        f"cost against size: {', '.join(f'{step}x' for step in STEPS)}; 1x is {_FULL_GROUPS * rows:,} rows x {COLUMNS} float32",
        [
            "Time for each row, against that of 1x: a straight line through nothing gives 1.00; costs that are fixed, less."
        ],
    )
    with bench.room("size") as room:
        parquet = {
            step: write_parquet(room / f"{step}.parquet", _FULL_GROUPS * step, rows, COLUMNS, use_dictionary=False)
            for step in STEPS
        }
        npy_rows = bench.rows(_FULL_NPY_BYTES // 4 // 256)
        npy = {step: write_npy(room / f"{step}.npy", (npy_rows * step, 256), "float32") for step in STEPS}
        schema = make_schema(COLUMNS)
        _measure_steps("scan, parquet", parquet, lambda path: datacheck.scan(path, schema).ok, section)
        _measure_steps("scan, npy", npy, lambda path: datacheck.scan(path).ok, section)

        def clean(path: Path) -> bool:
            pipeline = write_pipeline(room / "job.yaml", path, room / "out", CONSTANT, COLUMNS)
            kept, dropped = run_pipeline(pipeline)
            shutil.rmtree(pipeline.output)
            return kept > 0 and dropped == 0

        _measure_steps("run, parquet", parquet, clean, section)
    return section


def _measure_steps(work: str, paths: dict[int, Path], run: Callable[[Path], bool], section: Section) -> None:
    contenders = [Contender(f"{work}, {step}x", partial(run, path), True) for step, path in paths.items()]
    timings = list(race(contenders).values())
    section.add_timings(timings)
    section.claims += [
        _slope(work, timings[0], timing, step) for step, timing in zip(STEPS[1:], timings[1:], strict=True)
    ]


def _slope(work: str, first: Timing, timing: Timing, step: int) -> Claim:
    what = f"{work}: time for each row at {step}x"
    return Claim(
        what, timing.median / first.median / step, STRAIGHT, unit="x that at 1x", best=timing.best / first.best / step
    )
