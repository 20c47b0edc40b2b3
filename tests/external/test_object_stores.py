"""Files in a bucket give what the same files give on a local disk, and every failure is a clear error."""

from __future__ import annotations

import re
import shlex
import socket
import threading
import time
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import contents, run_command, write_pipeline
from s3_server import Bucket
from source_files import Format, make_table, parameters

import datacheck
from datacheck.cli.app import main
from datacheck.errors import OutputError, UsageError
from datacheck.jobs.sharding.shards import Shard
from datacheck.storage import storage_of
from datacheck.storage.object_client import ObjectClient

NAN = np.nan


def findings(report: Any, folder: str) -> list[Any]:
    return [replace(finding, uri=finding.uri.removeprefix(f"{folder}/")) for finding in report.findings]


@pytest.mark.parametrize("form", parameters())
def test_a_scan_finds_the_same(form: Format, tmp_path: Path, bucket: Bucket) -> None:
    form.write(tmp_path / f"a{form.suffix}", make_table(500))
    form.write(tmp_path / f"b{form.suffix}", make_table(50))
    bucket.upload(tmp_path, "data")
    local, remote = datacheck.scan(tmp_path), datacheck.scan(f"{bucket.uri}/data")
    assert findings(local, str(tmp_path)) == findings(remote, f"{bucket.uri}/data") != []
    assert (local.num_files, local.num_rows, local.num_bytes) == (remote.num_files, remote.num_rows, remote.num_bytes)


def test_folders_globs_and_partitions_are_expanded(tmp_path: Path, bucket: Bucket) -> None:
    pq.write_table(pa.table({"x": [1.0, NAN]}), tmp_path / "x.parquet")
    for name in ("day=1/x.parquet", "day=2/x.parquet", "day=2/_hidden.parquet", "a b/c%20d#e.parquet"):
        bucket.put(name, (tmp_path / "x.parquet").read_bytes())

    def names(path: str) -> list[str]:
        return [
            finding.uri.removeprefix(f"{bucket.uri}/") for finding in datacheck.scan(path).findings if finding.field
        ]

    assert names(bucket.uri) == ["a b/c%20d#e.parquet", "day=1/x.parquet", "day=2/x.parquet"]
    assert names(f"{bucket.uri}/") == names(bucket.uri)
    assert names(f"{bucket.uri}/day=2/") == ["day=2/x.parquet"]
    assert names(f"{bucket.uri}/day=*") == ["day=1/x.parquet", "day=2/x.parquet"]
    assert names(f"{bucket.uri}/**/c*.parquet") == ["a b/c%20d#e.parquet"]
    assert names(f"{bucket.uri}/day=2/x.parquet") == ["day=2/x.parquet"]


def test_more_objects_than_a_page_of_a_list_holds(bucket: Bucket) -> None:
    for number in range(1005):
        bucket.put(f"many/{number:04d}.bin", b"")
    assert len(storage_of(bucket.uri).list(f"{bucket.uri}/many")) == 1005


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{bucket}/gone.npy", "no such file or folder"),
        ("s3://no-such-bucket-here/a.npy", "the bucket 'no-such-bucket-here' does not exist; check its name"),
        ("s3://", "expected s3://bucket/key"),
        ("s3://key:secret@bucket/a.npy", "s3://REDACTED@bucket/a.npy: credentials do not belong in a URI"),
        ("gcs://bucket/a.npy", "did you mean 'gs://'?"),
    ],
)
def test_a_wrong_name_is_a_usage_error(path: str, message: str, bucket: Bucket) -> None:
    with pytest.raises(UsageError) as raised:
        datacheck.scan(path.format(bucket=bucket.uri))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "command",
    [
        ["schema", "infer", "a.npy", "-o", "s3://no-such-bucket/schema.yaml"],
        ["run", "in.yaml"],
        ["run", "out.yaml"],
        ["run", "out.yaml", "--shard", "1/2"],
        ["merge", "run", "out.yaml"],
        ["scan", "a.npy", "--results", "s3://no-such-bucket/shared", "--shard", "1/2"],
    ],
)
def test_a_bucket_that_is_not_there_is_no_traceback(
    command: list[str],
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.arange(3.0))
    for name, read, written in (("in", "s3://no-such-bucket/in", "out"), ("out", "a.npy", "s3://no-such-bucket/out")):
        text = f"version: 1\ninputs: {read}\nclean: [{{action: drop_row}}]\noutput: {{path: '{written}'}}\n"
        Path(f"{name}.yaml").write_text(text)
    assert main(command) == 2
    assert "the bucket 'no-such-bucket' does not exist; check its name" in capsys.readouterr().err


