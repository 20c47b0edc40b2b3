"""The page of a training run: what differs in numbers only is one diagnosis, and a value that stands alone is seen."""

from __future__ import annotations

import pytest

from datacheck.reports.html.charts import line_chart
from datacheck.reports.html.training import run_sections
from datacheck.reports.training_run import DiagnosisText


def diagnosis(step: int, count: int, headline: str = "DC402 log-of-zero") -> DiagnosisText:
    path = (("forward", "aten.log", "Model", "train.py:8", "torch.log(x)", f"{count} of 32"),)
    return DiagnosisText(
        headline, step, "torch.log(x)", (f"{count} of 32 values",), path, "torch.log(x + 1e-6)", f"loss {count}"
    )


def test_diagnoses_that_differ_in_numbers_only_are_one() -> None:
    found = [diagnosis(21, 20), diagnosis(30, 3, "DC402 overflow"), diagnosis(42, 28)]
    (section,) = (one for one in run_sections({}, [], found) if one.title == "Diagnoses")
    shown = "".join(section.body)
    assert "Step 42 and 1 before: DC402 log-of-zero" in shown
    assert "28 of 32" in shown
    assert "20 of 32" not in shown
    assert "Step 30: DC402 overflow" in shown


@pytest.mark.parametrize(("values", "num_dots"), [([1.0], 1), ([1.0, None, 2.0, 3.0], 1), ([1.0, 2.0], 0)])
def test_a_value_without_neighbours_is_a_dot(values: list[float | None], num_dots: int) -> None:
    chart = line_chart("loss", list(enumerate(values)), [])
    assert chart.count('stroke-width="5"') == num_dots
