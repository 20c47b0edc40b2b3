"""The exit codes of the ``datacheck`` command."""

from __future__ import annotations

CLEAN = 0
FINDINGS = 1
COULD_NOT_RUN = 2
#: What a shell reports for a process that SIGINT ended.
INTERRUPTED = 130
#: What a shell reports for a process that SIGTERM ended.
TERMINATED = 143
