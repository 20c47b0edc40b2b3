"""Rows that two datasets share by chance, and leaks beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from job_files import run_command, write_table

import datacheck
from datacheck.findings import Finding, Severity
from datacheck.hashing.store import HashStore
from datacheck.profile.compare.chance import LocalChance
from datacheck.profile.compare.thresholds import Thresholds
from datacheck.profile.row_hashes import RowNumbers
from datacheck.profile.row_keys import LocalKeys, LocalMatches, Segment


def few_values(seed: int, num_rows: int, **columns: Any) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "sex": random.choice(["m", "f"], num_rows).tolist(),
        "age": random.integers(18, 90, num_rows),
        "weight": random.integers(0, 5, num_rows).astype(np.float32),
        **columns,
    }


def of_rows(train: Any, test: Any, **limits: Any) -> list[Finding]:
    report = datacheck.compare(pa.table(train), pa.table(test), drift=False, thresholds=Thresholds(**limits))
    return [finding for finding in report.findings if finding.code == "DC310"]


def test_rows_shared_by_chance_are_a_note_that_says_how_many_are_expected() -> None:
    for seed in range(20):
        train, test = few_values(2 * seed, 2000), few_values(2 * seed + 1, 500)
        (finding,) = of_rows(train, test)
        shared = set(zip(*train.values(), strict=True))
        assert finding.num_violations == sum(row in shared for row in zip(*test.values(), strict=True))
        assert finding.severity is Severity.INFO
        expected = int(finding.detail.partition("about ")[2].partition(" in all are expected by chance")[0])
        assert abs(expected - finding.num_violations) < 60


@pytest.mark.parametrize("num_train", [50, 2000, 20_000])
def test_a_few_rows_shared_by_chance_are_a_note_too(num_train: int) -> None:
    for seed in range(10):
        train = few_values(2 * seed, num_train, code=np.random.default_rng(seed).integers(0, 40, num_train))
        test = few_values(2 * seed + 1, 300, code=np.random.default_rng(seed + 99).integers(0, 40, 300))
        assert {finding.severity for finding in of_rows(train, test)} <= {Severity.INFO}


def test_more_shared_rows_than_chance_explains_are_a_leak() -> None:
    train, test = few_values(1, 200), few_values(2, 400)
    for name in train:
        test[name][:150] = train[name][:150]
    (finding,) = of_rows(train, test)
    assert finding.severity is Severity.ERROR
    assert "chance explains only about" in finding.detail


@pytest.mark.parametrize(
    "values", [lambda n: np.random.default_rng(n).normal(size=n), lambda n: [f"{n}, {i}" for i in range(n)]]
)
@pytest.mark.parametrize("copies", [1, 6])
def test_one_leaked_row_of_rare_values_is_a_leak_also_after_oversampling(values: Any, copies: int) -> None:
    train, test = few_values(1, 500, note=values(500)), few_values(2, 400, note=values(400))
    for name in train:
        test[name][7] = train[name][3]
    train = {name: np.concatenate([np.asarray(column)] * copies) for name, column in train.items()}
    (finding,) = of_rows(train, test)
    assert (finding.severity, finding.num_violations, finding.examples[0].row) == (Severity.ERROR, 1, 7)


def test_common_rows_of_the_training_data_do_not_excuse_leaks_of_rare_ones() -> None:
    random = np.random.default_rng(0)
    train = {"a": np.r_[np.zeros(1800), random.normal(size=200)], "b": np.r_[np.zeros(1800), random.normal(size=200)]}
    test = {name: np.r_[column[1800:1850], random.normal(size=450)] for name, column in train.items()}
    (finding,) = of_rows(train, test)
    assert (finding.severity, finding.num_violations) == (Severity.ERROR, 50)


@pytest.mark.parametrize(
    ("name", "values"), [("n", range), ("sample_id", lambda start, stop: [f"s{i}" for i in range(start, stop)])]
)
def test_a_column_that_numbers_the_rows_does_not_hide_a_leak(name: str, values: Any) -> None:
    random = np.random.default_rng(0)
    notes = random.normal(size=300)
    train = {name: list(values(0, 300)), "note": notes, "one": np.ones(300)}
    test = {name: list(values(300, 400)), "note": np.r_[notes[:2], random.normal(size=98)], "one": np.ones(100)}
    (finding,) = of_rows(train, test)
    assert (finding.severity, finding.num_violations) == (Severity.WARNING, 2)
    assert finding.detail.endswith(
        f"differ only in {name!r}, where no value repeats; compare with --row-exclude {name}"
    )
    (finding,) = of_rows(train, test, row_exclude=name)
    assert finding.severity is Severity.ERROR
    assert of_rows(train, {**test, "note": random.normal(size=100)}) == []


@pytest.mark.slow
def test_leaked_rows_are_tolerated_where_the_configuration_says_so(tmp_path: Path) -> None:
    notes = np.random.default_rng(0).normal(size=100)
    write_table(tmp_path / "train.parquet", {"a": notes, "b": notes})
    other = np.r_[notes[:3], notes[3:] + 1]
    write_table(tmp_path / "test.parquet", {"a": other, "b": other})
    for tolerance, returncode in (("2%", 1), ("3%", 0)):
        (tmp_path / "datacheck.yaml").write_text(f"tolerances: {{'*': {{DC310: '{tolerance}'}}}}\n")
        assert (
            run_command("compare", "train.parquet", "test.parquet", "--no-drift", cwd=tmp_path).returncode == returncode
        )


def test_a_field_of_a_key_that_was_compared_is_not_called_not_compared() -> None:
    pytest.importorskip("scipy")
    train = {"a": [f"text {i}" for i in range(300)], "b": [f"other {i}" for i in range(300)]}
    test = {name: [f"new {value}" for value in column] for name, column in train.items()}
    assert {finding.field for finding in datacheck.compare(pa.table(train), pa.table(test)).findings} == {"a", "b"}
    assert datacheck.compare(pa.table(train), pa.table(test), key="a,b").findings == ()


def test_new_integer_codes_are_new_categories_where_codes_repeat() -> None:
    pytest.importorskip("scipy")
    random = np.random.default_rng(0)
    codes = random.integers(0, 400, 8000)
    counts = random.geometric(0.05, 8000)
    train = {"code": codes, "count": counts, "x": random.normal(size=8000)}
    test = {"code": random.integers(0, 400, 500), "count": random.geometric(0.05, 500), "x": random.normal(size=500)}
    assert datacheck.compare(pa.table(train), pa.table(test)).findings == ()
    test["code"][[3, 9]] = 999
    test["count"][5] = 5000
    (finding,) = datacheck.compare(pa.table(train), pa.table(test)).findings
    assert (finding.code, finding.field, finding.num_violations) == ("DC314", "code", 2)
    assert finding.examples[0].row == 3


@pytest.mark.parametrize("spilled", [(True, True), (True, False), (False, True)])
def test_hashes_on_disk_tell_the_same_of_chance_as_in_memory(spilled: tuple[bool, bool]) -> None:
    random = np.random.default_rng(3)
    columns = [
        [random.integers(0, 9, count).astype(np.uint64) << np.uint64(58) for count in (700, 500)] for _ in range(3)
    ]

    # The third file lacks a row, so its column says nothing.
    def segment(start: int, name: str, count: int) -> Segment:
        return Segment(start, name, RowNumbers(np.array([0]), np.array([0]), count), ())

    segments = [segment(start, name, count) for start, name, count in ((0, "a", 200), (200, "b", 250), (450, "c", 50))]
    short = [*segments[:2], segment(450, "c", 49)]
    expected = []
    for is_spilled in ((False, False), spilled):
        with HashStore() as rows:
            rows.num_rows = 500
            chance = LocalChance(LocalMatches([], [np.arange(0, 500, 7)], LocalKeys(rows, segments)))
        for column, some in zip(columns, (segments, segments, short), strict=True):
            with HashStore() as train, HashStore() as other:
                for store, hashes, on_disk in zip((train, other), column, is_spilled, strict=True):
                    store.add(hashes)
                    if on_disk:
                        store.spill()
                chance.add([(LocalKeys(train), LocalKeys(other, some))])
        expected.append(chance.expected)
    assert expected[0] == pytest.approx(expected[1], rel=1e-12)
    assert expected[0] > 0
