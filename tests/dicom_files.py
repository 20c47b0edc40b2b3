"""Small DICOM files, which several tests write."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["write_dicom"]


def write_dicom(
    path: Path, pixels: np.ndarray, slope: str | None = None, intercept: str = "0", *, is_packed: bool = False
) -> Path:
    """A file of pixels of 16 bits, ``(rows, columns)`` or ``(frames, rows, columns)``; ``is_packed`` compresses it."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    made = Dataset()
    made.file_meta = meta
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    made.Rows, made.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        made.NumberOfFrames = len(pixels)
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    if slope is not None:
        made.RescaleSlope, made.RescaleIntercept = slope, intercept
    made.PixelData = pixels.astype("<u2").tobytes()
    if is_packed:
        made.compress(RLELossless, generate_instance_uid=False)
    made.save_as(path, enforce_file_format=True)
    return path
