"""Rules of a schema about the dataset as a whole: said to be unchecked where one sample is looked at, judged by ``check``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from datacheck.torch import BadSampleWarning, SafeDataset

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
