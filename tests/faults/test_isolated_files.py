"""Files that crash the library that reads them: a finding that names the file, and never the end of the caller's process."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from job_files import contents, write_pipeline

from datacheck.jobs.executors import children
from datacheck.jobs.executors.isolated import Isolated, may_crash
from datacheck.jobs.executors.local import map_in_order
from datacheck.sources.discover import InputFile
from datacheck.sources.steps import count_step

h5py = pytest.importorskip("h5py")


@dataclass(frozen=True)
class Work:
    """An item of work on a file that can crash its library."""

    number: int
    uri: str = "a.h5"
    format: str = "hdf5"


def work_on(item: Work) -> int:
    if item.number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if item.number == 4:
        raise ValueError("four")
    return os.getpid()


def make_function(_item: Work) -> object:
    return lambda: None


#: A module in place of h5py, whose files with "bad" in their names end the process, as damaged ones can.
DEADLY = """
import os, signal, sys
path = list(sys.path)
sys.path.remove(os.path.dirname(__file__))
del sys.modules["h5py"]
import h5py
sys.path[:] = path
open_file = h5py.File
def deadly(name, *arguments, **options):
    if "bad" in str(name):
        os.kill(os.getpid(), signal.SIGSEGV)
    return open_file(name, *arguments, **options)
h5py.File = deadly
sys.modules["h5py"] = h5py
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deadly").mkdir()
    (tmp_path / "deadly" / "h5py.py").write_text(DEADLY)
    (tmp_path / "in").mkdir()
    for name in ("a", "bad", "c"):
        with h5py.File(tmp_path / "in" / f"{name}.h5", "w") as file:
            file["x"] = np.array([1.0, np.nan, 2.0])
    return tmp_path


def run_script(folder: Path, script: str) -> str:
    """The output of a script that does not protect its main module."""
    (folder / "main.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "deadly"), *sys.path])}
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
def test_a_file_that_crashes_its_library_is_a_finding_of_every_job(folder: Path) -> None:
    samples = write_pipeline(folder, {"train": {"path": "in/a.h5", "rows": "file"}}, output={"path": "samples"})
    samples.rename(folder / "samples.yaml")
    write_pipeline(folder, "in")
    (folder / "bad").mkdir()
    (folder / "bad" / "a.h5").write_bytes((folder / "in" / "a.h5").read_bytes())
    script = """
import datacheck, datacheck.errors
from datacheck.jobs.bad_rows import find_bad_rows
print(datacheck.scan("in", workers=2))
print(datacheck.compare("in/a.h5", "in/bad.h5", drift=False))
try:
    datacheck.infer("in")
except datacheck.errors.SourceError as error:
    print("DC910", error)
rows = find_bad_rows("in")
print("a bad row of", next(rows).uri)
try:
    list(rows)
except datacheck.errors.SourceError as error:
    print("DC910", error)
print(datacheck.run("pipeline.yaml", workers=1))
print(datacheck.run("samples.yaml", workers=1))
for pipeline, fixed in (("pipeline.yaml", "in/bad.h5"), ("samples.yaml", "bad/a.h5")):
    try:
        datacheck.requeue(pipeline, fixed)
    except datacheck.errors.DatacheckError as error:
        print("DC910", error)
"""
    printed = run_script(folder, script)
    assert printed.count("DC910") == 7
    assert printed.count("in/bad.h5") >= 5
    assert printed.count("the process that read it died each time") == 7
    assert "a bad row of in/a.h5" in printed
    assert "in/a.h5" in printed
    assert "in/c.h5" in printed
    assert sorted(contents(folder / "out" / "data")) == ["a.hdf5", "c.hdf5"]


def test_a_child_starts_where_python_prints_first_and_paths_are_no_text(folder: Path) -> None:
    (folder / "deadly" / "sitecustomize.py").write_text("print('hello', flush=True)\nprint('and', end=' ', flush=True)")
    script = """
import pathlib, sys
sys.path.append(pathlib.Path.cwd())
import datacheck
print([finding.code for finding in datacheck.scan("in/bad.h5").findings])
"""
    assert run_script(folder, script) == "hello\nand ['DC910']\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs descriptors as POSIX has them")
def test_a_child_starts_where_the_standard_streams_are_closed(folder: Path) -> None:
    script = """
import os
os.closerange(0, 3)
import datacheck
with open("found", "w") as file:
    print([finding.code for name in ("a", "bad") for finding in datacheck.scan(f"in/{name}.h5").findings], file=file)
"""
    run_script(folder, script)
    assert (folder / "found").read_text() == "['DC101', 'DC910']\n"


class _Interrupted(io.BytesIO):
    def __next__(self) -> bytes:
        raise KeyboardInterrupt