def test_an_endpoint_that_nobody_answers_is_an_error_soon(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(UsageError, match="S3 did not answer"):
        datacheck.scan("s3://unreachable/a.npy")
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "access denied"), (404, "S3 answered with an error"), (400, "S3 answered with an error")],
)
def test_what_a_server_refuses_is_said_without_the_credentials(
    status: int, message: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where its answer repeats what it was sent."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = f"<Error><Code>No</Code><StringToSign>{self.headers}</StringToSign></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFMINE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRETOFMINE")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "TOKENOFMINE")
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        assert main(["scan", f"s3://refused-{status}/data/"]) == 2
        server.shutdown()
    printed = "".join(capsys.readouterr())
    assert message in printed
    assert "OFMINE" not in printed


def test_an_object_that_is_replaced_while_it_is_read_is_noticed(tmp_path: Path, bucket: Bucket) -> None:
    for name, value in (("old", 1.0), ("new", NAN)):
        np.save(tmp_path / f"{name}.npy", np.full(1 << 18, value))
    bucket.put("x.npy", (tmp_path / "old.npy").read_bytes())
    uri = f"{bucket.uri}/x.npy"
    with storage_of(uri).open(uri) as file:
        bucket.put("x.npy", (tmp_path / "new.npy").read_bytes())
        with pytest.raises(OSError, match="it has changed"):
            file.read()
    assert [one.code for one in datacheck.scan(uri).findings] == ["DC101"]


def test_credentials_are_read_from_a_profile(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    bucket.put("x.npy", (tmp_path / "x.npy").read_bytes())
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = a\naws_secret_access_key = b%c\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert datacheck.scan(f"{bucket.uri}/x.npy").ok
    monkeypatch.setenv("AWS_PROFILE", "other")
    with pytest.raises(UsageError, match="the profile 'other'"):
        storage_of("s3://another/").list("s3://another/x")


@pytest.mark.parametrize("fmt", ["parquet", "npz", "csv"])
def test_a_run_publishes_the_same_bytes_as_to_a_folder(fmt: str, tmp_path: Path, bucket: Bucket) -> None:
    values = np.arange(300.0)
    values[::7], values[3] = NAN, np.inf
    for number in range(3):
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(pa.table({"x": values + number}), tmp_path / "in" / f"{number}.parquet")
    rules = [
        {"action": "impute", "strategy": "median", "fields": "x", "codes": "DC101"},
        {"action": "quarantine", "codes": "DC102"},
    ]
    output = f"{bucket.uri}/out"
    datacheck.run(write_pipeline(tmp_path, "in", rules, output={"path": "out", "format": fmt}))
    pipeline = write_pipeline(tmp_path, "in", rules, output={"path": output, "format": fmt})
    assert datacheck.run(pipeline).is_new
    published = {key.removeprefix("out/"): content for key, content in bucket.objects.items()}
    assert published == contents(tmp_path / "out")
    assert not datacheck.run(pipeline).is_new
    bucket.client.delete_object(Bucket=bucket.name, Key=next(key for key in bucket.keys if key.startswith("out/data/")))
    with pytest.raises(OutputError, match="No such file"):
        datacheck.run(pipeline)


@pytest.mark.parametrize("executor", ["threads", Shard(1, 2, "s3://silent/results")], ids=["reads", "writes"])
def test_an_endpoint_that_never_answers_is_an_error_soon(
    executor: Any, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.arange(3.0))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(UsageError if executor == "threads" else OutputError, match="S3 did not answer"):
            datacheck.scan("s3://silent/a.npy" if executor == "threads" else tmp_path / "a.npy", executor=executor)
    assert time.monotonic() - started < 30


class Counted:
    """How often each request is made, and how many at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: Counter[str] = Counter()
        self.now = self.most = 0
        self._lock = threading.Lock()
        for name in ("head", "first", "_piece", "list"):
            monkeypatch.setattr(ObjectClient, name, self._counting(name, getattr(ObjectClient, name)))

    def _counting(self, name: str, request: Any) -> Any:
        def counted(*arguments: Any) -> Any:
            with self._lock:
                self.requests[name] += 1
                self.now += 1
                self.most = max(self.most, self.now)
            try:
                return request(*arguments)
            finally:
                with self._lock:
                    self.now -= 1

        return counted


def test_small_files_take_one_request_each(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        pq.write_table(pa.table({"x": [float(number)]}), tmp_path / f"{number}.parquet")
    bucket.upload(tmp_path, "small")
    counted = Counted(monkeypatch)
    assert datacheck.scan(f"{bucket.uri}/small").num_files == 20
    assert counted.requests["first"] == 20
    assert sum(counted.requests.values()) <= 22


def test_a_large_range_is_read_in_pieces_at_the_same_time(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    content = np.random.default_rng(0).bytes(3_000_000)
    bucket.put("large", content)
    monkeypatch.setattr("datacheck.storage.object_client.PIECE_BYTES", 200_000)
    counted = Counted(monkeypatch)
    with storage_of(bucket.uri).open(f"{bucket.uri}/large") as file:
        assert file.read_at(100_000, 2_500_000) == content[100_000:2_600_000]
        assert counted.requests["_piece"] == 13
        assert counted.most > 3
        file.seek(-7, 2)
        assert file.read() == content[-7:]
        file.seek(50)
        assert file.read(2_000_000) == content[50:2_000_050]


def test_the_commands_of_the_page_run(bucket: Bucket, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")
    commands = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    np.save(tmp_path / "x.npy", np.ones(3))
    bucket.put("data/x.npy", (tmp_path / "x.npy").read_bytes())
    assert commands
    for line in "".join(commands).replace("s3://bucket", bucket.uri).splitlines():
        name, *arguments = shlex.split(line)
        assert name == "datacheck"
        assert run_command(*arguments, cwd=tmp_path).returncode == 0, line


def test_infer_and_compare_give_what_they_give_for_folders(tmp_path: Path, bucket: Bucket) -> None:
    for name, shift in (("train", 0.0), ("test", 3.0)):
        path = tmp_path / "data" / name / "x.parquet"
        path.parent.mkdir(parents=True)
        values = np.random.default_rng(0).standard_normal(300) + shift
        pq.write_table(pa.table({"x": values, "id": np.arange(300)}), path)
    bucket.upload(tmp_path / "data", "data")
    local, remote = str(tmp_path / "data"), f"{bucket.uri}/data"
    assert datacheck.infer(f"{remote}/train") == datacheck.infer(f"{local}/train")
    found = [findings(datacheck.compare(f"{folder}/train", f"{folder}/test"), folder) for folder in (local, remote)]
    assert [(one.code, one.field) for one in found[0]] == [(one.code, one.field) for one in found[1]] != []
