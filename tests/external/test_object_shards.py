"""Shards and merges that share a bucket, where nothing can be locked: twice, late, killed, divided otherwise, two at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import write_pipeline, write_table
from s3_server import Bucket

import datacheck
from datacheck.errors import OutputError, ShardFinished
from datacheck.jobs.progress import NullProgress
from datacheck.jobs.sharding.merge import Merge
from datacheck.jobs.sharding.shards import Shard
from datacheck.storage.object_client import ObjectClient

NUM_FILES = 3
RULES = [{"action": "impute", "strategy": "mean", "fields": "x"}]
SCHEMA = {"unique": [["id"]], "fields": {"x": {"mean": {"ge": -10, "le": 10}}}}


@pytest.fixture
def job(tmp_path: Path, bucket: Bucket) -> Callable[..., Any]:
    """A run that learns, compares keys and publishes to the bucket; its output is also under ``whole/``, by one process."""
    for number in range(NUM_FILES):
        values = np.array([1.0 + number, np.nan, 3.0] * 20)
        write_table(tmp_path / f"in/{number}.parquet", {"x": values, "id": np.arange(60) + 59 * number})
    bucket.upload(tmp_path / "in", "in")
    pipelines = {}
    for name in ("out", "whole"):
        path = write_pipeline(
            tmp_path, f"{bucket.uri}/in", RULES, schema=SCHEMA, output={"path": f"{bucket.uri}/{name}"}, name="job"
        )
        pipelines[name] = path.rename(tmp_path / f"{name}.yaml")
    datacheck.run(pipelines["whole"])
    return partial(datacheck.run, pipelines["out"])


def shard(job: Callable[..., Any], index: int, count: int, **options: Any) -> Any:
    try:
        return job(executor=Shard(index, count, patience=1), **options)
    except ShardFinished:
        return None


def shards(job: Callable[..., Any], count: int) -> None:
    for index in range(count):
        shard(job, index + 1, count)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each call returns, or the error that it raises."""
    found: list[Any] = [None] * len(calls)

    def work(position: int) -> None:
        try:
            found[position] = calls[position]()
        except Exception as error:
            found[position] = error

    threads = [threading.Thread(target=work, args=(position,)) for position in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_shards_may_run_twice_at_once_late_and_be_divided_otherwise(job: Callable[..., Any], bucket: Bucket) -> None:
    shard(job, 4, 4)
    assert at_once(*(partial(shard, job, index, 2) for index in (1, 1, 2, 2))) == [None] * 4
    assert "out/manifest.json" not in bucket.keys
    job(executor=Merge())
    assert bucket.below("out/") == bucket.below("whole/")
    assert shard(job, 1, 2) is not None
    assert not job(executor=Merge()).is_new
    assert bucket.below("out/") == bucket.below("whole/")


class Killed(BaseException):
    """The end of a process."""


@pytest.fixture
def kill_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Let a process end before it sends its request of a number that changes the bucket."""
    left = [-1]

    def counted(request: Callable[..., Any]) -> Callable[..., Any]:
        def killing(*arguments: Any, **keywords: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return request(*arguments, **keywords)

        return killing

    for name in ("put", "copy", "delete"):
        monkeypatch.setattr(ObjectClient, name, counted(getattr(ObjectClient, name)))
    # A killed process gives back no lock.
    monkeypatch.setattr("datacheck.storage.lease.Lease.release", lambda lease: lease._released.set())
    monkeypatch.setattr("datacheck.storage.lease._is_alive", lambda holder: False)
    monkeypatch.setattr("datacheck.storage.lease._has_ended", lambda holder: True)

    def at(number: int) -> None:
        left[0] = number

    yield at
    left[0] = -1


def test_a_merge_that_is_killed_at_any_request_is_merged_again(
    job: Callable[..., Any], bucket: Bucket, kill_before: Callable[[int], None]
) -> None:
    expected, number, num_killed = bucket.below("whole/"), 0, 0
    shards(job, 2)
    ready = bucket.below("out/")
    while num_killed == number:
        bucket.replace("out/", ready)
        number += 1
        kill_before(number)
        try:
            job(executor=Merge())
        except Killed:
            num_killed += 1
        there = bucket.below("out/")
        assert {name: there[name] for name in there if not name.startswith(".")}.items() <= expected.items()
        if "manifest.json" in there:
            assert there.items() >= expected.items()
        job(executor=Merge())
        assert bucket.below("out/") == expected
    assert num_killed > 10


def test_of_two_merges_at_once_one_publishes_and_the_other_says_why_it_did_not(
    job: Callable[..., Any], bucket: Bucket
) -> None:
    shards(job, 2)
    merge = lambda: job(executor=Merge())  # noqa: E731
    found = at_once(merge, merge)
    reports = [one for one in found if isinstance(one, datacheck.RunReport)]
    errors = [one for one in found if one not in reports]
    assert [one.is_new for one in reports].count(True) == 1
    assert all(isinstance(one, OutputError) and "is writing there" in str(one) for one in errors), errors
    assert bucket.below("out/") == bucket.below("whole/")


class WaitFor(NullProgress):
    """Holds a job in the middle of a pass until something has happened."""

    def __init__(self, task: str, reached: threading.Event, happened: threading.Event) -> None:
        self._task, self._reached, self._happened = task, reached, happened
        self._is_there = False

    def start(self, task: str, num_units: int, num_bytes: int) -> None:
        self._is_there = task.startswith(self._task)

    def advance(self, num_units: int, num_rows: int, num_bytes: int) -> None:
        if self._is_there:
            self._reached.set()
            assert self._happened.wait(60)


@pytest.mark.parametrize("other", ["merge", "run"])
def test_a_shard_that_is_late_changes_nothing_that_is_published(
    job: Callable[..., Any], bucket: Bucket, other: str
) -> None:
    """It writes a part again, or its result, after others have published: neither is taken for anything."""
    reached, published = threading.Event(), threading.Event()
    late = threading.Thread(target=shard, args=(job, 1, 2), kwargs={"progress": WaitFor("clean", reached, published)})
    late.start()
    assert reached.wait(60)
    try:
        if other == "merge":
            shard(job, 1, 3)
            shards(job, 3)
            job(executor=Merge())
        else:
            job()
        there = bucket.below("out/")
    finally:
        published.set()
        late.join()
    assert there == bucket.below("whole/")
    found = bucket.below("out/")
    assert {name: found[name] for name in found if not name.startswith(".")} == there
    # What it has left is removed by whoever comes next.
    assert not job(executor=Merge()).is_new
    assert bucket.below("out/") == there
