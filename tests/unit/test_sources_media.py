"""Images and audio: what is found in files and in columns, and what a run copies."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_files import ledger_of, manifest_of, write_pipeline

import datacheck

Image = pytest.importorskip("PIL.Image")
soundfile = pytest.importorskip("soundfile")
RANDOM = np.random.default_rng(5)


def image_bytes(kind: str = "JPEG", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(stream, kind, **options)
    return stream.getvalue()


def audio_bytes(values: np.ndarray[Any, Any], subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, values, 8000, subtype=subtype, format=kind)
    return stream.getvalue()


NOISE = RANDOM.standard_normal(4000).astype(np.float32) / 10


def found(path: Path, schema: Any = None) -> list[tuple[str, str | None]]:
    return sorted((one.code, one.field) for one in datacheck.scan(path, schema).findings)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("cut", [2, 50, 0.1, 0.5, 0.9])
def test_a_truncated_jpeg_is_found_wherever_it_was_cut(progressive: bool, cut: float, tmp_path: Path) -> None:
    whole = image_bytes(progressive=progressive)
    (tmp_path / "a.jpg").write_bytes(whole)
    assert found(tmp_path / "a.jpg") == []
    (tmp_path / "a.jpg").write_bytes(whole[: -int(cut if cut > 1 else cut * len(whole))])
    assert found(tmp_path / "a.jpg") == [("DC601", "image")]


def test_a_switch_of_the_process_hides_no_truncated_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    (tmp_path / "a.jpg").write_bytes(image_bytes()[:-300])
    assert found(tmp_path / "a.jpg") == [("DC601", "image")]
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def damaged_png() -> bytes:
    data = bytearray(image_bytes("PNG"))
    data[len(data) // 2] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("content", "code", "detail"),
    [
        (b"<!DOCTYPE html><html>" * 9, "DC601", "it is an HTML page"),
        (b'{"error": "gone"}', "DC901", "its first bytes say jsonl"),
        (bytes(100), "DC601", "it is nothing but zero bytes"),
        (image_bytes("PNG"), "DC602", "its name says jpeg, its bytes are png"),
        (b"\xff\xd8\xff" + b"x" * 50, "DC601", "cannot be decoded: it is not an image of a known format ("),
        (audio_bytes(NOISE), "DC601", "cannot be decoded"),
        (image_bytes()[:-1000] + bytes(1000), "DC601", "it ends in zeros where its pixels should be"),
    ],
)
def test_what_is_no_image_is_said_to_be_what_it_is(content: bytes, code: str, detail: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    (finding,) = datacheck.scan(tmp_path / "a.jpg").findings
    assert finding.code == code
    assert detail in finding.message


def test_zeros_behind_the_end_of_an_image_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(image_bytes() + bytes(1000))
    assert found(tmp_path / "a.jpg") == []


def test_what_describes_an_image_is_not_missing_where_the_image_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(image_bytes("JPEG")[:-50])
    report = datacheck.scan(tmp_path, {"fields": {"image.width": {"ge": 10}, "other": {}}})
    assert sorted((one.code, one.field) for one in report.findings) == [("DC001", "other"), ("DC601", "image")]


def test_the_mode_of_a_tiff_of_floats_is_that_of_pillow_whichever_library_reads_it(tmp_path: Path) -> None:
    Image.fromarray(np.arange(6, dtype=np.float32).reshape(2, 3)).save(tmp_path / "a.tiff")
    assert not datacheck.scan(tmp_path, {"fields": {"image.mode": {"isin": ["F"]}}}).findings


def test_a_tiff_without_some_of_its_strips_is_found(tmp_path: Path) -> None:
    Image.fromarray(np.ones((64, 48), np.float32)).save(tmp_path / "a.tiff")
    data = (tmp_path / "a.tiff").read_bytes()
    height, more = (257).to_bytes(2, "little") + b"\x04\x00\x01\x00\x00\x00", (6400).to_bytes(4, "little")
    at = data.index(height) + len(height)
    (tmp_path / "a.tiff").write_bytes(data[:at] + more + data[at + 4 :])
    (finding,) = datacheck.scan(tmp_path / "a.tiff").findings
    assert finding.code == "DC601"
    # Pillow counts pixels; tifffile, where it is installed, strips.
    assert re.search("only (3,072 of its 307,200 pixels|1 of its 100 strips) are stored", finding.message)


def test_a_damaged_png_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(damaged_png())
    assert found(tmp_path / "a.png") == [("DC601", "image")]


def test_a_bomb_is_not_decoded(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    assert found(tmp_path / "a.png") == [("DC604", "image")]


def test_one_color_only_is_a_warning(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (9, 9, 9)).save(tmp_path / "a.jpg")
    report = datacheck.scan(tmp_path / "a.jpg")
    assert [one.code for one in report.findings] == ["DC603"]
    assert report.ok


def test_a_schema_bounds_what_images_are(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(image_bytes(size=(64, 48)))
    Image.new("L", (64, 64)).save(tmp_path / "b.png")
    fields = {"image.mode": {"dtype": "string", "isin": ["RGB"]}, "image.height": {"dtype": "int64", "ge": 50}}
    assert found(tmp_path, {"fields": fields}) == [
        ("DC201", "image.height"),
        ("DC205", "image.mode"),
        ("DC603", "image"),
    ]


@pytest.mark.parametrize("rule", [{"shape": [3, "H", "W"]}, {"dtype": "uint8"}])
def test_a_rule_for_the_pixels_of_an_image_file_is_pointed_to_the_fields_of_its_size(
    rule: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(image_bytes())
    details = [one.detail for one in datacheck.scan(tmp_path, {"fields": {"image": rule}}).findings if one.is_error]
    assert [detail.partition("; ")[2] for detail in details] == [
        "rules about an image are for 'image.height', 'image.width', 'image.channels', 'image.mode'"
    ]


def test_exact_duplicates_are_found_by_their_hash(tmp_path: Path) -> None:
    content = image_bytes()
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(content)
    (tmp_path / "c.jpg").write_bytes(image_bytes())
    (finding,) = datacheck.scan(tmp_path, {"fields": {"image.hash": {"unique": True}}}).findings
    assert (finding.code, finding.num_violations) == ("DC301", 1)


def test_nan_in_an_image_of_floats_is_found_at_its_pixel(tmp_path: Path) -> None:
    values = RANDOM.standard_normal((8, 6)).astype(np.float32)
    values[2, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tiff")
    (finding,) = datacheck.scan(tmp_path / "a.tiff").findings
    assert (finding.code, finding.field, finding.examples[0].index) == ("DC101", "image.values[]", (2 * 6 + 3,))


@pytest.mark.parametrize("as_struct", [False, True])
def test_images_in_a_column_are_looked_into_as_files_are(as_struct: bool, tmp_path: Path) -> None:
    values = [image_bytes(), image_bytes("PNG"), None, image_bytes()[:-100], b"<html>", image_bytes("PNG")]
    paths = ["a.jpg", "b.png", None, "c.jpg", "d.jpg", "e.jpg"]
    column: Any = (
        [{"bytes": one, "path": path} for one, path in zip(values, paths, strict=True)] if as_struct else values
    )
    pq.write_table(pa.table({"image": column, "label": [0, 1, 2, 3, 4, 5]}), tmp_path / "t.parquet")
    report = datacheck.scan(tmp_path / "t.parquet")
    rows = {one.code: [example.row for example in one.examples] for one in report.findings if one.code != "DC105"}
    assert rows == ({"DC601": [3, 4], "DC602": [5]} if as_struct else {"DC601": [3, 4]})
    schema = {"fields": {"image.width": {"dtype": "int64", "ge": 100, "nullable": True}}}
    assert ("DC201", "image.width") in found(tmp_path / "t.parquet", schema)


@pytest.mark.parametrize(
    ("paths", "kind", "expected"),
    [
        (None, pa.null(), [("DC105", "image.path", 6)]),
        (None, pa.string(), [("DC105", "image.path", 6)]),
        (7, pa.int64(), []),
        ("a.png", pa.string(), []),
        ("a.png", pa.dictionary(pa.int8(), pa.string()), []),
    ],
)
def test_images_in_memory_are_looked_into_whatever_their_paths_are(
    paths: Any, kind: pa.DataType, expected: list[tuple[str, str, int]]
) -> None:
    # Most were not downloaded.
    values = [image_bytes("PNG"), *[b"<html>"] * 4, image_bytes("PNG")[:-100]]
    table = pa.table(
        {
            "image": pa.array(
                [{"bytes": one, "path": paths} for one in values], pa.struct({"bytes": pa.binary(), "path": kind})
            )
        }
    )
    found = [(one.code, one.field, one.num_violations) for one in datacheck.scan(table).findings]
    assert found == [("DC601", "image", 5), *expected]
    assert [one.code for one in datacheck.scan(table.slice(1, 4)).findings if one.code != "DC105"] == (
        ["DC601"] if paths == "a.png" else ["DC008"]
    )
    cleaned = datacheck.clean_data(table, [{"action": "quarantine"}])
    assert (cleaned.data.column_names, cleaned.rows.tolist()) == (["image"], [0])


def test_rows_with_broken_images_are_quarantined_and_the_table_is_as_it_was(tmp_path: Path) -> None:
    values = [image_bytes(), image_bytes()[:-100], image_bytes()]
    table = pa.table({"image": values, "x": [1.0, 2.0, 3.0]})
    pq.write_table(table, tmp_path / "t.parquet")
    report = datacheck.run(write_pipeline(tmp_path, ["t.parquet"], []))
    assert list(report.totals().values()) == [3, 2, 0, 1]
    (path,) = (part["path"] for part in report.accounts[0].outputs if part["kind"] == "rows")
    assert pq.read_table(tmp_path / "out" / path).to_pydict() == table.take([0, 2]).to_pydict()
    # One that is still broken is not taken back.
    (path,) = (part["path"] for part in report.accounts[0].outputs if part["kind"] == "quarantine")
    rows = pq.read_table(tmp_path / "out" / path)
    taken = datacheck.requeue(tmp_path / "pipeline.yaml", rows)
    assert (taken.num_quarantined, [one.code for one in taken.findings]) == (1, ["DC601"])


def test_what_describes_only_some_formats_is_not_missing_in_files_of_others(tmp_path: Path) -> None:
    """Only JPEG has an orientation, and only recordings of floats have numbers."""
    for number, kind in enumerate(["JPEG", "JPEG", "PNG"]):
        pq.write_table(pa.table({"image": [image_bytes(kind)]}), tmp_path / f"{number}.parquet")
        (tmp_path / f"{number}.wav").write_bytes(audio_bytes(NOISE, "PCM_16" if number == 2 else "FLOAT"))
    assert found(tmp_path) == []


# Audio


def test_a_wav_file_is_compared_with_the_length_in_its_header(tmp_path: Path) -> None:
    whole = audio_bytes(NOISE)
    (tmp_path / "a.wav").write_bytes(whole)
    assert found(tmp_path / "a.wav") == []
    (tmp_path / "a.wav").write_bytes(whole[: len(whole) // 2])
    assert found(tmp_path / "a.wav") == [("DC601", "audio")]


def test_no_error_is_printed_where_a_damaged_recording_asks_for_places_beyond_its_end() -> None:
    from datacheck.sources.audio import _Recording

    recording = _Recording(pa.py_buffer(b"abcdef"))
    assert [recording.seek(*where) for where in ((99,), (-9,), (2, 1), (99, 1), (-2, 2), (1, 2))] == [6, 0, 2, 6, 4, 6]


def test_a_damaged_flac_is_found(tmp_path: Path) -> None:
    whole = audio_bytes(NOISE, kind="FLAC")
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    assert found(tmp_path / "a.flac") == [("DC601", "audio")]


def test_nan_and_infinities_in_a_recording_of_floats_are_found(tmp_path: Path) -> None:
    values = NOISE.copy()
    values[7], values[9] = np.nan, np.inf
    (tmp_path / "a.wav").write_bytes(audio_bytes(values, "FLOAT"))
    assert found(tmp_path / "a.wav") == [("DC101", "audio.values[]"), ("DC102", "audio.values[]")]


def test_the_floats_of_a_recording_are_not_copied() -> None:
    from datacheck.batch import Batch, Column
    from datacheck.sources.media import with_media

    data = np.frombuffer(audio_bytes(NOISE, "FLOAT"), np.uint8)
    columns = (Column("audio", pa.array([data.tobytes(), None], pa.large_binary())),)
    made = {column.name: column.data for column in with_media(Batch(columns, 2), "audio").columns}
    values = made["audio.values"].flatten().to_numpy()
    np.testing.assert_array_equal(values, NOISE)
    assert np.shares_memory(values, np.frombuffer(made["audio"].buffers()[2], np.uint8))


@pytest.mark.parametrize("kind", ["DOUBLE", "odd", "big-endian"])
def test_floats_that_cannot_be_used_where_they_are(kind: str, tmp_path: Path) -> None:
    values = NOISE.copy()
    values[7] = np.nan
    content = audio_bytes(values, "DOUBLE" if kind == "DOUBLE" else "FLOAT")
    if kind == "odd":
        content = content[:12] + b"JUNK\2\0\0\0ab" + content[12:]
    if kind == "big-endian":
        stream = io.BytesIO()
        soundfile.write(stream, values, 8000, subtype="FLOAT", format="WAV", endian="BIG")
        content = stream.getvalue()
    (tmp_path / "a.wav").write_bytes(content)
    (finding,) = datacheck.scan(tmp_path / "a.wav").findings
    assert (finding.code, finding.num_checked, finding.examples[0].index) == ("DC101", 4000, (7,))


@pytest.mark.parametrize(("values", "code"), [(np.zeros(4000), "DC605"), (np.sign(NOISE), "DC606")])
def test_silence_and_clipping_are_warnings(values: np.ndarray[Any, Any], code: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(audio_bytes(values))
    assert found(tmp_path / "a.wav") == [(code, "audio")]


def test_a_schema_bounds_what_recordings_are(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(audio_bytes(NOISE))
    fields = {"audio.sample_rate": {"isin": [16_000]}, "audio.seconds": {"dtype": "float64", "ge": 1.0}}
    assert found(tmp_path, {"fields": fields}) == [("DC201", "audio.seconds"), ("DC205", "audio.sample_rate")]


# Runs


def make_folder(folder: Path) -> dict[str, bytes]:
    """Images with label files of several layouts."""
    broken = image_bytes()[:-200]
    files = {
        "images/train/a.jpg": image_bytes(),
        "labels/train/a.txt": b"0 0.5 0.5 0.1 0.1\n",
        "images/train/b.jpg": broken,
        "labels/train/b.txt": b"1 0.5 0.5 0.1 0.1\n",
        "cat/c.png": image_bytes("PNG"),
        "cat/c.xml": b"<annotation/>",
        "cat/d.png": b"<html></html>",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return files


def test_a_run_copies_what_it_keeps_and_the_label_file_goes_with_its_image(tmp_path: Path) -> None:
    files = make_folder(tmp_path / "in")
    report = datacheck.run(write_pipeline(tmp_path, {"train": ["in"]}, []))
    assert list(report.totals().values()) == [4, 2, 0, 2]
    out = tmp_path / "out"
    kept = ["images/train/a.jpg", "labels/train/a.txt", "cat/c.png", "cat/c.xml"]
    assert {str(path.relative_to(out / "train")): path.read_bytes() for path in out.glob("train/**/*.*")} == {
        name: files[name] for name in kept
    }
    aside = out / "quarantine" / "train"
    assert {str(path.relative_to(aside)) for path in aside.rglob("*.*")} == set(files) - set(kept)
    assert len(ledger_of(out)) == 2
    listed = {part["path"] for account in manifest_of(out)["inputs"] for part in account["outputs"]}
    assert {f"train/{name}" for name in kept} <= listed
    assert datacheck.run(tmp_path / "pipeline.yaml").ok == report.ok


def test_infer_and_compare_see_what_images_are(tmp_path: Path) -> None:
    content = image_bytes()
    for name, size in (("train", (64, 48)), ("test", (64, 48))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(image_bytes(size=size))
        (tmp_path / name / "same.jpg").write_bytes(content)
    schema = datacheck.infer(tmp_path / "train")
    assert {"image.width", "image.mode"} <= set(map(str, schema.fields))
    pytest.importorskip("scipy")
    codes = {one.code for one in datacheck.compare(tmp_path / "train", tmp_path / "test").findings}
    assert "DC310" in codes


def test_a_missing_library_is_a_finding_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    (tmp_path / "a.jpg").write_bytes(image_bytes_without_pillow())
    (finding,) = datacheck.scan(tmp_path / "a.jpg").findings
    assert finding.code == "DC901"
    assert "pip install 'datacheck-ml[images]'" in finding.message


def image_bytes_without_pillow() -> bytes:
    return b"\xff\xd8\xff\xe0" + bytes(20)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("P", "png"), ("1", "png"), ("I;16", "png"), ("L", "bmp"), ("I", "tif")],
)
def test_a_schema_says_which_classes_a_mask_may_have(mode: str, suffix: str, tmp_path: Path) -> None:
    dtype = {"1": np.bool_, "I;16": np.uint16, "I": np.int32}.get(mode, np.uint8)
    classes = np.array([0, 1] if mode == "1" else [0, 1, 255])
    for index in range(4):
        pixels = RANDOM.choice(classes, (9, 7)).astype(dtype)
        pixels[0, : len(classes)] = classes
        if index == 2 and mode != "1":
            pixels[3, 3] = 7
        image = Image.fromarray(pixels)
        if mode == "P":
            image = image.convert("L")
            image.putpalette([value for gray in range(256) for value in (gray, 255 - gray, 7)])
        image.save(tmp_path / f"{index}.{suffix}")
    schema = {"version": 1, "fields": {"image.distinct": {"dtype": "int64", "isin": classes.tolist()}}}
    report = datacheck.scan(tmp_path, schema)
    bad = [(one.code, one.field, one.uri.endswith(f"2.{suffix}"), one.examples[0].value) for one in report.findings]
    assert bad == ([] if mode == "1" else [("DC205", "image.distinct[]", True, "7")])


def test_photos_have_no_list_of_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(image_bytes())
    (tmp_path / "b.png").write_bytes(image_bytes("PNG"))
    assert "image.distinct" not in datacheck.infer(tmp_path).fields
