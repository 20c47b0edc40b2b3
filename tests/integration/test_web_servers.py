"""Files of a web server are read by ranges; what it lacks, and signatures in URLs, are no trap."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import run_command, write_pipeline

import datacheck
from datacheck.errors import OutputError, UsageError
from datacheck.storage import storage_of
from datacheck.text import redacted

pytest.importorskip("obstore", reason="object stores need the extra 'cloud'")
SIGNED = "?X-Amz-Credential=AKIDEXAMPLE&X-Amz-Signature=0123abcd"


class Web:
    """A server of files in memory. ``answers_ranges`` and ``has_etags`` say what it can do."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.paths: list[str] = []
        self.needs_query = ""
        self.answers_ranges = self.has_etags = True

        class Handler(BaseHTTPRequestHandler):
            web = self

            def do_GET(self) -> None:
                self.web.answer(self)

            def do_HEAD(self) -> None:
                self.send_error(403)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        self.paths.append(request.path)
        content = self.files.get(path)
        if content is None or self.needs_query not in query:
            request.send_error(404 if content is None else 403)
            return
        etag = f'"{hash(content)}"'
        if request.headers.get("If-Match", etag) != etag:
            request.send_error(412)
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", "")) if self.answers_ranges else None
        start, stop = (int(asked[1]), min(int(asked[2]) + 1, len(content))) if asked else (0, len(content))
        request.send_response(206 if asked else 200)
        request.send_header("Content-Length", str(stop - start))
        request.send_header("Last-Modified", f"Mon, 30 Nov 2026 14:00:{hash(content) % 60:02} GMT")
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        if self.has_etags:
            request.send_header("ETag", etag)
        request.end_headers()
        request.wfile.write(content[start:stop])


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    thread = threading.Thread(target=web.server.serve_forever, args=(0.02,))
    thread.start()
    yield web
    web.server.shutdown()
    thread.join()
    web.server.server_close()


def table(num_rows: int = 40_000) -> bytes:
    values = np.random.default_rng(0).standard_normal(num_rows)
    values[5] = np.nan
    content = io.BytesIO()
    pq.write_table(pa.table({"x": values}), content)
    return content.getvalue()


@pytest.mark.parametrize("has_etags", [True, False])
def test_a_file_is_scanned(has_etags: bool, web: Web) -> None:
    web.has_etags = has_etags
    web.files["/a%20b/x.parquet"] = table()
    (finding,) = datacheck.scan(f"{web.url}/a%20b/x.parquet").findings
    assert (finding.code, finding.field, finding.uri) == ("DC101", "x", f"{web.url}/a%20b/x.parquet")


@pytest.mark.parametrize("has_etags", [True, False])
def test_a_file_that_changes_while_it_is_read_is_noticed(has_etags: bool, web: Web) -> None:
    web.has_etags = has_etags
    web.files["/x"] = bytes(200_000)
    with storage_of(web.url).open(f"{web.url}/x") as file:
        web.files["/x"] = bytes(199_999) + b"1"
        with pytest.raises(OSError, match="it has changed"):
            file.read()


@pytest.mark.slow
def test_a_signed_url_is_read_and_never_printed(web: Web, tmp_path: Any) -> None:
    web.files["/x.parquet"] = table()
    web.needs_query = SIGNED[1:]
    url = f"{web.url}/x.parquet{SIGNED}"
    done = run_command("scan", url, "--format", "json", cwd=tmp_path)
    assert done.returncode == 1
    assert "DC101" in done.stdout
    assert "X-Amz-Signature=REDACTED" in done.stdout
    assert not re.search("0123abcd|AKIDEXAMPLE", done.stdout + done.stderr)
    web.files.clear()
    done = run_command("scan", url, cwd=tmp_path)
    assert done.returncode == 2
    assert not re.search("0123abcd|AKIDEXAMPLE", done.stdout + done.stderr)


def test_a_signed_url_is_an_input_of_a_run_and_its_next_signature_the_same_input(web: Web, tmp_path: Any) -> None:
    web.files["/x.parquet"] = table()
    for signature in ("first", "second"):
        web.needs_query = f"token={signature}"
        path = write_pipeline(tmp_path, f"{web.url}/x.parquet?token={signature}", [{"action": "drop_row"}])
        report = datacheck.run(path)
        assert report.is_new == (signature == "first")
    written = "".join(file.read_text("latin-1") for file in (tmp_path / "out").rglob("*") if file.is_file())
    assert "token=REDACTED" in written
    assert not re.search("first|second", written.replace("first-axis", ""))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pass@host/x", "https://REDACTED@host/x"),
        ("see https://host/x?sig=ab%2F&version=3!", "see https://host/x?sig=REDACTED&version=3!"),
        ("s3://b/a?x-goog-signature=1#c", "s3://b/a?x-goog-signature=REDACTED#c"),
        ("https://host/x?version=3&monkey=4", "https://host/x?version=3&monkey=4"),
        ("key=1 sig=2", "key=1 sig=2"),
    ],
)
def test_what_gives_access_is_redacted(text: str, shown: str) -> None:
    assert redacted(text) == redacted(shown) == shown


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/gone.npy", "no such file"),
        ("/gone.npy?sig=abc", r"/gone\.npy\?sig=REDACTED: no such file"),
        ("/", "name each file"),
        ("/*.npy", "name each file"),
    ],
)
def test_what_a_web_server_does_not_have_is_said(path: str, message: str, web: Web) -> None:
    with pytest.raises(UsageError, match=message):
        datacheck.scan(f"{web.url}{path}")


def test_a_server_without_ranges_is_refused_with_a_fix(web: Web) -> None:
    web.files["/x.parquet"] = table()
    web.answers_ranges = False
    with pytest.raises(UsageError, match="does not answer requests for ranges of bytes; download the file"):
        datacheck.scan(f"{web.url}/x.parquet")


def test_nothing_is_written_to_a_web_server(web: Web, tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    path = write_pipeline(tmp_path, "x.npy", output={"path": f"{web.url}/out"})
    with pytest.raises(OutputError, match="a web server is only read"):
        datacheck.run(path)


def test_what_to_install_is_said_where_the_library_is_missing(run_python: Callable[[str], str]) -> None:
    program = (
        "import sys\n"
        "sys.modules['obstore'] = sys.modules['huggingface_hub'] = None\n"
        "import datacheck, datacheck.errors\n"
        "for uri in ('s3://bucket/x.npy', 'https://host/x.npy', 'hf://datasets/me/data/x.npy'):\n"
        "    try: datacheck.scan(uri)\n"
        "    except datacheck.errors.UsageError as error: print(error)\n"
    )
    assert run_python(program).count("is not installed; install it with: pip install 'datacheck-ml[cloud]'") == 3
