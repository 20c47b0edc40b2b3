"""The page of a report: one file without scripts, the numbers of the report, hostile names as text, bounded in size."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import run_command, write_pipeline, write_table
from source_files import shrink_units

import datacheck
from datacheck import Report
from datacheck.cli.app import main
from datacheck.findings import Example, Finding
from datacheck.profile.distributions import distributions, distributions_of_run
from datacheck.reports.html.page import MAX_BYTES
from datacheck.row_spread import RowSpread

HOSTILE = "</title></style><script>alert(1)</script>\" onload='x' & \x1b[31m\u202e\ud800"
VOID = {"meta", "br"}


class Page(HTMLParser):
    """What a page has: its elements, attributes and text; every element must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def finding(uri: str = "x.parquet", field: str | None = "x", **values: Any) -> Finding:
    examples = (Example(3, None, (), "nan"),)
    return Finding("DC101", uri, field, 7, 100, examples, spread=RowSpread(2, (3, 0, 4)), **values)


def assert_safe(text: str) -> Page:
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(page.elements)
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in ("style", "src", "href", "action")
        assert not (value or "").strip().lower().startswith(("javascript:", "data:"))
    assert "url(" not in text
    assert "@import" not in text
    return page


@pytest.mark.parametrize("place", ["uri", "field", "rule", "detail", "value"])
def test_a_hostile_name_stays_text(place: str) -> None:
    if place == "value":
        found = Finding("DC205", "x", "x", 1, 2, (Example(0, None, (), HOSTILE),))
    else:
        found = finding(**{place: HOSTILE})
    text = Report((found,), 1, 100, 10).to_html()
    page = assert_safe(text)
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "alert(1)" in "".join(page.text), "it is shown, as text"
    text.encode()


def test_no_control_character_of_a_name_is_in_a_page(tmp_path: Path) -> None:
    names = ["\x1b[2J\x07", "\u202edesrever", "\u2028line"]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(dict.fromkeys(names, [1.0, np.nan, np.inf] * 20)), path)
    assert main(["scan", str(path), "--format", "html", "-o", str(tmp_path / "page.html")]) == 1
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Distribution of \\x1b[2J\\x07" in text
    assert not set("\x1b\x07\u202e\u2028") & set(text)


def test_the_same_report_gives_the_same_bytes_without_times(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1.0, np.nan, np.inf]))
    first, second = (datacheck.scan(tmp_path / "x.npy", workers=workers).to_html() for workers in (1, 2))
    assert first == second


def test_it_shows_the_verdict_and_the_numbers_of_the_report() -> None:
    page = assert_safe(Report((finding(),), 12, 3_456, 10_240).to_html())
    text = " ".join(page.text)
    for shown in ("1 error", "12", "3,456", "10.0 KiB", "DC101", "x.parquet", "7.00"):
        assert shown in text
    nothing = " ".join(Page(Report((), 2, 5, 10).to_html()).text)
    assert "No findings" in nothing
    assert "Nothing was found in 2 files, 5 rows, 10 bytes" in nothing


