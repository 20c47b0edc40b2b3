"""Numbers of files, tolerances and own checks agree with NumPy, however the data lies in files, row groups and workers."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datacheck
from datacheck.codes import CODES, codes_with_prefix
from datacheck.findings import Severity

VALUES = st.lists(st.sampled_from([1.0, 2.0, 3.0, -1.0, 0.5, np.nan]), min_size=1, max_size=40)
CUTS = st.lists(st.integers(0, 40), max_size=3)


def negative(values: Any) -> Any:
    return values < 0


class Balanced(datacheck.DatasetCheck):
    """The sum of the whole numbers, which only merged states know."""

    code, message, columns = "X902", "the sum is too large", ("x",)

    def __init__(self) -> None:
        self.total, self.num_rows = 0.0, 0

    def update(self, columns: Any) -> None:
        values = np.asarray(columns["x"])
        self.total += float(values[values >= 1].sum())
        self.num_rows += len(values)

    def merge(self, other: Any) -> None:
        self.total += other.total
        self.num_rows += other.num_rows

    def problems(self) -> list[str]:
        return [f"{self.total:g} in {self.num_rows} rows"] if self.total > 20 else []


@pytest.fixture(autouse=True, scope="module")
def own_checks() -> Iterator[None]:
    module = types.ModuleType("own_checks_of_files")
    check = datacheck.own_check("X901", "are negative")(negative)
    module.__dict__.update(negative=check, Balanced=Balanced)
    before = dict(CODES)
    sys.modules[module.__name__] = module
    yield
    del sys.modules[module.__name__]
    for code in CODES.keys() - before:
        del CODES[code]
    codes_with_prefix.cache_clear()


def write_files(folder: Path, values: list[float], cuts: list[int], row_group_size: int) -> dict[str, Any]:
    """The values of each file, which are in order of their names."""
    parts = [part for part in np.split(np.array(values), sorted(cuts)) if len(part)]
    written = {}
    for number, part in enumerate(parts):
        uri = str(folder / f"{number}.parquet")
        pq.write_table(pa.table({"x": part}), uri, row_group_size=row_group_size)
        written[uri] = part
    return written


@given(
    VALUES, CUTS, st.integers(1, 9), st.sampled_from([0, 1, 3, "10%", "33.3%"]), st.integers(1, 4), st.integers(0, 3)
)
@settings(max_examples=15)
def test_tolerances_own_checks_and_numbers_of_files_agree_with_numpy(
    tmp_path_factory: Any,
    values: list[float],
    cuts: list[int],
    row_group_size: int,
    limit: int | str,
    least: int,
    more: int,
) -> None:
    folder: Path = tmp_path_factory.mktemp("files")
    written = write_files(folder, values, cuts, row_group_size)
    schema = {
        "num_files": {"ge": least, "le": least + more},
        "own_checks": "own_checks_of_files:Balanced",
        "tolerances": {"x": {"DC101": limit, "X901": limit}},
        "fields": {"x": {"own_checks": "own_checks_of_files:negative"}},
    }
    report = datacheck.scan(folder, schema, workers=1 + row_group_size % 2)
    found = {(one.code, one.uri): one for one in report.findings}
    for uri, part in written.items():
        for code, mask in (("DC101", np.isnan(part)), ("X901", part < 0)):
            num_bad = int(mask.sum())
            assert ((code, uri) in found) is bool(num_bad)
            if not num_bad:
                continue
            one = found.pop((code, uri))
            percent = Fraction(limit.rstrip("%")) if isinstance(limit, str) else None
            is_within = num_bad <= limit if isinstance(limit, int) else num_bad * 100 <= (percent or 0) * len(part)
            assert (one.num_violations, one.num_checked) == (num_bad, len(part))
            assert one.severity == (Severity.INFO if is_within else Severity.ERROR)
            assert [example.row for example in one.examples] == np.flatnonzero(mask)[: len(one.examples)].tolist()
    whole = np.array(values)
    total = whole[whole >= 1].sum()
    expected = {"DC325"} if not least <= len(written) <= least + more else set()
    expected |= {"X902"} if total > 20 else set()
    assert {code for code, _ in found} == expected
    for one in found.values():
        assert one.code != "X902" or f"{total:g} in {len(values)} rows" in one.message
