"""What the numbers were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["describe_machine", "render_machine"]

_LIBRARIES = ("numpy", "pyarrow", "pandas", "pandera", "torch", "polars", "duckdb", "dataframely", "datacheck-ml")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system, library versions, and how busy the machine is."""
    return {
        "cpu": _cpu_name(),
        "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _LIBRARIES},
        "load_average": os.getloadavg()[0],
    }


def render_machine(machine: dict[str, Any]) -> str:
    """The machine in three lines."""
    versions = ", ".join(f"{name} {version or 'not installed'}" for name, version in machine["versions"].items())
    return (
        f"{machine['cpu']}, {machine['num_cores']} cores, {machine['memory_gib']} GiB, {machine['system']}\n"
        f"Python {machine['python']}, {versions}\n"
        f"load average at the start: {machine['load_average']:.2f} (numbers are good where it is near 0)\n"
    )


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    pairs = [line.split(":", 1) for line in lines if ":" in line]
    fields = {name.strip(): value.strip() for name, value in pairs}
    model = fields.get("model name", platform.machine())
    family = ", ".join(f"{word} {fields[word]}" for word in ("cpu family", "model") if word in fields)
    return f"{model} ({family})" if family else model


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