@pytest.mark.parametrize(
    ("rules", "inputs", "verdict"),
    [
        ([], ["a.csv", "b.parquet"], "Published, and 1 input could not be read"),
        ([{"action": "report", "codes": "DC101"}], ["a.csv"], "Published, and violations are left: 1 error"),
        (
            [{"action": "report", "codes": "DC101"}],
            ["a.csv", "b.parquet"],
            "Published, and 1 input could not be read and violations are left: 1 error",
        ),
    ],
)
def test_a_run_says_what_is_wrong_with_its_output(
    rules: list[dict[str, str]], inputs: list[str], verdict: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("x\n1\nnan\n")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 cut off")
    pipeline = write_pipeline(tmp_path, {"train": inputs}, rules)
    assert Page(datacheck.run(pipeline).to_html()).text[0].endswith(verdict)


def test_rows_that_a_rule_about_the_dataset_finds_are_counted_in_the_summary(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", {"k": [1, 2, 2, 2]})
    page = Page(datacheck.scan(path, {"unique": [["k"]]}).to_html())
    text = " ".join(page.text)
    assert "DC301" in text
    assert "50.00\u00a0%" in text, "2 of 4 rows"
    assert "row group 0, rows 2, 3)" in text


def test_it_says_how_to_print_the_rows_and_where_the_files_are() -> None:
    found = [finding(f"data/a b/{name}.parquet") for name in ("x", "y")]
    page = Page(Report((*found, finding("data/a b/x.parquet", "y")), 2, 100, 10).to_html())
    assert "datacheck rows 'data/a b/x.parquet' --where DC101" in page.text
    assert " below data/a b/" in page.text
    assert "y.parquet" in page.text, "without the folder"


def test_every_chart_has_a_text_alternative_and_a_table() -> None:
    text = Report((finding(),), 1, 100, 10).to_html()
    charts = re.findall(r"<svg[^>]*>", text)
    assert charts
    assert all('role="img" aria-label="' in chart or 'aria-hidden="true"' in chart for chart in charts)
    assert "rows 0 to 3: 3; " in text or "rows 8 to 11: 4; rows 0 to 3: 3" in text


def test_it_stays_small_however_much_was_found() -> None:
    findings = tuple(
        finding(f"folder/{'x' * 300}/{number}.parquet", f"field {number % 700} {'y' * 400}", detail="z" * 400)
        for number in range(20_000)
    )
    text = Report(findings, 20_000, 10**9, 10**12).to_html()
    assert len(text.encode()) <= MAX_BYTES
    assert_safe(text)
    assert "20,000 errors" in text
    assert "--format jsonl" in text


@pytest.mark.slow
def test_a_run_shows_where_every_row_went_and_the_fields_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = np.linspace(0, 1, 200)
    values[:50] = np.nan
    write_table(tmp_path / "in" / "a.parquet", {"x": values, "kind": np.array(["a", "b"] * 100)})
    write_pipeline(tmp_path, "in", [{"action": "drop_row"}])
    done = run_command("run", "pipeline.yaml", "--format", "html", "-o", "r.html", "--format", "text", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    shown = " ".join(assert_safe(text).text)
    for part in ("Clean output published", "before", "after", "kind", "200 rows read"):
        assert part in shown
    assert "kept 150, dropped 50, quarantined 0" in html.unescape(text)
    first = (tmp_path / "r.html").read_bytes()
    run_command("run", "pipeline.yaml", "--format", "html", "-o", "r.html", cwd=tmp_path)
    assert (tmp_path / "r.html").read_bytes() == first, "nothing to do, and the same page"


@pytest.mark.parametrize("workers", [1, 2])
def test_distributions_are_those_of_numpy(workers: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    before, after = generator.normal(size=5_000), generator.normal(size=4_000)
    before[:100] = np.nan
    words = np.array(["a", "b", "b", "c"] * 1_250)
    pq.write_table(pa.table({"x": before, "w": words}), tmp_path / "b.parquet", row_group_size=1_000)
    pq.write_table(pa.table({"x": after, "w": words[:4_000]}), tmp_path / "a.parquet", row_group_size=700)
    found = distributions(
        {"before": [str(tmp_path / "b.parquet")], "after": [str(tmp_path / "a.parquet")]}, workers=workers
    )
    numbers, texts = found
    assert (numbers.path, texts.path) == ("x", "w")
    assert not numbers.is_sampled
    for series, values in zip(numbers.series, (before[100:], after), strict=True):
        counts, _ = np.histogram(values, np.array(numbers.edges))
        np.testing.assert_allclose(series.shares, counts / len(values))
        assert sum(series.shares) + series.below + series.above == pytest.approx(1)
        assert (series.low, series.high) == (repr(float(values.min())), repr(float(values.max())))
    assert [series.num_nan for series in numbers.series] == [100, 0]
    assert texts.categories == ("b", "a", "c")
    assert texts.series[0].shares == (0.5, 0.25, 0.25)


def test_a_sentinel_does_not_flatten_the_rest(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=4_000)
    values[:4] = -1e9
    np.save(tmp_path / "x.npy", values)
    (field,) = distributions({"values": [str(tmp_path / "x.npy")]})
    assert -10 < field.edges[0] < field.edges[-1] < 10
    assert field.series[0].below >= 4 / 4_000


def test_a_notebook_shows_the_page_in_a_frame_that_runs_nothing() -> None:
    shown = Report((finding(uri=HOSTILE),), 1, 100, 10)._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert ' sandbox=""' in shown
    assert shown.count("<") == 2, "all of the page is in the attribute"
    heights = [
        int(re.findall(r'height="(\d+)" title', Report(some, 1, 1, 1)._repr_html_())[0])
        for some in ((), (finding(),) * 90)
    ]
    assert 300 < heights[0] < heights[1] < 700, "longer pages have more room"


@pytest.mark.slow
def test_compare_and_scan_write_pages_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    for name, shift in (("train", 0.0), ("test", 3.0)):
        write_table(tmp_path / f"{name}.parquet", {"x": generator.normal(shift, 1, 500)})
    for arguments in (["scan", "train.parquet"], ["compare", "train.parquet", "test.parquet", "--no-drift"]):
        done = run_command(*arguments, "--format", "html", "-o", "page.html", cwd=tmp_path)
        assert done.returncode in (0, 1), done.stderr
        shown = " ".join(assert_safe((tmp_path / "page.html").read_text(encoding="utf-8")).text)
        assert "How the values are distributed" in shown
        assert f"datacheck {arguments[0]}" in shown


def test_of_large_inputs_a_part_is_read_again_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        write_table(Path(f"data/{number}.parquet"), {"x": pa.array([float(number)] * 50 + [np.nan])})
    one = Path("data/0.parquet").stat().st_size
    report = datacheck.run(
        write_pipeline(tmp_path, {"train": "data"}, clean=[{"action": "drop_row", "codes": "DC101"}])
    )
    (whole,) = distributions_of_run(report)
    assert [series.num_values for series in whole.series] == [306, 300]
    assert "only a part" not in report.to_html([whole])

    monkeypatch.setattr("datacheck.profile.distributions._MAX_BYTES", 2 * one)
    (part,) = distributions_of_run(report)
    assert [series.num_values for series in part.series] == [102, 100]
    assert part == distributions_of_run(report, workers=1)[0]
    page = Page(report.to_html([part]))
    assert "only a part was read for this section: 2 of 6 inputs" in "".join(page.text)


def test_of_a_large_file_some_units_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shrink_units(monkeypatch, unit_bytes=4096)
    Path("data").mkdir()
    np.save("data/x.npy", np.random.default_rng(0).normal(size=20_000))
    report = datacheck.run(write_pipeline(tmp_path, {"train": "data"}))
    monkeypatch.setattr("datacheck.profile.distributions._MAX_BYTES", 1 << 14)
    (part,) = distributions_of_run(report)
    assert 0 < part.series[0].num_values <= 2048
    assert sum(part.series[0].shares) == pytest.approx(1, abs=0.02)


def test_the_page_of_an_inferred_schema_has_the_draft_and_what_looks_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).normal(size=2_000)
    values[7] = np.nan
    write_table(Path("data/a.parquet"), {"x": values, HOSTILE.replace("\ud800", ""): values})
    done = run_command("schema", "infer", "data", "-o", "draft.yaml", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    text = Path("page.html").read_text(encoding="utf-8")
    shown = "".join(Page(text).text)
    assert "Draft of a schema" in shown
    assert "dtype: float64" in shown
    assert "Distribution of x" in text
    assert "script" not in Page(text).elements
