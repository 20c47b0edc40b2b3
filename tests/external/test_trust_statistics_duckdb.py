"""Statistics that DuckDB writes, which count NaN, prove what they say about floats."""

from __future__ import annotations

from pathlib import Path

import pytest

import datacheck
from datacheck.sources.base import ReadOptions

duckdb = pytest.importorskip("duckdb")


@pytest.mark.parametrize(
    ("column", "is_proven"),
    [
        ("i / 7.0", True),
        ("case when i = 999 then 'nan'::double else i end", False),
        ("case when i = 999 then '-inf'::double else i end", False),
        ("case when i = 999 then null else i::float end", False),
        ("'nan'::float", False),
    ],
)
def test_floats_are_left_unread_only_where_all_are_finite(column: str, *, is_proven: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    duckdb.sql(f"copy (select {column} as x from range(1000) t(i)) to '{path}' (format parquet)")
    full = datacheck.scan(path)
    trusting = datacheck.scan(path, options=ReadOptions(trust_statistics=True))
    notes = [finding for finding in trusting.findings if finding.code == "DC917"]
    assert bool(notes) == is_proven == full.ok == trusting.ok
    assert [one for one in trusting.findings if one.code != "DC917"] == list(full.findings)
