"""The columns of an array that break a rule from end to end are those of NumPy, however the array is split."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datacheck.batch import Batch, Column
from datacheck.checks.checker import RuleSet
from datacheck.findings import Finding, merge_findings
from datacheck.jobs.units.scan import scan_batches
from datacheck.schema.model import Schema

ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=5), elements=st.sampled_from([0.0, 0.0, 1.0])
)


@given(ARRAYS, st.lists(st.integers(0, 4), max_size=5), st.lists(st.integers(0, 5), max_size=2), *[st.booleans()] * 2)
def test_whole_columns_are_those_of_numpy(
    values: Any, dark: list[int], cuts: list[int], is_saved: bool, is_list: bool
) -> None:
    values[..., [column for column in dark if column < values.shape[-1]]] = 0
    rules = RuleSet(Schema.model_validate({"fields": {"x": {"gt": 0}}}))
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(values)}), len(values)]
    data = pa.array(values.tolist()) if is_list and values.ndim == 2 else values
    findings: list[Finding] = []
    for start, stop in itertools.pairwise(bounds):
        batch = Batch((Column("x", data[start:stop]),), stop - start, start)
        findings += scan_batches([batch], "a", rules).findings
    if is_saved:
        findings = [Finding.from_dict(json.loads(json.dumps(one.to_dict()))) for one in findings]
    expected = np.flatnonzero((values.reshape(-1, values.shape[-1]) == 0).all(axis=0)).tolist()
    for one in merge_findings(findings):
        columns = [] if one.by_index is None else one.by_index.whole(values.size)
        assert columns in ([], expected)
        # One row, or one column among others that break the rule as well, says nothing.
        if len(bounds) == 2 and values[..., 0].size > 1 and len(expected) < values.shape[-1]:
            assert columns == expected
        assert ("including all values at" in one.message) is bool(columns)
