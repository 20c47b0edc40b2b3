"""What an earlier run left in the output folder: a published output, or the remains of a killed run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from datacheck.errors import OutputError
from datacheck.publishing.identity import RunIdentity
from datacheck.publishing.manifest import damage_of, identity_of, read_manifest, report_of
from datacheck.publishing.publisher import read_state
from datacheck.publishing.staging import STAGING_NAME, StagingArea
from datacheck.reports.run_report import RunReport
from datacheck.storage import storage_of
from datacheck.text import plain


@dataclass(frozen=True, slots=True)
class PublishedOutput:
    """A published output: its manifest, and the report if it is the result of this very run."""

    manifest: dict[str, Any]
    report: RunReport | None = None


def earlier_identity(output: str) -> RunIdentity | None:
    """The identity of the run that published the output or, where there is none, was killed; None if it is unknown."""
    with suppress(OutputError):
        manifest = read_manifest(output)
        if manifest is not None:
            return identity_of(manifest)
        return read_state(f"{output}/{STAGING_NAME}").identity
    return None


def find_output(output: str, identity: RunIdentity, *, overwrite: bool) -> PublishedOutput | None:
    """The published output in a folder; None if there is none.

    Raises ``OutputError`` without ``overwrite`` if the output is a different run's, or damaged.
    """
    manifest = read_manifest(output)
    if manifest is None:
        return None
    if overwrite:
        return PublishedOutput(manifest)
    if manifest["fingerprint"] != identity.fingerprint:
        earlier = identity_of(manifest)
        differences = ["of an earlier version of datacheck"] if earlier is None else identity.differences(earlier)
        if differences:
            problem = f"holds the output of another run ({'; '.join(differences)})"
            remedy = "overwrite it with --overwrite, or choose another output"
            if earlier is not None and earlier.settings == identity.settings and _has_quarantined_samples(manifest):
                remedy += "; for quarantined files that were fixed in their place: 'datacheck requeue'"
            raise OutputError(f"{plain(output)}: {problem}; {remedy}")
    try:
        damage = damage_of(output, manifest)
    except (KeyError, TypeError, ValueError) as error:
        damage = f"{plain(output)}/manifest.json: is damaged ({type(error).__name__}: {plain(str(error))})"
    if damage:
        raise OutputError(f"{damage}; rewrite the whole output with --overwrite")
    return PublishedOutput(manifest, report_of(manifest, output))


def _has_quarantined_samples(manifest: Mapping[str, Any]) -> bool:
    return any(one.get("rows") == "file" and one.get("num_quarantined") for one in manifest["inputs"])


def clear_leftovers(output: str, fingerprint: str) -> None:
    """Remove this run's staging area if the run was killed after it had published everything."""
    folder = f"{output}/{STAGING_NAME}"
    with suppress(OutputError):
        if storage_of(output).exists(folder) and read_state(folder).fingerprint in (fingerprint, None):
            with StagingArea(output) as staging:
                staging.clear()
