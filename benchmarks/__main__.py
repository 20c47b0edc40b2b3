"""``python -m benchmarks [NAME ...] [--scale S] [--json FILE]``: run benchmarks and print ratios."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.machine import describe_machine, render_machine
from benchmarks.results import Section, render_section, render_summary, section_record

__all__ = ["MAIN_JOB", "main"]

#: Each is a module here whose ``measure(bench)`` gives a section.
MAIN_JOB = (
    "startup",
    "npy",
    "parquet",
    "lists",
    "dataset",
    "clean",
    "files",
    "size",
    "memory",
    "gate",
    "profile",
    "records",
    "stores",
    "formats",
    "cluster",
)
#: Each is a module here, where it is present, whose ``main(arguments)`` prints its own results.
OTHERS = ("loader", "guard", "diagnosis_table", "cluster_simulation")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are named, or all of them, and print what they found. A missed target is no error."""
    others = [name for name in OTHERS if importlib.util.find_spec(f"benchmarks.{name}")]
    asked = _parse(arguments, others)
    machine = describe_machine()
    print(render_machine(machine), flush=True)
    bench = Bench(Path(asked.folder), asked.scale)
    started = time.perf_counter()
    sections: list[Section] = []
    for name in asked.names or (*MAIN_JOB, *others):
        module = importlib.import_module(f"benchmarks.{name}")
        if name in others:
            module.main([])
            continue
        section = module.measure(bench)
        print(render_section(section), flush=True)
        sections.append(section)
    print(render_summary(sections))
    print(f"{time.perf_counter() - started:.0f} s in all")
    if asked.json is not None:
        record = {"machine": machine, "scale": asked.scale, "sections": [section_record(found) for found in sections]}
        Path(asked.json).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


def _parse(arguments: Sequence[str] | None, others: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = (*MAIN_JOB, *others)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names)}; all unless given")
    parser.add_argument("--scale", type=float, default=1.0, help="sizes, as a part of those of the targets")
    parser.add_argument("--json", metavar="FILE", help="also write everything there")
    parser.add_argument("--folder", default=".bench", help="where the data is made and removed again")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in names]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(names)}")
    if not asked.scale > 0:
        parser.error("--scale must be above 0")
    return asked


if __name__ == "__main__":
    sys.exit(main())
