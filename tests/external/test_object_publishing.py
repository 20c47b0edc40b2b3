"""Runs that publish to a bucket: killed at any instant, racing, and after their lock was lost."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import write_pipeline, write_table
from s3_server import Bucket

import datacheck
from datacheck.errors import OutputError
from datacheck.publishing.publisher import Publisher
from datacheck.storage import lease, object_client, object_storage, storage_of
from datacheck.storage.base import StoreError
from datacheck.storage.object_clients import client_of

RULES = [{"action": "quarantine", "codes": "DC101"}]
COMMAND = (sys.executable, "-m", "datacheck")


@pytest.fixture
def pipeline(tmp_path: Path, bucket: Bucket) -> Path:
    write_table(tmp_path / "in.parquet", {"x": np.array([1.0, np.nan] * 50)})
    return write_pipeline(tmp_path, "in.parquet", RULES, output={"path": f"{bucket.uri}/out"})


def test_a_run_that_is_killed_at_any_instant_ends_with_the_same_objects(tmp_path: Path, bucket: Bucket) -> None:
    program = Path(__file__).with_name("kill_in_a_bucket.py")
    command = [sys.executable, str(program), str(tmp_path), bucket.endpoint, bucket.name, "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10, "a run changes the bucket with more requests"


def test_of_two_runs_at_once_one_says_that_the_other_is_writing(pipeline: Path, bucket: Bucket) -> None:
    held = storage_of(bucket.uri).lock(f"{bucket.uri}/out/.datacheck/lock")
    try:
        with pytest.raises(OutputError, match=r"another run \(process \d+ on .+\) is writing there; wait for it"):
            datacheck.run(pipeline)
    finally:
        held.release()
    assert bucket.keys == []
    assert datacheck.run(pipeline).is_new


def test_of_two_runs_that_both_get_to_the_end_exactly_one_publishes(
    pipeline: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_manifest = Publisher._put_manifest

    def after_another(self: Publisher, manifest: bytes) -> None:
        bucket.put("out/manifest.json", b'{"of": "another run"}')
        put_manifest(self, manifest)

    monkeypatch.setattr(Publisher, "_put_manifest", after_another)
    with pytest.raises(OutputError, match="another run has published its output there in the meantime"):
        datacheck.run(pipeline)
    assert bucket.get("out/manifest.json") == b'{"of": "another run"}'


def test_many_that_create_one_object_at_once_are_told_who_won(bucket: Bucket) -> None:
    won, lost = list[int](), list[int]()

    def create(number: int) -> None:
        try:
            storage_of(bucket.uri).put(f"{bucket.uri}/one", str(number).encode(), if_absent=True)
            won.append(number)
        except FileExistsError:
            lost.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 11
    assert bucket.get("one") == str(won[0]).encode()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Locks look like those of other machines, and are lost soon."""
    monkeypatch.setattr(lease, "_this_process", lambda: {"host": "other", "machine": " ", "pid": 1, "started": ""})
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.3)
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.2)
    return


@pytest.mark.usefixtures("elsewhere")
def test_a_lock_of_another_machine_is_taken_only_when_it_is_no_longer_renewed(bucket: Bucket) -> None:
    uri = f"{bucket.uri}/lock"
    first = take(uri)
    with pytest.raises(BlockingIOError) as raised:
        take(uri)
    assert raised.value.filename2 == "1 on other"
    time.sleep(1.6)
    first.check()
    # As if the process stood still.
    first._released.set()
    first._thread.join()
    second = take(uri)
    with pytest.raises(StoreError, match="another run took over"):
        first.check()
    second.check()
    second.release()
    assert bucket.keys == []


@pytest.mark.usefixtures("elsewhere")
def test_a_run_that_lost_its_lock_publishes_nothing(
    pipeline: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Publisher.publish

    def too_late(self: Publisher, *arguments: Any) -> None:
        bucket.put("out/.datacheck/lock", b'{"host": "third"}')
        time.sleep(0.8)
        publish(self, *arguments)

    monkeypatch.setattr(Publisher, "publish", too_late)
    with pytest.raises(OutputError, match="another run took over, since this one could not reach the store"):
        datacheck.run(pipeline)
    assert not [key for key in bucket.keys if not key.startswith("out/.datacheck/")]


def test_a_store_that_ignores_conditions_is_refused(
    pipeline: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(bucket.uri)[0]
    put = client.put
    monkeypatch.setattr(client, "put", lambda *arguments, absent=False, **keywords: put(*arguments, **keywords))
    with pytest.raises(OutputError, match="choose a store with conditional writes"):
        datacheck.run(pipeline)
    assert bucket.keys == []


def take(uri: str) -> lease.Lease:
    return lease.take_lease(*client_of(uri), uri)


def test_shards_share_a_bucket_and_a_merge_publishes_what_one_run_does(tmp_path: Path, bucket: Bucket) -> None:
    for number in range(5):
        values = np.array([1.0 + number, np.nan, 3.0] * 20)
        write_table(tmp_path / "in" / f"{number}.parquet", {"x": values})
    bucket.upload(tmp_path / "in", "in")
    rules = [{"action": "impute", "strategy": "mean", "fields": "x"}]
    for name in ("out", "whole"):
        path = write_pipeline(tmp_path, f"{bucket.uri}/in", rules, output={"path": f"{bucket.uri}/{name}"}, name="job")
        path.rename(tmp_path / f"{name}.yaml")
    datacheck.run(tmp_path / "whole.yaml")
    shards = [
        subprocess.Popen([*COMMAND, "run", str(tmp_path / "out.yaml"), "--shard", f"{number}/2"]) for number in (1, 2)
    ]
    assert [shard.wait(120) for shard in shards] == [0, 0]
    assert "out/manifest.json" not in bucket.keys
    merged = subprocess.run(
        [*COMMAND, "merge", "run", str(tmp_path / "out.yaml")], capture_output=True, text=True, timeout=60
    )
    assert merged.returncode == 0, merged.stdout + merged.stderr
    objects = bucket.objects
    assert {key.removeprefix("out/"): content for key, content in objects.items() if key.startswith("out/")} == {
        key.removeprefix("whole/"): content for key, content in objects.items() if key.startswith("whole/")
    }


def test_what_is_too_large_for_one_request_is_uploaded_and_moved_in_parts(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_client, "MAX_SINGLE_PUT", 1 << 20)
    monkeypatch.setattr(object_client, "_UPLOAD_PART", 5 << 20)
    monkeypatch.setattr(object_storage, "MAX_COPY", 1 << 20)
    content = np.random.default_rng(0).bytes(12 << 20)
    storage, staged, final = storage_of(bucket.uri), f"{bucket.uri}/staged", f"{bucket.uri}/final"
    with storage.create(staged) as file:
        file.write(content)
    storage.move_all([(staged, final)])
    assert bucket.objects == {"final": content}
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert storage.content_hash(final) == storage.written_hash(final) == storage.written_hash(final) == digest
    assert bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []
