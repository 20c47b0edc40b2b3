"""Runs with full disks, unwritable outputs, changing inputs, and broken or hostile files."""

from __future__ import annotations

import errno
import importlib.util
import io
import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import command, contents, kept_table, manifest_of, run_command, write_pipeline, write_table
from source_files import shrink_units
from test_publishing import mount, small_disk

import datacheck
from datacheck.errors import OutputError
from datacheck.jobs import run as job
from datacheck.publishing.publisher import Publisher
from datacheck.storage.local import LocalStorage

__all__ = ["small_disk"]


def write_large(folder: Path) -> Path:
    """A pipeline over eight incompressible files of about 160 kB."""
    random = np.random.default_rng(0)
    for number in range(8):
        write_table(folder / "in" / f"{number}.parquet", {"x": random.standard_normal(20_000)})
    return write_pipeline(folder, "in", output={"path": "disk/out"})


def test_a_full_disk_is_reported_and_the_run_resumes_from_its_finished_parts(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_large(tmp_path)
    done = run_command("run", path.name)
    assert done.returncode == 2
    assert "the disk is full; free space and run again: finished parts are kept" in done.stderr
    assert "Traceback" not in done.stderr
    output = small_disk / "out"
    assert {entry.name for entry in output.iterdir()} == {".datacheck"}
    records = [json.loads(path.read_bytes()) for path in (output / ".datacheck" / "units").glob("*.json")]
    staged = output / ".datacheck" / "parts"
    parts = {
        (staged / name).stat().st_ino for record in records for unit in record["units"] for name, _ in unit["parts"]
    }
    assert len(parts) >= 2
    mount("-o", "remount,size=64m", str(small_disk))
    assert datacheck.run(path.name).is_new
    assert parts <= {part.stat().st_ino for part in output.rglob("*")}
    resumed = contents(output)
    datacheck.run(path.name, overwrite=True)
    assert contents(output) == resumed


def test_a_disk_that_fills_up_during_publishing_leaves_no_manifest_and_the_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path / "in" / "t.parquet", {"x": [1.0, np.nan]})
    path = write_pipeline(tmp_path, "in")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "move_all", full)
        with pytest.raises(OutputError, match="the disk is full"):
            datacheck.run(path)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert datacheck.run(path).is_new
    assert not (tmp_path / "out" / ".datacheck").exists()


#: ``datacheck`` that keeps few hashes in memory.
SPILLING = """
from datacheck.hashing.store import HashStore
HashStore.__init__.__defaults__ = (1000,)
from datacheck.cli import main
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "a.parquet", "b.parquet", "--no-drift"),
        ("schema", "infer", "a.parquet"),
        ("scan", "a.parquet", "-s", "s.yaml"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_full_temporary_folder_is_named(arguments: tuple[str, ...], small_disk: Path, tmp_path: Path) -> None:
    for name in "ab":
        write_table(tmp_path / f"{name}.parquet", {"id": np.arange(200_000), "x": np.arange(200_000) / 7})
    (tmp_path / "s.yaml").write_text("version: 1\nfields: {id: {unique: true}}\n")
    done = subprocess.run(
        [sys.executable, "-c", SPILLING, *arguments],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(small_disk)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"the disk is full, in the temporary folder {small_disk}; free space there" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(small_disk.glob("datacheck-*"))


def test_a_file_size_limit_is_reported(tmp_path: Path) -> None:
    path = write_large(tmp_path)
    done = subprocess.run(
        command("run", path),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 2
    assert "the file is larger than the system allows" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "disk").exists() or not list((tmp_path / "disk" / "out").glob("[!.]*"))


def test_inputs_may_be_read_only(small_disk: Path, tmp_path: Path) -> None:
    write_table(small_disk / "in" / "t.parquet", {"x": [1.0, np.nan]})
    mount("-o", "remount,ro", str(small_disk))
    report = datacheck.run(write_pipeline(tmp_path, "disk/in"))
    assert report.ok
    assert not datacheck.scan(small_disk / "in").ok
    mount("-o", "remount,rw", str(small_disk))


@pytest.mark.parametrize("where", ["disk/out", "disk"])
def test_a_read_only_output_is_reported(where: str, small_disk: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "in" / "t.parquet", {"x": [1.0, np.nan]})
    mount("-o", "remount,ro", str(small_disk))
    done = run_command("run", write_pipeline(tmp_path, "in", output={"path": where}))
    assert done.returncode == 2
    assert "the file system is read-only; choose an output on a writable one" in done.stderr
    mount("-o", "remount,rw", str(small_disk))


FORBIDDEN = """
import os, sys
from datacheck.cli.app import main
os.chdir(sys.argv[1])
# Imports everything first: without rights, not even the interpreter's own files can be read.
assert main(["run", "open.yaml"]) == 0
if os.geteuid() == 0:
    os.setuid(65534)
