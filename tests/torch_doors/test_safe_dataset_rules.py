"""Rules of a schema about the dataset as a whole: said to be unchecked where one sample is looked at, judged by ``check``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from datacheck import Schema
from datacheck.torch import BadSampleWarning, SafeDataset
from datacheck.torch.loader.sample_check import SampleCheck

SCHEMA: dict[str, Any] = {
    "num_rows": {"ge": 50},
    "sequence": {"by": "series", "on": "time", "step": 1},
    "determines": {"series": "label"},
    "fields": {"x": {"std": {"gt": 0}, "min_distinct": 2}, "label": {"share": {"1": {"ge": 0.5}}}},
}


class Steps(Dataset[dict[str, Any]]):
    """Two series of twenty steps, of which the second lacks one; one label differs from the others of its series."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> dict[str, Any]:
        series, time = divmod(index, 20)
        label = int(index == 7)
        return {"series": series, "time": time + (index > 30), "label": label, "x": torch.zeros(3)}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_check_judges_the_dataset_and_names_samples(num_workers: int) -> None:
    safe = SafeDataset(Steps(), schema=SCHEMA)
    report = safe.check(num_workers=num_workers, batch_size=7)
    found = {(one.code, one.field): one for one in report.findings}
    assert set(found) == {
        ("DC325", None),
        ("DC320", "time"),
        ("DC323", "x"),
        ("DC324", "x"),
        ("DC323", "label"),
        ("DC327", "label"),
    }
    assert [example.row for example in found["DC320", "time"].examples] == [31]
    assert [example.row for example in found["DC327", "label"].examples] == [7]
    assert not report.ok
    assert report.num_bad == 0


def test_samples_alone_say_that_the_dataset_is_unchecked() -> None:
    safe = SafeDataset(Steps(), schema={"fields": {"x": {"std": {"gt": 0}}}})
    with pytest.warns(BadSampleWarning, match=r"DC005 'x' could not be checked: its rules are about the whole dataset"):
        safe[0]
    safe[1]
    assert [one.code for one in safe.report().findings] == ["DC005"]
    assert [one.code for one in safe.check().findings] == ["DC323"]


RULES = ["any(labels != -100)", "len(labels) == len(ids)", "box[0] < box[2]", 'text != "" and score >= 0.5']


@st.composite
def samples(draw: Any) -> Any:
    few = st.sampled_from([-100, 0, 3])
    kind = draw(st.sampled_from([torch.int64, torch.int32]))
    floats = draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]))
    return {
        "labels": torch.tensor(draw(st.lists(few, max_size=3)), dtype=kind),
        "ids": draw(st.lists(few, max_size=3).map(lambda one: torch.tensor(one, dtype=torch.int64)) | st.just([1, 2])),
        "box": torch.tensor(draw(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=2, max_size=4)), dtype=floats),
        "text": draw(st.sampled_from(["", "a", "é"])),
        "score": draw(st.sampled_from([0.5, 0.1, 1, True])),
    }


@given(
    sample=samples(), rules=st.lists(st.sampled_from(RULES), min_size=1, max_size=3, unique=True), named=st.booleans()
)
def test_the_screen_never_passes_a_sample_that_breaks_a_rule(sample: Any, rules: list[str], named: bool) -> None:
    fields: dict[str, Any] = {"labels": {"shape": ["T"]}, "ids": {"shape": ["T"]}} if named else {}
    check = SampleCheck(Schema(checks=rules, fields=fields))
    found = check.find_violations(sample, "sample", 0)
    assert not (found and check.is_clean(sample)), found


def test_samples_that_keep_the_rules_pass_the_screen() -> None:
    fields: dict[str, Any] = {"labels": {"shape": ["T"]}, "ids": {"shape": ["T"]}}
    check = SampleCheck(Schema(checks=RULES, fields=fields))
    sample = {
        "labels": torch.tensor([-100, 3]),
        "ids": [1, 2],
        "box": torch.tensor([0.0, 0.0, 1.0]),
        "text": "a",
        "score": 1,
    }
    assert check.find_violations(sample, "sample", 0) == ()
    assert check.is_clean(sample)
    assert check.are_clean([sample] * 9)
    assert SampleCheck(Schema(checks=["`1` < max(`0`)"])).is_clean((np.array([1, 5]), 3))


