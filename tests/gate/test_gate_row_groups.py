"""Row groups that a new version of a Parquet file has in common with an older one are not checked again."""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import datacheck
from datacheck.gate import scanning
from datacheck.jobs.units import unit_cache
from datacheck.reports.gate_report import GateReport
from datacheck.sources import parquet_identity
from datacheck.sources.base import ReadOptions
from datacheck.sources.parquet import ParquetSource

pytestmark = pytest.mark.usefixtures("settled", "small_pieces")

NAN = float("nan")
ROWS = 50
Read = list[tuple[int, ...]]
Write = Callable[[str, str], Path]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row group is a unit, and worth remembering."""
    monkeypatch.setattr(parquet_identity, "PIECE_BYTES", 1)
    monkeypatch.setattr(unit_cache, "FAST_TO_CHECK", float("inf"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """The row groups of which all columns were read."""
    found: Read = []
    original = ParquetSource.read

    def watch(self: ParquetSource, unit: Any) -> Any:
        if unit.options.columns is None:
            found.append(unit.row_groups)
        return original(self, unit)

    monkeypatch.setattr(ParquetSource, "read", watch)
    return found


def rows(count: int, start: int = 0, bad: tuple[int, ...] = ()) -> pa.Table:
    x = np.arange(start, start + count, dtype=np.float64)
    x[list(bad)] = NAN
    return pa.table(
        {"id": np.arange(start, start + count), "x": x, "t": [str(one) for one in range(start, start + count)]}
    )


def save(table: pa.Table, name: str = "a.parquet", **options: Any) -> None:
    pq.write_table(table, name, row_group_size=ROWS, **options)


def check(**given: Any) -> GateReport:
    time.sleep(0.015)
    return datacheck.check("a.parquet", workers=2, **given)


def check_exactly(**given: Any) -> GateReport:
    """Check, and compare the report with that of a scan without a cache."""
    report, whole = check(**given), datacheck.check("a.parquet", cache=False, **given)
    assert (report.findings, report.num_rows, report.num_bytes) == (whole.findings, whole.num_rows, whole.num_bytes)
    return report


@pytest.mark.usefixtures("folder")
def test_an_appended_file_costs_its_new_part(read: Read) -> None:
    save(rows(200, bad=(7, 150)))
    first = check()
    assert sorted(read) == [(0,), (1,), (2,), (3,)]
    read.clear()
    save(pa.concat_tables([rows(200, bad=(7, 150)), rows(70, 200, bad=(3,))]))
    second = check()
    assert sorted(read) == [(4,), (5,)]
    (before,), (after,) = first.findings, second.findings
    assert (before.num_violations, after.num_violations, after.num_checked) == (2, 3, 270)
    assert [(one.row, one.row_group) for one in after.examples] == [(7, 0), (150, 3), (203, 4)]
    assert second.num_unchanged == 0
    assert check_exactly().num_unchanged == 1


@pytest.mark.usefixtures("folder")
def test_pandas_counts_all_rows_in_its_metadata_which_tells_nothing_about_row_groups(read: Read) -> None:
    for count in (100, 150):
        rows(count).to_pandas().to_parquet("a.parquet", row_group_size=ROWS)
        check()
    assert sorted(read) == [(0,), (1,), (2,)]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("dictionary", [False, True])
def test_any_changed_byte_of_a_page_is_checked(dictionary: bool, read: Read) -> None:
    save(rows(100), compression="none", use_dictionary=dictionary, write_statistics=False)
    assert check_exactly().ok
    path = Path("a.parquet")
    content = path.read_bytes()
    # Of the value 60, which is in the second row group.
    at = content.index(np.float64(60).tobytes())
    path.write_bytes(content[:at] + np.float64(NAN).tobytes() + content[at + 8 :])
    read.clear()
    (found,) = check().findings
    assert (found.code, found.field, [one.row for one in found.examples]) == ("DC101", "x", [60])
    assert read == [(1,)]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.rename_columns(["id", "y", "t"]),
        lambda table: table.set_column(1, "x", table["x"].cast(pa.float32())),
        lambda table: table.slice(1),
        lambda table: pa.concat_tables([table.slice(0, ROWS), table]),
        lambda table: table.set_column(
            0, pa.field("id", pa.int64(), metadata={"ARROW:extension:name": "own"}), table["id"]
        ),
        lambda table: table.set_column(0, "id", table["id"].cast(pa.duration("s"))),
    ],
    ids=["name", "dtype", "rows", "place", "extension", "logical type"],
)
def test_row_groups_that_are_read_in_another_way_are_checked(
    change: Callable[[pa.Table], pa.Table], read: Read
) -> None:
    save(rows(100, bad=(70,)))
    check()
    read.clear()
    save(change(rows(100, bad=(70,))))
    check_exactly()
    assert (1,) in read


@pytest.mark.usefixtures("folder")
def test_another_schema_checks_all_row_groups(write: Write, read: Read) -> None:
    schema = str(write("s.yaml", "fields: {x: {le: 1000}}\n"))
    save(rows(100))
    assert check(schema=schema).ok
    read.clear()
    write("s.yaml", "fields: {x: {le: 60}}\n")
    save(rows(150))
    assert not check_exactly(schema=schema).ok
    assert {(0,), (1,), (2,)} <= set(read)


def test_known_row_groups_are_read_for_keys_alone(folder: Path, write: Write, read: Read) -> None:
    schema = str(write("s.yaml", "unique: [id]\nfields: {x: {allow_nan: true}}\n"))
    save(rows(100, bad=(1,)))
    assert check(schema=schema).ok
    read.clear()
    save(pa.concat_tables([rows(100, bad=(1,)), rows(1, 60)]))
    report = check(schema=schema)
    assert [(one.code, one.examples[0].row) for one in report.findings] == [("DC301", 100)]
    assert read == [(2,)]
    check_exactly(schema=schema)


@pytest.mark.usefixtures("folder")
def test_row_groups_that_are_checked_faster_than_hashed_are_not_remembered(
    monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    monkeypatch.setattr(unit_cache, "FAST_TO_CHECK", 0.0)
    for count in (100, 150):
        save(rows(count))
        check()
    assert read.count((0,)) == 2


@pytest.mark.usefixtures("folder")
def test_a_file_that_changes_while_it_is_scanned_is_not_remembered(monkeypatch: pytest.MonkeyPatch, read: Read) -> None:
    store = scanning._store

    def change_then_store(*arguments: Any) -> None:
        save(rows(150))
        store(*arguments)

    save(rows(100))
    with monkeypatch.context() as patch:
        patch.setattr(scanning, "_store", change_then_store)
        check()
    check()
    assert read.count((0,)) == 2


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "scan", ["", "x", base64.b64encode(zlib.compress(b"{}")).decode(), base64.b64encode(b"\x78").decode(), None, 7]
)
def test_a_damaged_entry_is_ignored(monkeypatch: pytest.MonkeyPatch, scan: Any) -> None:
    save(rows(100, bad=(3,)))
    with monkeypatch.context() as patch:
        put = scanning.Cache.put
        patch.setattr(
            scanning.Cache,
            "put",
            lambda self, key, value: put(self, key, {**value, "scan": scan} if "scan" in value else value),
        )
        check()
    save(rows(150, bad=(3,)))
    check_exactly()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("chunk", [{"start": None}, {"start": 0}, {"stop": 10**9}, {"stop": 0}, {"num_values": 10**12}])
def test_a_footer_with_pages_elsewhere_or_too_large_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, chunk: dict[str, Any]
) -> None:
    save(rows(100))
    (unit, _) = parquet_identity.split_by_row_groups(ParquetSource().inspect("a.parquet", ReadOptions())).units
    (group,) = parquet_identity._row_groups(unit)
    assert parquet_identity.identify_row_groups(unit)
    other = replace(group, chunks=[*group.chunks[1:], replace(group.chunks[0], **chunk)])
    monkeypatch.setattr(parquet_identity, "_row_groups", lambda _: [other])
    assert parquet_identity.identify_row_groups(unit) is None


steps = st.lists(
    st.tuples(st.sampled_from(["append", "change", "cut", "null", "same"]), st.integers(0, 30)), min_size=1, max_size=5
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=steps, size=st.integers(4, 12), with_key=st.booleans())
def test_after_any_changes_the_report_equals_that_of_a_full_scan(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, steps: Any, size: int, with_key: bool
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("tree"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.cwd() / "cache"))
    Path("s.yaml").write_text("unique: [id]\n" if with_key else "fields: {id: {lt: 40}, x: {nullable: true}}\n")
    x: list[float | None] = [float(number) for number in range(10)]
    for kind, place in steps:
        if kind == "append":
            x += [float(place)] * (place % 7) + [NAN]
        elif kind == "cut":
            del x[len(x) - place % len(x) + 1 :]
        elif kind != "same":
            x[place % len(x)] = None if kind == "null" else NAN
        table = pa.table({"id": pa.array(range(len(x))), "x": pa.array(x, pa.float64())})
        pq.write_table(table, "a.parquet", row_group_size=size)
        check_exactly(schema="s.yaml")
