"""The report: as text, JSON and a DataFrame, complete and readable."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from loader_sets import Listed, Numbered, safe_of

from datacheck.torch import BadSample, DatasetReport

pytestmark = pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning")


class Filed(Numbered):
    """Says from which file and row a sample is."""

    def origin(self, index: int) -> tuple[str, int]:
        return f"part-{index // 10}.parquet", index % 10


@pytest.fixture
def report() -> DatasetReport:
    return safe_of(Filed(40, nan=(3, 12), broken=(28,)), name="birds").check()


def test_as_text(report: DatasetReport) -> None:
    assert str(report).splitlines() == [
        "birds, 40 samples, 40 seen: 3 bad",
        "  DC101 1 of 4 values are NaN in '0' (part-0.parquet, row 3, index [2])",
        "  DC101 1 of 4 values are NaN in '0' (part-1.parquet, row 2, index [2])",
        "  DC901 cannot be read: ValueError: no sample 28 (part-2.parquet, row 8)",
        "samples:",
        "  sample 3: DC101 1 of 4 values are NaN in '0' (part-0.parquet, row 3, index [2])",
        "  sample 12: DC101 1 of 4 values are NaN in '0' (part-1.parquet, row 2, index [2])",
        "  sample 28: DC901 cannot be read: ValueError: no sample 28 (part-2.parquet, row 8)",
    ]


def test_as_json_and_back(report: DatasetReport) -> None:
    record = json.loads(report.to_json(), parse_constant=pytest.fail)
    again = DatasetReport.from_dict(record)
    assert again.samples == report.samples
    assert str(again) == str(report)
    assert record["ok"] is False
    assert record["samples"][0]["origin"] == {
        "index": 3,
        "uri": "part-0.parquet",
        "row_group": None,
        "row": 3,
        "replaces": None,
    }
    assert all(BadSample.from_dict(sample.to_dict()) == sample for sample in report.samples)


def test_as_a_frame(report: DatasetReport) -> None:
    frame = report.to_pandas()
    assert frame["index"].tolist() == [3, 12, 28]
    assert frame["code"].tolist() == ["DC101", "DC101", "DC901"]
    assert frame["uri"].tolist() == ["part-0.parquet", "part-1.parquet", "part-2.parquet"]
    assert frame["row"].tolist() == [3, 2, 8]
    assert frame["position"].tolist()[:2] == ["[2]", "[2]"]
    assert "no sample 28" in frame["traceback"].tolist()[2]
    assert safe_of(Numbered(3)).check().to_pandas().empty


def test_findings_of_samples_without_files_are_joined() -> None:
    report = safe_of(Numbered(40, nan=tuple(range(0, 40, 5)))).check()
    (finding,) = report.findings
    assert (finding.num_violations, [example.row for example in finding.examples]) == (8, [0, 5, 10, 15, 20])


def test_many_samples_are_counted_in_the_text() -> None:
    text = str(safe_of(Numbered(60, nan=tuple(range(0, 60, 2)))).check())
    assert text.endswith("and 10 more: see .samples, to_json() or to_pandas()")


def test_many_files_are_counted_in_the_text() -> None:
    class Files(Numbered):
        def origin(self, index: int) -> str:
            return f"{index}.png"

    lines = str(safe_of(Files(100, broken=tuple(range(100)))).check()).splitlines()
    assert len(lines) == 44
    assert [line for line in lines if "more" in line] == [
        "  and 80 more findings",
        "  and 80 more: see .samples, to_json() or to_pandas()",
    ]


def test_a_clean_set_is_ok() -> None:
    report = safe_of(Numbered(5)).check()
    assert report.ok
    assert str(report) == "Numbered, 5 samples, 5 seen: nothing bad"


def test_strings_are_not_mistaken_for_files() -> None:
    class Texts(Listed):
        def __getitem__(self, index: int) -> Any:
            raise ValueError(self.samples[index])

    safe = safe_of(Texts(["a text of /some length", "another one"]))
    assert [sample.origin for sample in safe.check().samples] == [None, None]


def test_lone_surrogates_in_errors_are_escaped_in_every_format() -> None:
    def read() -> Any:
        raise FileNotFoundError("bird-\udce4.png")

    report = safe_of(Listed([read, 1.0])).check()
    assert "bird-\\udce4.png" in str(report)
    assert "bird-\\\\udce4.png" in report.to_json()
    assert "bird-\\udce4.png" in report.to_pandas()["traceback"][0]


def test_hostile_messages_are_escaped() -> None:
    def hostile() -> Any:
        raise ValueError("\x1b[31mred\u202e")

    safe = safe_of(Listed([hostile, torch.ones(1)]), name="\x1b[2J")
    safe.check()
    assert "\x1b" not in str(safe.report())
    assert "\u202e" not in str(safe.report())


def test_one_sample_is_one_row_however_much_of_it_is_bad() -> None:
    bad = torch.full((40,), float("nan"))
    one = safe_of(Listed([torch.ones(40), bad])).check()
    assert str(one).splitlines() == [
        "Listed, 2 samples, 2 seen: 1 bad",
        "  DC101 40 of 40 values are NaN in the array, in 1 row (Listed, row 1, index [0], …)",
        "samples:",
        "  sample 1: DC101 40 of 40 values are NaN in the array, in 1 row (Listed, row 1, index [0], …)",
    ]
    three = safe_of(Listed([bad, bad, torch.ones(40), bad])).check()
    assert "120 of 120 values are NaN in the array, in 3 rows (Listed, rows 0, 1, 3)" in str(three)
    many = safe_of(Listed([bad] * 9)).check()
    assert "360 of 360 values are NaN in the array, in 9 rows (Listed, rows 0, 1, 2, 3, 4, …)" in str(many)
