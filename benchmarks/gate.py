"""What the gate costs: the first check of a small file, and again the check of a tree in which nothing changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import yaml

from benchmarks.bench import Bench
from benchmarks.inputs import write_npy
from benchmarks.results import Claim, Section, time_ratio
from benchmarks.startup import command
from benchmarks.timing import Contender, Timing, race

__all__ = ["measure"]

_FULL_FILES = 1000

_SMALL = "one small file"
_COLD = "a tree, first run"
_NO_CACHE = "a tree, --no-cache"
_WARM = "a tree, unchanged"
_COPIED = "a tree, fresh copy of it"
_ONE_NEW = "a tree, one file changed"
_HOOK = "pre-commit run --all-files, unchanged"


def measure(bench: Bench) -> Section:
    """Whole processes, from start to verdict."""
    num_files = bench.rows(_FULL_FILES, 4)
    section = Section(
        "gate",
        f"'datacheck scan' as whole processes; a tree is {num_files:,} .npy files of 1,000 x 8 float32",
        [
            "first run: nothing is remembered, and every file is checked, hashed and remembered.",
            "fresh copy: other inodes and times, as after a checkout, so that files are hashed and not checked.",
        ],
    )
    with bench.room("gate") as room:
        section.add_timings(_race(room.resolve(), num_files).values())
    timings = {timing.name: timing for timing in section.timings}
    section.claims += [
        _seconds("start-up to verdict on one small file", timings[_SMALL], 0.6),
        _seconds(f"second run over {num_files:,} unchanged files", timings[_WARM], 1.0),
        time_ratio("unchanged / first run", timings[_WARM], timings[_COLD]),
        time_ratio("first run / --no-cache", timings[_COLD], timings[_NO_CACHE]),
    ]
    return section


def _seconds(what: str, timing: Timing, target: float) -> Claim:
    return Claim(what, timing.median, target, unit="s", best=timing.best)


def _race(room: Path, num_files: int) -> dict[str, Timing]:
    tree, copy, small = room / "tree", room / "copy", write_npy(room / "small.npy", (10, 4), "float32")
    _write_tree(tree, num_files)
    caches = {name: room / f"cache-{name}" for name in ("small", "cold", "warm", "copied", "changed")}
    # A file that was written a moment ago is not remembered.
    time.sleep(0.2)

    def scan(path: Path, cache: str) -> int:
        return _run([*command(), "scan", str(path), "--cache-dir", str(caches[cache])])

    contenders = [
        Contender(_SMALL, lambda: scan(small, "small"), 0, lambda: _forget(caches["small"])),
        Contender(_COLD, lambda: scan(tree, "cold"), 0, lambda: _forget(caches["cold"])),
        Contender(_NO_CACHE, lambda: _run([*command(), "scan", str(tree), "--no-cache"]), 0),
        Contender(_WARM, lambda: scan(tree, "warm"), 0),
        Contender(_COPIED, lambda: scan(copy, "copied"), 0, lambda: _copy(tree, copy)),
        Contender(_ONE_NEW, lambda: scan(tree, "changed"), 0, lambda: _change(tree / "changing.npy")),
    ]
    scan(tree, "copied")
    if shutil.which("pre-commit") and shutil.which("git"):
        repository = _repository(room / "repository", num_files)
        contenders.append(Contender(_HOOK, lambda: _commit_hook(repository, room), 0))
    return race(contenders)


def _write_tree(folder: Path, num_files: int) -> None:
    folder.mkdir(parents=True)
    array = np.random.default_rng(0).standard_normal((1_000, 8), dtype=np.float32)
    for index in range(num_files):
        array[0, 0] = index
        np.save(folder / f"{index:05d}.npy", array)


def _copy(tree: Path, copy: Path) -> None:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(tree, copy)
    time.sleep(0.2)


def _change(path: Path) -> None:
    np.save(path, np.random.default_rng().standard_normal((1_000, 8), dtype=np.float32))


def _forget(cache: Path) -> None:
    shutil.rmtree(cache, ignore_errors=True)


def _repository(folder: Path, num_files: int) -> Path:
    """A repository of many files whose hook is the ``datacheck`` that is measured."""
    _write_tree(folder / "data", num_files)
    hook = {
        "id": "datacheck",
        "name": "datacheck",
        "entry": f"{' '.join(command())} scan",
        "language": "system",
        "files": r"\.npy$",
        "require_serial": True,
    }
    config = yaml.safe_dump({"repos": [{"repo": "local", "hooks": [hook]}]})
    (folder / ".pre-commit-config.yaml").write_text(config, encoding="utf-8")
    for arguments in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True)
    return folder


def _commit_hook(repository: Path, room: Path) -> int:
    environment = {
        **os.environ,
        "PRE_COMMIT_HOME": str(room / "pre-commit"),
        "DATACHECK_CACHE_DIR": str(room / "cache-hook"),
    }
    words = ["pre-commit", "run", "--all-files"]
    return subprocess.run(words, cwd=repository, env=environment, stdout=subprocess.DEVNULL, check=False).returncode


def _run(words: list[str]) -> int:
    return subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode
