"""What the files of an output are called: each part has one name, and no two have the same."""

from __future__ import annotations

import os
import re
from pathlib import Path

from datacheck.jobs.inputs import Input
from datacheck.jobs.units.label import CleanTask

__all__ = ["LEDGER", "QUARANTINE", "ROWS", "FinalNames", "kind_of"]

ROWS, QUARANTINE, LEDGER = "rows", "quarantine", "ledger"

#: What may not stand in the name of a file that is named after a field: a path, or a name that is hidden.
_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]+|^\.+")
#: Bytes of a stem: a file's name has at most 255, and an ending and a number may follow.
_MAX_STEM = 180


def kind_of(part: str) -> str:
    """What the part of a unit holds, by its name."""
    if part.endswith(".ledger.parquet"):
        return LEDGER
    return QUARANTINE if ".quarantine." in part else ROWS


class FinalNames:
    """Gives out names relative to the output folder, each once, the same ones for the same inputs in the same order."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of_part(self, task: CleanTask, part: str) -> str:
        """The name of a part that stays a file of its own: rows go to their split, the rest to folders of their own."""
        kind = kind_of(part)
        name = part.removeprefix(f"{task.split}.").replace(f".{kind}.", ".")
        return self._take(f"{task.split}/{name}" if kind == ROWS else f"{kind}/{task.split}/{name}")

    def of_array(self, item: Input, array: str | None, suffix: str) -> str:
        """The name of the rows of one input in one file: that of the input, of an aligned array its field's."""
        stem = Path(item.uri).stem
        if array is not None:
            field = _UNSAFE.sub("_", array)
            stem = field if item.files else f"{stem}.{field}"
        stem = os.fsdecode(os.fsencode(stem)[:_MAX_STEM])
        return self._take(f"{item.split}/{stem}{suffix}")

    def _take(self, name: str) -> str:
        path = Path(name)
        number = 1
        while name in self._taken:
            number += 1
            name = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        self._taken.add(name)
        return name
