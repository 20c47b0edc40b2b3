"""Rules about a dataset in a run: judged on what is published, and rows at fault go where the pipeline says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datacheck
from datacheck.errors import CleaningError
from datacheck.jobs.units import process

SPLITS = {
    "train": {
        "k": [1, 2, 3, 1, 4],
        "b": ["x", "y", "z", "w", None],
        "p": [1, 2, 3, 4, 5],
        "x": [1.0, 2.0, 3.0, 400.0, 5.0],
    },
    "test": {"k": [1, 5, 6], "b": ["x", "y", "q"], "p": [3, 6, 7], "x": [7.0, 8.0, 9.0]},
}


def run(folder: Path, schema: str, clean: str = "[]", otherwise: str = "quarantine", **options: Any) -> Any:
    for split, columns in SPLITS.items():
        (folder / split).mkdir(exist_ok=True)
        table = pa.table({**columns, "b": pa.array(columns["b"], pa.string())})
        pq.write_table(table, folder / split / "a.parquet", row_group_size=2)
    (folder / "s.yaml").write_text(f"fields: {{b: {{nullable: true}}}}\n{schema}\n")
    (folder / "p.yaml").write_text(
        "version: 1\nschema: s.yaml\ninputs: {train: train, test: test}\nfit: train\n"
        f"clean: {clean}\notherwise: {otherwise}\noutput: {{path: out}}\n"
    )
    return datacheck.run(folder / "p.yaml", **options)


def kept(folder: Path, split: str) -> list[Any]:
    return pq.read_table(folder / "out" / split).column("x").to_pylist()


def found(report: Any) -> list[tuple[str, int]]:
    return [(finding.code, finding.num_violations) for finding in report.findings if finding.is_error]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_rows_that_contradict_an_earlier_one_are_quarantined_with_the_reason(tmp_path: Path, executor: Any) -> None:
    report = run(tmp_path, "determines: {k: b}", executor=executor, workers=2)
    assert report.ok
    assert found(report) == [("DC327", 1)]
    assert kept(tmp_path, "train") == [1.0, 2.0, 3.0, 5.0]
    bad = pq.read_table(tmp_path / "out" / "quarantine" / "train").to_pylist()
    assert [(row["row"], row["reason"].split(":")[0]) for row in bad] == [(3, "DC327 in 'b'")]


def test_a_row_is_compared_with_what_is_kept_of_the_others(tmp_path: Path) -> None:
    """The first row of the key is dropped for its own fault, so that the second one contradicts nothing any more."""
    report = run(tmp_path, "determines: {k: b}")
    assert (kept(tmp_path, "train"), kept(tmp_path, "test")) == ([1.0, 2.0, 3.0, 5.0], [7.0, 8.0, 9.0])
    (tmp_path / "s.yaml").write_text("determines: {k: b}\nfields: {x: {gt: 1.5}, b: {nullable: true}}")
    report = datacheck.run(tmp_path / "p.yaml", overwrite=True)
    assert found(report) == [("DC203", 1), ("DC327", 1)]
    assert (kept(tmp_path, "train"), kept(tmp_path, "test")) == ([2.0, 3.0, 400.0, 5.0], [8.0, 9.0])


def test_keys_of_the_training_split_leave_the_other_split(tmp_path: Path) -> None:
    report = run(tmp_path, "splits: {apart: p}", "[{action: drop_row, codes: DC329}]")
    assert report.ok
    assert (kept(tmp_path, "train"), kept(tmp_path, "test")) == ([1.0, 2.0, 3.0, 400.0, 5.0], [8.0, 9.0])


def test_a_reported_contradiction_stays_and_is_counted_as_left(tmp_path: Path) -> None:
    report = run(tmp_path, "determines: {k: b}", "[{action: report, codes: DC327}]")
    assert not report.ok
    assert report.accounts[0].left_by_code == {"DC327": 1}
    assert len(kept(tmp_path, "train")) == 5


def test_statistics_are_those_of_what_is_published(tmp_path: Path) -> None:
    schema = "fields: {x: {le: 100, mean: {le: 5}}, b: {nullable: true}}"
    report = run(tmp_path, "")
    (tmp_path / "s.yaml").write_text(schema)
    report = datacheck.run(tmp_path / "p.yaml", overwrite=True)
    assert report.ok, report
    (tmp_path / "s.yaml").write_text(schema.replace("mean: {le: 5}", "mean: {le: 4.9}"))
    report = datacheck.run(tmp_path / "p.yaml", overwrite=True)
    assert not report.ok
    assert found(report) == [("DC202", 1), ("DC323", 1)]
    assert kept(tmp_path, "test") == [7.0, 8.0, 9.0]


def test_a_fail_rule_publishes_nothing_where_the_dataset_is_at_fault(tmp_path: Path) -> None:
    report = run(tmp_path, "num_rows: {ge: 9}", "[{action: fail, codes: DC325}]")
    assert (report.failed, report.ok) == ({"DC325": 1}, False)
    assert not (tmp_path / "out").exists()


def test_a_reference_that_cannot_be_read_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(CleaningError, match=r"absent\.parquet"):
        run(tmp_path, "references: {fields: k, file: absent.parquet}")
    assert not (tmp_path / "out").exists()


def test_a_run_that_was_killed_judges_the_units_that_it_had_finished_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = "num_rows: {le: 7}\nsequence: {on: x}\nsplits: {time: {on: k}}"
    label = process.label_unit

    def die(task: Any, plan: Any) -> Any:
        if task.split == "test":
            raise KeyboardInterrupt
        return label(task, plan)

    monkeypatch.setattr(process, "label_unit", die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, schema, workers=1)
    monkeypatch.setattr(process, "label_unit", label)
    report = datacheck.run(tmp_path / "p.yaml")
    assert found(report) == [("DC325", 1), ("DC319", 1), ("DC330", 1)]
    again = datacheck.run(tmp_path / "p.yaml")
    assert (again.is_new, found(again)) == (False, found(report))


def test_the_verdict_depends_on_neither_units_nor_workers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"k": rng.integers(0, 40, 500), "b": rng.integers(0, 3, 500), "x": rng.normal(size=500)})
    reports = []
    for number, rows in enumerate((500, 13)):
        folder = tmp_path / str(number)
        (folder / "train").mkdir(parents=True)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        pq.write_table(table, folder / "train" / "a.parquet", row_group_size=rows)
        (folder / "s.yaml").write_text("determines: {k: b}\nsequence: {by: k, on: x}\n")
        (folder / "p.yaml").write_text("version: 1\nschema: s.yaml\ninputs: {train: train}\noutput: {path: out}\n")
        reports.append(datacheck.run(folder / "p.yaml", workers=number + 1))
    first, second = ([(one.code, one.num_violations, one.num_checked) for one in report.findings] for report in reports)
    assert first == second
    assert pq.read_table(tmp_path / "0" / "out" / "train").equals(pq.read_table(tmp_path / "1" / "out" / "train"))
