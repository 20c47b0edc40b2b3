"""NIfTI, DICOM, OpenEXR and TIFF of floats, as their own libraries write them: every value after scaling, by its index."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom

import datacheck

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")
openexr = pytest.importorskip("OpenEXR")
tifffile = pytest.importorskip("tifffile")


def found(path: Path) -> list[tuple[str, str | None, int, list[tuple[int, ...]]]]:
    report = datacheck.scan(path)
    return [
        (one.code, one.field, one.num_violations, [example.index for example in one.examples])
        for one in report.findings
    ]


def nifti(path: Path, values: np.ndarray, slope: float | None = None, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    if slope is not None:
        content = bytearray(path.read_bytes())
        struct.pack_into("<f", content, 112, slope)
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("seed", range(3))
def test_voxels_equal_numpy(suffix: str, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((6, 5, 4)).astype(np.float32)
    values[random.random(values.shape) < 0.05] = np.nan
    ((code, field, number, indices),) = found(nifti(tmp_path / f"a{suffix}", values))
    assert (code, field, number) == ("DC101", "values", np.count_nonzero(np.isnan(values)))
    assert indices == [tuple(map(int, index)) for index in np.argwhere(np.isnan(values))[:5]]


def test_what_the_scaling_of_a_header_overflows_is_found(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", np.arange(8, dtype=np.int16).reshape(2, 2, 2), slope=1e38)
    assert found(path) == [("DC102", "values", 4, [(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)])]
    scaled = write_dicom(tmp_path / "a.dcm", np.arange(6).reshape(2, 3), slope="1e308")
    assert found(scaled) == [("DC102", "pixels", 4, [(0, 2), (1, 0), (1, 1), (1, 2)])]
    assert found(write_dicom(tmp_path / "b.dcm", np.arange(6).reshape(2, 3))) == []


def test_an_affine_that_is_nan_is_found(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.float32))
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 280, float("nan"))  # srow_x[0]
    path.write_bytes(content)
    assert ("DC101", "affine", 1, [(0, 0)]) in found(path)


def test_channels_of_openexr(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((8, 9, 3)).astype(np.float16)
    pixels[2, 3, 1], pixels[4, 5, 2] = np.inf, np.nan
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    openexr.File(header, {"RGB": pixels}).write(str(tmp_path / "a.exr"))
    assert found(tmp_path / "a.exr") == [("DC101", "B", 1, [(4, 5)]), ("DC102", "G", 1, [(2, 3)])]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_every_page_of_a_tiff_of_floats(dtype: str, tmp_path: Path) -> None:
    pages = np.random.default_rng(0).random((3, 8, 9)).astype(dtype)
    pages[2, 4, 5] = np.nan
    if dtype == "f8":
        pages[0, 0, 0] = 1e300
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    assert [one[:3] for one in found(tmp_path / "a.tif")] == [("DC101", "image.values[]", 1)]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".dcm", ".exr"])
@pytest.mark.parametrize("cut", [0, 3, 100, 200, 350])
def test_files_that_are_cut_off_are_findings(suffix: str, cut: int, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".exr":
        openexr.File({"compression": openexr.ZIP_COMPRESSION}, {"RGB": np.ones((30, 40, 3), np.float32)}).write(
            str(path)
        )
    elif suffix == ".dcm":
        write_dicom(path, np.ones((40, 40)))
    else:
        nifti(path, np.random.default_rng(0).random((4, 4, 4)).astype(np.float32))
    content = path.read_bytes()
    path.write_bytes(content[: min(cut, len(content) - 1)])
    codes = [code for code, *_ in found(path)]
    assert codes
    assert set(codes) <= {"DC901", "DC904", "DC906", "DC907", "DC909"}


def test_every_part_of_an_image_of_several_is_read(tmp_path: Path) -> None:
    values = np.ones((5, 6), np.float32)
    broken = values.copy()
    broken[2, 3] = np.nan
    header = {"type": openexr.scanlineimage, "compression": openexr.ZIP_COMPRESSION}
    parts = [openexr.Part(dict(header), {"Z": one}, name) for name, one in (("left", values), ("right", broken))]
    openexr.File(parts).write(str(tmp_path / "a.exr"))
    assert found(tmp_path / "a.exr") == [("DC101", "right/Z", 1, [(2, 3)])]


#: Scans files within a limit of 8 MiB, and prints for each its codes and by how many MiB the peak grew.
_WITHIN = """
import json, sys
import datacheck
from datacheck import ReadOptions
def peak_mib():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) >> 10
for path in sys.argv[1:]:
    before = peak_mib()
    report = datacheck.scan(path, workers=1, options=ReadOptions(max_expanded_bytes=8 << 20))
    print(json.dumps([[one.code for one in report.findings], peak_mib() - before]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak of a process from /proc")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".dcm", ".exr"])
def test_a_file_of_ten_times_the_limit_is_refused_without_being_held(suffix: str, tmp_path: Path) -> None:
    paths = []
    for name, side in (("small", 500), ("large", 6500)):
        values = np.zeros((side, side))
        if suffix == ".dcm":
            path = write_dicom(tmp_path / f"{name}{suffix}", values)
        elif suffix == ".exr":
            path = tmp_path / f"{name}{suffix}"
            header = {"type": openexr.scanlineimage, "compression": openexr.ZIP_COMPRESSION}
            openexr.File(header, {"Z": values.astype(np.float16)}).write(str(path))
        else:
            path = nifti(tmp_path / f"{name}{suffix}", values.astype(np.int16)[..., None])
        paths.append(str(path))
    done = subprocess.run([sys.executable, "-c", _WITHIN, *paths], capture_output=True, text=True, check=True)
    (codes, _), (refused, growth) = map(json.loads, done.stdout.splitlines())
    assert codes == []
    assert refused == ["DC904"]
    assert growth < 24


def test_a_header_that_claims_more_than_memory_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.float32))
    content = bytearray(path.read_bytes())
    struct.pack_into("<3h", content, 42, 30000, 30000, 30000)
    path.write_bytes(content)
    assert [code for code, *_ in found(path)] == ["DC901"]
    large = write_dicom(tmp_path / "a.dcm", np.zeros((2, 2)))
    data = pydicom.dcmread(large)
    data.Rows = data.Columns = 60000
    data.save_as(large, enforce_file_format=True)
    assert [code for code, *_ in found(large)] == ["DC904"]


def test_a_library_that_is_missing_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    report = datacheck.scan(nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.float32)))
    assert "pip install 'datacheck-ml[medical]'" in report.findings[0].message


def test_what_a_library_prints_about_a_damaged_file_does_not_reach_standard_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.exr"
    header = {"compression": openexr.NO_COMPRESSION, "type": openexr.scanlineimage}
    openexr.File(header, {"Z": np.zeros((8, 6), np.float32)}).write(str(path))
    path.write_bytes(path.read_bytes()[:-40])
    (finding,) = datacheck.scan(path).findings
    assert (finding.code, "it is cut off or damaged" in finding.message) == ("DC901", True)
    assert capfd.readouterr().out == ""
