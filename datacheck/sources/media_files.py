"""Files that are one image or one recording each: one sample, with its bytes and what describes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column
from datacheck.sources.base import InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.error_translation import check_bytes, translate_inspect_errors, translate_read_errors
from datacheck.sources.media import with_media, wrong_suffix
from datacheck.sources.optional import import_library
from datacheck.storage.registry import open_file

__all__ = ["AudioSource", "ImageSource"]


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
            yield _with_name(with_media(batch, self.format), unit.uri) if unit.options.look_into else batch


class AudioSource(ImageSource):
    """Reads audio files: one row each, with the bytes as ``audio``."""

    format: ClassVar[str] = "audio"
    library: ClassVar[tuple[str, str]] = ("soundfile", "audio")


def _with_name(batch: Batch, uri: str) -> Batch:
    """The batch with a fault if the file's name is that of another format."""
    from datacheck.batch import Fault

    facts = {str(column.name).rpartition(".")[2]: column.data[0].as_py() for column in batch.columns[1:]}
    found = [
        Fault(code, batch.columns[0].name, 1, np.zeros(1, np.int64), ((0, detail),), detail)
        for code, detail in wrong_suffix(uri, facts)
    ]
    return replace(batch, faults=(*batch.faults, *found)) if found else batch
