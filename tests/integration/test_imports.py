"""What a job imports, and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SCAN = """
import sys, datacheck
report = datacheck.scan({path!r})
assert report.findings[0].code == "DC101", report
print(sorted({{"pandas", "pandera", "torch"}} & set(sys.modules)))
"""

MANY_THREADS = """
import datacheck
in_range = {{"min_value": 0, "max_value": 9}}
schema = {{"unique": [["s", "x"]], "fields": {{"s": {{}}, "x": {{"checks": {{"in_range": in_range}}}}}}}}
print(datacheck.scan({path!r}, schema, workers=8).ok)
"""


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
try:
    from datacheck.torch import Guard
except ImportError as error:
    print(error)
"""


def test_the_training_door_says_what_to_install(run_python: Callable[[str], str]) -> None:
    assert run_python(WITHOUT_TORCH).strip() == "Guard needs torch: pip install 'datacheck-ml[torch]'"


def test_a_scan_of_nested_columns_with_nulls_imports_no_pandas(
    tmp_path: Path, run_python: Callable[[str], str]
) -> None:
    table = pa.table(
        {
            "a": [1.0, None, float("nan")],
            "l": [[1.0], None, [2.0, None]],
            "b": [True, None, False],
            "s": [{"x": 1.0}, None, {"x": None}],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    assert run_python(SCAN.format(path=str(tmp_path))).strip() == "[]"


@pytest.mark.slow
def test_workers_that_all_need_pandas_at_once_find_it_whole(tmp_path: Path, run_python: Callable[[str], str]) -> None:
    for number in range(8):
        table = pa.table({"s": [f"{number}-{row}" for row in range(50)], "x": [float(row % 10) for row in range(50)]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    for _ in range(3):
        assert run_python(MANY_THREADS.format(path=str(tmp_path))).strip() == "True"
