"""``datacheck watch`` over the files of a run, which anybody may have written."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from datacheck.cli.app import main
from datacheck.cli.run_screen import draw_run, sparkline
from datacheck.reports.training_run import RunReader


def write(folder: Path, *events: dict[str, Any], name: str = "guard.jsonl", end: str = "\n") -> None:
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(event) for event in events) + end)


def step(number: int, time: float, **numbers: Any) -> dict[str, Any]:
    return {"event": "step", "time": time, "step": number, "global_step": number, **numbers}


def screen(folder: Path, now: float = 100.0) -> str:
    console = Console(file=StringIO(), width=120, force_terminal=False)
    console.print(draw_run(RunReader(folder).read(), now, folder.name))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_screen_shows_numbers_curves_trips_and_samples(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"event": "start", "time": 1.0, "model": "Net", "num_parameters": 1234},
        step(1, 10.0, loss=3.0, grad_norm=1.0, trips=0),
        {"event": "trip", "time": 11.0, "step": 2, "message": "DC450 the loss is non-finite"},
        {"event": "diagnosis", "time": 11.0, "step": 2, "headline": "DC402 log-of-zero at net.py:3"},
        {"event": "bad_sample", "time": 12.0, "index": 7, "message": "sample 7: DC101 nan"},
        step(11, 20.0, loss="nan", grad_norm="inf", loss_scale=65536.0, trips=1, skipped_steps=1, bad_samples=2),
    )
    shown = screen(tmp_path)
    for part in (
        "Net, 1,234 parameters",
        "step 11",
        "1 steps/s",
        "last line 80 s ago",
        "65,536",
        "skipped steps",
        "bad samples",
    ):
        assert part in shown
    for part in ("step 2: DC450 the loss is non-finite", "DC402 log-of-zero at net.py:3", "sample 7: DC101 nan"):
        assert part in shown
    assert "nan" in shown


def test_only_what_is_new_is_read_and_a_line_in_writing_waits(tmp_path: Path) -> None:
    reader = RunReader(tmp_path)
    assert reader.read().summary() == "no step yet"
    write(tmp_path, step(1, 1.0, loss=2.0))
    assert reader.read().step == 1
    write(tmp_path, step(2, 2.0, loss=1.0), end="")
    assert reader.read().step == 1
    write(tmp_path, end="\n")
    assert reader.read().step == 2
    assert list(reader.run.losses) == [2.0, 1.0]


def test_other_ranks_add_their_samples_and_no_numbers(tmp_path: Path) -> None:
    write(tmp_path, step(5, 1.0, loss=2.0))
    write(tmp_path, step(9, 1.0), {"event": "bad_sample", "message": "sample 3"}, name="guard-rank1.jsonl")
    run = RunReader(tmp_path).read()
    assert (run.step, list(run.samples)) == (5, ["sample 3"])


def test_damaged_and_hostile_lines_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "guard.jsonl").write_bytes(
        b'{"event": "step", "st\n\xff\xfe\n[1]\n{"event": 3}\n' + b"[" * 100_000 + b"\n"
    )
    write(
        tmp_path,
        {"event": "trip", "step": "x", "message": "\x1b[31m[bold]red[/bold]"},
        {"event": "nonsense"},
        {"event": "step", "step": 1e400, "loss": {"a": 1}, "grad_norm": True},
        step(3, 1.0, loss=1.5),
    )
    shown = screen(tmp_path)
    assert "\x1b" not in shown
    assert "[bold]red[/bold]" in shown
    assert RunReader(tmp_path).read().summary() == "step 3, loss 1.5, 1 trip"


def test_a_resumed_run_goes_on_in_the_same_file(tmp_path: Path) -> None:
    write(tmp_path, step(5, 1.0), {"event": "end", "time": 2.0, "step": 5, "error": "NonFiniteError: step 5"})
    run = RunReader(tmp_path).read()
    assert run.summary().endswith("ended by NonFiniteError: step 5")
    write(tmp_path, {"event": "start", "time": 3.0}, step(6, 4.0))
    assert not RunReader(tmp_path).read().has_ended


def test_a_curve_marks_what_is_not_finite() -> None:
    assert sparkline([1.0, 2.0, None, float("nan"), 3.0]).plain == "▁▅ x█"
    assert sparkline([2.0, 2.0]).plain == "▁▁"
    assert sparkline([]).plain == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["missing"], "no such folder; a guard makes it"), ([".", "--every", "0"], "--every 0.0: expected a number")],
)
def test_mistakes_are_one_clear_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["watch", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_page_of_the_run_shows_its_curves_and_diagnoses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "</pre><script>alert(1)</script>"
    write(
        tmp_path,
        *(step(number, float(number), loss=1 / number, grad_norm=2.0, loss_scale=65536.0) for number in range(1, 30)),
        {"event": "trip", "time": 31.0, "step": 30, "message": f"DC450 the loss is non-finite {hostile}"},
        {
            "event": "diagnosis",
            "time": 31.0,
            "step": 30,
            "headline": "DC402 log",
            "text": f"DC402 log\n  path {hostile}",
        },
        {"event": "action", "time": 31.0, "step": 30, "action": "skip"},
        {"event": "bad_sample", "time": 31.0, "index": 7, "message": "sample 7: DC101 nan"},
        step(30, 31.0, loss="nan", grad_norm="inf", loss_scale=65536.0, trips=1, bad_samples=1),
    )
    page = tmp_path / "page.html"
    assert main(["watch", str(tmp_path), "--html", str(page)]) == 0
    assert capsys.readouterr().out == ""
    text = page.read_text(encoding="utf-8")
    for part in (
        "1 anomaly, running",
        "Loss by step",
        "Gradient norm",
        "Loss scale",
        "nan at step 30",
        "sample 7: DC101 nan",
    ):
        assert part in text
    assert text.count("anomaly at step 30") == 3
    assert "path &lt;/pre&gt;" in text
    assert "<script" not in text


def test_the_curves_of_a_long_run_are_thinned_out_but_keep_what_is_non_finite(tmp_path: Path) -> None:
    values = ["nan" if number == 4321 else 1.0 for number in range(10_000)]
    write(tmp_path, *(step(number, float(number), loss=value) for number, value in enumerate(values)))
    curve = RunReader(tmp_path).read().curves["loss"]
    assert len(curve) <= 2000
    assert (curve[0][0], curve[-1][0]) == (0, 9999)
    assert [number for number, value in curve if value != 1.0] == [4321]


def test_a_page_without_a_step_says_so(tmp_path: Path) -> None:
    write(tmp_path, {"event": "start", "time": 1.0, "model": "Net", "num_parameters": 1})
    assert main(["watch", str(tmp_path), "--html", str(tmp_path / "page.html")]) == 0
    assert "No anomaly, running" in (tmp_path / "page.html").read_text(encoding="utf-8")
