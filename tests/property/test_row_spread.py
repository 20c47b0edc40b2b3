"""The spread of violations over rows, whatever the units and the order in which they are merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datacheck
from datacheck.findings import Finding
from datacheck.row_spread import RowSpread, SpreadCounter

ROWS = st.lists(st.integers(0, 2**40), min_size=1, max_size=50)


@given(ROWS)
def test_it_counts_every_violation_where_it_is(rows: list[int]) -> None:
    spread = RowSpread.of(np.array(rows))
    assert 1 <= len(spread.counts) <= 64
    width = spread.rows_per_count
    for index, count in enumerate(spread.counts):
        assert count == sum(index * width <= row < (index + 1) * width for row in rows)
    assert sum(spread.counts) == len(rows)


@given(ROWS, ROWS, ROWS)
def test_parts_merge_into_the_spread_of_the_whole_in_any_order(a: list[int], b: list[int], c: list[int]) -> None:
    whole = RowSpread.of(np.array([*a, *b, *c]))
    parts = [RowSpread.of(np.array(part)) for part in (a, b, c)]
    assert parts[0].merge(parts[1]).merge(parts[2]) == parts[2].merge(parts[0].merge(parts[1])) == whole


@given(st.lists(ROWS, min_size=1, max_size=6))
def test_blocks_are_counted_as_the_whole(blocks: list[list[int]]) -> None:
    counter = SpreadCounter()
    for block in blocks:
        counter.add(np.array(block))
    assert counter.spread() == RowSpread.of(np.concatenate(blocks))


def test_many_blocks_of_a_long_array_are_counted_as_numpy_counts_them() -> None:
    values = np.zeros(3_000_000, np.float32)
    generator = np.random.default_rng(5)
    values[generator.integers(0, len(values), 40_000)] = np.nan
    values[generator.integers(0, 1_000_000, 40_000)] = np.nan
    (finding,) = datacheck.scan({"x": values}).findings
    rows = np.flatnonzero(np.isnan(values))
    assert finding.num_violations == finding.num_rows == len(rows)
    assert finding.spread == RowSpread.of(rows).over(len(values))


@given(ROWS, st.integers(0, 2**41))
def test_over_a_whole_file_nothing_is_lost_and_the_end_is_seen(rows: list[int], num_rows: int) -> None:
    spread = RowSpread.of(np.array(rows)).over(num_rows)
    assert sum(spread.counts) == len(rows)
    assert 1 <= len(spread.counts) <= 64
    assert len(spread.counts) * spread.rows_per_count >= max(num_rows, *rows, 1)


@given(ROWS)
def test_it_survives_json(rows: list[int]) -> None:
    spread = RowSpread.of(np.array(rows))
    assert RowSpread.from_dict(spread.to_dict()) == spread
    finding = Finding("DC101", "x.npy", "x", len(rows), 2**41, spread=spread)
    assert Finding.from_dict(finding.to_dict()) == finding


@pytest.mark.parametrize(
    "damage",
    [
        {"rows_per_count": 3},
        {"rows_per_count": 0},
        {"rows_per_count": 1 << 70},
        {"rows_per_count": "1"},
        {"counts": []},
        {"counts": [0] * 65},
        {"counts": [-1]},
        {"counts": [1.5]},
        {"counts": None},
    ],
)
def test_a_damaged_one_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        RowSpread.from_dict({**RowSpread(0, (1,)).to_dict(), **damage})


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["flat", "lists", "fixed"])
def test_a_scan_finds_the_rows_of_numpy(kind: str, workers: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    values = generator.random((5_000, 3))
    values[generator.random(values.shape) < 0.01] = np.nan
    array = {
        "flat": pa.array(values[:, 0]),
        "lists": pa.array(list(values)),
        "fixed": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 3),
    }[kind]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": array, "n": np.arange(5_000)}), path, row_group_size=700)
    schema = {"version": 1, "fields": {"x": {}, "n": {"checks": {"notin": [7, 4_000]}}}, "checks": [{"expr": "n != 8"}]}
    report = datacheck.scan(path, schema=schema, workers=workers)
    spreads = {finding.code: finding.spread for finding in report.findings}
    rows, places = np.nonzero(np.isnan(values))
    assert spreads["DC101"] == RowSpread.of(rows if kind != "flat" else rows[places == 0]).over(5_000)
    others = {spread for code, spread in spreads.items() if code != "DC101"}
    assert others == {RowSpread.of(np.array([7, 4_000])).over(5_000), RowSpread.of(np.array([8])).over(5_000)}
