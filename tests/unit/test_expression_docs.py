"""The page about expressions names every function, and each of its examples is as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from datacheck.batch import Batch, Column
from datacheck.checks.expression import ExpressionCheck
from datacheck.schema import Expression
from datacheck.schema.expression import FUNCTIONS

PAGE = (Path(__file__).parent.parent.parent / "docs" / "expressions.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(.+)` \| `(.+)` \| `(.+)` \|$", re.MULTILINE)
EXAMPLES = ROW.findall(PAGE.partition("## Examples")[2])
SPECIAL = {"nan": float("nan"), "inf": float("inf"), "null": None}


def values_of(text: str) -> dict[str, Any]:
    """The fields of ``x = [1, 2], y = nan``."""
    parts = re.findall(r"(\w+) = (.+?)(?=, \w+ = |$)", text)
    return {name: SPECIAL[value] if value in SPECIAL else json.loads(value) for name, value in parts}


def columns_of(values: dict[str, Any], *, as_arrays: bool) -> list[Column]:
    if as_arrays:
        return [Column(name, np.array(value)[None]) for name, value in values.items()]
    return [Column(name, pa.array([value])) for name, value in values.items()]


@pytest.mark.parametrize("as_arrays", [True, False], ids=["arrays", "columns"])
@pytest.mark.parametrize(("rule", "good", "bad"), EXAMPLES, ids=[rule for rule, _, _ in EXAMPLES])
def test_an_example_is_as_the_page_says(rule: str, good: str, bad: str, as_arrays: bool) -> None:
    for text, violations in ((good, 0), (bad, 1)):
        values = values_of(text)
        if as_arrays and any(value is None or value == [] for value in values.values()):
            continue
        (outcome,) = ExpressionCheck(Expression(expr=rule)).run(
            Batch(tuple(columns_of(values, as_arrays=as_arrays)), 1)
        )
        assert (outcome.code, outcome.num_violations) == ("DC302", violations), (text, outcome)


def test_every_function_is_described_and_has_an_example() -> None:
    described = PAGE.partition("## Functions")[2].partition("## Null")[0]
    for name in FUNCTIONS:
        assert f"`{name}(" in described, f"{name} is not in the table of functions"
        assert any(f"{name}(" in rule for rule, _, _ in EXAMPLES), f"{name} has no example"
