"""What must hold on Windows, which has no ``fcntl`` and other separators: tried in processes that lack what it lacks."""

from __future__ import annotations

import json
import ntpath
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datacheck.storage import os_calls

TESTS = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for msvcrt uses locks of Linux")


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    paths = [str(TESTS / "without_posix"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "XDG_CACHE_HOME": str(folder / ".cache")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def job(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for part in range(2):
            values = np.arange(100.0)
            values[part + 7] = np.nan
            pq.write_table(pa.table({"value": values}), tmp_path / "data" / split / f"{part}.parquet")
    (tmp_path / "job.yaml").write_text(
        "version: 1\ninputs: {train: data/train, test: data/test}\nfit: train\n"
        "schema: {fields: {value: {dtype: float64, le: 98}}}\n"
        "clean: [{action: impute, strategy: mean, fields: value}]\notherwise: quarantine\noutput: {path: out}\n"
    )
    return tmp_path


def test_nothing_that_only_posix_has_is_there(tmp_path: Path) -> None:
    done = run("-c", "import os; print(hasattr(os, 'pread')); import fcntl", folder=tmp_path)
    assert done.stdout == "False\n"
    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.slow
def test_a_job_in_processes_publishes_and_resumes(job: Path) -> None:
    first = run("-m", "datacheck", "run", "job.yaml", "--workers", "2", folder=job)
    assert ["all", "400", "396", "0", "4"] in [line.split() for line in first.stdout.splitlines()], first
    again = run("-m", "datacheck", "run", "job.yaml", folder=job)
    assert again.stdout.startswith(first.stdout.partition("published")[0]), again


@pytest.mark.slow
def test_no_file_is_removed_or_replaced_that_is_open(job: Path) -> None:
    """Archives, HDF5, a changed output, reports and caches that are written twice, unusual names, and requeued rows."""
    arrays = {"a:b": np.array([1, np.nan, 3]), "con": np.arange(3), "CON": np.arange(3)}
    np.savez(job / "z.npz", **arrays)
    for name, format_ in (("npz", "npz"), ("hdf5", "hdf5"), ("npy", "npy")):
        (job / f"{name}.yaml").write_text(
            f"version: 1\ninputs: {{train: z.npz}}\nschema: {{fields: {{}}}}\noutput: {{path: {name}, format: {format_}}}\n"
        )
    program = """
import sys
import pyarrow.parquet as pq
from pathlib import Path
from datacheck.cli.app import main
import datacheck

for name in ("npz", "hdf5", "npy"):
    for more in ([], ["--overwrite"]):
        assert main(["run", f"{name}.yaml", *more]) == 0, name
    (file,) = Path(name, "quarantine").rglob("*.parquet")
    frame = pq.read_table(file).to_pandas()
    assert datacheck.requeue(f"{name}.yaml", frame.assign(**{"a:b": 2.0})).ok
    print(sorted(path.name for path in Path(name, "train").iterdir()), file=sys.stderr)
for expected in (1, 0):
    outputs = [part for kind in ("html", "sarif", "json") for part in ("--format", kind, "-o", f"report.{kind}")]
    assert main(["scan", "data", "--cache", *outputs]) == expected
    assert main(["baseline", "write", "data"]) == 0
"""
    done = run("-c", program, folder=job)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stderr.splitlines()
    assert "['z.npz', 'z.requeued-1.npz']" in shown
    assert "['z.CON-2.npy', 'z.CON-2.requeued-1.npy', 'z.a_b.npy', 'z.a_b.requeued-1.npy'" in done.stderr, done.stderr


@pytest.mark.slow
def test_stdout_may_have_another_encoding(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    pq.write_table(pa.table({"caf\u00e9 \u2192": ["\u2192", None], "x": [1.0, np.nan]}), job / "data" / "names.parquet")
    scan = [sys.executable, "-m", "datacheck", "scan", "data/names.parquet", "--no-cache", "--notes"]
    text = subprocess.run(scan, cwd=job, capture_output=True, timeout=120)
    assert "caf\u00e9 \\u2192" in text.stdout.decode("cp1252"), text
    page = subprocess.run([*scan, "--format", "html"], cwd=job, capture_output=True, timeout=120)
    assert "caf\u00e9 \u2192" in page.stdout.decode("utf-8")


def test_two_runs_of_one_output_exclude_each_other(job: Path) -> None:
    hold = (
        "from datacheck.storage.lock import lock_file; import subprocess, sys\n"
        "lock = lock_file('lock')\n"
        "again = [sys.executable, '-c', 'from datacheck.storage.lock import lock_file; lock_file(\"lock\")']\n"
        "print(subprocess.run(again, capture_output=True, text=True).stderr)\n"
        "lock.release()\n"
        "print(subprocess.run(again, capture_output=True, text=True).returncode)\n"
    )
    done = run("-c", hold, folder=job)
    assert "BlockingIOError" in done.stdout, done.stdout + done.stderr
    assert done.stdout.endswith("0\n")


def test_the_gate_caches_verdicts(job: Path) -> None:
    first = run("-m", "datacheck", "scan", "data", "--cache", folder=job)
    again = run("-m", "datacheck", "scan", "data", "--cache", folder=job)
    assert first.returncode == again.returncode == 1, first.stderr
    assert "4 errors" in again.stdout


@pytest.mark.slow
@pytest.mark.torch
def test_workers_of_a_loader_share_bad_samples_and_the_quarantine_file(tmp_path: Path) -> None:
    (tmp_path / "load.py").write_text(
        "import torch\n"
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "from datacheck.torch import SafeCollate, SafeDataset\n"
        "if __name__ == '__main__':\n"
        "    values = torch.ones(40, 3)\n"
        "    values[17, 1] = torch.nan\n"
        "    safe = SafeDataset(TensorDataset(values), quarantine='bad.json', max_bad_fraction=0.1)\n"
        "    loader = DataLoader(safe, 8, num_workers=2, multiprocessing_context='spawn', collate_fn=SafeCollate())\n"
        "    assert all(batch[0].isfinite().all() for batch in loader)\n"
        "    print(safe.report())\n"
    )
    done = run("load.py", folder=tmp_path)
    assert "40 seen: 1 bad (1 replaced)" in done.stdout, done.stdout + done.stderr
    assert [sample["index"] for sample in json.loads((tmp_path / "bad.json").read_text())["samples"]] == [17]
    again = run("load.py", folder=tmp_path)
    assert "1 bad" in again.stdout, again.stdout + again.stderr


@pytest.fixture
def windows_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os_calls, "os", SimpleNamespace(sep="\\", fspath=os.fspath, path=ntpath))


@pytest.mark.usefixtures("windows_paths")
@pytest.mark.parametrize(
    ("path", "uri"),
    [("data\\train", "data/train"), ("C:\\data\\x.npy", "C:/data/x.npy"), ("s3://bucket/a\\b", "s3://bucket/a\\b")],
)
def test_paths_of_windows_become_uris(path: str, uri: str) -> None:
    assert os_calls.local_uri(path) == uri


@pytest.mark.usefixtures("windows_paths")
def test_a_path_on_another_drive_stays_absolute() -> None:
    assert os_calls.relative_uri("C:\\work\\data\\x", "C:\\work") == "data/x"
    assert os_calls.relative_uri("D:\\data\\x", "C:\\work").endswith("D:/data/x")


def test_a_backslash_in_a_name_stays_on_posix() -> None:
    assert os_calls.local_uri("a\\b") == "a\\b"
