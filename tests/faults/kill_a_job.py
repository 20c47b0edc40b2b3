"""Kill runs with SIGKILL at random instants, resume them, and check the output each time. Run as a program.

Every run is a fork of this process, which has imported everything and started no thread, so a kill costs little.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from job_files import contents, write_pipeline, write_table

from datacheck.jobs import run as job

IMPUTE = {"action": "impute", "strategy": "median", "fields": "x", "codes": ["DC101", "DC104"]}
ASIDE = {"action": "quarantine", "codes": ["DC102", "DC301"]}
DROP = {"action": "drop_row", "codes": "DC1"}
SCHEMA = {"fields": {"id": {"unique": True}, "x": {}}}

Work = Callable[[], Any]


def make_tables(folder: Path) -> Any:
    random_ = np.random.default_rng(0)
    for number in range(8):
        x = random_.standard_normal(4000)
        x[::31], x[7::400] = np.nan, np.inf
        ids = np.arange(4000) + 3990 * number
        write_table(folder / "in" / f"{number}.parquet", {"id": ids, "x": x}, row_group_size=1000)
    return {"train": [f"in/{number}.parquet" for number in range(6)], "val": ["in/6.parquet", "in/7.parquet"]}


def make_arrays(folder: Path) -> Any:
    from datacheck.sources import aligned, base

    # Small units, so that there are parts to concatenate.
    base.split_rows.__defaults__ = (1 << 16,)
    aligned.split_rows.__defaults__ = (1 << 16,)
    random_ = np.random.default_rng(0)
    for split in ("train", "val"):
        x = random_.standard_normal((6000, 8)).astype(np.float32)
        x[::50, 2], x[::700, 1] = np.nan, np.inf
        np.save(folder / f"{split}-x.npy", x)
        np.save(folder / f"{split}-y.npy", np.arange(6000))
    return {split: {"x": f"{split}-x.npy", "y": f"{split}-y.npy"} for split in ("train", "val")}


def make_samples(folder: Path) -> Any:
    random_ = np.random.default_rng(0)
    for number in range(120):
        path = folder / "images" / ("train" if number % 4 else "val") / f"{number:03}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        x = random_.standard_normal((3, 8, 8)).astype(np.float32)
        if number % 9 == 0:
            x[1, 2, 3] = np.inf if number % 2 else np.nan
        np.savez(path, x=x)
    return {split: {"path": f"images/{split}", "rows": "file"} for split in ("train", "val")}


def make_shards(folder: Path) -> Any:
    """Shards of MDS, two in a folder; each split gets an index."""
    from every_format import DIRTY, make_arrays

    for number in range(4):
        x, block = make_arrays(number, 1500)
        (folder / "in" / str(number)).mkdir(parents=True)
        DIRTY["mds"].write(folder / "in" / str(number), np.abs(x), np.nan_to_num(block))
    return {"train": ["in/0", "in/1", "in/2"], "val": "in/3"}


def make_text(folder: Path, suffix: str) -> Any:
    random_ = np.random.default_rng(0)
    for number in range(6):
        rows = [
            {"id": 1500 * number + row, "x": round(float(value), 6) if row % 31 else None}
            for row, value in enumerate(random_.standard_normal(1500))
        ]
        if suffix == ".csv":
            lines = ["id,x", *(f"{row['id']},{'' if row['x'] is None else row['x']}" for row in rows), "1,inf", "1,2,3"]
        else:
            lines = [*map(json.dumps, rows), "{"]
        path = folder / "in" / f"{number}{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([*lines, ""]))
    return {"train": [f"in/{number}{suffix}" for number in range(4)], "val": [f"in/4{suffix}", f"in/5{suffix}"]}


def make_archives(folder: Path) -> Any:
    """Archives of samples, of which some have bad values."""
    random_ = np.random.default_rng(0)
    for number in range(6):
        path = folder / "in" / f"{number}.tar"
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for row in range(150):
                values = random_.standard_normal(16).astype(np.float32)
                values[3] = np.inf if row % 13 == 0 else values[3]
                buffer = io.BytesIO()
                np.save(buffer, values)
                for suffix, content in ((".npy", buffer.getvalue()), (".cls", b"1")):
                    member = tarfile.TarInfo(f"{number}-{row:03}{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return {"train": [f"in/{number}.tar" for number in range(4)], "val": ["in/4.tar", "in/5.tar"]}


def make_images(folder: Path) -> Any:
    from PIL import Image

    random_ = np.random.default_rng(0)
    for number in range(80):
        path = folder / "in" / ("train" if number % 4 else "val") / f"{number % 3}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_.integers(0, 255, (24, 24, 3), np.uint8)).save(path)
        if number % 9 == 0:
            path.write_bytes(path.read_bytes()[:-40])
    return {"train": "in/train", "val": "in/val"}


MAKERS = {
    "tables": make_tables,
    "arrays": make_arrays,
    "samples": make_samples,
    "shards": make_shards,
    "csv": partial(make_text, suffix=".csv"),
    "jsonl": partial(make_text, suffix=".jsonl"),
    "tar": make_archives,
    "images": make_images,
}
#: Kinds whose samples have no field called x.
NAMELESS = ("tar", "images")


def forked(work: Work) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def wait_for(pid: int) -> bool:
    """Whether the process was killed; a failure is an error."""
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a run failed")
    return os.WIFSIGNALED(status)


def killed_after(seconds: float, work: Work) -> bool:
    pid = forked(work)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return wait_for(pid)


def killed_while_publishing(output: Path, seconds: float, work: Work) -> bool:
    """Kill a run some seconds after it has started to publish."""
    pid = forked(work)
    state = output / ".datacheck" / "run.json"
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if not (os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0):
                raise SystemExit("a run failed")
            return False
        try:
            if json.loads(state.read_bytes())["moves"]:
                break
        except (OSError, ValueError):
            pass
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return wait_for(pid)


def published(output: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(output).items() if not name.startswith(".")}


def check_output(output: Path, *wholes: dict[str, bytes]) -> None:
    """Files with final names are complete, and a manifest implies that all its files exist."""
    there = published(output)
    for name, content in there.items():
        if content not in [whole.get(name) for whole in wholes]:
            raise SystemExit(f"{name} is not whole")
    if "manifest.json" in there and there not in wholes:
        raise SystemExit(f"there is a manifest beside {sorted(there)}")


def parts_done(output: Path) -> dict[int, str]:
    """The staged parts of finished units, by inode."""
    parts = output / ".datacheck" / "parts"
    found = {}
    for record in (output / ".datacheck" / "units").glob("*.json"):
        for name, size in (part for unit in json.loads(record.read_bytes())["units"] for part in unit["parts"]):
            if (parts / name).exists():
                status = (parts / name).stat()
                if status.st_size != size:
                    raise SystemExit(f"{record.name} speaks of a part that is not whole")
                found[status.st_ino] = name
    return found


def kill_again_and_again(folder: Path, rounds: int, kind: str, *, overwrite: bool) -> int:
    inputs = MAKERS[kind](folder)
    schema = {"schema": SCHEMA} if kind == "tables" else {}
    rules = [ASIDE] if kind in NAMELESS else [IMPUTE, ASIDE]
    choose = random.Random(os.urandom(8))

    def pipeline(name: str, plan: list[dict[str, Any]]) -> Path:
        (folder / name).mkdir(exist_ok=True)
        written = write_pipeline(folder, inputs, plan, output={"path": f"{name}/out"}, name="job", **schema)
        return written.rename(folder / f"{name}.yaml")

    def run_once(path: Path, *, replace: bool = False) -> Work:
        return lambda: job.run(path, workers=2, overwrite=replace)

    started = time.perf_counter()
    wait_for(forked(run_once(pipeline("whole", rules))))
    longest = 1.1 * (time.perf_counter() - started)
    wait_for(forked(run_once(pipeline("old", [DROP]))))
    whole, old = published(folder / "whole" / "out"), published(folder / "old" / "out")
    kills = 0
    for number in range(rounds):
        name = f"job-{number}"
        output = folder / name / "out"
        if overwrite:
            wait_for(forked(run_once(pipeline(name, [DROP]))))
        path = pipeline(name, rules)
        done: dict[int, str] = {}
        for _ in range(3):
            work = run_once(path, replace=overwrite and published(output) != whole)
            if choose.random() < 0.5:
                landed = killed_after(choose.uniform(0, longest), work)
                # The machine may have been busy when the whole run was timed: if a kill was too late, kill earlier.
                longest *= 1 if landed else 0.5
                kills += landed
            else:
                kills += killed_while_publishing(output, choose.uniform(0, 0.02), work)
            check_output(output, whole, *([old] if overwrite else []))
            done |= parts_done(output)
        wait_for(forked(run_once(path, replace=overwrite and published(output) != whole)))
        check_end(output, whole, done, kind)
    return kills


def check_end(output: Path, whole: dict[str, bytes], done: dict[int, str], kind: str) -> None:
    if contents(output) != whole:
        raise SystemExit(f"{output} ends with {sorted(contents(output))}, not {sorted(whole)}")
    if (output / ".datacheck").exists():
        raise SystemExit("the staging area is still there")
    there = {path.stat().st_ino for path in output.rglob("*")}
    again = {name for inode, name in done.items() if inode not in there}
    # Row parts of arrays are concatenated into another file.
    again -= {name for name in again if kind == "arrays" and name.endswith(".npy")}
    if again:
        raise SystemExit(f"finished parts were written again: {sorted(again)}")


if __name__ == "__main__":
    _, place, count, what, how = sys.argv
    print(kill_again_and_again(Path(place), int(count), what, overwrite=how == "overwrite"))
