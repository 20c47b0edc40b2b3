"""The requests of jobs to an object store, counted by the server: moto on loopback, whose answers cost nothing.

``python -m benchmarks.store_requests`` prints a table: what a scan, a run, and the same in two shards with a merge ask for.
Files have row groups of a unit each, so that one file or several, and small units or large ones, can be told apart. With
``--formats`` it prints what the scan of one more file of each format asks for, and how many bytes come.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv, orc

import datacheck
from benchmarks.inputs import random_columns, table_of, write_parquet
from benchmarks.jobs import MEAN, write_pipeline
from datacheck.errors import ShardFinished
from datacheck.jobs.sharding.merge import Merge
from datacheck.jobs.sharding.shards import Shard

__all__ = ["count_requests", "main"]

_COLUMNS = 16


@contextmanager
def _counting_server(counts: Counter[str]) -> Iterator[str]:
    """The URL of a server of S3 that counts requests by what they ask for."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    application = DomainDispatcherApplication(create_backend_app)

    def counted(environ: dict[str, Any], start_response: Any) -> Any:
        query = environ.get("QUERY_STRING", "")
        if "HTTP_RANGE" in environ and environ["REQUEST_METHOD"] == "GET":
            first, last = environ["HTTP_RANGE"].removeprefix("bytes=").split("-")
            counts["bytes"] += int(last) - int(first) + 1
        kind = "LIST" if "list-type" in query else environ["REQUEST_METHOD"]
        counts["COPY" if "HTTP_X_AMZ_COPY_SOURCE" in environ else "DELETE" if query.startswith("delete") else kind] += 1
        return application(environ, start_response)

    class Quiet(WSGIRequestHandler):
        def log_request(self, *arguments: Any) -> None:
            pass

    server = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def _bucket(counts: Counter[str]) -> Iterator[Any]:
    """A client of an empty bucket, ``s3://data``, of a server that counts requests."""
    import boto3

    with _counting_server(counts) as endpoint:
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}
        os.environ.update(keys, AWS_ENDPOINT_URL=endpoint)
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="data")
        yield client


def count_requests(num_files: int, groups: int, rows: int) -> dict[str, Counter[str]]:
    """The requests of each job over files of ``groups`` row groups of so many rows."""
    counts: Counter[str] = Counter()
    found: dict[str, Counter[str]] = {}

    def count(name: str, work: Callable[[], Any]) -> None:
        counts.clear()
        with suppress(ShardFinished):
            work()
        found[name] = Counter(counts)

    with tempfile.TemporaryDirectory() as folder, _bucket(counts) as client:
        for number in range(num_files):
            path = Path(folder, f"{number}.parquet")
            write_parquet(path, groups, rows, _COLUMNS, use_dictionary=False)
            client.upload_file(str(path), "data", f"in/{number}.parquet")
        for name in ("run", "shards"):
            path = Path(folder, f"{name}.yaml")
            write_pipeline(path, "s3://data/in", f"s3://data/{name}", MEAN, _COLUMNS)
        count("scan", partial(datacheck.scan, "s3://data/in/"))
        count("run", partial(datacheck.run, Path(folder, "run.yaml")))
        sharded = partial(datacheck.run, Path(folder, "shards.yaml"))
        for index in (1, 2):
            count(f"run, shard {index}/2", partial(sharded, executor=Shard(index, 2)))
        count("run, merge", partial(sharded, executor=Merge()))
    return found


def _write_formats(folder: Path, rows: int) -> dict[str, Path]:
    """The same table in each format: float32 columns, in row groups, chunks or batches of an eighth of it."""
    columns = random_columns(rows, _COLUMNS)
    table = table_of(columns)
    values = np.stack(columns, axis=1)
    paths = {name: folder / f"a.{name}" for name in ("parquet", "arrow", "orc", "csv", "jsonl", "npy", "npz")}
    pq.write_table(table, paths["parquet"], row_group_size=rows // 8, use_dictionary=False, compression="none")
    with pa.ipc.new_file(paths["arrow"], table.schema) as file:
        file.write_table(table, max_chunksize=rows // 8)
    orc.write_table(table, paths["orc"])
    csv.write_csv(table, paths["csv"])
    table.to_pandas().to_json(paths["jsonl"], orient="records", lines=True)
    np.save(paths["npy"], values)
    np.savez(paths["npz"], **dict(zip(table.column_names, columns, strict=True)))
    if importlib.util.find_spec("h5py"):
        import h5py

        paths["h5"] = folder / "a.h5"
        with h5py.File(paths["h5"], "w") as hdf5:
            hdf5.create_dataset("x", data=values, chunks=(rows // 8, _COLUMNS))
    if importlib.util.find_spec("zarr"):
        import zarr

        paths["zarr"] = folder / "a.zarr"
        zarr.open_group(str(paths["zarr"]), mode="w").create_array("x", data=values, chunks=(rows // 8, _COLUMNS))
    return paths


def _upload(client: Any, path: Path, key: str) -> None:
    for one in path.rglob("*") if path.is_dir() else [path]:
        if one.is_file():
            client.upload_file(str(one), "data", f"{key}{path.suffix}{one.as_posix().removeprefix(path.as_posix())}")


def count_formats(rows: int) -> dict[str, tuple[int, Counter[str]]]:
    """For each format the bytes of a file, and what the scan of one more of them asks for."""
    counts: Counter[str] = Counter()
    found = {}
    with tempfile.TemporaryDirectory() as folder, _bucket(counts) as client:
        for name, path in _write_formats(Path(folder), rows).items():
            counted = []
            for number in (1, 2):
                # Names of their own: what was read lately may be in memory.
                for copy in range(number):
                    _upload(client, path, f"{name}/{number}/{copy}")
                counts.clear()
                report = datacheck.scan(f"s3://data/{name}/{number}")
                assert report.num_files == number, report.findings
                counted.append(Counter(counts))
            size = sum(one.stat().st_size for one in (path, *path.rglob("*")) if one.is_file())
            found[name] = size, counted[1] - counted[0]
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2)
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--formats", action="store_true", help="what one more file of each format asks for")
    options = parser.parse_args()
    if options.formats:
        print("     MB    LIST     GET  bytes read / size   format")
        for name, (size, one) in count_formats(options.rows).items():
            share = one["bytes"] / size
            print(f"{size / 1e6:7.1f}{one['LIST']:8,}{one['GET']:8,}{share:20.2f}   {name}")
        return
    kinds = ("LIST", "HEAD", "GET", "PUT", "COPY", "DELETE")
    size = options.rows * _COLUMNS * 4 / 1e6
    print(f"{options.files} files of {options.groups} row groups of {size:g} MB")
    print("".join(text.rjust(8) for text in kinds), "  job")
    for name, counts in count_requests(options.files, options.groups, options.rows).items():
        print("".join(f"{counts[kind]:,}".rjust(8) for kind in kinds), f"  {name}")


if __name__ == "__main__":
    main()
