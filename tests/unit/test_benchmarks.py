"""The benchmarks run, at a size of next to nothing; and whoever races finds the same bad values. Nothing is timed here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datacheck
from benchmarks import formats, timing
from benchmarks.__main__ import main
from benchmarks.bench import Bench
from benchmarks.clean import copy_with_pyarrow
from benchmarks.cluster_simulation import Setting, simulate
from benchmarks.inputs import LIMIT, make_schema, plant, random_columns, table_of, write_npy, write_parquet
from benchmarks.npy import count_bad, torch_is_finite
from benchmarks.parquet import available_checks
from benchmarks.peers import count_nonfinite_with_polars, count_with_duckdb, count_with_polars
from benchmarks.results import Claim, Section, render_section, render_summary, speed_ratio, time_ratio
from benchmarks.timing import Contender, Timing, race

NUM_COLUMNS, NUM_ROWS = 3, 200
#: What may be wrong with a value of the second column, and which codes say so.
BAD = {
    "nan": (np.nan, {"DC101"}),
    "+inf": (np.inf, {"DC102", "DC202"}),
    "-inf": (-np.inf, {"DC103", "DC201"}),
    "too large": (2 * LIMIT, {"DC202"}),
    "too small": (-2 * LIMIT, {"DC201"}),
    "null": (None, {"DC104"}),
}
NUM_BAD = 7


@pytest.fixture(autouse=True)
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MIN_ROUNDS", 1)
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.0)


def write_bad(path: Path, bad: float | None) -> Path:
    """Rows in two row groups, with ``NUM_BAD`` bad values among ordinary ones."""
    columns: list[Any] = random_columns(NUM_ROWS, NUM_COLUMNS)
    places = np.zeros(NUM_ROWS, bool)
    places[np.linspace(0, NUM_ROWS - 1, NUM_BAD).astype(int)] = True
    if bad is not None:
        columns[1][places] = bad
    table = table_of(columns)
    if bad is None:
        table = table.set_column(1, "f01", pa.array(columns[1], mask=places))
    pq.write_table(table, path, row_group_size=NUM_ROWS // 2)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["startup", "npy", "parquet", "lists", "dataset", "clean", "files", "size", "memory"])
def test_every_benchmark_runs_at_a_tiny_size_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    assert main([name, "--scale", "0.0005", "--folder", str(tmp_path / "bench"), "--json", str(tmp_path / "out")]) == 0
    assert list((tmp_path / "bench").iterdir()) == []
    record = json.loads((tmp_path / "out").read_text())
    assert {"cpu", "num_cores", "versions"} <= record["machine"].keys()
    (section,) = record["sections"]
    assert section["name"] == name
    assert all(seconds > 0 for measured in section["timings"] for seconds in measured["seconds"])
    assert any(claim["target"] is not None for claim in section["claims"])
    assert all(math.isfinite(claim["measured"]) for claim in section["claims"])
    names = [measured["name"] for measured in section["timings"]]
    assert len(set(names)) == len(names)


def test_each_format_is_raced_or_said_to_lack_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_SECONDS", 0.0)
    cases = [replace(case, needs=("no_such_library",)) if case.name == "ORC" else case for case in formats._CASES]
    monkeypatch.setattr(formats, "_CASES", cases)
    section = formats.measure(Bench(tmp_path, 0.0005))
    assert list(tmp_path.iterdir()) == []
    raced = {claim.what.partition(":")[0] for claim in section.claims}
    assert "ORC: not measured, since it is not installed: no_such_library." in section.notes
    assert {"Delta", "MDS", "LitData"} <= raced
    assert len(raced) == len(formats._CASES) - sum("not installed" in note for note in section.notes)
    assert all(claim.target is None and math.isfinite(claim.measured) for claim in section.claims)
    assert len(section.timings) == 2 * len(section.claims) == 2 * len(raced)


def test_an_unknown_benchmark_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["parkuet"])
    assert "there is no benchmark 'parkuet'; there are startup, npy" in capsys.readouterr().err


@pytest.mark.parametrize("kind", BAD)
def test_datacheck_and_every_peer_find_the_same_bad_values(kind: str, tmp_path: Path) -> None:
    bad, codes = BAD[kind]
    path = write_bad(tmp_path / "bad.parquet", bad)
    found = {
        finding.code: finding.num_violations for finding in datacheck.scan(path, make_schema(NUM_COLUMNS)).findings
    }
    assert found == dict.fromkeys(codes, NUM_BAD)
    checks = available_checks(NUM_COLUMNS, Section("", ""))
    assert checks
    blind = {"polars streaming, is_finite, counted"} if kind.startswith("too") else set()
    assert {name for name, check in checks.items() if check(path)} == blind & checks.keys()


@pytest.mark.parametrize("kind", BAD)
def test_peers_that_count_agree_on_the_count(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("polars")
    pytest.importorskip("duckdb")
    path = write_bad(tmp_path / "bad.parquet", BAD[kind][0])
    assert count_with_polars(path, NUM_COLUMNS) == NUM_BAD
    assert count_with_duckdb(path, NUM_COLUMNS) == NUM_BAD
    assert count_nonfinite_with_polars(path, NUM_COLUMNS) == (0 if kind.startswith("too") else NUM_BAD)


def test_every_peer_passes_a_clean_file(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "clean.parquet", 2, NUM_ROWS, NUM_COLUMNS)
    assert datacheck.scan(path, make_schema(NUM_COLUMNS)).ok
    assert all(check(path) for check in available_checks(NUM_COLUMNS, Section("", "")).values())


@pytest.mark.parametrize(("library", "count"), [("polars", count_with_polars), ("duckdb", count_with_duckdb)])
def test_a_peer_that_counts_refuses_another_dtype(
    library: str, count: Callable[[Path, int], int], tmp_path: Path
) -> None:
    pytest.importorskip(library)
    pq.write_table(pa.table({"f00": [1.0, 2.0]}), tmp_path / "wide.parquet")
    with pytest.raises(TypeError, match="not float32: f00"):
        count(tmp_path / "wide.parquet", 1)


@pytest.mark.torch
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_torch_checks_the_same_values(bad: float) -> None:
    pytest.importorskip("torch")
    values = np.ones(1000, np.float32)
    assert torch_is_finite(values)()
    values[17] = bad
    assert not torch_is_finite(values)()
    assert count_bad(values) == 1


def test_the_requested_number_of_bad_values_is_planted() -> None:
    values = np.zeros(10_000, np.float32)
    assert plant(values, 0.01) == np.count_nonzero(np.isnan(values)) == 100
    assert plant(np.zeros(5), 1e-9) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_an_npy_file_equals_that_of_numpy(dtype: str, tmp_path: Path) -> None:
    path = write_npy(tmp_path / "written.npy", (30, 4), dtype)
    array = np.load(path)
    assert (array.shape, array.dtype) == ((30, 4), np.dtype(dtype))
    assert len(np.unique(array)) > 60
    np.save(tmp_path / "saved.npy", array)
    assert path.read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_an_npy_of_uint16_holds_finite_bfloat16(tmp_path: Path) -> None:
    bits = np.load(write_npy(tmp_path / "written.npy", (1000,), np.uint16))
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    assert np.isfinite(values).all()
    assert 0.8 < values.std() < 1.2


def test_a_parquet_file_has_the_requested_row_groups_with_different_rows(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "made.parquet", 3, 50, 2, lambda columns: plant(columns[0], 0.1))
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(index).num_rows for index in range(3)] == [50, 50, 50]
    assert metadata.row_group(0).column(0).compression == "SNAPPY"
    first, second = (column.to_numpy() for column in pq.read_table(path))
    assert np.count_nonzero(np.isnan(first)) == 15
    assert len(np.unique(second)) == 150


def test_the_copy_of_pyarrow_has_the_same_rows(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "made.parquet", 2, 50, 2)
    copy_with_pyarrow(path, tmp_path / "copy.parquet", 50, sync=True, use_dictionary=False)
    assert pq.read_table(tmp_path / "copy.parquet").equals(pq.read_table(path))
    assert pq.read_metadata(tmp_path / "copy.parquet").num_row_groups == 2


def test_contenders_take_turns_after_a_warm_up_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MIN_ROUNDS", 2)
    calls: list[str] = []
    contenders = [
        Contender("a", partial(calls.append, "a"), prepare=partial(calls.append, "prepare a")),
        Contender("b", partial(calls.append, "b")),
    ]
    timings = race(contenders, num_rows=5)
    assert calls == ["prepare a", "a", "b"] * 3
    assert [len(measured.seconds) for measured in timings.values()] == [2, 2]
    assert timings["b"].num_rows == 5


def test_a_wrong_answer_is_an_error() -> None:
    with pytest.raises(AssertionError, match="fast: the answer is 3, and 4 is right"):
        race([Contender("fast", lambda: 3, expected=4)])


@pytest.mark.parametrize(
    ("measured", "at_least", "is_met"), [(2.0, True, True), (0.5, True, False), (2.0, False, False), (1.0, False, True)]
)
def test_a_target_is_met_on_its_good_side(measured: float, at_least: bool, is_met: bool) -> None:
    assert Claim("x", measured, 1.0, at_least).is_met is is_met


def test_ratios_come_from_medians_and_from_best_rounds() -> None:
    ours, peer = Timing("ours", (1.0, 2.0, 9.0)), Timing("peer", (2.0, 8.0, 8.0))
    faster, longer = speed_ratio("speed", ours, peer, 3.0), time_ratio("time", ours, peer, 0.3)
    assert (faster.measured, faster.best, faster.is_met) == (4.0, 2.0, True)
    assert (longer.measured, longer.best, longer.is_met) == (0.25, 0.5, True)


def test_the_output_shows_target_ratio_and_verdict() -> None:
    section = Section("demo", "a title", ["a note"], [Timing("work", (0.5,), num_bytes=10**9)])
    section.claims += [Claim("work / other", 1.25, 1.1, unit="x the time", best=1.0), Claim("no target", 7.0)]
    shown = render_section(section)
    assert "== demo: a title\n   a note\n" in shown
    assert "work  median    500.0 ms  min    500.0 ms    2.00 GB/s  (1 rounds)" in shown
    assert "work / other     1.25 x the time (1.00 by best rounds); at most 1.1: NOT MET" in shown
    assert "no target        7.00 x\n" in shown
    assert "no target" not in render_summary([section])
    assert "0 of 1 targets met" in render_summary([section])


def test_sizes_follow_the_scale(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 0.01)
    assert bench.rows(5_000) == 50
    assert bench.rows(10, least=3) == 3
    with bench.room("a") as room:
        (room / "file").write_text("left behind")
    assert not room.exists()


def test_simulated_shards_that_are_killed_do_everything_and_little_twice() -> None:
    setting = Setting(num_units=120, num_shards=12, mtbf=120.0, restart=20.0)
    found = simulate(setting)
    assert len(found.done_at) == found.num_needed == 240
    assert found.num_killed > 0
    assert found.num_run <= 1.2 * found.num_needed
    assert found.repeated < 0.4
    assert simulate(setting).end == found.end, "nothing depends on the threads of this machine"
