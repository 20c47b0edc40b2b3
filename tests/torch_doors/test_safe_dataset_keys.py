"""Keys that must be unique: judged by check() over the whole dataset, and said of where they are not judged."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loader_sets import Listed, Stream, safe_of
from torch.utils.data import DataLoader

import datacheck
from datacheck.torch import BadSampleWarning, open_dataset

ID = {"fields": {"id": {"unique": True}}}


def repeated(safe: Any, **options: Any) -> list[int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadSampleWarning)
        report = safe.check(**options)
    return [sample.index for sample in report.samples if "DC301" in sample.codes]


@pytest.mark.parametrize(
    ("samples", "schema", "expected"),
    [
        ([{"id": value} for value in (1, 2, 1, 3, 2, 1)], ID, [2, 4, 5]),
        ([{"id": torch.tensor(value)} for value in (1, 2, 1)], ID, [2]),
        ([{"id": torch.tensor(7)}, {"id": 7}, {"id": np.int64(7)}], ID, [1, 2]),
        ([{"id": value} for value in ("a", "b", "a")], ID, [2]),
        ([{"id": torch.tensor([1, value])} for value in (1, 2, 1)], ID, [2]),
        ([{"in": {"id": value}} for value in (1, 1)], {"fields": {"in.id": {"unique": True}}}, [1]),
        ([5, 6, 5], {"fields": {"id": {"unique": True}}}, [2]),
        (
            [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 1}],
            {"fields": {"a": {}, "b": {}}, "unique": [["a", "b"]]},
            [2],
        ),
    ],
)
def test_check_calls_all_but_the_first_of_a_key_bad(samples: list[Any], schema: Any, expected: list[int]) -> None:
    safe = safe_of(Listed(samples), schema=schema)
    assert repeated(safe) == expected
    assert repeated(safe) == expected
    good = safe.compact()
    assert [good[place] for place in range(len(good))] == [
        sample for place, sample in enumerate(samples) if place not in expected
    ]
    assert not [finding for finding in safe.report().findings if finding.code == "DC005"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9) | st.floats(0, 3).map(round), min_size=1, max_size=40), st.integers(1, 7))
def test_it_finds_the_same_duplicates_as_a_python_set(values: list[int], batch_size: int) -> None:
    seen: set[int] = set()
    expected = [place for place, value in enumerate(values) if value in seen or seen.add(value)]  # type: ignore[func-returns-value]
    assert repeated(safe_of(Listed(values), schema=ID), batch_size=batch_size) == expected


def test_workers_find_the_same_and_bad_samples_do_not_count_as_first() -> None:
    samples = [{"id": place % 20, "x": float("nan") if place in (3, 24) else 1.0} for place in range(60)]
    expected = [place for place in range(20, 60) if place not in (23, 24)]
    schema = {"fields": {"id": {"unique": True}, "x": {}}}
    for options in ({}, {"num_workers": 2, "multiprocessing_context": "fork"}):
        assert repeated(safe_of(Listed(samples), schema=schema), **options) == expected


def test_a_sample_and_a_file_row_have_the_same_code(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": ["a", "b", "a"]}), path)
    (finding,) = datacheck.scan(str(path), schema=ID).findings
    safe = safe_of(open_dataset(path), schema=ID)
    assert repeated(safe) == [2]
    (mine,) = safe.report().findings
    assert (mine.code, mine.field, mine.uri, mine.examples[0].row) == (finding.code, "id", finding.uri, 2)


def test_without_check_unchecked_keys_are_reported_once() -> None:
    samples = [{"id": 1}] * 4
    for dataset in (Listed(samples), Stream(Listed(samples))):
        safe = safe_of(dataset, schema=ID)
        with pytest.warns(BadSampleWarning, match=r"DC005 'id' could not be checked.*call check\(\)") as told:
            assert [len(list(safe)) for _ in range(2)] == [4, 4]
        assert len(told) == 1
        (finding,) = safe.report().findings
        assert (finding.code, finding.field, finding.severity) == ("DC005", "id", "warning")


@pytest.mark.slow
def test_after_check_workers_do_not_report_keys_as_unchecked() -> None:
    safe = safe_of(Listed([{"id": place} for place in range(8)]), schema=ID)
    with warnings.catch_warnings():
        warnings.simplefilter("error", BadSampleWarning)
        assert safe.check(num_workers=1, multiprocessing_context="fork").ok
        list(safe)
        for context in ("fork", "spawn"):
            assert len(list(DataLoader(safe, num_workers=1, multiprocessing_context=context))) == 8
    assert safe.report().ok
