"""Kill writers with SIGKILL at random instants, many times, and check what they leave. Run as a program.

Every writer is a fork of this process, so a kill costs milliseconds and hundreds of instants are tried.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from datacheck.batch import Batch, Column
from datacheck.publishing.staging import StagingArea
from datacheck.sinks import get_sink
from datacheck.storage.local import LocalStorage

STORAGE = LocalStorage()
UNITS = 6
FORMATS = ("parquet", "arrow", "csv", "npy", "npz", "safetensors")


def killed_after(seconds: float, work: Callable[[], None]) -> bool:
    """Run ``work`` in a fork and kill it after some seconds; returns whether it was still running."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def durations(count: int, longest: float) -> list[float]:
    rng = random.Random(os.urandom(8))
    return [rng.uniform(0, longest) for _ in range(count)]


def old_or_new(folder: Path, rounds: int) -> int:
    """A file that is replaced over and over always has the content of one complete write."""
    contents = [bytes([letter]) * 300_000 for letter in b"abc"]
    target = folder / "target"
    STORAGE.put(str(target), contents[0])

    def replace_for_ever() -> None:
        while True:
            for content in contents:
                STORAGE.put(str(target), content)

    kills = 0
    for seconds in durations(rounds, 0.02):
        kills += killed_after(seconds, replace_for_ever)
        check_content(target, contents)
    return kills


def check_content(target: Path, contents: list[bytes]) -> None:
    if target.read_bytes() not in contents:
        raise SystemExit(f"a partial file of {target.stat().st_size} bytes was published")


def unit_batch(unit: int) -> Batch:
    values = np.random.default_rng(unit).standard_normal(20_000).astype(np.float32)
    return Batch((Column("x", values),), len(values))


def small_job(output: Path, fmt: str) -> None:
    """Writes parts, records units and publishes, as a job does."""
    with StagingArea(str(output)) as area:
        finished = area.finished_units()
        for unit in range(UNITS):
            name = f"unit{unit}"
            if name in finished:
                continue
            batch = unit_batch(unit)
            writer = get_sink(fmt).open(area.part_uri(name), batch.take(np.arange(0)))
            for start in range(0, batch.num_rows, 6000):
                writer.write(batch.take(np.arange(start, min(start + 6000, batch.num_rows))))
            area.record_unit(name, {"size": writer.close()})
        moves = [(area.part_uri(f"unit{unit}"), str(output / f"unit{unit}")) for unit in range(UNITS)]
        STORAGE.move_all(move for move in moves if Path(move[0]).exists())
        STORAGE.put(str(output / "manifest.json"), json.dumps(area.finished_units()).encode())
        area.clear()


def killed_and_resumed(folder: Path, rounds: int) -> int:
    """A small job that is killed again and again ends with the same bytes as one that was not."""
    kills = 0
    for fmt in FORMATS:
        whole = folder / f"{fmt}-whole"
        started = time.perf_counter()
        small_job(whole, fmt)
        longest = 1.2 * (time.perf_counter() - started)
        expected = content(whole)
        for place, seconds in enumerate(durations(rounds, longest)):
            output = folder / f"{fmt}-{place}"
            for again in (seconds, seconds / 2, seconds / 3):
                kills += killed_after(again, lambda output=output, fmt=fmt: small_job(output, fmt))
                check_records(output)
            if not (output / "manifest.json").exists() or (output / ".datacheck").exists():
                small_job(output, fmt)
            if content(output) != expected:
                raise SystemExit(f"{output} differs: {sorted(content(output))} and {sorted(expected)}")
    return kills


def check_records(output: Path) -> None:
    for record in (output / ".datacheck" / "units").glob("*.json"):
        size = json.loads(record.read_bytes())["size"]
        staged, final = output / ".datacheck" / "parts" / record.stem, output / record.stem
        if (staged if staged.exists() else final).stat().st_size != size:
            raise SystemExit(f"{record} speaks of a part that is not whole")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    scenario = {"old_or_new": old_or_new, "killed_and_resumed": killed_and_resumed}[sys.argv[1]]
    print(scenario(Path(sys.argv[2]), int(sys.argv[3])))
