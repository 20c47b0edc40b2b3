"""Volumes and images of floats as they are measured: NIfTI, DICOM and OpenEXR, one sample per file.

Values are checked as training sees them: after the scaling that a header asks for, which can make infinities of finite numbers.
"""

from __future__ import annotations

import functools
import math
import mmap
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.sources.base import REWRITE_FILE, InputInfo, ReadOptions, WorkUnit, fingerprint_of
from datacheck.sources.error_translation import check_bytes, translate_inspect_errors, translate_read_errors
from datacheck.sources.named_arrays import NamedArray, plan_arrays, read_arrays
from datacheck.sources.optional import import_library
from datacheck.sources.packed import is_packed, open_packed
from datacheck.storage.registry import library_path, open_file, storage_of
from datacheck.text import plain

Array = np.ndarray[Any, Any]
#: The data set of such a file is compressed as a whole, and how far it expands is not known before.
_DEFLATED = b"1.2.840.10008.1.2.1.99"
#: Where a file says so.
_META_BYTES = 1 << 16
#: What is read of a compressed file at once.
_STEP_BYTES = 16 << 20
_stdout_lock = threading.Lock()


class _VolumeSource:
    """Reads a file whose arrays are the fields of one sample."""

    format: ClassVar[str]

    @translate_inspect_errors
    def inspect(self, uri: str, options: ReadOptions) -> InputInfo:
        fingerprint = fingerprint_of(uri)
        return plan_arrays(uri, self.format, fingerprint, self._samples(uri, options), options, fingerprint.size)

    @translate_read_errors
    def read(self, unit: WorkUnit) -> Iterator[Batch]:
        yield from read_arrays(unit, self._samples(unit.uri, unit.options))

    def _samples(self, uri: str, options: ReadOptions) -> list[NamedArray]:
        arrays = self._arrays(uri, options)
        return [one.as_sample() for one in arrays] if options.rows == "file" else arrays

    def _arrays(self, uri: str, options: ReadOptions) -> list[NamedArray]:
        raise NotImplementedError


def _array(uri: str, limit: int, name: str, shape: tuple[int, ...], dtype: Any, load: Callable[[], Any]) -> NamedArray:
    """An array that is loaded as a whole, if it is small enough for that."""
    num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    check_bytes(uri, num_bytes, limit, f"the array {name!r}")

    def read(start: int, count: int) -> Array:
        values = np.asarray(load())
        return values[start : start + count] if values.ndim else values

    return NamedArray(name, shape, np.dtype(dtype), read)


def _content(uri: str, options: ReadOptions) -> pa.BufferReader:
    """A file, mapped or, if its name says that it is compressed, decompressed in memory."""
    limit = options.max_bytes_at_once
    if not is_packed(uri):
        with open_file(uri) as file:
            size = storage_of(uri).stat(uri, recent=True).fingerprint.size
            check_bytes(uri, size, limit)
            return pa.BufferReader(pa.py_buffer(file.map(0, size) or file.read_at(0, size)))
    # The arrays are made beside it.
    limit //= 2
    # Takes no more memory than is written to it, and is never copied, as a buffer that grows is.
    content = mmap.mmap(-1, limit + 1)
    with open_packed(uri, options) as stream:
        # A read of the limit would make a buffer of its size.
        while content.tell() <= limit and (more := stream.read(min(_STEP_BYTES, limit + 1 - content.tell()))):
            content.write(more)
    check_bytes(uri, content.tell(), limit)
    return pa.BufferReader(pa.py_buffer(memoryview(content)[: content.tell()]))


class NiftiSource(_VolumeSource):
    """Reads ``.nii``: the voxels as ``values``, after ``scl_slope`` and ``scl_inter``, and the ``affine``."""

    format: ClassVar[str] = "nifti"

    def _arrays(self, uri: str, options: ReadOptions) -> list[NamedArray]:
        nibabel = import_library(uri, "nibabel", "medical")
        stream = _content(uri, options)
        head = stream.read(4)
        stream.seek(0)
        kind = (
            nibabel.Nifti2Image
            if 540 in (int.from_bytes(head, order) for order in ("little", "big"))
            else nibabel.Nifti1Image
        )
        image = kind.from_stream(stream)
        stored = image.dataobj
        shape = tuple(map(int, stored.shape))
        is_scaled = stored.slope != 1 or stored.inter != 0
        if stored.dtype.kind not in "biufc":
            return [
                NamedArray(
                    "values",
                    shape,
                    stored.dtype,
                    np.zeros,
                    problem=f"cannot check voxels of {plain(str(stored.dtype))}",
                )
            ]
        dtype = np.result_type(stored.dtype, np.float32) if is_scaled else stored.dtype.newbyteorder("=")
        there, said = stream.size() - int(stored.offset), math.prod(shape) * stored.dtype.itemsize
        if said > there:
            problem = f"its header says {said:,} bytes of voxels, but there are {max(there, 0):,}"
            raise SourceError("DC901", uri, problem, "it is truncated: fetch it again")
        affine = np.asarray(image.affine, np.float64)
        limit = options.max_bytes_at_once - (stream.size() if is_packed(uri) else 0)
        return [
            _array(uri, limit, "values", shape, dtype, partial(_scaled, stored, dtype)),
            _array(uri, limit, "affine", affine.shape, affine.dtype, lambda: affine),
        ]


