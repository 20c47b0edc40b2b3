"""A child process of the fuzzer: scans files and runs commands with bounded memory, and says how each ended.

Reads lines of JSON from standard input, a path or ``[folder, *arguments of a command]``, and answers each with one line:
what went wrong, or null.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import traceback
from pathlib import Path

import datacheck
from datacheck.cli.app import main as datacheck_command
from datacheck.errors import UsageError
from datacheck.jobs.executors import children

#: Address space, of which libraries take some gigabytes before a file is read.
MAX_ADDRESS_SPACE = 12 << 30
MAX_PEAK_KIB = 1 << 20


def peak_kib(process: str = "self") -> int:
    """The most memory that a process or a child of it had resident. (``ru_maxrss`` begins at the peak of the parent.)"""
    try:
        status = Path("/proc", process, "status").read_text()
        own = int(next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), 0))
        children = [
            child for task in Path("/proc", process, "task").glob("*/children") for child in task.read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):  # a child that has just ended
        return 0
    return max([own, *map(peak_kib, children)])


def problem_of(job: str | list[str]) -> str | None:
    try:
        problem = scan(job) if isinstance(job, str) else run_command(*job)
    except Exception:
        return traceback.format_exc()
    if problem is not None:
        return problem
    return f"it took {peak_kib() >> 10:,} MiB" if peak_kib() > MAX_PEAK_KIB else None


def scan(path: str) -> str | None:
    try:
        report = datacheck.scan(path, workers=1)
    except UsageError:
        # A folder that is no dataset any more, and has no other file to read.
        return None
    return next((finding.message for finding in report.findings if finding.code == "DC915"), None)


def run_command(folder: str, *arguments: str) -> str | None:
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = datacheck_command(arguments)
    text = printed.getvalue()
    return text if code not in (0, 1, 2) or "Traceback" in text or "DC915" in text else None


def main() -> None:
    # Shorter than the fuzzer waits for an answer.
    children._HUNG_SECONDS = 10.0
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE))
    for line in sys.stdin:
        print(json.dumps(problem_of(json.loads(line))), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
