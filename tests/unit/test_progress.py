"""The progress bar: one line for a stage, in terminals, notebooks and logs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

import datacheck
from datacheck.errors import UsageError
from datacheck.jobs.progress import ProgressBar, following


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_line_and_the_last_one_is_complete() -> None:
    stream = Terminal()
    bar = ProgressBar(stream)
    bar.start("scan", 2, 2048)
    bar.advance(1, 10, 1024)
    bar.advance(1, 10, 1024)
    bar.close()
    bar.close()
    assert stream.getvalue().count("\n") == 1
    last = stream.getvalue().rpartition("\r")[2]
    assert last.startswith("scan 100% |####################| 2.0 KiB of 2.0 KiB, 20 rows")


def test_the_line_of_a_command_is_wiped_away() -> None:
    stream = Terminal()
    bar = ProgressBar(stream, leave=False)
    bar.start("scan", 1, 10)
    bar.close()
    *_, wiped, rest = stream.getvalue().split("\r")
    assert "\n" not in stream.getvalue()
    assert not wiped.strip()
    assert not rest


def test_a_log_gets_whole_lines() -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream)
    for _ in range(2):
        bar.start("scan", 1, 7)
        bar.advance(1, 3, 7)
    bar.close()
    assert "\r" not in stream.getvalue()
    assert [line.partition(" |")[0] for line in stream.getvalue().splitlines()] == ["scan 100%"] * 2


def test_every_job_shows_its_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(4.0))
    path = tmp_path / "a.npz"
    (tmp_path / "p.yaml").write_text(f"inputs: {path}\nclean: []\noutput: {{path: {tmp_path}/out}}\n")
    jobs = (
        lambda: datacheck.scan(path, progress=True),
        lambda: datacheck.check(path, cache=False, progress=True),
        lambda: datacheck.infer(path, progress=True),
        lambda: datacheck.find_notes(path, progress=True),
        lambda: datacheck.compare(path, path, drift=False, progress=True),
        lambda: datacheck.run(tmp_path / "p.yaml", progress=True),
        lambda: datacheck.clean_data({"x": np.arange(4.0)}, progress=True),
    )
    for job in jobs:
        job()
        assert "100%" in capsys.readouterr().err
    datacheck.scan(np.arange(4.0), progress=True)
    assert capsys.readouterr().err.startswith("scan 32 bytes, 4 rows")


def test_an_error_ends_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)

    def job() -> None:
        with following(True) as bar:
            bar.start("scan", 1, 10)
            raise KeyError

    with pytest.raises(KeyError):
        job()
    assert stream.getvalue().endswith("\n")


def test_what_cannot_follow_a_job_is_refused() -> None:
    with pytest.raises(UsageError, match="progress: expected True"):
        datacheck.scan(np.ones(2), progress="yes")  # type: ignore[arg-type]