sys.exit(main(["run", "pipeline.yaml"]))
"""


@pytest.mark.slow
def test_an_output_folder_without_permission_is_reported(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    write_table(tmp_path / "in" / "t.parquet", {"x": [1.0, np.nan]})
    write_pipeline(tmp_path, "in", output={"path": "open"}).rename(tmp_path / "open.yaml")
    write_pipeline(tmp_path, "in", output={"path": "locked/out"})
    (tmp_path / "locked").mkdir(mode=0o555)
    program = [sys.executable, "-c", FORBIDDEN, str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("datacheck: locked/out")
    assert "permission denied; make the folder writable, or choose another output" in done.stderr
    assert list((tmp_path / "locked").iterdir()) == []


Change = Callable[[Path], None]


def vanish(path: Path) -> None:
    path.unlink()


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"1,2,3,4\n" * 8)


def rewrite(path: Path) -> None:
    """Replace the file with another one of the same size."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def write_csv(path: Path, values: np.ndarray[Any, Any]) -> None:
    path.write_text("x\n" + "".join(f"{value}\n" for value in values))


def write_parquet(path: Path, values: np.ndarray[Any, Any]) -> None:
    write_table(path, {"x": values}, row_group_size=500)


WRITERS = {".parquet": write_parquet, ".npy": np.save, ".csv": write_csv}


@pytest.mark.slow
@pytest.mark.parametrize("change", [vanish, cut_short, grow, rewrite, touch])
@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("when", ["before it is read", "before it is cleaned", "between its units"])
def test_an_input_that_changes_during_a_run_is_reported_and_left_out(
    change: Change, suffix: str, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if suffix == ".csv" and when == "between its units":
        pytest.skip("a CSV file is one unit")
    shrink_units(monkeypatch, unit_bytes=4096)
    values = np.random.default_rng(0).standard_normal(2000)
    values[::9] = np.nan
    for name in "abc":
        WRITERS[suffix](tmp_path / f"{name}{suffix}", values)
    victim = tmp_path / f"b{suffix}"
    path = write_pipeline(tmp_path, [f"{name}{suffix}" for name in "abc"], [{"action": "impute", "strategy": "mean"}])
    if when == "between its units":
        record = Publisher.record

        def then_change(self: Publisher, name: str, unit: Any) -> Any:
            if unit["units"][0]["uri"].endswith(f"b{suffix}") and victim.exists() and victim.stat().st_size:
                change(victim)
                monkeypatch.setattr(Publisher, "record", record)
            return record(self, name, unit)

        monkeypatch.setattr(Publisher, "record", then_change)
    else:
        name = "find_fields" if when == "before it is read" else "UnitPlan"
        original = getattr(job, name)

        def after_change(*arguments: Any) -> Any:
            change(victim)
            return original(*arguments)

        monkeypatch.setattr(job, name, after_change)
    report = datacheck.run(path, workers=1)
    assert not report.ok
    (finding,) = [finding for finding in report.findings if finding.code.startswith("DC9")]
    assert finding.code == "DC908"
    assert finding.uri.endswith(f"b{suffix}")
    assert "run again" in finding.message
    assert [account.status for account in report.accounts] == ["cleaned", "unreadable", "cleaned"]
    named = {part["path"] for account in manifest_of(tmp_path / "out")["inputs"] for part in account["outputs"]}
    assert contents(tmp_path / "out").keys() == named | {"manifest.json", "statistics.json"}
    assert not any(Path(name).name.startswith("b") for name in named)


class _Touches:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def write_hostile(folder: Path) -> dict[str, str]:
    """Broken and hostile files, with the expected code of each."""
    table = pa.table({"x": [1.0, 2.0]})
    pq.write_table(table, folder / "whole")
    parquet = (folder / "whole").read_bytes()
    (folder / "whole").unlink()
    pickled = io.BytesIO()
    np.save(pickled, np.array([_Touches(folder / "executed")], object), allow_pickle=True)
    files: dict[str, tuple[bytes, str]] = {
        "cut.parquet": (parquet[:-20], "DC901"),
        "magic.parquet": (b"not parquet at all", "DC901"),
        "encrypted.parquet": (b"PARE" + parquet[4:-4] + b"PARE", "DC905"),
        "zero.parquet": (b"", "DC907"),
        "pointer.parquet": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456\n",
            "DC906",
        ),
        "pickled.npy": (pickled.getvalue(), "DC903"),
        "lying.safetensors": ((1 << 40).to_bytes(8, "little") + b"{}", "DC901"),
        "image.npz": (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "DC901"),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    codes = {name: code for name, (_, code) in files.items()}
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 27,)})
        with archive.open("x.npy", "w", force_zip64=True) as member:
            member.write(header.getvalue())
            for _ in range(64):
                member.write(b"\0" * (1 << 20))
    codes["bomb.npz"] = "DC904"
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.save({"x": _Touches(folder / "executed")}, folder / "evil.pt")
        codes["evil.pt"] = "DC903"
    return codes


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "in").mkdir()
    codes = write_hostile(folder / "in")
    write_table(folder / "in" / "a-good.parquet", {"x": [1.0, np.nan]})
    write_table(folder / "in" / "z-good.parquet", {"x": [3.0, 4.0]})
    return folder, codes