def test_an_interrupt_while_a_child_starts_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Child(children.Child):
        def __init__(self) -> None:
            super().__init__()
            started.append(self._process)
            self._answers.close()
            self._answers = _Interrupted()  # type: ignore[assignment]

    monkeypatch.setattr(children, "_children", children._Children())
    monkeypatch.setattr(children, "Child", Child)
    with pytest.raises(KeyboardInterrupt):
        Isolated(work_on, lambda item: -item.number)(Work(1))
    assert [one.returncode is None for one in started] == [False]


def test_only_work_on_files_that_can_crash_goes_to_a_child() -> None:
    assert may_crash(Work(0))
    assert may_crash([(InputFile("a.nc"), None)])
    assert not may_crash([InputFile("a.parquet"), InputFile("a.npy")])
    assert not may_crash(Work(0, "memory://a.h5x", "npy"))
    assert not may_crash(7)


def test_a_child_is_used_again_and_replaced_when_it_ends() -> None:
    call = Isolated(work_on, lambda item: -item.number)
    first = call(Work(1))
    assert first not in (os.getpid(), -1)
    assert call(Work(2)) == first
    assert call(Work(3)) == -3
    assert call(Work(5)) not in (os.getpid(), first, -5)


def hang(item: Work) -> int:
    if item.number == 1:
        with Path(item.uri).open("a") as file:
            file.write("begun ")
        time.sleep(60)
    for _ in range(8):
        count_step()
        time.sleep(0.5)
    return item.number


@pytest.mark.slow
def test_a_child_that_hangs_is_ended_once_and_one_that_reads_on_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.jobs.executors.children._HUNG_SECONDS", 3.0)
    call = Isolated(hang, lambda item: -item.number)
    assert call(Work(1, str(tmp_path / "a.h5"))) == -1
    assert (tmp_path / "a.h5").read_text() == "begun "
    assert call(Work(2)) == 2


def test_what_is_running_is_ended_where_its_results_are_not_wanted(tmp_path: Path) -> None:
    """As after Ctrl-C, which reaches the main thread alone."""
    work = [Work(0, str(tmp_path / "b.h5")), Work(1, str(tmp_path / "a.h5"))]
    lost = list[Work]()
    results = map_in_order(hang_on_one, [work[0], work[1], *work[:1] * 9], 2, lost=lost.append)
    assert next(results) == 0
    limit = time.monotonic() + 50
    while not (tmp_path / "a.h5").exists():
        assert time.monotonic() < limit
        time.sleep(0.02)
    before = time.monotonic()
    results.close()
    assert time.monotonic() - before < 40, "it waited for a child that hangs for a minute"
    assert lost == []


def hang_on_one(item: Work) -> int:
    return hang(item) if item.number else 0


def test_an_exception_is_raised_here() -> None:
    with pytest.raises(ValueError, match="four"):
        Isolated(work_on, lambda item: -item.number)(Work(4))


def test_what_cannot_travel_is_done_in_this_process() -> None:
    assert callable(Isolated(make_function, lambda _: None)(Work(1)))
    assert Isolated(lambda _: os.getpid(), lambda _: 0)(Work(1)) == os.getpid()


def test_a_child_works_in_the_folder_and_environment_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Isolated(read_surroundings, lambda _: ("", ""))
    call(Work(1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_KEY", "value")
    assert call(Work(1)) == (os.fspath(tmp_path), "value")


def read_surroundings(_item: Work) -> tuple[str, str]:
    return str(Path.cwd()), os.environ.get("SOME_KEY", "")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_starts_children_of_its_own(folder: Path) -> None:
    script = """
import os
import datacheck
datacheck.scan("in/a.h5")
child = os.fork()
if child == 0:
    os._exit(len(datacheck.scan("in/a.h5").findings))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(datacheck.scan("in/a.h5").findings))
"""
    assert run_script(folder, script) == "1 1\n"


SLOW = """
import os, sys, time
sys.path.remove(os.path.dirname(__file__))
del sys.modules["h5py"]
import h5py
def slow(*arguments, **options):
    open("pid", "w").write(str(os.getpid()))
    time.sleep(60)
h5py.File = slow
sys.modules["h5py"] = h5py
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_child_ends_with_its_parent(how: signal.Signals, folder: Path) -> None:
    (folder / "deadly" / "h5py.py").write_text(SLOW)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "deadly"), *sys.path])}
    command = [sys.executable, "-c", "import datacheck; datacheck.scan('in/a.h5', workers=1)"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL) as main:
        limit = time.monotonic() + 60
        while not (folder / "pid").exists() or not (folder / "pid").read_text():
            assert time.monotonic() < limit, "it does not read the file"
            time.sleep(0.02)
        child = Path("/proc", (folder / "pid").read_text(), "stat")
        main.send_signal(how)
        main.wait(30)
        while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < limit, "the child outlives its parent"
            time.sleep(0.02)
