"""Rows that an Iceberg table has deleted by their values are not read, and the others keep their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck import Report

NAN = np.nan


def places(report: Report) -> list[tuple[str, int | None]]:
    """The file and the row of each NaN of a report, of which no file has more than five."""
    found = [one for one in report.findings if one.code == "DC101"]
    return sorted((Path(one.uri).name, example.row) for one in found for example in one.examples)


def write(path: Path, columns: Mapping[str, tuple[int | None, pa.Array]]) -> None:
    """A Parquet file whose columns have numbers, as those of Iceberg have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = [
        pa.field(name, array.type, metadata=None if number is None else {"PARQUET:field_id": str(number)})
        for name, (number, array) in columns.items()
    ]
    pq.write_table(pa.table([array for _, array in columns.values()], pa.schema(fields)), path)


def scan_with_oracle(folder: Path, data: list[dict[str, Any]], deletes: list[dict[str, Any]]) -> None:
    """Scan a table of files of rows ``(a, b)``, in which every x is NaN, and compare with what Python says is deleted."""
    from iceberg_files import write_table

    files, expected = [], []
    for number, one in enumerate(data):
        path = folder / "data" / f"{number}.parquet"
        a, b = zip(*one["rows"], strict=True)
        x = pa.array([NAN] * len(a))
        write(path, {"a": (1, pa.array(a, pa.int32())), "b": (2, pa.array(b, pa.string())), "x": (3, x)})
        place = {"content": 0, "file_path": f"data/{path.name}"}
        files.append({**place, **{key: one[key] for key in ("sequence", "spec", "day") if key in one}})
        for row, values in enumerate(one["rows"]):
            is_deleted = any(
                other["sequence"] > one["sequence"]
                and (other.get("spec", 0) == 0 or (other["spec"], other["day"]) == (one.get("spec", 0), one.get("day")))
                and any(all(values[at] == key[index] for index, at in enumerate(other["by"])) for key in other["keys"])
                for other in deletes
            )
            expected += [] if is_deleted else [(path.name, row)]
    kinds = (pa.int64(), pa.string())
    for number, one in enumerate(deletes):
        path = folder / "data" / f"delete{number}.parquet"
        columns = {
            "ab"[at] + "_then": (at + 1, pa.array([key[index] for key in one["keys"]], kinds[at]))
            for index, at in enumerate(one["by"])
        }
        write(path, columns)
        place = {"content": 2, "file_path": f"data/{path.name}", "equality_ids": [at + 1 for at in one["by"]]}
        files.append({**place, **{key: one[key] for key in ("sequence", "spec", "day") if key in one}})
    write_table(folder, files)
    report = datacheck.scan(folder)
    assert report.num_rows == len(expected)
    assert places(report) == sorted(expected)


@pytest.mark.parametrize("seed", range(6))
def test_iceberg_deletes_rows_by_their_values(seed: int, tmp_path: Path) -> None:
    pytest.importorskip("fastavro")
    choose = np.random.default_rng(seed)
    letters = ["u", "v", None]

    def row() -> tuple[Any, Any]:
        return [1, 2, 3, None][choose.integers(4)], letters[choose.integers(3)]

    def where() -> dict[str, Any]:
        spec = int(choose.integers(2))
        return {
            "sequence": int(choose.integers(1, 4)),
            "spec": spec,
            **({"day": int(choose.integers(2))} if spec else {}),
        }

    data = [{"rows": [row() for _ in range(5)], **where()} for _ in range(4)]
    deletes = []
    for _ in range(3):
        by = [[0], [1], [0, 1]][choose.integers(3)]
        keys = [tuple(row()[at] for at in by) for _ in range(2)]
        deletes.append({"keys": keys, "by": by, **where()})
    scan_with_oracle(tmp_path, data, deletes)


def test_values_and_positions_are_deleted_together(tmp_path: Path) -> None:
    pytest.importorskip("fastavro")
    from iceberg_files import LOCATION, write_table

    write(tmp_path / "data" / "0.parquet", {"a": (1, pa.array(range(6))), "x": (3, pa.array([NAN] * 6))})
    write(tmp_path / "data" / "p.parquet", {
        "file_path": (None, pa.array([f"{LOCATION}/data/0.parquet"])), "pos": (None, pa.array([4])),
    })  # fmt: skip
    write(tmp_path / "data" / "e.parquet", {"a": (1, pa.array([0, 5, 77]))})
    files = [
        {"content": 0, "file_path": "data/0.parquet", "sequence": 1},
        {"content": 1, "file_path": "data/p.parquet", "sequence": 2},
        {"content": 2, "file_path": "data/e.parquet", "sequence": 2, "equality_ids": [1]},
    ]
    write_table(tmp_path, files)
    assert places(datacheck.scan(tmp_path)) == [("0.parquet", row) for row in (1, 2, 3)]


def test_a_column_that_a_data_file_lacks_is_null_in_it(tmp_path: Path) -> None:
    pytest.importorskip("fastavro")
    from iceberg_files import write_table

    write(tmp_path / "data" / "0.parquet", {"x": (3, pa.array([NAN, 1.0]))})
    for keys, num_rows in (([None], 0), ([1], 2)):
        write(tmp_path / "data" / "e.parquet", {"a": (1, pa.array(keys, pa.int32()))})
        files = [
            {"content": 0, "file_path": "data/0.parquet", "sequence": 1},
            {"content": 2, "file_path": "data/e.parquet", "sequence": 2, "equality_ids": [1]},
        ]
        write_table(tmp_path, files)
        assert datacheck.scan(tmp_path).num_rows == num_rows


@pytest.mark.parametrize(
    ("keys", "ids", "kind", "problem"),
    [
        (pa.array([1.5]), [1], "PARQUET", "its rows are deleted by values of double, which is not applied"),
        (pa.array([1]), [9], "PARQUET", "does not have the columns whose values it deletes"),
        (pa.array([1]), [1], "AVRO", "its files of deleted values are AVRO, which is not supported"),
    ],
)
def test_values_that_cannot_be_told_are_refused(
    keys: pa.Array, ids: list[int], kind: str, problem: str, tmp_path: Path
) -> None:
    pytest.importorskip("fastavro")
    from iceberg_files import write_table

    write(tmp_path / "data" / "0.parquet", {"a": (1, keys), "x": (3, pa.array([NAN]))})
    write(tmp_path / "data" / "e.parquet", {"a": (1, keys)})
    delete = {"content": 2, "file_path": "data/e.parquet", "sequence": 2, "equality_ids": ids, "file_format": kind}
    write_table(tmp_path, [{"content": 0, "file_path": "data/0.parquet", "sequence": 1}, delete])
    (finding,) = datacheck.scan(tmp_path).findings
    assert finding.code == "DC914"
    assert problem in finding.message
