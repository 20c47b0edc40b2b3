"""Files that are one sample each: kept ones are copied byte for byte."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch
from datacheck.errors import OutputError
from datacheck.sinks.writer import FileWriter, WriterSink


class _Copy(FileWriter):
    def __init__(self, uri: str, template: Batch) -> None:
        super().__init__(uri)
        data = template.columns[0].data if len(template.columns) == 1 else None
        if data is None or isinstance(data, np.ndarray) or not pa.types.is_large_binary(data.type):
            raise OutputError("only images and recordings can be copied: expected one column of bytes")
        self._file = self._open()

    def _write(self, batch: Batch) -> None:
        data = batch.columns[0].data
        assert not isinstance(data, np.ndarray)
        for value in data:
            self._file.write(value.as_buffer())


class ImageSink(WriterSink):
    """Copies images; a copy has the suffix of its original."""

    format: ClassVar[str] = "image"
    suffix: ClassVar[str] = ""
    writer = _Copy


class AudioSink(ImageSink):
    """Copies recordings."""

    format: ClassVar[str] = "audio"