def _scaled(stored: Any, dtype: np.dtype[Any]) -> Array:
    """Voxels after scaling: of 8 and 16 bits as float32, as they are trained on."""
    # What overflows is a finding, not a warning.
    with np.errstate(all="ignore"):
        return np.asarray(stored).astype(dtype, copy=False)


class DicomSource(_VolumeSource):
    """Reads ``.dcm``: the pixels as ``pixels``, after ``RescaleSlope`` and ``RescaleIntercept``."""

    format: ClassVar[str] = "dicom"

    def _arrays(self, uri: str, options: ReadOptions) -> list[NamedArray]:
        pydicom = import_library(uri, "pydicom", "medical")
        stream = _content(uri, options)
        head = stream.read(_META_BYTES)
        stream.seek(0)
        if _DEFLATED in head:
            raise SourceError(
                "DC901",
                uri,
                "it is compressed as a whole (Deflated Explicit VR)",
                "write it in another transfer syntax",
            )
        dataset = pydicom.dcmread(stream)
        slope, intercept = (dataset.get(name) for name in ("RescaleSlope", "RescaleIntercept"))
        is_scaled = slope is not None or intercept is not None
        if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise SourceError("DC901", uri, "it has no pixels", "leave it out, if it is a report or an index")
        frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
        shape = (int(dataset.Rows), int(dataset.Columns))
        shape = (*((frames,) if frames > 1 else ()), *shape, *((samples,) if samples > 1 else ()))
        check_bytes(uri, math.prod(shape) * 8, options.max_bytes_at_once, "its pixels")
        scale = np.float64(1 if slope is None else slope), np.float64(intercept or 0)
        load = functools.cache(partial(_pixels, uri, dataset, shape, scale if is_scaled else None))
        return [_array(uri, options.max_bytes_at_once, "pixels", shape, np.float64, load)]


def _pixels(uri: str, dataset: Any, shape: tuple[int, ...], scale: tuple[Any, Any] | None) -> Array:
    """The decoded pixels of a DICOM file, after scaling."""
    try:
        pixels: Array = dataset.pixel_array
    except (RuntimeError, NotImplementedError) as error:  # of a transfer syntax whose decoder is not installed
        problem = f"its pixels cannot be decoded ({plain(str(error).partition(chr(10))[0], 160)})"
        raise SourceError(
            "DC901", uri, problem, "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        ) from error
    if pixels.shape != shape:
        problem = f"its header says pixels of shape {shape}, and it has {pixels.shape}"
        raise SourceError("DC901", uri, problem, REWRITE_FILE)
    if scale is None:
        return pixels
    with np.errstate(all="ignore"):
        return np.asarray(pixels * scale[0] + scale[1])


@contextmanager
def _to_stderr() -> Iterator[None]:
    """Let what OpenEXR prints about a damaged file go to standard error: standard output is for reports."""
    with _stdout_lock, redirect_stdout(sys.stderr):
        yield


class ExrSource(_VolumeSource):
    """Reads ``.exr``: each channel by its name, after that of its part where there are several."""

    format: ClassVar[str] = "exr"

    def _arrays(self, uri: str, options: ReadOptions) -> list[NamedArray]:
        library = import_library(uri, "OpenEXR", "medical")
        path = library_path(uri)
        if path is None:
            raise SourceError("DC901", uri, "OpenEXR reads files of this machine only", "copy it here")

        def read(*, header_only: bool) -> Any:
            with _to_stderr():
                return library.File(path, separate_channels=True, header_only=header_only).parts

        parts = read(header_only=True)
        shapes = {
            (number, str(channel.name)): _exr_shape(uri, part.header["dataWindow"], channel)
            for number, part in enumerate(parts)
            for channel in part.header.get("channels", ())
        }
        check_bytes(uri, sum(map(math.prod, shapes.values())) * 4, options.max_bytes_at_once, "its pixels")
        load = functools.cache(partial(read, header_only=False))
        arrays = []
        for (number, channel), shape in sorted(shapes.items()):
            name = channel if len(parts) == 1 else f"{parts[number].name()}/{channel}"
            if "deep" in str(parts[number].type()):
                problem = "it is deep: a pixel has any number of values"
                arrays.append(NamedArray(name, shape, np.dtype(np.float32), np.zeros, problem=problem))
                continue
            pixels = partial(_pixels_of, load, number, channel)
            arrays.append(_array(uri, options.max_bytes_at_once, name, shape, np.float32, pixels))
        return arrays


def _exr_shape(uri: str, window: Any, channel: Any) -> tuple[int, int]:
    """The pixels of a channel in a window, of which it may have only every second or fourth."""
    shape = []
    for low, high, step in zip(*window, (channel.xSampling, channel.ySampling), strict=True):
        shape.append(int(high) // int(step) - -(-int(low) // int(step)) + 1)
    if min(shape) < 1:
        raise SourceError("DC901", uri, "its data window is empty", "write it again")
    return shape[1], shape[0]


def _pixels_of(load: Callable[[], Any], part: int, channel: str) -> Any:
    parts = load()
    if part >= len(parts):
        raise ValueError("OpenEXR decodes no pixels of it: it is cut off or damaged")
    return parts[part].channels[channel].pixels
