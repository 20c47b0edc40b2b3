"""Small volumes and images of floats: NIfTI, DICOM, OpenEXR and tiled TIFF."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

__all__ = ["write_installed", "write_volumes"]


def write_installed(folder: Path, writers: Mapping[str, Callable[[Path], None]]) -> list[Path]:
    """What each writer writes, by its name, of those whose library is installed."""
    paths = []
    for name, write in writers.items():
        with suppress(ImportError):
            write(folder / name)
            paths.append(folder / name)
    return paths


def write_volumes(folder: Path) -> list[Path]:
    """One small file of each format whose library is installed."""
    return write_installed(folder, _WRITERS)


def _values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _write_nifti(path: Path) -> None:
    import nibabel

    kind = nibabel.Nifti2Image if path.name.startswith("two") else nibabel.Nifti1Image
    image = kind(np.arange(120, dtype=np.int16).reshape(6, 5, 4), np.eye(4))
    image.header.set_slope_inter(0.5, 1)
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def _write_dicom(path: Path) -> None:
    from dicom_files import write_dicom

    write_dicom(path, np.arange(96).reshape(2, 6, 8), "0.5", "-1", is_packed=path.name.startswith("rle"))


def _write_exr(path: Path) -> None:
    import OpenEXR

    kind = OpenEXR.ZIP_COMPRESSION if path.name.startswith("zip") else OpenEXR.NO_COMPRESSION
    header = {"compression": kind, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"R": _values(8, 6), "Z": _values(8, 6).astype(np.float16)}).write(str(path))


def _write_tiff(path: Path) -> None:
    import tifffile

    compression = "zlib" if path.name.startswith("zip") else None
    tifffile.imwrite(path, _values(3, 32, 32), tile=(16, 16), compression=compression, photometric="minisblack")


_WRITERS: dict[str, Callable[[Path], None]] = {
    "one.nii": _write_nifti,
    "two.nii": _write_nifti,
    "one.nii.gz": _write_nifti,
    "plain.dcm": _write_dicom,
    "rle.dcm": _write_dicom,
    "plain.exr": _write_exr,
    "zip.exr": _write_exr,
    "tiles.tiff": _write_tiff,
    "zip.tiff": _write_tiff,
}
