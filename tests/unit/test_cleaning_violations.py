"""Violations that travel from the labels to the repairs: the same repairs as a search in the kept rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from datacheck.batch import Batch, Column
from datacheck.checks.checker import Checker, RuleSet
from datacheck.cleaning import leaf_repair
from datacheck.cleaning.plan import leaf_dtypes, parse_plan
from datacheck.cleaning.repairs import apply
from datacheck.cleaning.validate_plan import validate_plan
from datacheck.cleaning.violations import violations_in_kept_rows
from datacheck.schema.model import Field, Schema

NAN, INF = float("nan"), float("inf")
SCHEMA = Schema(fields={"x": Field(le=5, allow_nan=True, nullable=True), "x[]": Field(le=5, allow_nan=True)})
RULES: list[dict[str, Any]] = [
    {"action": "impute", "strategy": "constant", "value": 1, "codes": ["DC101", "DC104", "DC202"], "indicator": True},
    {"action": "nan_to_num", "posinf": 2, "neginf": -2},
]

GRID = np.array([[1.0, NAN, INF], [9.0, -INF, 2.0], [NAN, 3.0, 9.0], [4.0, 5.0, -1.0], [INF, INF, NAN]])
LAYOUTS = {
    "flat": GRID[:, 0].copy(),
    "two axes": GRID,
    "Fortran order": np.asfortranarray(GRID),
    "three axes, permuted": np.stack([GRID, GRID + 1], axis=2).transpose(0, 2, 1),
    "masked": np.ma.MaskedArray(GRID, mask=GRID == 5),
    "nulls": pa.array([1.0, None, NAN, 9.0, INF]),
    "lists": pa.array([[NAN, 1.0], None, [], [9.0, INF, -INF], [NAN]]),
    "text": pa.array(["a", None, "b", None, "c"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kept", [[1, 1, 1, 1, 1], [0, 1, 1, 0, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
def test_repairs_are_the_same_as_those_of_a_search(layout: str, kept: list[int]) -> None:
    data = LAYOUTS[layout]
    schema = Schema() if layout == "text" else SCHEMA
    value = "none" if layout == "text" else 1
    rules = [{**RULES[0], "value": value, "codes": ["DC104"]}] if layout == "text" else RULES
    if layout == "lists":
        rules = [{**rule, "fields": "x[]"} for rule in rules]
    batch = Batch((Column("x", data),), 5)
    plan = validate_plan(parse_plan(rules), leaf_dtypes(batch), schema)
    outcomes = Checker(RuleSet(schema, plan.requested_codes), with_rows=True).check(batch)
    mask = np.array(kept, np.bool_)
    rows = batch if mask.all() else batch.take(np.flatnonzero(mask))
    searched, counts = apply(rows, plan, schema)
    repaired, known_counts = apply(rows, plan, schema, None, violations_in_kept_rows(outcomes, mask))
    assert known_counts == counts
    for found, expected in zip(repaired.columns, searched.columns, strict=True):
        if isinstance(expected.data, np.ndarray):
            np.testing.assert_array_equal(found.data, expected.data)
        else:
            assert repr(found.data.to_pylist()) == repr(expected.data.to_pylist())


def test_a_labelled_batch_is_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch((Column("x", np.array([1.0, NAN, 3.0])),), 3)
    plan = validate_plan(parse_plan([RULES[0]]), leaf_dtypes(batch), SCHEMA)
    outcomes = Checker(RuleSet(SCHEMA, plan.requested_codes), with_rows=True).check(batch)

    def fail(*_: object) -> None:
        raise AssertionError("the leaf is searched again")

    monkeypatch.setattr(leaf_repair, "find_violations", fail)
    repaired, _ = apply(batch, plan, SCHEMA, None, violations_in_kept_rows(outcomes, np.ones(3, np.bool_)))
    assert repaired.columns[0].data.tolist() == [1.0, 1.0, 3.0]
