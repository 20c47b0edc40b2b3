"""A thousand small files beside one file with the same rows: in process, and as whole commands."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import datacheck
from benchmarks.bench import Bench
from benchmarks.inputs import make_schema, random_columns, table_of
from benchmarks.results import Section, time_ratio
from benchmarks.startup import command
from benchmarks.timing import Contender, race

__all__ = ["measure"]

_FULL_FILES = 1000


@dataclass(frozen=True, slots=True)
class _Shape:
    """What one small file holds."""

    format: str
    rows: int
    columns: int

    @property
    def name(self) -> str:
        return f"{self.format} {self.rows:,} x {self.columns}"


_SHAPES = (_Shape("parquet", 1_000, 8), _Shape("parquet", 20_000, 8), _Shape("npy", 1_000, 8))


def measure(bench: Bench) -> Section:
    """Each shape: many and one, scanned in process, by the command, and read by pyarrow."""
    num_files = bench.rows(_FULL_FILES, 4)
    section = Section(
        "files",
        f"{num_files:,} small files against 1 file with the same rows, float32, with schema, page cache warm",
        [
            "A shape is rows x columns of one small file. command: a whole 'datacheck scan --no-cache', from start to exit.",
            "read_table of the folder and of the file shows what the format itself costs.",
        ],
    )
    for shape in _SHAPES:
        with bench.room("files") as room:
            _measure_shape(room, shape, num_files, section)
    return section


def _measure_shape(room: Path, shape: _Shape, num_files: int, section: Section) -> None:
    folder, one = room / "many", room / f"one.{shape.format}"
    (_write_parquet if shape.format == "parquet" else _write_npy)(folder, one, shape, num_files)
    schema = make_schema(shape.columns) if shape.format == "parquet" else _array_schema()
    schema_file = room / "schema.yaml"
    schema.save(schema_file)
    works: dict[str, Callable[[Path], object]] = {
        "scan": lambda path: datacheck.scan(path, schema).ok,
        "command": lambda path: _run([*command(), "scan", "--no-cache", str(path), "--schema", str(schema_file)]),
    }
    if shape.format == "parquet":
        works["pyarrow read_table"] = lambda path: pq.read_table(path).num_rows == num_files * shape.rows
    contenders = [
        Contender(f"{shape.name}: {work}, {which}", partial(run, path), True)
        for work, run in works.items()
        for which, path in (("many", folder), ("one", one))
    ]
    timings = race(contenders, num_rows=num_files * shape.rows)
    section.add_timings(timings.values())
    for work in works:
        many, single = timings[f"{shape.name}: {work}, many"], timings[f"{shape.name}: {work}, one"]
        target = None if work.startswith("pyarrow") else 2.0
        section.claims.append(time_ratio(f"{shape.name}: {work}, many / one", many, single, target))


def _array_schema() -> datacheck.Schema:
    return datacheck.Schema.model_validate({"fields": {"values": {"dtype": "float32", "ge": -100, "le": 100}}})


def _write_parquet(folder: Path, one: Path, shape: _Shape, num_files: int) -> None:
    folder.mkdir()
    table = table_of(random_columns(num_files * shape.rows, shape.columns))
    pq.write_table(table, one, row_group_size=500_000)
    for index in range(num_files):
        pq.write_table(table.slice(index * shape.rows, shape.rows), folder / f"{index:05d}.parquet")


def _write_npy(folder: Path, one: Path, shape: _Shape, num_files: int) -> None:
    folder.mkdir()
    array = np.random.default_rng(0).standard_normal((num_files * shape.rows, shape.columns), dtype=np.float32)
    np.save(one, array)
    for index in range(num_files):
        np.save(folder / f"{index:05d}.npy", array[index * shape.rows : (index + 1) * shape.rows])


def _run(words: list[str]) -> bool:
    return subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode == 0
