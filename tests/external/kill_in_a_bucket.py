"""Kill runs that publish to a bucket with SIGKILL, resume them, and check the objects each time.

One run is killed before each of the requests that change the bucket, others at random instants. Run as a program: every run
is a fork of this process, which has imported everything but what talks to the store.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import numpy as np

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "faults")]

from job_files import write_pipeline, write_table  # noqa: E402
from kill_a_job import forked, killed_after, wait_for  # noqa: E402

from datacheck.jobs import run as job  # noqa: E402
from datacheck.storage.object_client import ObjectClient  # noqa: E402

RULES = [
    {"action": "impute", "strategy": "median", "fields": "x", "codes": "DC101"},
    {"action": "quarantine", "codes": "DC102"},
]
NUM_FILES = 4


class Objects:
    def __init__(self, endpoint: str, bucket: str) -> None:
        self._client = boto3.client("s3", endpoint_url=endpoint)
        self._bucket = bucket

    def below(self, prefix: str) -> dict[str, Any]:
        """Etag and time of every object below a prefix."""
        found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=f"{prefix}/").get("Contents", ())
        return {one["Key"].removeprefix(f"{prefix}/"): (one["ETag"], one["LastModified"]) for one in found}

    def uploads(self) -> list[Any]:
        return self._client.list_multipart_uploads(Bucket=self._bucket).get("Uploads", [])


def etags(objects: dict[str, Any]) -> dict[str, str]:
    return {name: etag for name, (etag, _) in objects.items()}


def published(objects: dict[str, Any]) -> dict[str, str]:
    return {name: etag for name, etag in etags(objects).items() if not name.startswith(".")}


def check_objects(there: dict[str, str], whole: dict[str, str]) -> None:
    """Objects with final names are whole, and a manifest implies that all of them exist."""
    for name, etag in there.items():
        if etag != whole.get(name):
            raise SystemExit(f"{name} is not whole")
    if "manifest.json" in there and there != whole:
        raise SystemExit(f"there is a manifest beside {sorted(there)}")


def run_of(folder: Path, inputs: list[str], output: str) -> Callable[[], Any]:
    (folder / "job").mkdir(exist_ok=True)
    path = write_pipeline(folder, inputs, RULES, output={"path": output}, name="job", fit="data")
    path = path.rename(folder / f"{output.rpartition('/')[2]}.yaml")
    return lambda: job.run(path, workers=2)


def killed_before(number: int, work: Callable[[], Any]) -> bool:
    """Kill a run before it sends its request of this number that changes the bucket; False if it sends fewer."""
    sent = count(1)

    def counted(request: Callable[..., Any]) -> Callable[..., Any]:
        def killing(*arguments: Any, **keywords: Any) -> Any:
            if next(sent) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return request(*arguments, **keywords)

        return killing

    def run() -> None:
        for name in ("put", "copy", "delete"):
            setattr(ObjectClient, name, counted(getattr(ObjectClient, name)))
        work()

    return wait_for(forked(run))


def finished_parts(there: dict[str, Any]) -> dict[str, Any]:
    """The staged parts of the units that are recorded as finished."""
    units = [name for name in there if name.startswith(".datacheck/units/")]
    parts = [f".datacheck/parts/{name.rpartition('/')[2].removesuffix('.json')}.parquet" for name in units]
    return {name: there[name] for name in parts if name in there}


class Loop:
    def __init__(self, folder: Path, endpoint: str, bucket: str) -> None:
        self.folder, self.bucket = folder, bucket
        self.objects = Objects(endpoint, bucket)
        values = np.random.default_rng(0).standard_normal(2000)
        values[::31], values[7::400] = np.nan, np.inf
        self.inputs = [f"in/{number}.parquet" for number in range(NUM_FILES)]
        for number, name in enumerate(self.inputs):
            write_table(folder / name, {"x": values + number, "id": np.arange(2000)})
        started = time.perf_counter()
        wait_for(forked(self.work("whole")))
        self.seconds = time.perf_counter() - started
        self.whole = published(self.objects.below("whole"))

    def work(self, prefix: str) -> Callable[[], Any]:
        return run_of(self.folder, self.inputs, f"s3://{self.bucket}/{prefix}")

    def check(self, prefix: str, done: dict[str, Any]) -> dict[str, Any]:
        """Check the objects of a killed run; returns the finished parts."""
        there = self.objects.below(prefix)
        check_objects(published(there), self.whole)
        if again := {name for name, before in done.items() if name in there and there[name] != before}:
            raise SystemExit(f"finished parts were written again: {sorted(again)}")
        return finished_parts(there)

    def finish(self, prefix: str) -> None:
        wait_for(forked(self.work(prefix)))
        there = self.objects.below(prefix)
        if etags(there) != self.whole:
            raise SystemExit(f"{prefix} ends with {sorted(there)}, not {sorted(self.whole)}")
        if self.objects.uploads():
            raise SystemExit("uploads were left behind")

    def before_every_request(self) -> int:
        """Returns how many requests change the bucket in one run."""
        for number in count(1):
            prefix = f"request-{number}"
            if not killed_before(number, self.work(prefix)):
                return number - 1
            self.check(prefix, {})
            self.finish(prefix)
        raise AssertionError

    def at_random(self, rounds: int) -> None:
        choose = random.Random(os.urandom(8))
        for number in range(rounds):
            prefix, done = f"round-{number}", dict[str, Any]()
            for _ in range(3):
                killed_after(choose.uniform(0, self.seconds), self.work(prefix))
                done = self.check(prefix, done)
            self.finish(prefix)


if __name__ == "__main__":
    _, place, server, name, num_rounds = sys.argv
    loop = Loop(Path(place), server, name)
    loop.at_random(int(num_rounds))
    print(loop.before_every_request())
