"""Decorators that check what functions take and return."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pytest

import datacheck
from datacheck import FindingsError, check_input, check_output, check_types
from datacheck.errors import SchemaError, UsageError

GOOD, BAD = np.ones(2), np.array([1.0, np.nan])
AGES = {"fields": {"age": {"le": 130}}}


def test_what_a_function_returns_is_checked_and_passed_on() -> None:
    @check_output(AGES)
    def load(age: float) -> pd.DataFrame:
        """Load."""
        return pd.DataFrame({"age": [age]})

    assert load.__name__ == "load"
    assert load.__doc__ == "Load."
    assert load(40.0)["age"].tolist() == [40.0]
    with pytest.raises(
        FindingsError, match=r"^load\(\) returned data with 1 error\nDC202 .* <= 130: found 200.0"
    ) as raised:
        load(200.0)
    assert isinstance(raised.value.report, datacheck.Report)


@pytest.mark.parametrize("part", [1, "y", lambda result: result[1] if isinstance(result, tuple) else result["y"]])
def test_a_part_of_the_result_is_checked(part: Any) -> None:
    @check_output(part=part)
    def load(y: Any) -> Any:
        return {"x": BAD, "y": y} if part == "y" else (BAD, y)

    load(GOOD)
    with pytest.raises(FindingsError):
        load(BAD)


def test_each_item_of_a_generator_is_checked_when_it_comes() -> None:
    @check_output()
    def batches() -> Iterator[Any]:
        yield GOOD
        yield BAD

    items = batches()
    assert next(items) is GOOD
    with pytest.raises(FindingsError):
        next(items)


def test_coroutines_are_checked() -> None:
    @check_output()
    async def load() -> Any:
        return BAD

    with pytest.raises(FindingsError):
        asyncio.run(load())


def test_an_argument_is_checked_before_the_call() -> None:
    calls = []

    class Model:
        @check_input()
        def fit(self, x: Any, y: Any = None) -> None:
            calls.append(x)

    Model().fit(GOOD)
    Model().fit(x=GOOD)
    with pytest.raises(FindingsError, match=r"the argument 'x' of .*fit\(\) is data with 1 error"):
        Model().fit(y=None, x=BAD)
    assert len(calls) == 2

    @check_input(argument="y")
    def train(x: Any, y: Any = GOOD) -> None: ...

    train(BAD)
    with pytest.raises(FindingsError):
        train(GOOD, BAD)


def test_annotations_name_the_schema(tmp_path: Path) -> None:
    (tmp_path / "ages.yaml").write_text("fields: {age: {le: 130}}")
    path = str(tmp_path / "ages.yaml")
    namespace: dict[str, Any] = {"Annotated": Annotated, "pd": pd, "path": path, "AGES": AGES}
    exec(
        "def older(people: Annotated[pd.DataFrame, path] | None, by: Annotated[int, 'years']) "
        "-> Annotated[pd.DataFrame, AGES]:\n"
        "    return people if people is None else people + by",
        namespace,
    )
    older = check_types(namespace["older"])
    people = pd.DataFrame({"age": [100.0]})
    assert older(people, 1)["age"].tolist() == [101.0]
    assert older(None, 1) is None
    with pytest.raises(FindingsError, match="'people' of older"):
        older(people + 100, 1)
    with pytest.raises(FindingsError, match=r"older\(\) returned"):
        older(people, 100)


def test_findings_can_warn_or_go_to_a_function() -> None:
    with pytest.warns(UserWarning, match="returned data with 1 error"):
        check_output(on_findings="warn")(lambda: BAD)()
    reports: list[datacheck.Report] = []
    assert check_output(on_findings=reports.append)(lambda: BAD)() is BAD
    assert [report.ok for report in reports] == [False]


def test_wrong_use_is_said_where_the_function_is_defined() -> None:
    with pytest.raises(UsageError, match=r"has no argument 'frma'; did you mean 'frame'\?"):
        check_input(argument="frma")(lambda frame: None)
    with pytest.raises(UsageError, match="takes no argument"):
        check_input()(lambda: None)
    with pytest.raises(UsageError, match="no annotation with a schema"):
        check_types(lambda frame: None)
    with pytest.raises(UsageError, match=r"write @check_output\(\) with parentheses"):
        check_output(lambda: GOOD)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected a function, got str"):
        check_types("x")  # type: ignore[type-var]
    with pytest.raises(UsageError, match="on_findings: expected"):
        check_output(on_findings="rais")  # type: ignore[arg-type]
    broken = check_output("nowhere.yaml")(lambda: GOOD)
    with pytest.raises(SchemaError, match="nowhere"):
        broken()