def test_a_scan_reports_every_broken_file_and_checks_the_others(hostile: tuple[Path, dict[str, str]]) -> None:
    folder, codes = hostile
    report = datacheck.scan(folder / "in")
    assert {Path(f.uri).name: f.code for f in report.findings if f.code.startswith("DC9")} == codes
    assert [(Path(f.uri).name, f.code) for f in report.findings if not f.code.startswith("DC9")] == [
        ("a-good.parquet", "DC101")
    ]
    assert report.num_rows == 4
    assert all("; " in finding.detail for finding in report.findings if finding.code.startswith("DC9"))
    assert not (folder / "in" / "executed").exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "4"])
def test_a_run_cleans_the_good_files_and_publishes_nothing_of_the_broken_ones(
    hostile: tuple[Path, dict[str, str]], workers: str
) -> None:
    folder, codes = hostile
    path = write_pipeline(folder, "in", [{"action": "impute", "strategy": "mean"}], output={"path": f"out-{workers}"})
    done = run_command("run", path, "--workers", workers)
    assert done.returncode == 1
    assert done.stderr == ""
    output = folder / f"out-{workers}"
    assert kept_table(output)["x"].to_pylist() == [1.0, (1 + 3 + 4) / 3, 3.0, 4.0]
    manifest = manifest_of(output)
    statuses = {Path(account["uri"]).name: account["status"] for account in manifest["inputs"]}
    assert {name for name, status in statuses.items() if status == "unreadable"} == set(codes)
    assert {Path(part["path"]).name.partition("-good")[0] for a in manifest["inputs"] for part in a["outputs"]} == {
        "a",
        "z",
    }
    for name, code in codes.items():
        assert any(line.startswith(code) and name in line for line in done.stdout.splitlines())
    assert not (folder / "in" / "executed").exists()
    assert not (output / ".datacheck").exists()
    assert run_command("run", path).returncode == 1


def test_an_unreadable_training_split_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    write_table(tmp_path / "v.parquet", {"x": [1.0]})
    inputs = {"train": "t.parquet", "val": "v.parquet"}
    done = run_command("run", write_pipeline(tmp_path, inputs, [{"action": "impute", "strategy": "mean"}]))
    assert done.returncode == 2
    assert "no input of the split 'train' can be read, so there is nothing to learn" in done.stderr
    assert not (tmp_path / "out").exists()


def test_fit_refuses_to_learn_from_part_of_a_split(tmp_path: Path) -> None:
    write_table(tmp_path / "in" / "a.parquet", {"x": [1.0]})
    (tmp_path / "in" / "b.parquet").write_bytes(b"PAR1 and no more")
    path = write_pipeline(tmp_path, "in", [{"action": "impute", "strategy": "mean"}])
    done = run_command("fit", path, "--output", tmp_path / "statistics.json")
    assert done.returncode == 2
    assert "b.parquet" in done.stderr
    assert not (tmp_path / "statistics.json").exists()


@pytest.mark.parametrize("how", [{"clean": [{"action": "fail", "codes": "DC9"}]}, {"otherwise": "fail"}])
def test_a_broken_input_can_fail_the_run(how: dict[str, Any], tmp_path: Path) -> None:
    write_table(tmp_path / "in" / "a.parquet", {"x": [1.0]})
    (tmp_path / "in" / "b.parquet").write_bytes(b"")
    report = datacheck.run(write_pipeline(tmp_path, "in", **how))
    assert report.failed == {"DC907": 1}
    assert [finding.code for finding in report.findings] == ["DC907"]
    assert not (tmp_path / "out").exists()


def test_broken_inputs_alone_publish_nothing(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").write_bytes(b"")
    report = datacheck.run(write_pipeline(tmp_path, "b.parquet"))
    assert not report.ok
    assert "no input could be read; nothing was published" in str(report)
    assert not (tmp_path / "out").exists()


def test_a_file_with_duplicate_column_names_is_quarantined_with_both(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    table = pa.table([pa.array([1.0, 2.0]), pa.array([3.0, 4.0])], names=["x", "x"])
    pq.write_table(table, tmp_path / "in" / "t.parquet")
    report = datacheck.run(write_pipeline(tmp_path, "in"))
    assert report.accounts[0].removed_by_code == {"DC006": 2}
    (part,) = [part for part in report.accounts[0].outputs if part["kind"] == "quarantine"]
    aside = pq.read_table(tmp_path / "out" / part["path"])
    assert aside["x"].to_pylist() == [1.0, 2.0]
    assert aside["x.2"].to_pylist() == [3.0, 4.0]


def test_a_broken_pipe_prints_no_traceback_and_keeps_the_exit_code(tmp_path: Path) -> None:
    for number in range(1500):
        np.save(tmp_path / f"{number:04}.npy", np.array([np.nan]))
    for options in (["scan", str(tmp_path)], ["scan", str(tmp_path), "--format", "json"]):
        process = subprocess.Popen(command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr.read() == b""
        process.stderr.close()
