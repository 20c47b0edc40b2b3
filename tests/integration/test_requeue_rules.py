"""Rows that come back to an output under rules about whole files and the dataset: judged with all that is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pandera
import pytest
from job_files import contents, kept_table, manifest_of, quarantine_of, write_pipeline, write_table

import datacheck
from datacheck import FindingsError

#: Of 12 rows in two files, 2, 5 and 9 are in quarantine.
BAD = [2, 5, 9]


def prepare(folder: Path, schema: dict[str, Any], rules: list[dict[str, Any]] | None = None, **sections: Any) -> Path:
    x = [-1.0 if row in BAD else float(row) for row in range(12)]
    columns = {"t": list(range(12)), "x": x, "g": ["a", "b"] * 6, "unit": ["m", "kg"] * 6}
    for name, part in (("a", slice(0, 7)), ("b", slice(7, 12))):
        write_table(folder / f"{name}.parquet", {key: values[part] for key, values in columns.items()}, 3)
    own = schema.pop("fields", {})
    fields = {"t": {}, "x": {"ge": 0}, "g": {}, "unit": {}}
    whole = {**schema, "fields": {name: {**field, **own.get(name, {})} for name, field in fields.items()}}
    return write_pipeline(folder, {"train": ["a.parquet", "b.parquet"]}, rules or [], schema=whole, **sections)


def bad_rows(folder: Path) -> pd.DataFrame:
    table = quarantine_of(folder / "out")
    assert table is not None
    return table.to_pandas().sort_values("t", ignore_index=True)


def findings(folder: Path) -> list[tuple[str, str | None, str]]:
    """The findings on the dataset, as the manifest has them."""
    found = [datacheck.Finding.from_dict(one) for one in manifest_of(folder / "out")["findings"]]
    return sorted((one.code, one.field, one.detail) for one in found if one.code.startswith("DC32"))


def rerun(folder: Path, schema: dict[str, Any], fixed: dict[int, float]) -> Path:
    """What the run makes of inputs in which the rows are fixed."""
    other = folder / "other"
    other.mkdir()
    pipeline = prepare(other, schema)
    for path in (other / "a.parquet", other / "b.parquet"):
        frame = pd.read_parquet(path)
        frame.assign(x=frame["t"].map(fixed).fillna(frame["x"])).to_parquet(path)
    datacheck.run(pipeline)
    return other


SCHEMAS: dict[str, dict[str, Any]] = {
    "size": {"num_rows": {"ge": 12}},
    "sequence": {"sequence": {"on": "t", "step": 1}},
    "statistics": {"fields": {"x": {"mean": {"le": 6}, "quantiles": {0.5: {"le": 5}}}}},
    "distinct": {"fields": {"x": {"max_distinct": 9}}},
    "determines": {"determines": {"g": "unit"}},
    "all at once": {"num_rows": 12, "sequence": {"on": "t"}, "determines": {"g": "unit"}},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_dataset_is_judged_as_the_run_judges_fixed_inputs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    schema = SCHEMAS[name]
    pipeline = prepare(tmp_path, dict(schema))
    datacheck.run(pipeline)
    # One at a time, so that rows that came back before are among the published ones.
    for value in (20.0, 5.0, 9.0):
        fixed = bad_rows(tmp_path).iloc[:1].assign(x=value)
        report = datacheck.requeue(pipeline, fixed)
        assert report.num_kept == 1
        inputs = kept_table(tmp_path / "out").to_pandas().set_index("t")["x"]
        assert inputs.isna().sum() == 0
    other = rerun(tmp_path, dict(schema), {2: 20.0, 5: 5.0, 9: 9.0})
    assert findings(tmp_path) == findings(other)
    expected = datacheck.run(other / "pipeline.yaml")
    assert report.run.ok is expected.ok
    assert report.run.totals() == expected.totals()
    kept = [kept_table(folder / "out").to_pandas().sort_values("t", ignore_index=True) for folder in (tmp_path, other)]
    pd.testing.assert_frame_equal(*kept)


def test_a_row_that_would_break_a_rule_with_published_rows_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline = prepare(tmp_path, {"determines": {"g": "unit"}})
    datacheck.run(pipeline)
    before = contents(tmp_path / "out")
    fixed = bad_rows(tmp_path).assign(x=1.0)
    fixed.loc[0, "unit"] = "mile"
    with pytest.raises(FindingsError, match="nothing was changed: correct the rows, or leave some out") as raised:
        datacheck.requeue(pipeline, fixed)
    assert "DC327" in str(raised.value)
    assert "(a.parquet, row 2" in str(raised.value)
    assert contents(tmp_path / "out") == before
    assert datacheck.requeue(pipeline, fixed.iloc[1:]).num_kept == 2


def test_a_fail_rule_about_the_dataset_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline = prepare(tmp_path, {"num_rows": {"le": 9}}, [{"action": "fail", "codes": "DC325"}])
    datacheck.run(pipeline)
    before = contents(tmp_path / "out")
    with pytest.raises(FindingsError, match="DC325"):
        datacheck.requeue(pipeline, bad_rows(tmp_path).assign(x=1.0))
    assert contents(tmp_path / "out") == before


FALLING = pandera.DataFrameSchema(
    {"x": pandera.Column(float, pandera.Check(lambda x: x.is_monotonic_increasing, name="rising"))}
)


@pytest.mark.parametrize("action", ["quarantine", "report"])
def test_a_check_of_a_whole_file_sees_its_rows_in_order(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rules = [{"action": "report", "codes": "DC303"}] if action == "report" else []
    pipeline = prepare(tmp_path, {"pandera": f"{__name__}:FALLING"}, rules)
    datacheck.run(pipeline)
    fixed = bad_rows(tmp_path).iloc[:2]
    if action == "report":
        report = datacheck.requeue(pipeline, fixed.assign(x=[2.5, 1.0]))
        assert report.num_kept == 2
        assert not report.run.ok
        return
    with pytest.raises(FindingsError, match="rising"):
        datacheck.requeue(pipeline, fixed.assign(x=[2.5, 1.0]))
    assert datacheck.requeue(pipeline, fixed.assign(x=[2.5, 5.5])).num_kept == 2
