"""Checks of the user's own: named in a schema, with a code of theirs, at every door."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import datacheck
from datacheck.codes import CODES, OWN_CODE, codes_with_prefix
from datacheck.errors import SchemaError
from datacheck.gate.documents import check_document

MODULE = '''
import numpy as np
import datacheck


@datacheck.own_check("X101", "are odd", why="Only even ids are ours.")
def even(values, plus=0):
    """An odd id."""
    return (values + plus) % 2 == 1


class Short(datacheck.ValueCheck):
    code, message = "X102", "are longer than the limit"

    def __init__(self, limit):
        self.limit = limit

    def mask(self, values):
        return np.array([value is not None and len(value) > self.limit for value in values.to_pylist()], bool)


class Screened(datacheck.ValueCheck):
    code, message = "X103", "are negative"

    def screen(self, values):
        return bool((values < 0).any())

    def mask(self, values):
        assert (values < 0).any(), "only called where the screen fired"
        return values < 0


class Balanced(datacheck.DatasetCheck):
    code, message, columns = "X200", "the classes are not balanced", ("label",)

    def __init__(self, at_most=0.6):
        self.at_most, self.ones, self.total = at_most, 0, 0

    def update(self, columns):
        labels = np.asarray(columns["label"])
        self.ones += int((labels == 1).sum())
        self.total += len(labels)

    def merge(self, other):
        self.ones += other.ones
        self.total += other.total

    def problems(self):
        share = self.ones / self.total
        return [f"{share:.0%} of the labels are 1"] if share > self.at_most else []


class Failing(datacheck.DatasetCheck):
    code, message, columns = "X201", "never said", ("id",)

    def __init__(self, step):
        self.step = step

    def update(self, columns):
        assert self.step != "update", "cannot add"

    def merge(self, other):
        assert self.step != "merge", "cannot merge"

    def problems(self):
        assert self.step != "problems", "cannot tell"
        return []


def broken(values):
    return values


class Wrong(datacheck.ValueCheck):
    code, message = "X104", "are wrong"

    def mask(self, values):
        return values


class Bad(datacheck.ValueCheck):
    code, message = "DC101", "are wrong"


class Taken(datacheck.ValueCheck):
    code, message = "X103", "are something else"
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_checks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "my_checks", raising=False)
    before = dict(CODES)
    yield
    for code in CODES.keys() - before:
        del CODES[code]
    codes_with_prefix.cache_clear()


def messages(data: Any, schema: dict[str, Any], **options: Any) -> list[str]:
    report = datacheck.scan(data, schema, **options)
    return [f"{finding.code} {finding.message}".partition(" (")[0] for finding in report.findings]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["memory", "threads", "processes"])
def test_checks_of_values_and_of_the_dataset_have_codes_of_their_own(tmp_path: Path, executor: Any) -> None:
    frame = pd.DataFrame({"id": [2, 4, 5, 8], "text": ["a", "abcd", None, "ab"], "label": [1, 1, 1, 0]})
    schema: dict[str, Any] = {
        "fields": {
            "id": {"own_checks": "my_checks:even"},
            "text": {"nullable": True, "own_checks": [{"check": "my_checks:Short", "arguments": {"limit": 3}}]},
            "label": {"own_checks": "my_checks:Screened"},
        },
        "own_checks": "my_checks:Balanced",
    }
    data: Any = frame
    options: dict[str, Any] = {}
    if executor != "memory":
        (tmp_path / "data").mkdir()
        for part in range(2):
            frame.iloc[2 * part : 2 * part + 2].to_parquet(tmp_path / "data" / f"{part}.parquet", row_group_size=1)
        data, options = tmp_path / "data", {"executor": executor, "workers": 2}
    assert sorted(messages(data, schema, **options)) == [
        f"X101 1 of {4 if data is frame else 2} values in 'id' are odd: found 5",
        f"X102 1 of {3 if data is frame else 2} values in 'text' are longer than the limit: found 'abcd'",
        "X200 the classes are not balanced: 75% of the labels are 1",
    ]


@pytest.mark.parametrize("rule", ["{action: drop_row, codes: X101}", "{action: drop_row}"])
def test_a_rule_drops_a_row_that_breaks_an_own_check(rule: str, tmp_path: Path) -> None:
    pd.DataFrame({"id": [2, 4, 5, 8]}).to_parquet(tmp_path / "a.parquet")
    Path("p.yaml").write_text(
        "version: 1\nschema: {fields: {id: {own_checks: 'my_checks:even'}}}\ninputs: {train: a.parquet}\n"
        f"clean: [{rule}]\noutput: {{path: out}}\n"
    )
    report = datacheck.run("p.yaml")
    assert (report.ok, report.totals()["num_dropped"]) == (True, 1)
    assert pd.read_parquet("out/train")["id"].tolist() == [2, 4, 8]


@pytest.mark.torch
def test_a_sample_that_breaks_an_own_check_is_bad() -> None:
    from datacheck.torch import BadSampleWarning, SafeDataset

    schema = {"fields": {"id": {"own_checks": "my_checks:even"}}}
    safe = SafeDataset([{"id": np.array([2, 4])}, {"id": np.array([2, 5])}], schema=schema)
    with pytest.warns(BadSampleWarning, match="X101 1 of 2 values in 'id' are odd: found 5"):
        assert safe.check().bad_indices == (1,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_checks:evn", "'my_checks' has no attribute 'evn'; did you mean 'even'?"),
        ("my_checks:broken", "expected a subclass of datacheck.ValueCheck or DatasetCheck"),
        ("my_checks:Short", "cannot be made with its arguments: TypeError"),
        ("my_checks:Bad", "its code must be X and at least three digits, got 'DC101'"),
        ("my_checks:Balanced", "my_checks:Balanced is about the dataset; name it outside of 'fields'"),
        ("not-installed", "no check with this name is installed"),
    ],
)
def test_a_check_that_cannot_be_used_is_an_error_of_the_schema(name: str, message: str) -> None:
    Path("a.csv").write_text("x\n1\n")
    with pytest.raises(SchemaError, match=message.replace("(", r"\(").replace("?", r"\?")):
        datacheck.scan("a.csv", {"fields": {"x": {"own_checks": name}}})


def test_two_checks_with_one_code_are_an_error() -> None:
    Path("a.csv").write_text("x\n1\n")
    with pytest.raises(SchemaError, match="the code X103 belongs to another check"):
        datacheck.scan("a.csv", {"fields": {"x": {"own_checks": ["my_checks:Screened", "my_checks:Taken"]}}})


def test_a_mask_of_another_kind_is_said_and_not_passed() -> None:
    (found,) = datacheck.scan(
        pd.DataFrame({"x": [1, 2]}), {"fields": {"x": {"own_checks": "my_checks:Wrong"}}}
    ).findings
    assert found.code == "DC005"
    assert "its mask must be 2 booleans, got int64" in found.detail


def test_codes_of_own_checks_can_be_selected() -> None:
    assert OWN_CODE.fullmatch("X1")
    Path("a.csv").write_text("x\n1\n")
    schema = Path("s.yaml")
    schema.write_text("fields: {x: {own_checks: 'my_checks:even'}}\n")
    assert not datacheck.check(["a.csv"], schema="s.yaml").ok
    assert datacheck.check(["a.csv"], schema="s.yaml", ignore=["X101"]).ok
    assert datacheck.check(["a.csv"], schema="s.yaml", severity={"X101": "warning"}).ok


def test_schema_check_says_that_a_check_cannot_be_used() -> None:
    Path("s.yaml").write_text("fields: {x: {own_checks: 'my_checks:even'}}\n")
    assert check_document("s.yaml") == "1 field, 0 checks"
    Path("s.yaml").write_text("fields: {x: {own_checks: 'my_checks:evn'}}\n")
    with pytest.raises(SchemaError, match="did you mean 'even'"):
        check_document("s.yaml")


@pytest.mark.parametrize("step", ["update", "merge", "problems"])
def test_a_check_of_the_dataset_that_raises_is_a_finding_that_names_it(step: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for part in range(2):
        pd.DataFrame({"id": [2, 4]}).to_parquet(tmp_path / "data" / f"{part}.parquet")
    schema = {"own_checks": {"check": "my_checks:Failing", "arguments": {"step": step}}}
    said = {"update": "add", "merge": "merge", "problems": "tell"}[step]
    expected = f"DC005 'id' could not be checked: my_checks:Failing: {step} failed: AssertionError: cannot {said}"
    assert messages(tmp_path / "data", schema) == [expected]
    if step != "merge":
        assert messages(pd.DataFrame({"id": [2]}), schema) == [expected]
