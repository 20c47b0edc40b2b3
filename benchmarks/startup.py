"""How long a user waits before anything happens."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.inputs import write_npy
from benchmarks.results import Claim, Section
from benchmarks.timing import Contender, race

__all__ = ["command", "measure"]

_BARE = "python -c pass"
_IMPORT = "import datacheck"


def measure(bench: Bench) -> Section:
    """The interpreter alone, the import, the help, and the smallest scans, each in a process of its own."""
    section = Section(
        "startup",
        "whole processes, from start to exit",
        ["Compiled modules and page cache are warm after the first round."],
    )
    with bench.room("startup") as room:
        small = write_npy(room / "small.npy", (10, 4), "float32")
        commands = {
            _BARE: [sys.executable, "-c", "pass"],
            _IMPORT: [sys.executable, "-c", _IMPORT],
            "import numpy": [sys.executable, "-c", "import numpy"],
            "datacheck --help": [*command(), "--help"],
            "datacheck scan small.npy": [*command(), "scan", "--no-cache", str(small)],
        }
        timings = race([Contender(name, partial(_run, words), 0) for name, words in commands.items()])
    section.add_timings(timings.values())
    bare = timings[_BARE]
    section.claims += [
        Claim(
            "datacheck --help", timings["datacheck --help"].median, 0.4, unit="s", best=timings["datacheck --help"].best
        ),
        Claim(
            "import datacheck, beyond the interpreter",
            timings[_IMPORT].median - bare.median,
            0.2,
            unit="s",
            best=timings[_IMPORT].best - bare.best,
        ),
    ]
    return section


def command() -> list[str]:
    """``datacheck`` as it is installed beside this interpreter."""
    script = Path(sys.executable).with_name("datacheck")
    return [str(script)] if script.exists() else [sys.executable, "-m", "datacheck"]


def _run(words: list[str]) -> int:
    return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False).returncode
