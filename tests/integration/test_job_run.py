"""``run`` against pandas: every row in one place, kept rows as they were, and what each action does."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import contents, kept_table, ledger_of, manifest_of, quarantine_of, write_pipeline, write_table
from source_files import CLEANED, Format, make_table, parameters, read_table, shrink_units

import datacheck
from datacheck import RunReport
from datacheck.errors import CleaningError

NUM_FILES, FILE_ROWS, GROUP_ROWS = 3, 50, 20
SCHEMA = {
    "strict": True,
    "fields": {
        "id": {"dtype": "int64", "unique": True},
        "x": {"dtype": "float64", "ge": -10, "le": 10},
        "y": {"dtype": "float32", "allow_nan": True, "nullable": True, "lt": 5},
        "label": {"dtype": "float32"},
        "kind": {"dtype": "string", "isin": ["a", "b"]},
    },
}
RULES = [
    {"action": "drop_row", "fields": "label", "codes": ["DC101", "DC104"]},
    {"action": "quarantine", "codes": ["DC102", "DC103", "DC2"]},
    {"action": "impute", "strategy": "mean", "fields": "x"},
    {"action": "impute", "strategy": "median", "fields": "y", "codes": ["DC101", "DC104"], "indicator": True},
]


def make_rows(seed: int, start: int) -> dict[str, pa.Array]:
    random = np.random.default_rng(seed)
    x = random.normal(0, 3, FILE_ROWS)
    y = random.uniform(0, 4, FILE_ROWS).astype(np.float32)
    label = random.normal(0, 1, FILE_ROWS).astype(np.float32)
    for values, bad in ((x, [np.nan, np.inf, -np.inf, 99.0, -99.0]), (y, [np.nan, 7.0]), (label, [np.nan])):
        for value in bad:
            values[random.choice(FILE_ROWS, 3, replace=False)] = value
    nulls = random.random((3, FILE_ROWS)) < 0.08
    kind = np.where(random.random(FILE_ROWS) < 0.05, "c", "a")
    return {
        "id": pa.array(np.arange(start, start + FILE_ROWS)),
        "x": pa.array(x, mask=nulls[0], from_pandas=False),
        "y": pa.array(y, mask=nulls[1], from_pandas=False),
        "label": pa.array(label, mask=nulls[2], from_pandas=False),
        "kind": pa.array(kind, pa.string()),
    }


def make_data(folder: Path) -> None:
    seed = 0
    for split in ("train", "val", "test"):
        for number in range(NUM_FILES):
            write_table(
                folder / "in" / split / f"{number}.parquet",
                make_rows(seed, seed * FILE_ROWS),
                row_group_size=GROUP_ROWS,
            )
            seed += 1


INPUTS = {"train": "in/train", "val": "in/val", "test": "in/test"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    make_data(folder)
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> RunReport:
    return datacheck.run(write_pipeline(folder, INPUTS, RULES, schema=SCHEMA))


@pytest.fixture(scope="module")
def source(folder: Path, report: RunReport) -> pd.DataFrame:
    """All input rows in order, nulls as pd.NA, with where they are and what the rules make of them."""
    frames = []
    for split in INPUTS:
        for path in sorted((folder / "in" / split).glob("*.parquet")):
            frame = pq.read_table(path).to_pandas(types_mapper=pd.ArrowDtype)
            frame = frame.assign(split=split, file=str(path), row=np.arange(FILE_ROWS))
            frames.append(frame.assign(row_group=frame.row // GROUP_ROWS))
    rows = pd.concat(frames, ignore_index=True)
    for name in ("x", "y", "label"):
        values = rows[name].to_numpy(np.float64, na_value=0.0)
        rows[f"{name}_null"] = rows[name].isna().to_numpy() & ~np.isnan(values)
        rows[f"{name}_value"] = values
    rows["drop"] = rows.label_null | np.isnan(rows.label_value)
    wrong = np.isinf(rows.x_value) | (rows.x_value > 10) | (rows.x_value < -10) | (rows.y_value >= 5)
    rows["aside"] = ~rows["drop"] & (wrong | (rows.kind == "c"))
    rows["kept"] = ~rows["drop"] & ~rows.aside
    return rows


def test_every_row_is_in_one_place(folder: Path, report: RunReport, source: pd.DataFrame) -> None:
    assert report.ok
    assert report.totals() == {
        "num_read": len(source),
        "num_kept": source.kept.sum(),
        "num_dropped": source["drop"].sum(),
        "num_quarantined": source.aside.sum(),
    }
    for account in report.accounts:
        rows = source[source.file.map(lambda name, uri=account.uri: Path(name).samefile(uri))]
        assert (account.num_read, account.num_kept) == (FILE_ROWS, rows.kept.sum())
        assert (account.num_dropped, account.num_quarantined) == (rows["drop"].sum(), rows.aside.sum())
        assert account.num_read == account.num_kept + account.num_dropped + account.num_quarantined


def test_kept_rows_are_bit_for_bit_what_they_were_but_for_what_was_repaired(
    folder: Path, report: RunReport, source: pd.DataFrame
) -> None:
    expected = source[source.kept]
    kept = kept_table(folder / "out")
    assert kept.column_names == ["id", "x", "y", "label", "kind", "y_missing"]
    assert all(kept[name].null_count == 0 for name in kept.column_names)
    assert kept["id"].to_pylist() == expected.id.tolist()
    assert kept["kind"].to_pylist() == expected.kind.tolist()
    train = expected[expected.split == "train"]
    fills = {"x": train.x_value[~train.x_null & ~np.isnan(train.x_value)].mean()}
    fills["y"] = np.median(train.y_value[~train.y_null & ~np.isnan(train.y_value)])
    fills["label"] = 0.0
    for name in ("x", "y", "label"):
        values = kept[name].to_numpy()
        missing = (expected[f"{name}_null"] | np.isnan(expected[f"{name}_value"])).to_numpy()
        original = expected[f"{name}_value"].to_numpy().astype(values.dtype)
        np.testing.assert_array_equal(values[~missing], original[~missing])
        np.testing.assert_allclose(values[missing], fills[name], rtol=1e-12 if name == "x" else 1e-7)
        if name == "y":
            np.testing.assert_array_equal(kept["y_missing"].to_numpy(), missing)


def test_quarantined_rows_are_the_originals_with_codes_reasons_and_origin(
    folder: Path, report: RunReport, source: pd.DataFrame
) -> None:
    aside = quarantine_of(folder / "out")
    assert aside is not None
    expected = source[source.aside]
    originals = pa.concat_tables(
        pq.read_table(path) for split in INPUTS for path in sorted((folder / "in" / split).glob("*.parquet"))
    ).take(expected.index.to_numpy())
    for name in ("id", "x", "y", "label", "kind"):
        ours, theirs = (pa.chunked_array(table[name]).combine_chunks() for table in (aside, originals))
        assert ours.type == theirs.type
        assert ours.is_null().equals(theirs.is_null())
        np.testing.assert_array_equal(
            ours.drop_null().to_numpy(zero_copy_only=False), theirs.drop_null().to_numpy(zero_copy_only=False)
        )
    assert aside["row"].to_pylist() == expected.row.tolist()
    assert aside["row_group"].to_pylist() == expected.row_group.tolist()
    assert all(Path(mine).samefile(its) for mine, its in zip(aside["file"].to_pylist(), expected.file, strict=True))
    for codes, reason, (_, row) in zip(
        aside["codes"].to_pylist(), aside["reason"].to_pylist(), expected.iterrows(), strict=True
    ):
        wanted = {
            "DC102": row.x_value == np.inf,
            "DC103": row.x_value == -np.inf,
            "DC201": row.x_value < -10,
            "DC202": row.x_value > 10,
            "DC204": row.y_value >= 5,
            "DC205": row.kind == "c",
        }
        assert codes == [code for code, holds in wanted.items() if holds]
        assert all(code in reason for code in codes)


def test_the_ledger_names_every_row_that_is_not_kept(folder: Path, report: RunReport, source: pd.DataFrame) -> None:
    ledger = ledger_of(folder / "out")
    gone = source[~source.kept]
    assert [(entry["row_group"], entry["row"]) for entry in ledger] == list(zip(gone.row_group, gone.row, strict=True))
    assert [entry["verdict"] for entry in ledger] == ["dropped" if drop else "quarantined" for drop in gone["drop"]]
    assert all(entry["codes"] for entry in ledger)


def test_what_was_cleaned_has_no_findings(folder: Path, report: RunReport) -> None:
    schema = datacheck.load_schema({**SCHEMA, "strict": False})
    for split in INPUTS:
        cleaned = datacheck.scan(folder / "out" / split, schema)
        assert cleaned.ok
        assert cleaned.findings == ()
        assert cleaned.num_rows > 0


def test_the_manifest_says_what_was_read_with_what_and_where_it_went(
    folder: Path, report: RunReport, source: pd.DataFrame
) -> None:
    output = folder / "out"
    manifest = manifest_of(output)
    assert manifest["datacheck"] == datacheck.__version__
    assert manifest["statistics"] == "statistics.json"
    assert manifest["schema"]["fields"]["x"] == {"dtype": "float64", "ge": -10, "le": 10}
    assert (
        manifest["num_read"] == len(source) == sum(manifest[f"num_{to}"] for to in ("kept", "dropped", "quarantined"))
    )
    assert len(manifest["inputs"]) == 3 * NUM_FILES
    named = {"manifest.json", "statistics.json"}
    for account in manifest["inputs"]:
        (state,) = account["fingerprint"]
        status = Path(state["uri"]).stat()
        assert (state["size"], state["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
        rows = {part["kind"]: part["num_rows"] for part in account["outputs"]}
        assert rows["rows"] == account["num_kept"]
        assert rows["quarantine"] == account["num_quarantined"]
        assert rows["ledger"] == account["num_dropped"] + account["num_quarantined"]
        for part in account["outputs"]:
            assert pq.read_metadata(output / part["path"]).num_rows == part["num_rows"]
            assert (output / part["path"]).stat().st_size == part["num_bytes"]
        named |= {part["path"] for part in account["outputs"]}
    assert set(contents(output)) == named


def test_statistics_come_from_the_kept_training_rows_alone(
    folder: Path, report: RunReport, source: pd.DataFrame, tmp_path: Path
) -> None:
    statistics = datacheck.Statistics.from_json((folder / "out" / "statistics.json").read_bytes())
    assert statistics.num_rows == source[source.kept & (source.split == "train")].shape[0]
    assert all("train" in learned.uri for learned in statistics.source)
    make_data(tmp_path)
    for path in (tmp_path / "in").glob("[vt][ae][ls]*/*.parquet"):
        write_table(path, make_rows(99, 10_000 + 100 * int(path.stem) + len(path.parent.name)), GROUP_ROWS)
    again = write_pipeline(tmp_path, INPUTS, RULES, schema=SCHEMA)
    datacheck.run(again)
    others = datacheck.Statistics.from_json((tmp_path / "out" / "statistics.json").read_bytes())
    assert others.learned == statistics.learned


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "executor"), [(1, "threads"), (4, "threads"), pytest.param(2, "processes", marks=pytest.mark.slow)]
)
def test_the_number_of_workers_changes_no_byte(
    folder: Path, report: RunReport, workers: int, executor: str, tmp_path: Path
) -> None:
    pipeline = write_pipeline(folder, INPUTS, RULES, schema=SCHEMA, output={"path": str(tmp_path / "out")})
    datacheck.run(pipeline, workers=workers, executor=executor)
    assert contents(tmp_path / "out") == contents(folder / "out")


def test_fit_and_clean_of_each_split_are_the_run(folder: Path, report: RunReport, tmp_path: Path) -> None:
    pipeline = write_pipeline(folder, INPUTS, RULES, schema=SCHEMA)
    statistics = datacheck.fit(pipeline)
    (tmp_path / "statistics.json").write_text(statistics.to_json())
    for split in INPUTS:
        paths = [folder / "in" / split]
        cleaned = datacheck.clean(pipeline, tmp_path / "statistics.json", paths, tmp_path / split, split=split)
        assert cleaned.ok
        assert kept_table(tmp_path / split).equals(kept_table(folder / "out", split))
    assert statistics.learned == datacheck.Statistics.from_json((folder / "out/statistics.json").read_bytes()).learned


def test_statistics_of_other_rules_are_refused(folder: Path, tmp_path: Path) -> None:
    statistics = datacheck.fit(write_pipeline(folder, INPUTS, RULES, schema=SCHEMA))
    other = write_pipeline(tmp_path, str(folder / "in" / "val"), [{"action": "drop_row"}], schema=SCHEMA)
    with pytest.raises(CleaningError, match="learned for different cleaning rules"):
        datacheck.clean(other, statistics)
    assert not (tmp_path / "out").exists()


def one_column(folder: Path, values: Any, rules: Any = (), **sections: Any) -> tuple[RunReport, pa.Table | None]:
    """Run over one column ``x`` of one file; the report and, where anything was published, what was kept."""
    write_table(folder / "in" / "t.parquet", {"x": values}, row_group_size=2)
    report = datacheck.run(write_pipeline(folder, "in", **{"clean": rules, **sections}))
    return report, kept_table(folder / "out") if (folder / "out").exists() else None


BAD = pa.array([1.0, np.nan, np.inf, -np.inf, None, 50.0, 2.0], from_pandas=False)
BOUNDED = {"fields": {"x": {"le": 10}}}


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ([{"action": "drop_row"}], [1.0, 2.0]),
        ([{"action": "quarantine"}], [1.0, 2.0]),
        ([{"action": "drop_row", "codes": "DC101"}], [1.0, 2.0]),
        ([{"action": "nan_to_num", "nan": 0, "posinf": 9, "neginf": -9}], [1.0, 0.0, 9.0, -9.0, 2.0]),
        ([{"action": "nan_to_num", "posinf": 9}], [1.0, 9.0, 2.0]),
        ([{"action": "impute", "strategy": "constant", "value": 7}], [1.0, 7.0, 7.0, 2.0]),
        ([{"action": "impute", "strategy": "mean"}], [1.0, 1.5, 1.5, 2.0]),
        ([{"action": "impute", "strategy": "median", "codes": ["DC1", "DC202"]}], [1.0, 1.5, 1.5, 1.5, 1.5, 1.5, 2.0]),
        ([{"action": "impute", "strategy": "most_frequent", "codes": "DC104"}], [1.0, 1.0, 2.0]),
        ([{"action": "clip"}], [1.0, 10.0, 2.0]),
        ([{"action": "clip", "codes": ["DC102", "DC202"]}], [1.0, 10.0, 10.0, 2.0]),
        ([{"action": "clip", "ge": 1.5, "le": 3, "codes": ["DC103", "DC201", "DC202"]}], [1.5, 1.5, 3.0, 2.0]),
    ],
)
def test_each_action_does_what_it_says(rules: list[dict[str, Any]], kept: list[float], tmp_path: Path) -> None:
    report, table = one_column(tmp_path, BAD, rules, schema=BOUNDED)
    assert table is not None
    assert table["x"].to_pylist() == kept
    assert report.ok
    num_dropped = {"drop_row": 1 if "codes" in rules[0] else 5}.get(rules[0]["action"], 0)
    assert report.totals() == {
        "num_read": 7,
        "num_kept": len(kept),
        "num_dropped": num_dropped,
        "num_quarantined": 7 - len(kept) - num_dropped,
    }


def test_the_first_rule_that_applies_decides_about_a_row(tmp_path: Path) -> None:
    table = {"x": [np.nan, np.nan, 1.0], "y": [np.nan, 1.0, np.nan]}
    write_table(tmp_path / "t.parquet", table)
    for first, second in (("drop_row", "quarantine"), ("quarantine", "drop_row")):
        rules = [{"action": first, "fields": "x"}, {"action": second, "fields": "y"}]
        report = datacheck.run(write_pipeline(tmp_path, "t.parquet", rules), overwrite=True)
        (account,) = report.accounts
        assert account.num_dropped == (2 if first == "drop_row" else 1)
        assert account.num_quarantined == (1 if first == "drop_row" else 2)


def test_violations_in_a_dropped_field_remove_no_row(tmp_path: Path) -> None:
    struct = pa.array([{"a": np.nan}, {"a": 1.0}])
    write_table(tmp_path / "t.parquet", {"x": [1.0, 2.0], "s": struct, "y": [np.inf, np.nan]})
    rules = [{"action": "drop_field", "fields": ["s", "y"]}]
    report = datacheck.run(write_pipeline(tmp_path, "t.parquet", rules, schema={"strict": True, "fields": {"x": {}}}))
    assert report.ok
    assert kept_table(tmp_path / "out").to_pydict() == {"x": [1.0, 2.0]}
    assert {finding.field for finding in report.findings} == {"s", "s.a", "y"}


@pytest.mark.parametrize("otherwise", ["quarantine", "drop_row"])
def test_otherwise_decides_if_no_rule_applies(otherwise: str, tmp_path: Path) -> None:
    rules = [{"action": "nan_to_num", "nan": 0}]
    report, table = one_column(tmp_path, BAD, rules, schema=BOUNDED, otherwise=otherwise)
    assert table is not None
    assert table["x"].to_pylist() == [1.0, 0.0, 2.0]
    assert report.totals()["num_dropped"] == (4 if otherwise == "drop_row" else 0)
    assert report.totals()["num_quarantined"] == (0 if otherwise == "drop_row" else 4)


@pytest.mark.parametrize("how", [{"clean": [{"action": "report"}]}, {"otherwise": "report"}])
def test_a_report_rule_leaves_rows_and_the_run_is_not_ok(how: dict[str, Any], tmp_path: Path) -> None:
    report, table = one_column(tmp_path, BAD, schema=BOUNDED, **how)
    assert not report.ok
    assert table is not None
    original = pq.read_table(tmp_path / "in" / "t.parquet")
    assert table["x"].combine_chunks().is_null().equals(original["x"].combine_chunks().is_null())
    np.testing.assert_array_equal(table["x"].to_numpy(), original["x"].to_numpy())
    (account,) = report.accounts
    assert account.left_by_code == {"DC101": 1, "DC102": 1, "DC103": 1, "DC104": 1, "DC202": 2}


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ({"fields": {"x": {"unique": True, "allow_inf": True, "allow_nan": True}}}, "DC301"),
        ({"fields": {"x": {"dtype": "float32"}}}, "DC003"),
        ({"fields": {"x": {}, "z": {}}}, "DC001"),
        ({"strict": True}, "DC002"),
        ({"checks": ["x < 5"]}, "DC302"),
    ],
)
def test_what_a_report_rule_leaves_of_rows_and_files_is_not_ok_either(
    schema: dict[str, Any], code: str, tmp_path: Path
) -> None:
    report, table = one_column(tmp_path, [7.0, 7.0, 1.0], schema=schema, otherwise="report")
    assert not report.ok
    assert code in report.accounts[0].left_by_code
    assert table is not None
    assert table.num_rows == 3


@pytest.mark.parametrize("how", [{"clean": [{"action": "fail", "codes": "DC102"}]}, {"otherwise": "fail"}])
def test_a_fail_rule_publishes_nothing(how: dict[str, Any], tmp_path: Path) -> None:
    for number in range(6):
        write_table(tmp_path / "in" / f"{number}.parquet", {"x": np.full(20_000, np.inf if number == 2 else 1.0)})
    for _ in range(3):
        report = datacheck.run(write_pipeline(tmp_path, "in", **how), workers=4)
        assert not report.ok
        assert report.failed == {"DC102": 20_000}
        assert not (tmp_path / "out").exists()
    assert "stopped by a fail rule (DC102 20,000)" in str(report)


def test_a_fail_rule_leaves_an_earlier_output_as_it_was(tmp_path: Path) -> None:
    one_column(tmp_path, BAD, schema=BOUNDED)
    before = contents(tmp_path / "out")
    report = datacheck.run(write_pipeline(tmp_path, "in", [{"action": "fail"}], schema=BOUNDED), overwrite=True)
    assert not report.ok
    assert contents(tmp_path / "out") == before


def test_keys_are_unique_over_files_and_splits_and_the_first_row_stays(tmp_path: Path) -> None:
    write_table(tmp_path / "train" / "a.parquet", {"k": [1, 2, 2]})
    write_table(tmp_path / "train" / "b.parquet", {"k": [3, 1]})
    write_table(tmp_path / "val.parquet", {"k": [4, 3, 5]})
    schema = {"fields": {"k": {"unique": True}}}
    pipeline = write_pipeline(
        tmp_path, {"train": "train", "val": "val.parquet"}, [{"action": "drop_row", "codes": "DC301"}], schema=schema
    )
    report = datacheck.run(pipeline)
    assert kept_table(tmp_path / "out", "train")["k"].to_pylist() == [1, 2, 3]
    assert kept_table(tmp_path / "out", "val")["k"].to_pylist() == [4, 5]
    assert [account.removed_by_code for account in report.accounts] == [{"DC301": 1}] * 3
    findings = [(Path(f.uri).name, f.num_violations, [e.row for e in f.examples]) for f in report.findings]
    assert findings == [("a.parquet", 1, [2]), ("b.parquet", 1, [1]), ("val.parquet", 1, [1])]


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"y": [1.0, 2.0]}, "DC001"),
        ({"x": [1.0, 2.0], "z": [1, 2]}, "DC002"),
        ({"x": ["1", "2"]}, "DC003"),
        ({"x": [[1.0, 2.0], [4.0, 5.0]]}, "DC004"),
    ],
)
@pytest.mark.parametrize("name", ["0-first", "9-last"])
def test_a_file_of_another_form_is_set_aside_whole_and_the_others_are_done(
    columns: dict[str, Any], code: str, name: str, tmp_path: Path
) -> None:
    write_table(tmp_path / "in" / "5.parquet", {"x": [1.0, np.nan]})
    write_table(tmp_path / "in" / f"{name}.parquet", columns)
    schema = {"strict": True, "fields": {"x": {"dtype": "float64", "shape": []}}}
    rules = [{"action": "impute", "strategy": "mean", "fields": "x"}]
    report = datacheck.run(write_pipeline(tmp_path, "in", rules, schema=schema))
    by_file = {Path(account.uri).stem: account for account in report.accounts}
    assert by_file["5"].num_kept == 2
    assert by_file[name].num_quarantined == 2
    assert code in by_file[name].removed_by_code
    aside = quarantine_of(tmp_path / "out")
    assert aside is not None
    assert aside.select(list(columns)).to_pydict() == columns
    assert kept_table(tmp_path / "out")["x"].to_pylist() == [1.0, 1.0]


def test_a_file_that_lacks_an_optional_field_of_a_rule_is_cleaned_without_it(tmp_path: Path) -> None:
    write_table(tmp_path / "in" / "a.parquet", {"x": [1.0], "y": [np.nan]})
    write_table(tmp_path / "in" / "b.parquet", {"x": [2.0]})
    rules = [{"action": "impute", "strategy": "constant", "value": 5, "fields": "y"}]
    schema = {"fields": {"y": {"required": False}}}
    report = datacheck.run(write_pipeline(tmp_path, "in", rules, schema=schema))
    assert report.ok
    assert [account.num_kept for account in report.accounts] == [1, 1]


@pytest.mark.parametrize("values", [[np.nan, np.nan], [None, None]])
def test_a_field_with_nothing_to_learn_from_is_an_error_that_leaves_nothing(values: list[Any], tmp_path: Path) -> None:
    with pytest.raises(CleaningError, match=r"pipeline\.yaml: clean\[0\] \(impute\): nothing to learn a mean from"):
        one_column(
            tmp_path, pa.array(values, pa.float64(), from_pandas=False), [{"action": "impute", "strategy": "mean"}]
        )
    assert not (tmp_path / "out").exists()


def test_training_rows_that_all_go_are_an_error_that_says_so(tmp_path: Path) -> None:
    rules = [{"action": "drop_row", "codes": "DC102"}, {"action": "impute", "strategy": "mean"}]
    with pytest.raises(CleaningError, match="no row of the training split is kept"):
        one_column(tmp_path, [np.inf, np.inf], rules)


def test_an_output_without_any_field_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CleaningError, match="every field is dropped"):
        one_column(tmp_path, [1.0], [{"action": "drop_field", "fields": "x"}])


def test_files_without_rows_are_published_without_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "in" / "a.parquet", {"x": pa.array([], pa.float32())})
    (tmp_path / "in" / "b.csv").write_text("x\n")
    np.save(tmp_path / "in" / "c.npy", np.zeros((0, 3), np.float32))
    report = datacheck.run(write_pipeline(tmp_path, "in"))
    assert report.ok
    assert [finding.code for finding in report.findings] == ["DC306"] * 3
    assert [account.num_read for account in report.accounts] == [0, 0, 0]
    assert np.load(tmp_path / "out" / "data" / "c.npy").shape == (0, 3)
    suffixes = sorted(Path(part["path"]).suffix for account in report.accounts for part in account.outputs)
    assert suffixes == [".csv", ".npy", ".parquet"]


def test_no_line_of_a_csv_file_is_lost(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('x,y\n1,a\n2\nnan,b\n3,"c"\n4,d,e\n')
    report = datacheck.run(write_pipeline(tmp_path, "t.csv"))
    assert report.totals() == {"num_read": 5, "num_kept": 2, "num_dropped": 0, "num_quarantined": 3}
    aside = quarantine_of(tmp_path / "out")
    assert aside is not None
    by_row = {row["row"]: row for row in aside.to_pylist()}
    assert {row: entry["codes"] for row, entry in by_row.items()} == {1: ["DC305"], 2: ["DC101"], 4: ["DC305"]}
    assert by_row[1]["reason"].endswith(": 2")
    assert by_row[4]["reason"].endswith(": 4,d,e")
    assert sorted(entry["row"] for entry in ledger_of(tmp_path / "out")) == [1, 2, 4]
    (part,) = [part for part in report.accounts[0].outputs if part["kind"] == "rows"]
    assert pd.read_csv(tmp_path / "out" / part["path"]).to_dict("list") == {"x": [1, 3], "y": ["a", "c"]}


@pytest.mark.parametrize("how", [{"clean": [{"action": "fail", "codes": "DC305"}]}, {"otherwise": "fail"}])
def test_a_malformed_line_can_fail_the_run(how: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,2\n3\n")
    report = datacheck.run(write_pipeline(tmp_path, "t.csv", **how))
    assert report.failed == {"DC305": 1}
    assert not (tmp_path / "out").exists()


def test_the_columns_of_a_hive_layout_are_cleaned_and_written(tmp_path: Path) -> None:
    for year in (2012, 2013):
        write_table(tmp_path / "in" / f"year={year}" / "t.parquet", {"x": [1.0, np.nan]})
    schema = {"fields": {"x": {}, "year": {"dtype": "int32", "ge": 2013}}}
    rules = [{"action": "nan_to_num", "nan": 0}]
    datacheck.run(write_pipeline(tmp_path, "in", rules, schema=schema))
    assert kept_table(tmp_path / "out").to_pydict() == {"x": [1.0, 0.0], "year": [2013, 2013]}
    aside = quarantine_of(tmp_path / "out")
    assert aside is not None
    assert aside["year"].to_pylist() == [2012, 2012]
    assert np.isnan(aside["x"][1].as_py())


def test_a_file_is_in_one_split_only_by_whatever_name(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", {"x": [1.0]})
    (tmp_path / "link.parquet").symlink_to(tmp_path / "t.parquet")
    with pytest.raises(datacheck.DatacheckError, match="two splits, 'train' and 'val'"):
        datacheck.run(write_pipeline(tmp_path, {"train": "t.parquet", "val": "link.parquet"}))


@pytest.mark.slow
@pytest.mark.parametrize("format_", parameters(CLEANED))
@pytest.mark.parametrize("workers", [1, 4])
def test_every_format_is_cleaned_in_many_units_with_each_row_where_it_was(
    format_: Format, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_units(monkeypatch)
    table = make_table(1500)
    (tmp_path / "in").mkdir()
    format_.write(tmp_path / "in" / f"t{format_.suffix}", table)
    rules = [{"action": "drop_row", "codes": "DC102"}, {"action": "quarantine", "codes": "DC103"}]
    rules += [{"action": "impute", "strategy": "constant", "value": 0.5, "codes": "DC101"}]
    report = datacheck.run(write_pipeline(tmp_path, "in", rules), workers=workers)
    single = table["single"]
    dropped, aside = np.isposinf(single), np.isneginf(single)
    kept = ~dropped & ~aside
    assert list(report.totals().values()) == [1500, kept.sum(), dropped.sum(), aside.sum()]
    cleaned = {
        name: np.concatenate(
            [
                read_table(tmp_path / "out" / part["path"])[name]
                for part in report.accounts[0].outputs
                if part["kind"] == "rows"
            ]
        )
        for name in table
    }
    assert cleaned["single"].dtype == single.dtype or format_.suffix.startswith((".csv", ".json"))
    np.testing.assert_array_equal(cleaned["single"], np.where(np.isnan(single), 0.5, single)[kept])
    np.testing.assert_array_equal(cleaned["double"], table["double"][kept])
    np.testing.assert_array_equal(cleaned["count"], table["count"][kept])
    ledger = ledger_of(tmp_path / "out")
    assert [entry["row"] for entry in ledger] == np.flatnonzero(~kept).tolist()
    originals = quarantine_of(tmp_path / "out")
    assert originals is not None
    assert originals["row"].to_pylist() == np.flatnonzero(aside).tolist()
    if ".json" in format_.suffix:
        records = [json.loads(record) for record in originals["record"].to_pylist()]
        assert [record["double"] for record in records] == table["double"][aside].tolist()
    elif ".tfrecord" in format_.suffix:
        packed = (tmp_path / "in" / f"t{format_.suffix}").read_bytes()
        content = gzip.decompress(packed) if format_.suffix.endswith(".gz") else packed
        places = [content.find(record) for record in originals["record"].to_pylist()]
        assert -1 not in places
        assert places == sorted(places)
    else:
        np.testing.assert_array_equal(originals["double"].to_numpy(), table["double"][aside])


class Counted:
    """A progress that adds up what it is told."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int]] = {}

    def start(self, task: str, num_units: int, num_bytes: int) -> None:
        self.stages[task] = [num_units, num_bytes, 0, 0, 0]

    def advance(self, num_units: int, num_rows: int, num_bytes: int) -> None:
        told = self.stages[list(self.stages)[-1]]
        for place, number in enumerate((num_units, num_bytes, num_rows)):
            told[2 + place] += number


def test_progress_reports_every_stage_to_its_end(folder: Path, report: RunReport, tmp_path: Path) -> None:
    progress = Counted()
    pipeline = write_pipeline(folder, INPUTS, RULES, schema=SCHEMA, output={"path": str(tmp_path / "out")})
    datacheck.run(pipeline, progress=progress)
    assert list(progress.stages) == ["look for duplicates", "learn", "clean"]
    for units, size, done, done_size, _ in progress.stages.values():
        assert (done, done_size) == (units, size)
    assert progress.stages["clean"][4] == report.num_rows
    scanned = Counted()
    datacheck.scan(folder / "in", progress=scanned)
    assert {stage[:2] == stage[2:4] for stage in scanned.stages.values()} == {True}
    assert sum(stage[4] for stage in scanned.stages.values()) == report.num_rows


@pytest.mark.parametrize(
    "name", ["a\nb", "\x1b[31m", "ü" * 80, "x" * 240, "a b", "-rf", "'", "$(touch x)", os.fsdecode(b"\xff\xfe")]
)
@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_no_name_of_an_input_is_too_strange(name: str, suffix: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    if suffix == ".npy":
        np.save(tmp_path / "in" / f"{name}{suffix}", np.array([1.0, np.nan]))
    else:
        (tmp_path / "in" / f"{name}{suffix}").write_text("x\n1.0\nnan\n")
    report = datacheck.run(write_pipeline(tmp_path, "in"))
    assert report.totals() == {"num_read": 2, "num_kept": 1, "num_dropped": 0, "num_quarantined": 1}
    named = {part["path"] for account in manifest_of(tmp_path / "out")["inputs"] for part in account["outputs"]}
    assert contents(tmp_path / "out").keys() == named | {"manifest.json"}
    aside = quarantine_of(tmp_path / "out")
    assert aside is not None
    assert len(aside) == 1
    assert not datacheck.run(tmp_path / "pipeline.yaml").is_new


def test_the_table_counts_what_was_checked_in_files_without_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        values = np.array([1.0, np.nan if number == 0 else 2.0, float(number)])
        write_table(tmp_path / "in" / f"{number}.parquet", {"x": values, "y": np.arange(3)})
    schema = {"fields": {"x": {"le": 1.5}, "y": {"ge": 1}}, "unique": [["y"]]}
    report = datacheck.run(write_pipeline(tmp_path, "in", [{"action": "drop_row"}], schema=schema))
    table = {line.split()[0]: line.split()[3:5] for line in str(report).splitlines() if line.startswith("DC")}
    assert table["DC101"] == ["1", "9"]
    assert table["DC202"] == ["3", "9"]
    assert table["DC201"] == ["3", "9"]
    again = str(datacheck.run("pipeline.yaml"))
    assert [line for line in again.splitlines() if line.startswith("DC")] == [
        line for line in str(report).splitlines() if line.startswith("DC")
    ]
