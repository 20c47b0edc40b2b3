"""What an earlier run left in the output folder: a published output, or the remains of a killed run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from datacheck.errors import OutputError
from datacheck.publishing.manifest import damage_of, read_manifest
from datacheck.publishing.publisher import read_state
from datacheck.publishing.staging import STAGING_NAME, StagingArea
from datacheck.storage import storage_of
from datacheck.text import plain

__all__ = ["PublishedOutput", "clear_leftovers", "find_output"]


@dataclass(frozen=True, slots=True)
class PublishedOutput:
    """A published output: its manifest, and whether it is the result of this very run (``is_current``)."""

    manifest: dict[str, Any]
    is_current: bool


def find_output(output: str, fingerprint: str, *, overwrite: bool) -> PublishedOutput | None:
    """The published output in a folder; None if there is none.

    Raises ``OutputError`` without ``overwrite`` if the output is a different run's, or damaged.
    """
    manifest = read_manifest(output)
    if manifest is None:
        return None
    if overwrite:
        return PublishedOutput(manifest, is_current=False)
    if manifest["fingerprint"] != fingerprint:
        problem = "holds the output of another run (other inputs, schema, rules or version)"
        raise OutputError(f"{plain(output)}: {problem}; overwrite it with --overwrite, or choose another output")
    if damage := damage_of(output, manifest):
        raise OutputError(f"{damage}; rewrite the whole output with --overwrite")
    return PublishedOutput(manifest, is_current=True)


def clear_leftovers(output: str, fingerprint: str) -> None:
    """Remove this run's staging area if the run was killed after it had published everything."""
    folder = f"{output}/{STAGING_NAME}"
    if storage_of(output).exists(folder) and read_state(folder).get("fingerprint", fingerprint) == fingerprint:
        with suppress(OutputError), StagingArea(output) as staging:
            staging.clear()
