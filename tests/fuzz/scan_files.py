"""A child process of the fuzzer: scans each file that it is told of, with bounded memory, and says how it ended.

Reads paths from standard input, and writes one line of JSON for each: what went wrong, or null.
"""

from __future__ import annotations

import json
import resource
import sys
import traceback

import datacheck

#: Address space, of which libraries take some gigabytes before a file is read.
MAX_ADDRESS_SPACE = 12 << 30
MAX_PEAK_KIB = 1 << 20


def peak_kib() -> int:
    """The most memory that this process had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def problem_of(path: str) -> str | None:
    try:
        report = datacheck.scan(path, workers=1)
    except Exception:
        return traceback.format_exc()
    bugs = [finding.message for finding in report.findings if finding.code == "DC915"]
    if bugs:
        return bugs[0]
    return f"it took {peak_kib() >> 10:,} MiB" if peak_kib() > MAX_PEAK_KIB else None


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, MAX_ADDRESS_SPACE))
    for line in sys.stdin:
        print(json.dumps(problem_of(line.rstrip("\n"))), flush=True)


if __name__ == "__main__":
    main()
