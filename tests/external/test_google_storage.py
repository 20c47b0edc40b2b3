"""Google Cloud Storage, against a small stand-in of its XML API: conditions are on generations there, and not on etags."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

import numpy as np
import pytest
from job_files import contents, write_pipeline, write_table

import datacheck
from datacheck.errors import OutputError
from datacheck.storage import lease, storage_of
from datacheck.storage.object_clients import client_of

pytest.importorskip("obstore")


class Google:
    """One bucket, ``bucket``. Every version of an object has a generation."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[int, bytes, str]] = {}
        self.generation = 1000
        self.lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            google = self
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.google.get(self)

            def do_HEAD(self) -> None:
                self.google.get(self)

            def do_PUT(self) -> None:
                self.google.put(self)

            def do_DELETE(self) -> None:
                found = self.google.objects.pop(key_of(self), None)
                answer(self, 404 if found is None else 204)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def get(self, request: BaseHTTPRequestHandler) -> None:
        if "list-type" in request.path:
            self.list(request)
            return
        found = self.objects.get(key_of(request))
        if found is None:
            answer(request, 404)
            return
        generation, content, digest = found
        etag = f'"{generation:x}"'
        if request.headers.get("If-Match", etag) != etag:
            answer(request, 412)
            return
        headers = {
            "ETag": etag,
            "x-goog-generation": str(generation),
            "x-goog-meta-sha256": digest,
            "Last-Modified": "Mon, 30 Nov 2026 14:00:00 GMT",
        }
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        if asked and int(asked[1]) >= len(content):
            answer(request, 416)
            return
        if asked:
            start, stop = int(asked[1]), min(int(asked[2]) + 1, len(content))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            content = content[start:stop]
        answer(request, 206 if asked else 200, content, headers)

    def list(self, request: BaseHTTPRequestHandler) -> None:
        asked = {name: values[0] for name, values in parse_qs(request.path.partition("?")[2]).items()}
        prefix, keys, folders = asked.get("prefix", ""), list[str](), dict[str, None]()
        for key in sorted(self.objects):
            rest = key.removeprefix(prefix)
            if key.startswith(prefix) and "delimiter" in asked and "/" in rest:
                folders[f"{prefix}{rest.partition('/')[0]}/"] = None
            elif key.startswith(prefix):
                keys.append(key)
        contents_ = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key][1])}</Size>"
            f"<LastModified>2026-11-30T14:00:00.000Z</LastModified><ETag>&quot;{self.objects[key][0]:x}&quot;</ETag></Contents>"
            for key in keys
        )
        prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in folders)
        answer(request, 200, f"<ListBucketResult>{contents_}{prefixes}</ListBucketResult>".encode())

    def put(self, request: BaseHTTPRequestHandler) -> None:
        content = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        key, digest = key_of(request), request.headers.get("x-goog-meta-sha256", "")
        with self.lock:
            now = self.objects.get(key, (0, b"", ""))[0]
            if request.headers.get("x-goog-if-generation-match", str(now)) != str(now):
                answer(request, 412)
                return
            if source := request.headers.get("x-goog-copy-source"):
                _, content, digest = self.objects[unquote(source).partition("bucket/")[2]]
            self.generation += 1
            self.objects[key] = (self.generation, content, digest)
            headers = {"ETag": f'"{self.generation:x}"', "x-goog-generation": str(self.generation)}
        answer(request, 200, b"", headers)


def key_of(request: BaseHTTPRequestHandler) -> str:
    return unquote(request.path.partition("?")[0].removeprefix("/bucket").lstrip("/"))


def answer(
    request: BaseHTTPRequestHandler, code: int, content: bytes = b"", headers: dict[str, str] | None = None
) -> None:
    request.send_response(code)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Google]:
    google = Google()
    thread = threading.Thread(target=google.server.serve_forever, args=(0.02,))
    thread.start()
    account = {
        "gcs_base_url": google.url,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
    client_of.__globals__["_client"].cache_clear()
    yield google
    google.server.shutdown()
    thread.join()
    google.server.server_close()
    client_of.__globals__["_client"].cache_clear()


def test_a_run_publishes_the_same_bytes_as_to_a_folder(google: Google, tmp_path: Path) -> None:
    for number in range(3):
        path = write_table(tmp_path / "in" / f"{number}.parquet", {"x": np.array([1.0 + number, np.nan, 3.0] * 30)})
        storage_of("gs://bucket").put(f"gs://bucket/in/{path.name}", path.read_bytes())
    assert len(datacheck.scan("gs://bucket/in").findings) == 3
    rules = [{"action": "impute", "strategy": "mean", "fields": "x"}]
    datacheck.run(write_pipeline(tmp_path, "in", rules))
    path = write_pipeline(tmp_path, "in", rules, output={"path": "gs://bucket/out"})
    assert datacheck.run(path).is_new
    published = {key[4:]: content for key, (_, content, _) in google.objects.items() if key.startswith("out/")}
    assert published == contents(tmp_path / "out")
    assert not datacheck.run(path).is_new
    for key, (_, content, digest) in google.objects.items():
        assert digest == hashlib.sha256(content).hexdigest(), key


def test_a_lock_is_renewed_by_generation(google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    write_table(tmp_path / "in.parquet", {"x": np.ones(3)})
    path = write_pipeline(tmp_path, "in.parquet", output={"path": "gs://bucket/out"})
    held = storage_of("gs://bucket").lock("gs://bucket/out/.datacheck/lock")
    first = google.objects["out/.datacheck/lock"][0]
    limit = threading.Event()
    for _ in range(100):
        if google.objects["out/.datacheck/lock"][0] > first + 2:
            break
        limit.wait(0.1)
    assert google.objects["out/.datacheck/lock"][0] > first + 2
    held.check()
    with pytest.raises(OutputError, match="is writing there"):
        datacheck.run(path)
    held.release()
    assert datacheck.run(path).is_new
