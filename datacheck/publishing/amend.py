"""Changing a published output: files are added, the manifest is replaced, and then files that it no longer lists are deleted.

What is planned is saved first. A change that was killed is finished by the next command that writes there, or was not begun.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from datacheck.errors import OutputError
from datacheck.publishing.links import check_no_link, is_inside
from datacheck.publishing.manifest import MANIFEST_NAME
from datacheck.publishing.sealed_json import DamagedError, read_json, sealed, unsealed
from datacheck.publishing.staging import STAGING_NAME, StagingArea
from datacheck.storage import storage_of
from datacheck.storage.os_errors import output_error, output_errors
from datacheck.text import plain

_PLAN_NAME = "amendment.json"


def amend(
    staging: StagingArea, manifest: Mapping[str, Any], moves: Mapping[str, str], obsolete: Sequence[str] = ()
) -> None:
    """Publish ``manifest`` in place of the current one.

    ``moves`` maps staged parts to the names that the manifest has for them, relative to the output; ``obsolete`` are files that
    it no longer lists. Raises ``OutputError``.
    """
    plan = {"manifest": dict(manifest), "moves": dict(moves), "obsolete": list(obsolete)}
    with output_errors(staging.parts):
        staging.storage.sync(staging.parts)
    check_no_link(staging.output, staging.folder)
    uri = f"{staging.folder}/{_PLAN_NAME}"
    with output_errors(uri):
        staging.storage.put(uri, json.dumps(sealed(plan), allow_nan=False).encode())
    _carry_out(staging, plan)


def is_planned(staging: StagingArea) -> bool:
    """Whether a change is planned, which will be finished."""
    return staging.storage.exists(f"{staging.folder}/{_PLAN_NAME}")


def finish_amendment(output: str) -> None:
    """Finish a change of a published output that was killed; nothing if there is none. Raises ``OutputError``."""
    storage = storage_of(output)
    with output_errors(output):
        has_plan = storage.exists(f"{output}/{STAGING_NAME}/{_PLAN_NAME}")
    if not has_plan:
        return
    with StagingArea(output) as staging:
        uri = f"{staging.folder}/{_PLAN_NAME}"
        try:
            plan = unsealed(read_json(uri))
        except FileNotFoundError:
            return
        except (OSError, DamagedError) as error:
            raise OutputError(
                f"{plain(uri)}: the plan of an unfinished change is damaged ({plain(str(error))}); rewrite the whole output"
                " with 'datacheck run --overwrite'"
            ) from None
        _carry_out(staging, plan)


def _carry_out(staging: StagingArea, plan: Mapping[str, Any]) -> None:
    storage, output = staging.storage, staging.output
    moves = [(f"{staging.parts}/{part}", name) for part, name in plan["moves"].items()]
    for name in (*(final for _, final in moves), *plan["obsolete"]):
        if not is_inside(output, name):
            raise OutputError(
                f"{plain(f'{output}/{name}')}: lies behind a link or outside of the output; remove the link"
            )
    with output_errors(output):
        staging.lock.check()
    try:
        storage.move_all((staged, f"{output}/{final}") for staged, final in moves if storage.exists(staged))
    except OSError as error:
        raise output_error(error, error.filename2 or error.filename or output) from error
    manifest = json.dumps(plan["manifest"], indent=2, allow_nan=False) + "\n"
    with output_errors(f"{output}/{MANIFEST_NAME}"):
        storage.put(f"{output}/{MANIFEST_NAME}", manifest.encode())
        storage.sync(output)
    with output_errors(output):
        for name in plan["obsolete"]:
            storage.delete(f"{output}/{name}")
            for folder in list(PurePosixPath(name).parents)[:-1]:
                storage.delete_empty_folder(f"{output}/{folder}")
    staging.clear()