def test_integers_that_store_another_format_are_left_to_the_exact_check() -> None:
    check = SampleCheck(Schema(fields={"x": {"dtype": "bfloat16"}}, checks=["max(x) < 2"]))
    assert not check.is_clean({"x": np.array([0x3F80], np.uint16)})
    assert check.find_violations({"x": np.array([0x3F80], np.uint16)}, "sample", 0) == ()


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"missing": [-999]}, torch.tensor([1.0]), torch.tensor([-999.0])),
        ({"missing": [-999], "fields": {"y": {"required": False}}}, torch.tensor([1.0]), torch.tensor([-999.0])),
        ({"fields": {"x": {"ignore_index": -100}}}, torch.tensor([-100, 1]), torch.tensor([-100, -100])),
        ({"fields": {"x": {"vocab_size": 9, "ignore_index": -100}}}, torch.tensor([-100, 1]), torch.tensor([-100])),
    ],
)
def test_what_a_file_breaks_a_sample_breaks(schema: dict[str, Any], good: Any, bad: Any) -> None:
    check = SampleCheck(Schema.model_validate(schema))
    for sample, is_good in ((good, True), (bad, False), (good, True)):
        assert is_good or not check.is_clean({"x": sample})
        assert bool(check.find_violations({"x": sample}, "", 0)) is not is_good
        assert not check.are_clean([{"x": bad}, {"x": good}])


def test_a_sentinel_of_a_nullable_field_and_a_single_ignored_label_do_not_make_a_sample_bad() -> None:
    fields = {"x": {"nullable": True, "missing": [-999]}, "label": {"ignore_index": -100}}
    check = SampleCheck(Schema.model_validate({"fields": fields}))
    sample = {"x": torch.tensor([-999.0]), "label": torch.tensor(-100)}
    assert not check.is_clean(sample)  # the screen leaves it to the exact check
    assert check.find_violations(sample, "", 0) == ()


class OfFiles(Dataset[torch.Tensor]):
    """Six samples of three files, or of files that it does not tell."""

    def __init__(self, tells: bool = True) -> None:
        self.origin = (lambda index: (f"part-{index // 2}.npy", index % 2)) if tells else (lambda index: None)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.ones(2)


@pytest.mark.parametrize(
    ("num_files", "tells", "found"),
    [
        (3, True, []),
        (1, True, [("DC325", "3 files, expected 1")]),
        ({"ge": 4}, True, [("DC325", "3 files, expected >= 4")]),
        (1, False, [("DC005", "num_files: the dataset does not tell which files its samples come from")]),
    ],
)
def test_check_counts_the_files_that_samples_come_from(num_files: Any, tells: bool, found: Any) -> None:
    report = SafeDataset(OfFiles(tells), schema={"num_files": num_files}).check()
    assert [(one.code, one.detail.split(";")[0]) for one in report.findings] == found
    assert report.ok is not bool(found)


@pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning")
@given(num_bad=st.lists(st.integers(0, 8), min_size=1, max_size=6), limit=st.sampled_from([0, 1, 3, "25%", "12.5%"]))
def test_a_tolerance_holds_in_each_sample(num_bad: list[int], limit: Any) -> None:
    samples = [torch.tensor([float("nan")] * bad + [1.0] * (8 - bad)) for bad in num_bad]
    schema = {"fields": {"x": {}}, "tolerances": {"x": {"DC101": limit}}}
    safe = SafeDataset([{"x": one} for one in samples], schema=schema, on_bad="replace", max_bad_fraction=1.0)
    at_most = limit if isinstance(limit, int) else float(limit[:-1]) * 8 / 100
    report = safe.check()
    assert report.bad_indices == tuple(index for index, bad in enumerate(num_bad) if bad > at_most)
    assert report.counts["tolerated"] == sum(0 < bad <= at_most for bad in num_bad)
    for index, bad in enumerate(num_bad):
        if bad <= at_most:
            assert int(safe[index]["x"].isnan().sum()) == bad


@pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning")
def test_a_sample_with_no_good_value_is_within_no_tolerance() -> None:
    samples = [{"x": 1.0}, {"x": float("nan")}]
    schema = {"fields": {"x": {}}, "tolerances": {"x": 3}}
    safe = SafeDataset(samples, schema=schema, max_bad_fraction=1.0)
    assert safe.check().bad_indices == (1,)


def test_the_report_counts_tolerated_samples() -> None:
    samples = [torch.tensor([1.0, float("nan"), 2.0, 3.0]), torch.ones(4)]
    safe = SafeDataset(samples, schema={"fields": {None: {}}, "tolerances": {None: "25%"}})
    report = safe.check()
    assert report.ok
    assert str(report).splitlines()[0].endswith("nothing bad (1 tolerated)")
