"""Pandera checks created in a new process, before pandera has registered its functions for pandas."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import pandera.pandas as pandera
check = pandera.Check.gt(0, raise_warning=True)  # made before pandera has loaded its functions for pandas
schema = pandera.DataFrameSchema({"x": pandera.Column(float, check)})

import pyarrow
import datacheck
report = datacheck.scan(pyarrow.table({"x": [1.0, -1.0]}), schema)
print([(finding.code, finding.num_violations, finding.num_checked) for finding in report.findings])
"""


@pytest.mark.slow
def test_a_check_created_before_pandera_registered_pandas_still_runs() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "[('DC303', 1, 2)]", done.stderr
