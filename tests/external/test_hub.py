"""Datasets of the Hugging Face Hub are read at one commit. The Hub is a stand-in on loopback."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("huggingface_hub")


class Hub:
    """One dataset, ``me/data``, with files by commit; ``main`` is the last commit."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, bytes]] = {}
        self.read: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            hub = self

            def do_GET(self) -> None:
                self.hub.answer(self)

            def do_HEAD(self) -> None:
                self.hub.answer(self)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_error(404)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def commit(self, **files: bytes) -> str:
        sha = hashlib.sha1(repr(len(self.commits)).encode()).hexdigest()
        before = next(reversed(self.commits.values()), {})
        self.commits[sha] = {**before, **{name.replace("__", "/"): content for name, content in files.items()}}
        return sha

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(request.path.partition("?")[0])
        if found := re.fullmatch(r"/api/datasets/me/data(?:/revision/(\w+))?", path):
            sha = self.sha(found[1] or "main")
            send(request, {"id": "me/data", "sha": sha, "siblings": [], "private": False, "tags": [], "downloads": 0})
        elif found := re.fullmatch(r"/api/datasets/me/data/tree/(\w+)/?(.*)", path):
            entries = self.tree(self.commits[self.sha(found[1])], found[2])
            send(request, entries, 200 if entries else 404)
        elif found := re.fullmatch(r"/datasets/me/data/resolve/(\w+)/(.*)", path):
            self.read.append(found[1])
            content = self.commits[self.sha(found[1])][found[2]]
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
            assert asked, "the whole file was read"
            start, stop = int(asked[1]), min(int(asked[2]) + 1, len(content))
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
            request.send_header("Content-Length", str(stop - start))
            request.end_headers()
            request.wfile.write(content[start:stop])
        else:
            request.send_response(401)
            request.send_header("X-Error-Code", "RepoNotFound")
            request.end_headers()

    def sha(self, revision: str) -> str:
        return next(reversed(self.commits)) if revision == "main" else revision

    def tree(self, files: dict[str, bytes], folder: str) -> list[dict[str, Any]]:
        prefix = f"{folder}/" if folder else ""
        found: dict[str, dict[str, Any]] = {}
        for name, content in files.items():
            if not name.startswith(prefix):
                continue
            head, separator, _ = name.removeprefix(prefix).partition("/")
            oid = hashlib.sha1(b"" if separator else content).hexdigest()
            kind = {"type": "directory", "size": 0} if separator else {"type": "file", "size": len(content)}
            found[head] = {"path": prefix + head, "oid": oid, **kind}
        return list(found.values())


def send(request: BaseHTTPRequestHandler, value: Any, code: int = 200) -> None:
    content = json.dumps(value).encode()
    request.send_response(code)
    if code == 404:
        request.send_header("X-Error-Code", "EntryNotFound")
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.server.serve_forever)
    thread.start()
    yield hub
    hub.server.shutdown()
    thread.join()
    hub.server.server_close()


def table(bad: float, num_rows: int = 30_000) -> bytes:
    values = np.random.default_rng(0).standard_normal(num_rows)
    values[5] = bad
    content = io.BytesIO()
    pq.write_table(pa.table({"x": values}), content)
    return content.getvalue()


def says(hub: Hub | str, *arguments: str, cwd: Path, code: int) -> str:
    """What the command prints, in a process that knows this Hub."""
    endpoint = hub if isinstance(hub, str) else f"http://127.0.0.1:{hub.server.server_port}"
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cwd), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, *(arguments if arguments[0] == "-c" else ("-m", "datacheck", *arguments))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=100, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_dataset_is_scanned(hub: Hub, tmp_path: Path) -> None:
    hub.commit(data__train__a=b"", data__train__b=b"")
    hub.commits[hub.sha("main")] = {"data/train/a.parquet": table(np.nan), "data/test/b.parquet": table(1.0)}
    said = says(hub, "scan", "hf://datasets/me/data/data", cwd=tmp_path, code=1)
    assert (
        "DC101 1 of 30,000 values are NaN in 'x' (hf://datasets/me/data/data/train/a.parquet, row group 0, row 5)"
        in said
    )
    assert "in 2 files" in said
    assert "no errors" not in said
    says(hub, "scan", "hf://datasets/me/data@main/data/test/*.parquet", cwd=tmp_path, code=0)
    assert "no such file" in says(hub, "scan", "hf://datasets/me/data/gone.parquet", cwd=tmp_path, code=2)


def test_every_read_is_of_the_commit_that_was_found_first(hub: Hub, tmp_path: Path) -> None:
    first = hub.commit()
    hub.commits[first] = {"x.parquet": table(np.nan)}
    program = (
        "import sys, datacheck\n"
        "uri = 'hf://datasets/me/data/x.parquet'\n"
        "print(len(datacheck.scan(uri).findings), flush=True)\n"
        "sys.stdin.read()\n"
        "print(len(datacheck.scan(uri).findings))\n"
    )
    endpoint = f"http://127.0.0.1:{hub.server.server_port}"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        second = hub.commit()
        hub.commits[second] = {"x.parquet": table(1.0)}
        assert process.communicate("")[0] == "1\n"
    assert set(hub.read) == {first}
    says(hub, "scan", "hf://datasets/me/data/x.parquet", cwd=tmp_path, code=0)
    says(hub, "scan", f"hf://datasets/me/data@{first}/x.parquet", cwd=tmp_path, code=1)


def test_nothing_is_written_there(hub: Hub, tmp_path: Path) -> None:
    hub.commits[hub.commit()] = {"x.parquet": table(1.0)}
    (tmp_path / "p.yaml").write_text(
        "version: 1\ninputs: {train: 'hf://datasets/me/data'}\noutput: {path: 'hf://datasets/me/out'}\n"
    )
    said = says(hub, "run", "p.yaml", cwd=tmp_path, code=2)
    assert "hf:// is only read; write to a folder, and upload that in one commit" in said


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("hf://datasets/me/other/x.parquet", "no such repository, or it is not open to you"),
        ("hf://", "expected hf://datasets/NAME/DATASET/PATH"),
    ],
)
def test_a_wrong_name_is_a_clear_error(uri: str, message: str, hub: Hub, tmp_path: Path) -> None:
    assert message in says(hub, "scan", uri, cwd=tmp_path, code=2)


def test_a_hub_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    said = says("http://127.0.0.1:1", "scan", "hf://datasets/me/data/x.parquet", cwd=tmp_path, code=2)
    assert "the Hub did not answer" in said
