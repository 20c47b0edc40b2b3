"""``datacheck replay``: the step that a bundle holds, diagnosed here."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from datacheck.errors import UsageError
    from datacheck.torch.guard.bundle import Bundle
    from datacheck.torch.guard.bundle_replay import BundleReplay

__all__ = ["replay"]

FORMATS = ("text", "json")


def replay(
    bundle: Annotated[Path, typer.Argument(help="A folder that a guard wrote.", metavar="BUNDLE", show_default=False)],
    build: Annotated[str, typer.Argument(help="package.module:function.", metavar="BUILD", show_default=False)],
    format: Annotated[str, typer.Option("--format", "-f", help="text or json.")] = "text",  # noqa: A002 - the option's name
) -> int:
    """Replay the step in the folder BUNDLE with the model that BUILD makes, and say what is wrong with it.

    BUILD is ``package.module:function``; the function takes nothing and returns ``(model, loss_fn)``. It is your code and
    is run; nothing of the bundle is.
    """
    from datacheck.errors import DatacheckError, UsageError, nearest_name

    if format not in FORMATS:
        raise UsageError(f"--format {format}: it is text or json{nearest_name(format, FORMATS)}")
    try:
        import torch  # noqa: F401 - whether it is there
    except ModuleNotFoundError:
        raise UsageError("replay needs torch: pip install 'datacheck-ml[torch,safetensors]'") from None
    from datacheck.schema.references import import_reference
    from datacheck.torch.guard.bundle import read_bundle
    from datacheck.torch.guard.bundle_replay import replay_bundle

    held = read_bundle(bundle)
    if ":" not in build:
        raise UsageError(f"{build}: name the function that builds the model, as in 'package.module:build'")
    function = import_reference(build)
    if not callable(function):
        raise UsageError(f"{build} is not a function; it must return (model, loss_fn)")
    try:
        built = function()
    except Exception as error:  # the user's code
        raise _raised(build, error) from error
    try:
        replayed = replay_bundle(held, built)
    except DatacheckError:
        raise
    except Exception as error:  # the user's code, on the bundle's batch
        raise _raised("the step", error) from error
    print(json.dumps(_record(bundle, held, replayed), indent=2) if format == "json" else _text(bundle, held, replayed))
    return 0 if replayed.diagnosis is None else 1


def _raised(what: str, error: Exception) -> UsageError:
    """An error of the user's code, with the line that raised it: a traceback would be mostly of other code."""
    from datacheck.errors import UsageError
    from datacheck.text import plain

    *_, last = traceback.extract_tb(error.__traceback__)
    where = f"{last.filename}:{last.lineno}"
    return UsageError(f"{what} raised {type(error).__name__}: {plain(str(error))} ({plain(where)})")


def _record(path: Path, bundle: Bundle, replayed: BundleReplay) -> dict[str, Any]:
    return {
        "bundle": str(path),
        "step": bundle.step,
        "diagnosis": None if replayed.diagnosis is None else replayed.diagnosis.to_dict(),
        "recorded": None if bundle.diagnosis is None else bundle.diagnosis.to_dict(),
        "trip": bundle.trip,
        "versions": dict(bundle.versions),
        "differences": replayed.differences,
    }


def _text(path: Path, bundle: Bundle, replayed: BundleReplay) -> str:
    from datacheck.text import plain

    lines = [f"not as in the run: {plain(difference)}" for difference in replayed.differences]
    if replayed.diagnosis is not None:
        lines.append(str(replayed.diagnosis))
        recorded = bundle.diagnosis
        if recorded is not None and recorded.cause != replayed.diagnosis.cause:
            lines.append(f"the run itself was told: {recorded.headline}")
        return "\n".join(lines)
    lines.append(f"{plain(str(path))}: step {bundle.step:,} is finite here, its loss and all gradients")
    if bundle.diagnosis is not None:
        lines.append("what the run was told:")
        lines.append(str(bundle.diagnosis))
    return "\n".join(lines)
