"""Column chunks whose statistics prove every rule are left unread, and the verdict stays the same."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import datacheck
from datacheck.sources import parquet_footer
from datacheck.sources.base import ReadOptions
from datacheck.sources.parquet_footer import _Compact
from datacheck.storage.documents import load_schema

TRUST = ReadOptions(trust_statistics=True)
TYPES = [pa.int8(), pa.uint8(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64(), pa.bool_()]


def scan_both(path: Path, schema: str | None = None) -> tuple[datacheck.Report, datacheck.Report]:
    """The report of all values, and the one that trusts statistics, without the note on what was not read."""
    loaded = None if schema is None else load_schema(schema)
    full = datacheck.scan(path, loaded)
    trusting = datacheck.scan(path, loaded, options=TRUST)
    return full, trusting


def without_note(report: datacheck.Report) -> list[dict[str, object]]:
    return [finding.to_dict() for finding in report.findings if finding.code != "DC917"]


def proven(report: datacheck.Report) -> tuple[int, int]:
    notes = [finding for finding in report.findings if finding.code == "DC917"]
    return sum(one.num_violations for one in notes), sum(one.num_checked for one in notes)


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, int, str]:
    num_rows = draw(st.integers(1, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    columns, lines = {}, []
    for index in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(TYPES))
        high = 2 if kind == pa.bool_() else 100
        values = random.integers(0, high, num_rows)
        nulls = random.random(num_rows) < draw(st.sampled_from([0.0, 0.1, 1.0]))
        array = pa.array([None if null else int(value) for value, null in zip(values, nulls, strict=True)], pa.int64())
        columns[f"c{index}"] = array.cast(kind)
        if draw(st.booleans()) and kind != pa.bool_():
            rules = {"ge": draw(st.integers(0, 40)), "lt": draw(st.integers(60, 120))}
            extra = draw(st.sampled_from([{}, {"nullable": "true"}, {"isin": "[50, 55]"}, {"dtype": str(kind)}]))
            lines.append(f"  c{index}: {{{', '.join(f'{key}: {value}' for key, value in (rules | extra).items())}}}")
    schema = "version: 1\nname: t\n" + ("fields:\n" + "\n".join(lines) + "\n" if lines else "fields: {}\n")
    return pa.table(columns), draw(st.integers(1, 60)), schema


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=tables())
def test_the_verdict_is_that_of_all_values(data: tuple[pa.Table, int, str], tmp_path: Path) -> None:
    table, group, text = data
    path, schema = tmp_path / "x.parquet", tmp_path / "s.yaml"
    pq.write_table(table, path, row_group_size=group)
    schema.write_text(text)
    full, trusting = scan_both(path, str(schema))
    assert without_note(trusting) == without_note(full)
    assert (trusting.num_rows, trusting.ok) == (full.num_rows, full.ok)


def test_no_page_of_a_proven_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"a": np.arange(100_000), "b": np.arange(100_000) % 2 == 0})
    pq.write_table(table, path, row_group_size=10_000, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little")
    content[4 : len(content) - 8 - footer] = bytes(len(content) - 12 - footer)
    path.write_bytes(content)
    full, trusting = scan_both(path)
    assert not full.ok
    assert trusting.ok
    assert trusting.num_rows == 100_000
    assert proven(trusting) == (20, 20)


@pytest.mark.parametrize(
    "schema",
    [
        "fields: {a: {unique: true}}",
        "fields: {a: {coerce: true, dtype: float32}}",
        "fields: {a: {missing: [-1]}}",
        "fields: {a: {isin: [1]}}",
        "fields: {a: {mean: {le: 1}}}",
        "checks: [{expr: a < b}]",
    ],
)
def test_what_extremes_do_not_prove_is_read(schema: str, tmp_path: Path) -> None:
    path, file = tmp_path / "x.parquet", tmp_path / "s.yaml"
    pq.write_table(pa.table({"a": [1, 2, -1, 2], "b": [1, 1, 1, 1]}), path)
    file.write_text(f"version: 1\nname: t\n{schema}\n")
    full, trusting = scan_both(path, str(file))
    assert without_note(trusting) == without_note(full)
    # At most the other column is left unread.
    assert proven(trusting)[0] <= 1


def test_floats_without_a_count_of_nan_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": [1.0, float("nan"), 2.0], "i": [1, 2, 3]}), path)
    trusting = datacheck.scan(path, options=TRUST)
    assert [finding.code for finding in trusting.findings] == ["DC101", "DC917"]
    assert proven(trusting) == (1, 2)


def test_it_is_for_those_who_ask(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"i": [1, 2, 3]}), path)
    assert proven(datacheck.scan(path)) == (0, 0)
    assert proven(datacheck.scan(path, options=replace(TRUST))) == (1, 1)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.booleans())
def test_hostile_footers_end_in_an_error_of_python(data: bytes, is_long: bool) -> None:
    with (
        suppress(IndexError, ValueError, TypeError),
        mock.patch.object(parquet_footer, "_LONG_BYTES", 0 if is_long else 1 << 20),
    ):
        _Compact(data).row_groups()


@pytest.mark.parametrize("num_columns", [1, 40])
@pytest.mark.parametrize("long_bytes", [0, 1 << 30])
def test_a_footer_is_skipped_and_counted_as_it_is_read(
    num_columns: int, long_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_footer, "_LONG_BYTES", long_bytes)
    path = tmp_path / "x.parquet"
    columns = {f"{name}{index}": values for index in range(num_columns) for name, values in _COLUMNS.items()}
    pq.write_table(pa.table(columns), path, row_group_size=3)
    footer = path.read_bytes()[:-8][-int.from_bytes(path.read_bytes()[-8:-4], "little") :]
    metadata = pq.ParquetFile(path).metadata
    chunks = [metadata.row_group(group).column(index) for group in range(3) for index in range(metadata.num_columns)]
    assert _Compact(footer).count_chunks() == len(chunks)
    groups = _Compact(footer).row_groups()
    assert len({group.digest for group in groups}) == 3
    read = [one for group in groups for one in group.chunks]
    assert [(one.path, one.num_values, one.null_count, one.start, one.stop) for one in read] == [
        (
            one.path_in_schema,
            one.num_values,
            one.statistics and one.statistics.null_count,
            start := one.dictionary_page_offset if one.has_dictionary_page else one.data_page_offset,
            start + one.total_compressed_size,
        )
        for one in chunks
    ]


_COLUMNS = {
    "list": [[1, None], [], None] * 3,
    "struct": [{"a": 1.5, "b": "text"}, None, {"a": None, "b": "x" * 60}] * 3,
    "text": ["a", None, "b" * 100] * 3,
}
