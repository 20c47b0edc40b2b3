"""What the tests of the main job share: pipelines written to a folder, outputs read back, and the command itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

__all__ = [
    "command",
    "contents",
    "kept_table",
    "ledger_of",
    "manifest_of",
    "quarantine_of",
    "run_command",
    "write_faulty_job",
    "write_pipeline",
    "write_table",
]


def write_pipeline(folder: Path, inputs: Any, clean: Iterable[Mapping[str, Any]] = (), **sections: Any) -> Path:
    """A pipeline file in ``folder`` whose output is ``out`` unless ``output`` says otherwise."""
    written = {"version": 1, "inputs": inputs, "clean": [dict(rule) for rule in clean], "output": {"path": "out"}}
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump({**written, **sections}, sort_keys=False))
    return path


def write_table(path: Path, columns: Mapping[str, Any], row_group_size: int | None = None) -> Path:
    """A Parquet file of ``columns``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, row_group_size=row_group_size)
    return path


def write_faulty_job(folder: Path, num_files: int) -> Path:
    """A job for a cluster: it fits statistics, finds NaN and keys of several files, and one file is broken."""
    rng = np.random.default_rng(0)
    for number in range(num_files):
        x, y = rng.normal(size=(2, 2000))
        x[::50], y[7::90] = np.nan, np.nan
        write_table(folder / f"data/{number}.parquet", {"id": np.arange(2000) + 1990 * number, "x": x, "y": y})
    (folder / "data/broken.parquet").write_bytes(b"PAR1")
    clean = [{"action": "impute", "strategy": how, "fields": name} for how, name in (("mean", "x"), ("median", "y"))]
    return write_pipeline(folder, "data", clean, schema={"unique": [["id"]]}, name="job")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path from there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def manifest_of(output: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((output / "manifest.json").read_text(), parse_constant=_refuse)
    return record


def _refuse(token: str) -> Any:
    raise ValueError(f"{token} is not JSON")


def _tables(output: Path, kind: str, split: str | None) -> list[pa.Table]:
    return [
        pq.ParquetFile(output / part["path"]).read()
        for account in manifest_of(output)["inputs"]
        if split in (None, account["split"])
        for part in account["outputs"]
        if part["kind"] == kind
    ]


def kept_table(output: Path, split: str | None = None) -> pa.Table:
    """The rows that a run kept, in the order of its inputs, as the manifest says where they are."""
    tables = _tables(output, "rows", split)
    return pa.concat_tables(tables) if tables else pa.table({})


def quarantine_of(output: Path, split: str | None = None) -> pa.Table | None:
    """The rows that a run set aside; None where there are none."""
    tables = _tables(output, "quarantine", split)
    return pa.concat_tables(tables) if tables else None


def ledger_of(output: Path, split: str | None = None) -> list[dict[str, Any]]:
    """The ledger of a run: a record for each row that was not kept."""
    return [row for table in _tables(output, "ledger", split) for row in table.to_pylist()]


def command(*arguments: str | os.PathLike[str]) -> list[str]:
    """The command line of ``datacheck`` with arguments."""
    return [sys.executable, "-m", "datacheck", *map(os.fspath, arguments)]


def run_command(*arguments: str | os.PathLike[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``datacheck`` in a process of its own."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, timeout=120, check=False)
