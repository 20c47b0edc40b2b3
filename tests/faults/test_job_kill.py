"""Runs that are really killed or interrupted, in their own processes, and then resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from job_files import contents, manifest_of, run_command, write_pipeline, write_table

import datacheck

KILLER = Path(__file__).with_name("kill_a_job.py")

#: ``datacheck`` that pauses after two units until the file ``hold`` is deleted.
HELD = """
import glob, os, time
from datacheck.jobs import process_inputs
process_group = process_inputs.process_group
def held(*arguments, **options):
    while os.path.exists("hold") and len(glob.glob("out/.datacheck/units/*.json")) >= 2:
        time.sleep(0.01)
    return process_group(*arguments, **options)
process_inputs.process_group = held
from datacheck.cli import main
main()
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a pipeline over twelve files."""
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        x = np.arange(50.0) + number
        x[::7] = np.nan
        write_table(tmp_path / "in" / f"{number:02}.parquet", {"x": x})
    write_pipeline(tmp_path, "in", [{"action": "impute", "strategy": "mean"}])
    (tmp_path / "hold").touch()
    return tmp_path


@contextmanager
def held_run(folder: Path, *options: str, program: str = HELD) -> Iterator[subprocess.Popen[str]]:
    """A running process that has finished two units."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, "run", "pipeline.yaml", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        limit = time.monotonic() + 60
        while len(units_of(folder)) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.communicate()


def units_of(folder: Path) -> dict[str, int]:
    """The records of finished units, with their inodes, which change if they are written again."""
    return {path.name: path.stat().st_ino for path in (folder / "out" / ".datacheck" / "units").glob("*.json")}


def parts_of(folder: Path) -> set[int]:
    parts = folder / "out" / ".datacheck" / "parts"
    records = [json.loads(path.read_bytes()) for path in (folder / "out" / ".datacheck" / "units").glob("*.json")]
    return {(parts / name).stat().st_ino for record in records for unit in record["units"] for name, _ in unit["parts"]}


def assert_resumes_to_the_same_output(folder: Path, parts: set[int]) -> None:
    """A resumed run publishes the same as an uninterrupted one, and reuses its finished parts."""
    assert datacheck.run("pipeline.yaml").ok
    resumed = contents(folder / "out")
    assert not (folder / "out" / ".datacheck").exists()
    assert parts <= {path.stat().st_ino for path in (folder / "out").rglob("*")}
    datacheck.run("pipeline.yaml", overwrite=True)
    assert contents(folder / "out") == resumed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *((kind, how) for kind in ("tables", "arrays", "samples") for how in ("fresh", "overwrite")),
        ("shards", "overwrite"),
        ("csv", "fresh"),
        ("jsonl", "overwrite"),
        ("tar", "overwrite"),
        ("images", "fresh"),
    ],
)
def test_a_run_killed_at_any_instant_resumes_to_the_same_bytes(kind: str, how: str, tmp_path: Path) -> None:
    rounds = {"tables": 4, "arrays": 2, "samples": 2}.get(kind, 1)
    for attempt in range(4):  # on a fast machine a run may end before the kill comes
        folder = tmp_path / str(attempt)
        folder.mkdir()
        command = [sys.executable, str(KILLER), str(folder), str(rounds), kind, how]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        if int(done.stdout) > 0:
            break
    assert int(done.stdout) > 0, "no kill came in time, so nothing was tried"


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_killed_command_can_be_repeated(workers: str, job: Path) -> None:
    with held_run(job, "--workers", workers) as process:
        process.kill()
        process.wait()
    assert {path.name for path in (job / "out").iterdir()} == {".datacheck"}
    assert_resumes_to_the_same_output(job, parts_of(job))


@pytest.mark.parametrize("workers", ["1", "3"])
def test_ctrl_c_says_how_to_resume_and_leaves_no_partial_file(workers: str, job: Path) -> None:
    with held_run(job, "--workers", workers) as process:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
        (job / "hold").unlink()
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert err == (
        "datacheck: interrupted; nothing partial was published. Run the same command again to continue from here.\n"
    )
    assert {path.name for path in (job / "out").iterdir()} == {".datacheck"}
    assert_resumes_to_the_same_output(job, parts_of(job))


def test_a_second_ctrl_c_prints_no_traceback(job: Path) -> None:
    with held_run(job, "--workers", "2") as process:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        (job / "hold").unlink()
        _, err = process.communicate(timeout=30)
    # One that arrives while the interpreter shuts down kills the process by the signal itself.
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in err


PROCESSES = """
import sys, datacheck
try:
    datacheck.run(sys.argv[2], workers=2, executor="processes")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_stops_worker_processes_silently(job: Path) -> None:
    for number in range(12, 40):
        x = np.arange(120_000.0)
        x[::7] = np.nan
        write_table(job / "in" / f"{number:02}.parquet", {"x": x})
    with held_run(job, program=PROCESSES) as process:
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (out, err) == ("interrupted\n", "")
    assert process.returncode == 0
    assert not (job / "out" / "manifest.json").exists()


@pytest.mark.slow
def test_a_second_run_at_the_same_time_is_refused_and_the_first_finishes(job: Path) -> None:
    with held_run(job) as process:
        second = run_command("run", "pipeline.yaml", cwd=job)
        assert second.returncode == 2
        assert f"another run (process {process.pid}) is writing there; wait for it to finish" in second.stderr
        assert "Traceback" not in second.stderr
        (job / "hold").unlink()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "published to out" in out
    assert manifest_of(job / "out")["num_read"] == 600


@pytest.mark.slow
@pytest.mark.parametrize("change", ["vanishes", "is cut short", "grows"])
def test_an_input_that_changes_during_a_run_is_a_finding_and_the_others_are_cleaned(change: str, job: Path) -> None:
    victim = job / "in" / "11.parquet"
    with held_run(job, "--workers", "1") as process:
        if change == "vanishes":
            victim.unlink()
        elif change == "is cut short":
            os.truncate(victim, victim.stat().st_size // 2)
        else:
            write_table(victim, {"x": np.arange(5000.0)})
        (job / "hold").unlink()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == ""
    assert "DC908" in out
    assert "run again" in out
    manifest = manifest_of(job / "out")
    assert [account["status"] for account in manifest["inputs"]] == ["cleaned"] * 11 + ["unreadable"]
    assert manifest["inputs"][11]["outputs"] == []
    assert not any("11-" in name for name in contents(job / "out"))
