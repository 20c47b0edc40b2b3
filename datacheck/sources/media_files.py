"""Files that are one image or one recording each: one sample, with its bytes and what describes them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column
from datacheck.findings import Finding
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.error_translation import check_bytes, translate_inspect_errors, translate_read_errors
from datacheck.sources.media import with_media, wrong_suffix
from datacheck.sources.optional import import_library
from datacheck.storage.registry import open_file
from datacheck.text import plain


class ImageSource:
    """Reads image files: one row each, with the bytes as ``image``."""

    format: ClassVar[str] = "image"
    library: ClassVar[tuple[str, str]] = ("PIL.Image", "images")

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        import_library(uri, *self.library)
        fingerprint = fingerprint_of(uri)
        check_bytes(uri, fingerprint.size, options.max_bytes_at_once)
        unit = WorkUnit(uri, self.format, 0, fingerprint, 0, 1, options=replace(options, rows="file"))
        return InputInfo(uri, self.format, fingerprint.size, 1, (unit,))

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        with open_file(unit.uri) as file:
            size = unit.fingerprint.size
            content = file.map(0, size) or file.read_at(0, size)
            offsets = pa.py_buffer(np.array([0, size], np.int64))
            data = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(content)])
            batch = Batch((Column(self.format, data, is_sample=True),), 1)
            if unit.options.look_into:
                batch = _with_name(with_media(batch, self.format), unit.uri)
                batch = replace(batch, findings=tuple(_wrong_sizes(unit, content)))
            yield batch


class AudioSource(ImageSource):
    """Reads audio files: one row each, with the bytes as ``audio``."""

    format: ClassVar[str] = "audio"
    library: ClassVar[tuple[str, str]] = ("soundfile", "audio")


def _wrong_sizes(unit: WorkUnit, content: Any) -> Iterator[Finding]:
    """The label files that say another size than the image has."""
    if not unit.options.said_sizes:
        return
    from datacheck.sources.images import sizes_of

    try:
        sizes = sizes_of(content)
    except Exception:  # libraries raise anything on a damaged image, which is a finding of its own
        return
    for label, width, height in unit.options.said_sizes:
        if (width, height) not in sizes:
            own = " x ".join(f"{side:,}" for side in sizes[0])
            detail = f"{plain(posixpath.basename(label))} says {width:,g} x {height:,g} pixels, but the image has {own}"
            yield Finding("DC607", unit.uri, None, 1, len(unit.options.said_sizes), detail=detail)


def _with_name(batch: Batch, uri: str) -> Batch:
    """The batch with a fault if the file's name says another format."""
    from datacheck.batch import Fault

    # Not the values of an image of floats, which would become Python objects.
    formats = (column.data[0].as_py() for column in batch.columns[1:] if str(column.name).endswith(".format"))
    facts = {"format": next(formats, None)}
    found = [
        Fault(code, batch.columns[0].name, 1, np.zeros(1, np.int64), ((0, detail),), detail)
        for code, detail in wrong_suffix(uri, facts)
    ]
    return replace(batch, faults=(*batch.faults, *found)) if found else batch
