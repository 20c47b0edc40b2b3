"""The manifest, the last file that a run writes: if it exists, the output is complete."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from datacheck.errors import OutputError
from datacheck.publishing.identity import RunIdentity
from datacheck.publishing.sealed_json import DamagedError, read_json
from datacheck.reports.run_report import MANIFEST_VERSION, RunReport
from datacheck.storage import storage_of
from datacheck.storage.base import StoreError
from datacheck.storage.os_errors import output_error
from datacheck.text import plain

MANIFEST_NAME = "manifest.json"
STATISTICS_NAME = "statistics.json"

_COUNTS = ("num_read", "num_kept", "num_dropped", "num_quarantined")


def read_manifest(output: str) -> dict[str, Any] | None:
    """The manifest of an output folder; None if there is none. Raises ``OutputError`` if it is invalid."""
    uri = f"{output}/{MANIFEST_NAME}"
    try:
        record = read_json(uri)
        if record["version"] != MANIFEST_VERSION:
            raise OutputError(
                f"{plain(uri)}: manifest version {plain(str(record['version']), 40)}, expected {MANIFEST_VERSION};"
                " remove the folder and run again"
            )
        if not isinstance(record["fingerprint"], str) or not all(_is_file_name(name) for name in files_of(record)):
            raise DamagedError("incomplete manifest")
        return record
    except (FileNotFoundError, NotADirectoryError):
        return None
    except StoreError as error:
        raise output_error(error, output) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = plain(f"{type(error).__name__}: {error}")
        raise OutputError(f"{plain(uri)}: not a datacheck manifest ({problem}); choose another output") from None


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name) and "\0" not in name


def files_of(manifest: Mapping[str, Any]) -> list[str]:
    """The files that a manifest lists, relative to its folder."""
    parts = [part["path"] for account in manifest["inputs"] for part in account["outputs"]]
    return parts if manifest["statistics"] is None else [*parts, manifest["statistics"]]


def report_of(manifest: dict[str, Any], output: str) -> RunReport:
    """The report of the run that wrote a manifest; raises ``OutputError`` if its counts do not add up."""
    try:
        report = RunReport.from_manifest(manifest, output)
        for record in (manifest, *manifest["inputs"]):
            read, *placed = (record[name] for name in _COUNTS)
            if not all(type(number) is int and number >= 0 for number in (read, *placed)) or read != sum(placed):
                raise DamagedError(f"{read} rows read = {' + '.join(map(str, placed))}")
        if report.totals() != {name: manifest[name] for name in _COUNTS}:
            raise DamagedError("the counts of the inputs do not add up to the counts of the run")
        str(report)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise OutputError(
            f"{plain(f'{output}/{MANIFEST_NAME}')}: is damaged ({plain(f'{type(error).__name__}: {error}')}); rewrite the whole"
            " output with --overwrite"
        ) from None
    return report


def identity_of(manifest: Mapping[str, Any]) -> RunIdentity | None:
    """The identity of the run that wrote a manifest; None if it does not say."""
    try:
        return RunIdentity.from_json(manifest["identity"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def damage_of(output: str, manifest: Mapping[str, Any], ignored: Container[str] = ()) -> str:
    """The first missing or truncated file of an output, as a message; empty if every file has its recorded size.

    Files in ``ignored``, named as in the manifest, are not looked at.
    """
    for account in manifest["inputs"]:
        for part in account["outputs"]:
            if part["path"] in ignored:
                continue
            uri = f"{output}/{part['path']}"
            try:
                size = storage_of(uri).stat(uri).fingerprint.size
            except OSError as error:
                return f"{plain(uri)}: {error.strerror or error}"
            if size != part["num_bytes"]:
                return f"{plain(uri)}: expected {part['num_bytes']:,} bytes, got {size:,}"
    return ""
