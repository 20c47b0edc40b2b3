"""A job by one shard and a merge, and as tasks of Ray on one node, against the threads of this process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import datacheck
from benchmarks.bench import Bench, is_installed
from benchmarks.inputs import write_parquet
from benchmarks.jobs import MEAN, write_pipeline
from benchmarks.results import Section, time_ratio
from benchmarks.timing import Contender, race
from datacheck.errors import ShardFinished
from datacheck.jobs.sharding.merge import Merge
from datacheck.jobs.sharding.shards import Shard

__all__ = ["measure"]

COLUMNS, _FILES, _GROUPS = 16, 4, 4
#: A round reads and writes half a gigabyte three times.
_ROUNDS = 4
#: More time than this times that of threads is not worth another process.
MOST = 1.2


def measure(bench: Bench) -> Section:
    """Learning a mean, cleaning and publishing files of several units each."""
    rows = bench.rows(500_000, 100)
    section = Section(
        "cluster",
        f"a job of {_FILES} files of {_GROUPS * rows:,} rows x {COLUMNS} float32: shards and Ray against threads",
        ["The same workers each, on one machine. The start of interpreters and of the Ray cluster is not counted."],
    )
    with bench.room("cluster") as room:
        for number in range(_FILES):
            (room / "data").mkdir(exist_ok=True)
            write_parquet(room / "data" / f"{number}.parquet", _GROUPS, rows, COLUMNS, use_dictionary=False)
        contenders = {
            "threads": _job(room, "threads", _run_in_threads),
            "one shard, and a merge": _job(room, "shard", _run_shard),
        }
        if is_installed("ray", section):
            contenders["ray"] = _job(room, "ray", _run_with_ray)
        timings = race([Contender(name, run, True) for name, run in contenders.items()], min_rounds=_ROUNDS)
        section.add_timings(timings.values())
        threads = timings["threads"]
        section.claims += [
            time_ratio(f"{name}, against threads", timing, threads, MOST)
            for name, timing in timings.items()
            if name != "threads"
        ]
    if is_installed("ray"):
        _stop_ray()
    return section


def _job(room: Path, name: str, run: Callable[[Path], datacheck.RunReport]) -> Callable[[], bool]:
    pipeline = room / f"{name}.yaml"
    write_pipeline(pipeline, room / "data", room / name, MEAN, COLUMNS)

    def work() -> bool:
        shutil.rmtree(room / name, ignore_errors=True)
        return run(pipeline).ok

    return work


def _run_in_threads(pipeline: Path) -> datacheck.RunReport:
    return datacheck.run(pipeline)


def _run_shard(pipeline: Path) -> datacheck.RunReport:
    with suppress(ShardFinished):
        datacheck.run(pipeline, executor=Shard(1, 1))
    return datacheck.run(pipeline, executor=Merge())


def _run_with_ray(pipeline: Path) -> datacheck.RunReport:
    from datacheck.jobs.executors.ray_cluster import RayExecutor

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    return datacheck.run(pipeline, executor=RayExecutor())


def _stop_ray() -> None:
    import ray

    ray.shutdown()
