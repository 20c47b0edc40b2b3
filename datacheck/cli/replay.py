"""``datacheck replay``: diagnose a training step that a guard saved."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from datacheck.cli.help import OUTPUT
from datacheck.cli.parameters import argument, option
from datacheck.cli.terminal import flushed_stdout

if TYPE_CHECKING:
    from datacheck.errors import UsageError
    from datacheck.torch.guard.bundle import Bundle
    from datacheck.torch.guard.bundle_replay import BundleReplay


FORMATS = ("text", "json")


def replay(
    bundle: Annotated[Path, argument("BUNDLE", "Bundle folder that a guard wrote.")],
    build: Annotated[str, argument("BUILD", "Function that builds the model, as package.module:function.")],
    format: Annotated[  # noqa: A002 - the option's name
        str, option(OUTPUT, "Output format: text or json.", "--format", "-f", metavar="FORMAT", default=True)
    ] = "text",
) -> int:
    """Replay a failed training step from a bundle and diagnose it.

    BUILD takes no arguments and returns (model, loss_fn). This is your own code, and it is executed. Nothing in the bundle
    is executed.

    Example: datacheck replay bundles/step-00000812 train:build
    """
    from datacheck.errors import DatacheckError, UsageError, nearest_name

    if format not in FORMATS:
        raise UsageError(f"--format {format}: expected text or json{nearest_name(format, FORMATS)}")
    try:
        import torch  # noqa: F401 - is it installed?
    except ModuleNotFoundError:
        raise UsageError("replay needs torch: pip install 'datacheck-ml[torch,safetensors]'") from None
    from datacheck.schema.references import import_reference
    from datacheck.torch.guard.bundle import read_bundle
    from datacheck.torch.guard.bundle_replay import replay_bundle

    saved = read_bundle(bundle)
    if ":" not in build:
        raise UsageError(f"{build}: expected the function that builds the model, such as package.module:build")
    function = import_reference(build)
    if not callable(function):
        raise UsageError(f"{build} is not a function; expected one that returns (model, loss_fn)")
    try:
        built = function()
    except Exception as error:  # the user's code
        raise _raised(build, error) from error
    try:
        replayed = replay_bundle(saved, built)
    except DatacheckError:
        raise
    except Exception as error:  # the user's code, on the bundle's batch
        raise _raised("the step", error) from error
    with flushed_stdout():
        print(
            json.dumps(_record(bundle, saved, replayed), indent=2)
            if format == "json"
            else _text(bundle, saved, replayed)
        )
    return 0 if replayed.diagnosis is None else 1


def _raised(what: str, error: Exception) -> UsageError:
    """An error in user code, with the line that raised it. Most of the traceback would be datacheck's."""
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

    lines = [f"differs from the run: {plain(difference)}" for difference in replayed.differences]
    if replayed.diagnosis is not None:
        lines.append(str(replayed.diagnosis))
        recorded = bundle.diagnosis
        if recorded is not None and recorded.cause != replayed.diagnosis.cause:
            lines.append(f"diagnosis during the run: {recorded.headline}")
        return "\n".join(lines)
    lines.append(f"{plain(str(path))}: step {bundle.step:,}: the loss and all gradients are finite here")
    if bundle.diagnosis is not None:
        lines.append("diagnosis during the run:")
        lines.append(str(bundle.diagnosis))
    return "\n".join(lines)
