"""Links in an output folder: nothing is written or deleted behind them."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_files import contents, write_pipeline

import datacheck
from datacheck.errors import OutputError
from datacheck.publishing.links import check_no_link, is_inside
from datacheck.storage.registry import LOCAL


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "_raw.npy", np.array([1.0, np.nan, 3.0]))
    (tmp_path / "victim").mkdir()
    for name in ("f", "_raw.npy", "x.json", "run.json", ".x.partial"):
        (tmp_path / "victim" / name).write_text("precious")
    write_pipeline(tmp_path, {"a": "in/_raw.npy"})
    return tmp_path


@pytest.mark.parametrize(
    "link", ["a", "quarantine", "ledger", "quarantine/a", ".datacheck", ".datacheck/parts", ".datacheck/units"]
)
@pytest.mark.parametrize("target", ["victim", "in"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_written_or_deleted_behind_a_link(link: str, target: str, overwrite: bool, job: Path) -> None:
    before = contents(job / "victim"), contents(job / "in")
    path = job / "out" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(job / target)
    with pytest.raises(OutputError, match=r"is a link|cannot be written|damaged"):
        datacheck.run("pipeline.yaml", overwrite=overwrite)
    assert (contents(job / "victim"), contents(job / "in")) == before


def test_a_link_that_appears_after_a_run_is_not_followed_by_the_next(job: Path) -> None:
    datacheck.run("pipeline.yaml")
    (job / "out" / "a" / "_raw.npy").unlink()
    (job / "out" / "a").rmdir()
    (job / "out" / "a").symlink_to(job / "victim")
    before = contents(job / "victim")
    with pytest.raises(OutputError, match="is a link"):
        datacheck.run(write_pipeline(job, {"a": "in/_raw.npy"}, otherwise="drop_row"), overwrite=True)
    assert contents(job / "victim") == before


def test_a_link_that_appears_during_a_run_is_not_followed(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datacheck.jobs import run as jobs

    before = contents(job / "victim")
    find_duplicates = jobs.find_duplicates

    def then_link(*arguments: Any) -> Any:
        (job / "out" / ".datacheck" / "parts").rmdir()
        (job / "out" / ".datacheck" / "parts").symlink_to(job / "victim")
        return find_duplicates(*arguments)

    monkeypatch.setattr(jobs, "find_duplicates", then_link)
    with pytest.raises(OutputError, match=r"is a link|symbolic link"):
        datacheck.run("pipeline.yaml")
    assert contents(job / "victim") == before


def test_the_output_folder_itself_may_be_a_link(job: Path) -> None:
    (job / "disk").mkdir()
    (job / "out").symlink_to(job / "disk")
    datacheck.run("pipeline.yaml")
    assert (job / "disk" / "manifest.json").exists()


def test_names_that_lead_out_of_the_output_are_not_inside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path)
    output = str(tmp_path)
    assert is_inside(output, "a/x.npy")
    assert is_inside(output, "x.npy")
    for name in ("../x", "a/../x", "/etc/passwd", "a/link/x", "", "a//x"):
        assert not is_inside(output, name), name
    check_no_link(output, f"{output}/not/there/yet")


def test_files_that_a_damaged_manifest_names_elsewhere_are_not_deleted(job: Path) -> None:
    datacheck.run("pipeline.yaml")
    path = job / "out" / "manifest.json"
    record = json.loads(path.read_text())
    for name in ("../victim/f", f"{job}/victim/f", "a/../../victim/f"):
        record["inputs"][0]["outputs"].append({**record["inputs"][0]["outputs"][0], "path": name})
    path.write_text(json.dumps(record))
    datacheck.run(write_pipeline(job, {"a": "in/_raw.npy"}, otherwise="drop_row"), overwrite=True)
    assert (job / "victim" / "f").read_text() == "precious"


_ACTS: dict[str, Callable[[str], object]] = {
    "delete": lambda folder: LOCAL.delete(f"{folder}/f"),
    "put": lambda folder: LOCAL.put(f"{folder}/f", b"ours"),
    "put new": lambda folder: LOCAL.put(f"{folder}/new", b"ours", if_absent=True),
    "move": lambda folder: LOCAL.move_all([(f"{folder}/f", f"{folder}/g")]),
    "delete folder": lambda folder: LOCAL.delete_folder(f"{folder}/inner"),
    "delete empty": lambda folder: LOCAL.delete_empty_folder(f"{folder}/empty"),
    "make folder": lambda folder: LOCAL.make_folder(f"{folder}/made"),
    "partials": lambda folder: LOCAL.remove_partials(folder),
    "lock": lambda folder: LOCAL.lock(f"{folder}/lock").release(),
}
needs_descriptors = pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="Windows has no descriptors of folders")


@pytest.fixture
def exchanged(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of a stranger's, and one of an output with the same files."""
    victim, folder = tmp_path / "victim", tmp_path / "out" / "a"
    for one in (victim, folder):
        for inner in ("inner", "empty"):
            (one / inner).mkdir(parents=True)
        for name in ("f", "inner/f", ".x.partial", "lock"):
            (one / name).write_text("precious")
    return victim, folder


@needs_descriptors
@pytest.mark.parametrize("act", _ACTS.values(), ids=_ACTS)
def test_a_folder_that_became_a_link_since_it_was_looked_at_leads_nowhere(
    act: Callable[[str], object], exchanged: tuple[Path, Path]
) -> None:
    victim, folder = exchanged
    before = contents(victim), sorted(victim.rglob("*"))
    check_no_link(str(folder.parent), str(folder))
    shutil.rmtree(folder)
    folder.symlink_to(victim)
    with suppress(OSError):
        act(str(folder))
    assert (contents(victim), sorted(victim.rglob("*"))) == before


@needs_descriptors
def test_folders_that_are_exchanged_for_links_lead_nowhere(exchanged: tuple[Path, Path]) -> None:
    """A thread exchanges a folder for a link and back, while files in it are written, moved and deleted."""
    victim, folder = exchanged
    aside = folder.with_name("aside")
    before = contents(victim), sorted(victim.rglob("*"))
    is_over, num_exchanged = threading.Event(), 0

    def exchange() -> None:
        nonlocal num_exchanged
        while not is_over.is_set():
            with suppress(OSError):
                folder.rename(aside)
                folder.symlink_to(victim)
                num_exchanged += 1
            time.sleep(1e-4)
            with suppress(OSError):
                folder.unlink()
            if aside.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what was made there in the meantime
            with suppress(OSError):
                aside.rename(folder)
            time.sleep(1e-4)

    thread = threading.Thread(target=exchange)
    thread.start()
    num_done = 0
    try:
        for _ in range(60):
            for act in _ACTS.values():
                with suppress(OSError, OutputError):
                    check_no_link(str(folder.parent), str(folder))
                    act(str(folder))
                    num_done += 1
    finally:
        is_over.set()
        thread.join()
    assert num_done
    assert num_exchanged
    assert (contents(victim), sorted(victim.rglob("*"))) == before
