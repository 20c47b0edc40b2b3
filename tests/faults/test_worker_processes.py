"""Worker processes that are killed, that kill themselves, and whose main process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from job_files import contents, write_pipeline, write_table

import datacheck
from datacheck.cli.app import main
from datacheck.cli.terminal import discard_closed_stdout
from datacheck.errors import WorkerLostError
from datacheck.jobs.executors.local import map_in_order


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die_once(task: tuple[int, str]) -> int:
    number, mark = task
    if number == 3 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def test_the_work_of_a_lost_process_is_done_again(tmp_path: Path) -> None:
    tasks = [(number, str(tmp_path / "mark")) for number in range(8)]
    assert list(map_in_order(die_once, tasks, 2, "processes")) == [number**2 for number in range(8)]


@pytest.mark.slow
def test_work_that_ends_its_process_again_is_told_from_its_neighbours() -> None:
    found = map_in_order(die_at_three, range(8), 2, "processes", lost=lambda number: -number)
    assert list(found) == [0, 1, 4, -3, 16, 25, 36, 49]
    with pytest.raises(WorkerLostError, match="a worker process died twice on the same work"):
        list(map_in_order(die_at_three, range(8), 2, "processes"))


def test_a_given_executor_that_breaks_is_reported() -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(WorkerLostError, match="the executor lost its workers"):
        list(map_in_order(die_at_three, range(8), 1, pool))


DEADLY = """
import os, signal, sys
import datacheck
from datacheck.sources.npy import NpySource
read = NpySource.read
def deadly(self, unit):
    if "1.npy" in unit.uri:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, unit)
NpySource.read = deadly
if __name__ == "__main__":
    if sys.argv[1] == "run":
        print(datacheck.run("pipeline.yaml", executor="processes", workers=2))
    else:
        print(datacheck.scan("in", executor="processes", workers=2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "scan"])
def test_a_file_that_ends_its_worker_is_a_finding_and_the_others_are_checked(command: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        np.save(tmp_path / "in" / f"{number}.npy", np.array([1.0, np.nan, 2.0]))
    write_pipeline(tmp_path, "in")
    (tmp_path / "main.py").write_text(DEADLY)
    done = subprocess.run(
        [sys.executable, "main.py", command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stderr == ""
    assert "DC910 was not read, because this machine failed: the process that read it died" in done.stdout
    assert done.stdout.count("DC910") == 1
    assert "in/1.npy" in done.stdout
    if command == "run":
        assert sorted(contents(tmp_path / "out" / "data")) == ["0.npy", "2.npy"]


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    (tmp_path / "main.py").write_text("import datacheck\ndatacheck.scan('a.npy', executor='processes', workers=2)\n")
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert "WorkerLostError: worker processes end as soon as they start" in done.stderr
    assert "if __name__ == '__main__':" in done.stderr.splitlines()[-1]


def test_processes_that_cannot_be_started_are_an_error_and_no_clean_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", np.array([np.nan]))

    def fail(*_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("datacheck.jobs.executors.processes.ProcessPoolExecutor", fail)
    arguments = ["scan", str(tmp_path / "a.npy"), "--no-cache", "--executor", "processes", "--workers", "2"]
    assert main(arguments) == 2
    assert "worker processes cannot be started: Broken pipe; check that" in capsys.readouterr().err


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_broken_pipe_is_the_reader_of_the_output_only_where_that_has_closed(
    is_closed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    if is_closed:
        os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        assert discard_closed_stdout() is is_closed
    if not is_closed:
        os.close(reader)
    assert ("broken pipe" in capsys.readouterr().err) is not is_closed


SLOW = """
import sys, time
import datacheck
from datacheck.sources.npy import NpySource
read = NpySource.read
def slow(self, unit):
    print("reading", flush=True)
    time.sleep(60)
    return read(self, unit)
NpySource.read = slow
if __name__ == "__main__":
    datacheck.run("pipeline.yaml", executor="processes", workers=2)
"""


def num_alive(session: int) -> int:
    found = 0
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and os.getsid(int(process.name)) == session:
                # A process that has ended and is not yet collected is a zombie.
                found += (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_main_process(how: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        np.save(tmp_path / "in" / f"{number}.npy", np.ones(3))
    write_pipeline(tmp_path, "in")
    (tmp_path / "main.py").write_text(SLOW)
    command = [sys.executable, "main.py"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as main:
        assert main.stdout is not None
        assert main.stdout.readline() == "reading\n"
        assert num_alive(main.pid) > 1
        if how == signal.SIGINT:
            os.killpg(main.pid, how)
        else:
            main.send_signal(how)
        main.wait(20)
        limit = time.monotonic() + 10
        while num_alive(main.pid):
            assert time.monotonic() < limit, "workers outlive their main process"
            time.sleep(0.05)


@pytest.mark.slow
def test_a_pipeline_gives_the_same_bytes_in_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "in" / "a.parquet", {"x": np.array([1.0, np.nan, 3.0])})
    write_pipeline(tmp_path, "in")
    datacheck.run("pipeline.yaml")
    expected = contents(tmp_path / "out")
    datacheck.run("pipeline.yaml", executor="processes", workers=2, overwrite=True)
    assert contents(tmp_path / "out") == expected
