"""Rules about single values, columns, channels and sizes agree with NumPy and Python, however data is split."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from split_scans import CUTS, split_findings

import datacheck


def counts(data: Any, field: dict[str, Any], cuts: list[int]) -> dict[tuple[str, str | None], int]:
    """The violations in a column whose parts are units of their own, by code and by the column or the rule."""
    return {
        (one.code, one.rule.partition("(")[0] if one.code == "DC207" else one.field): one.num_violations
        for one in split_findings(data, field, cuts)
    }


def broken(**rules: Any) -> dict[tuple[str, str | None], int]:
    return {(code, "x"): int(number) for code, number in rules.items() if number}


FEW = st.sampled_from([-2, -1, 0, 1, 2, 3])


@given(
    st.lists(FEW.map(float) | st.sampled_from([np.nan, np.inf, -np.inf]), min_size=1, max_size=30),
    FEW,
    st.integers(0, 3),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.sampled_from(["float32", "float64", "float16"]),
    CUTS,
)
@settings(max_examples=60)
def test_bounds_members_and_non_finite_values_agree_with_numpy(
    values: list[float],
    low: int,
    more: int,
    allowed: tuple[bool, bool, bool],
    dtype: str,
    cuts: list[int],
) -> None:
    x, high = np.array(values, dtype), low + more
    members = sorted({low, high})
    is_strict, nan, inf = allowed
    bounds = {"gt": low - 1, "lt": high + 1} if is_strict else {"ge": low, "le": high}
    field = {**bounds, "isin": members, "allow_nan": nan, "allow_inf": inf}
    finite = x[np.isfinite(x)]
    looked_at = finite if inf else x[~np.isnan(x)]
    below, above = (looked_at <= low - 1, looked_at >= high + 1) if is_strict else (looked_at < low, looked_at > high)
    found = counts(x, field, cuts)
    expected = broken(
        DC101=0 if nan else np.isnan(x).sum(),
        DC102=0 if inf else np.isposinf(x).sum(),
        DC103=0 if inf else np.isneginf(x).sum(),
        **{"DC203" if is_strict else "DC201": below.sum(), "DC204" if is_strict else "DC202": above.sum()},
    )
    assert {key: number for key, number in found.items() if key[0] != "DC205"} == expected
    assert found.get(("DC205", "x"), 0) == (~np.isin(x[~np.isnan(x)], members)).sum()


@given(
    st.lists(st.sampled_from(["a", "ab", "b1", "", "é", "A"]) | st.none(), min_size=1, max_size=30),
    st.sampled_from(["a", "^b", "[0-9]$", "^$", "."]),
    CUTS,
)
@settings(max_examples=40)
def test_patterns_and_checks_of_pandera_agree_with_python(
    texts: list[str | None], pattern: str, cuts: list[int]
) -> None:
    checks = {"str_startswith": "a", "notin": ["ab", "A"], "str_length": {"min_value": 1, "max_value": 1}}
    field = {"nullable": True, "str_matches": pattern, "checks": checks}
    present = [text for text in texts if text is not None]
    expected = {
        ("DC206", "x"): sum(re.match(pattern, text) is None for text in present),
        ("DC207", "str_startswith"): sum(not text.startswith("a") for text in present),
        ("DC207", "notin"): sum(text in ("ab", "A") for text in present),
        ("DC207", "str_length"): sum(len(text) != 1 for text in present),
    }
    found = counts(pa.array(texts, pa.string()), field, cuts)
    assert found == {key: number for key, number in expected.items() if number}


@given(
    hnp.arrays("float32", hnp.array_shapes(min_dims=3, max_dims=3, max_side=4), elements=FEW.map(float)),
    st.sampled_from(["columns", "channels"]),
    st.booleans(),
    CUTS,
)
@settings(max_examples=60)
def test_rules_of_columns_and_channels_agree_with_numpy(values: Any, axis: str, named: bool, cuts: list[int]) -> None:
    last = values.shape[-1 if axis == "columns" else 1] - 1
    names: dict[Any, dict[str, Any]] = {0: {"ge": 0}}
    names[last] = {**names.get(last, {}), "lt": 2, "isin": [0, 1]}
    if named:
        names = {f"c{index}": names.get(index, {}) for index in range(last + 1)}
    field = {"le": 2, axis: names}

    def part(index: int) -> Any:
        return values[..., index] if axis == "columns" else values[:, index]

    first, end = (f"x[c{index}]" if named else f"x[{index}]" for index in (0, last))
    expected = {
        ("DC202", "x"): (values > 2).sum(),
        ("DC201", first): (part(0) < 0).sum(),
        ("DC204", end): (part(last) >= 2).sum(),
        ("DC205", end): (~np.isin(part(last), [0, 1])).sum(),
    }
    assert counts(values, field, cuts) == {key: int(number) for key, number in expected.items() if number}


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=4),
    st.sampled_from(["row", "file", "dataset"]),
    st.integers(1, 3),
)
@settings(max_examples=30)
def test_sizes_are_one_in_each_row_file_or_dataset(
    tmp_path_factory: Any, files: list[list[int]], scope: str, row_group_size: int
) -> None:
    folder: Path = tmp_path_factory.mktemp("sizes")
    for number, sizes in enumerate(files):
        # The second list has another length in rows of three.
        rows = [{"a": [0] * size, "b": [0] * (size if size < 3 else 2)} for size in sizes]
        table = pa.Table.from_pylist(rows, pa.schema({"a": pa.list_(pa.int8()), "b": pa.list_(pa.int8())}))
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=row_group_size)
    schema: dict[str, Any] = {"fields": {"a": {"shape": ["T"]}, "b": {"shape": ["T"]}}}
    if scope != "row":
        schema["dimensions"] = {"T": scope}
    findings = datacheck.scan(folder, schema, workers=1 + row_group_size % 2).findings
    found = {(one.code, Path(one.uri).stem): one.num_violations for one in findings}
    uneven = {("DC307", str(at)): sum(size == 3 for size in sizes) for at, sizes in enumerate(files) if 3 in sizes}
    of_files = [{*sizes, *(2 for size in sizes if size == 3)} for sizes in files]
    if scope == "row":
        assert found == uneven
        return
    assert {key: number for key, number in found.items() if key[0] == "DC307"} in ({}, uneven)
    has_several = any(len(sizes) > 1 for sizes in of_files) if scope == "file" else len(set().union(*of_files)) > 1
    assert any(code == "DC308" for code, _ in found) is has_several
