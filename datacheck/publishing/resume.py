"""What an earlier run left in the output folder: its output, or the rest of one that was killed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from datacheck.errors import OutputError
from datacheck.publishing.manifest import damage_of, read_manifest
from datacheck.publishing.publisher import read_state
from datacheck.publishing.staging import STAGING_NAME, StagingArea
from datacheck.reports.accounts import RunReport
from datacheck.text import plain

__all__ = ["clear_rest", "find_output"]


def find_output(output: Path, fingerprint: str, *, overwrite: bool) -> RunReport | dict[str, Any] | None:
    """What the output folder holds: what this run reported when it ended, the manifest of one to be replaced, or nothing.

    Raises ``OutputError`` where there is the output of another run, or a damaged one of this, and no ``overwrite``.
    """
    manifest = read_manifest(output)
    if manifest is None or overwrite:
        return manifest
    if manifest["fingerprint"] != fingerprint:
        problem = "holds the output of another run (other inputs, schema, rules or version)"
        raise OutputError(f"{plain(str(output))}: {problem}; overwrite it with --overwrite, or choose another output")
    if damage := damage_of(output, manifest):
        raise OutputError(f"{damage}; write the whole output again with --overwrite")
    return RunReport.from_manifest(manifest, output)


def clear_rest(output: Path, fingerprint: str) -> None:
    """Remove the staging area of this run, where it was killed after it had published everything."""
    folder = output / STAGING_NAME
    if folder.is_dir() and read_state(folder).get("fingerprint", fingerprint) == fingerprint:
        with suppress(OutputError), StagingArea(output) as staging:
            staging.clear()
