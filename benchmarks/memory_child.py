"""One job in a process of its own, and its peak memory: ``python -m benchmarks.memory_child JOB WORKERS TINY REAL``.

The job is done on a tiny input of the same kind first, so that everything is imported; what is resident then is the
interpreter with imports. The peak is ``VmHWM``, since ``ru_maxrss`` of a child begins at the peak of the process that
started it. Both count pages of mapped files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import datacheck

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """Do ``JOB`` on both inputs, and print ``{"before": bytes, "peak": bytes}``."""
    job, workers, tiny, real = arguments
    do = {"scan": _scan, "run": _run}[job]
    do(tiny, int(workers))
    before = _resident("VmRSS")
    do(real, int(workers))
    print(json.dumps({"before": before, "peak": _resident("VmHWM")}))


def _scan(path: str, workers: int) -> None:
    if datacheck.scan(path, workers=workers).ok:
        raise RuntimeError(f"{path}: the values that were planted were not found")


def _run(path: str, workers: int) -> None:
    if not datacheck.run(path, workers=workers).ok:
        raise RuntimeError(f"{path}: everything was to be repaired")


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, value = line.split(":", 1)
        if name == field:
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    main(sys.argv[1:])
