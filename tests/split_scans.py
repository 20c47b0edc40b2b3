"""Scans of one column whose parts are units of their own, for tests that findings do not depend on how data is split."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from datacheck.batch import Batch, Column
from datacheck.checks.checker import RuleSet
from datacheck.findings import Finding, merge_findings
from datacheck.jobs.units.scan import scan_batches
from datacheck.schema.model import Schema

#: Where a column of some rows is cut.
CUTS = st.lists(st.integers(0, 30), max_size=3)


def split_findings(data: Any, field: dict[str, Any], cuts: list[int]) -> list[Finding]:
    """The merged findings on a column ``x`` under the rules of ``field``."""
    schema = Schema.model_validate({"fields": {"x": field}})
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    scans = [
        scan_batches([Batch((Column("x", data[start:stop]),), stop - start, start)], "a", RuleSet(schema))
        for start, stop in itertools.pairwise(bounds)
    ]
    return merge_findings([finding for scan in scans for finding in scan.findings])
