"""The final names of output files: each part has one, and no two parts share one."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable
from pathlib import PurePosixPath

ROWS, QUARANTINE, LEDGER, LABEL, INDEX = "rows", "quarantine", "ledger", "label", "index"
#: What the index of the files of a split is called.
INDEX_NAME = "index.json"

#: Not allowed in a file that is named after a field: path separators, control characters, and what Windows does not take.
_UNSAFE = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]+')
#: Devices of Windows, which no file can be called, whatever its suffix.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_LABEL = re.compile(r"\.label-(\d+)\.\w+$")
_REQUEUED = re.compile(r"\.requeued-\d+$")
#: Bytes of a stem: a file name has at most 255, and a suffix and a number may follow.
_MAX_STEM = 180


def kind_of(part: str) -> str:
    """What a unit's part holds, from its name."""
    if part.endswith(".ledger.parquet"):
        return LEDGER
    if ".quarantine." in part:
        return QUARANTINE
    if part.endswith((".idx", f".{INDEX_NAME}")):
        return INDEX
    return LABEL if label_index(part) is not None else ROWS


def label_index(part: str) -> int | None:
    """Which of a sample's label files a part is; None for any other part."""
    found = _LABEL.search(part)
    return None if found is None else int(found[1])


def stem_of(path: str) -> str:
    """The name of a file of an output without its suffix, and without the number of a requeue."""
    return _REQUEUED.sub("", PurePosixPath(path).stem)


def requeued_name(folder: str, stem: str, suffix: str, number: int, taken: Container[str]) -> str:
    """The name of a file that a requeue writes beside others; inputs may be called so, too."""
    name = f"{folder}/{stem}.requeued-{number}{suffix}"
    while name in taken:
        stem += "-2"
        name = f"{folder}/{stem}.requeued-{number}{suffix}"
    return name


class OutputNames:
    """Assigns names relative to the output folder, each once; the same inputs in the same order get the same names."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.casefold() for name in taken}

    def of_part(self, split: str, part: str) -> str:
        """The name of a part that stays a separate file: rows go to their split's folder, the rest to their kind's."""
        kind = kind_of(part)
        name = part.removeprefix(f"{split}.").replace(f".{kind}.", ".")
        return self._take(f"{split}/{name}" if kind in (ROWS, INDEX) else f"{kind}/{split}/{name}")

    def of_sample(self, split: str, name: str, part: str, array: str | None) -> str:
        """The name of a file that is one sample, whose path below its input's folder is ``name``."""
        path = PurePosixPath(name)
        if kind_of(part) == QUARANTINE:
            return self._take(f"{QUARANTINE}/{split}/{path}")
        stem = path.stem if array is None else f"{path.stem}.{_UNSAFE.sub('_', array)}"
        return self._take(str(PurePosixPath(split, path.with_name(stem + PurePosixPath(part).suffix))))

    def of_label(self, split: str, name: str, part: str) -> str:
        """The name of a sample's label file, whose path in the output is ``name``."""
        return self._take(f"{QUARANTINE}/{split}/{name}" if kind_of(part) == QUARANTINE else f"{split}/{name}")

    def of_array(self, split: str, uri: str, array: str | None, suffix: str, *, is_aligned: bool) -> str:
        """The name of a file that holds all rows of an input: the input's name, or the field's for aligned arrays."""
        stem = PurePosixPath(uri).stem
        if array is not None:
            field = _UNSAFE.sub("_", array)
            stem = field if is_aligned else f"{stem}.{field}"
        # A name that begins with a dot is hidden: readers of the folder would skip the file.
        stem = os.fsdecode(os.fsencode(stem.lstrip("."))[:_MAX_STEM]) or "array"
        stem = f"_{stem}" if _DEVICES.match(stem) else stem
        return self._take(f"{split}/{stem}{suffix}")

    def _take(self, name: str) -> str:
        path = PurePosixPath(name)
        number = 1
        # Windows and macOS do not tell upper from lower case.
        while name.casefold() in self._taken:
            number += 1
            name = str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        self._taken.add(name.casefold())
        return name
