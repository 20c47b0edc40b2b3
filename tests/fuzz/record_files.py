"""Small files of records: nested JSON, images, recordings, a tar shard and token bins."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np

__all__ = ["write_megatron", "write_record_files"]


def write_record_files(folder: Path) -> list[Path]:
    """One small file of each; of images and audio as many as their libraries, if installed, write."""
    random = np.random.default_rng(0)
    pictures, sounds = _pictures(random), _sounds(random)
    contents = {
        "nested.jsonl": _nested(),
        "nested.json": json.dumps([json.loads(line) for line in _nested().splitlines()], indent=1).encode(),
        "train.bin": random.integers(0, 50_000, 200).astype("<u2").tobytes(),
        "val.bin": np.array([20240520, 1, 200, *[0] * 253], "<i4").tobytes() + bytes(range(200)) * 2,
        "array.npy": _npy(random.standard_normal((20, 3))),
        "shard.tar": _shard({**pictures, **sounds}),
        **pictures,
        **sounds,
    }
    paths = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        paths.append(folder / name)
    return paths


def _nested() -> bytes:
    records = [
        {
            "id": row,
            "x": [0.5, float("nan"), None][row % 3],
            "m": [{"role": "user", "n": [1, 2.5]}] * (row % 3),
            "t": {"a": "\u00e9\n"},
        }
        for row in range(30)
    ]
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


def _pictures(random: np.random.Generator) -> dict[str, bytes]:
    try:
        from PIL import Image
    except ImportError:
        return {}
    image = Image.fromarray(random.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    floats = Image.fromarray(random.standard_normal((8, 8)).astype(np.float32))
    found = {}
    for name, one in (
        ("a.jpg", image),
        ("a.png", image),
        ("a.gif", image),
        ("a.webp", image),
        ("a.bmp", image),
        ("a.tiff", floats),
    ):
        stream = io.BytesIO()
        one.save(stream, {"jpg": "JPEG"}.get(name[2:], name[2:].upper()))
        found[name] = stream.getvalue()
    return found


def _sounds(random: np.random.Generator) -> dict[str, bytes]:
    try:
        import soundfile
    except ImportError:
        return {}
    values = (random.standard_normal(500) / 10).astype(np.float32)
    found = {}
    for name, form, subtype in (
        ("a.wav", "WAV", "FLOAT"),
        ("a.flac", "FLAC", "PCM_16"),
        ("a.ogg", "OGG", "VORBIS"),
        ("a.mp3", "MP3", "MPEG_LAYER_III"),
    ):
        stream = io.BytesIO()
        soundfile.write(stream, values, 8000, format=form, subtype=subtype)
        found[name] = stream.getvalue()
    return found


def _npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def _shard(others: dict[str, bytes]) -> bytes:
    array = _npy(np.arange(6.0))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for key in range(4):
            members = {"npy": array, "json": b'{"x": [1, null]}', "cls": b"3", "txt": b"text"}
            members |= {name[2:]: content for name, content in others.items() if key == 0}
            for suffix, content in members.items():
                info = tarfile.TarInfo(f"{'long/' * 30 if key == 1 else ''}{key}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def write_megatron(folder: Path) -> Path:
    """A folder with a bin of sequences and its index."""
    folder.mkdir(parents=True)
    lengths = np.arange(1, 30)
    ids = np.arange(int(lengths.sum())).astype("<u2")
    (folder / "train.bin").write_bytes(ids.tobytes())
    pointers = (np.cumsum(lengths) - lengths) * 2
    head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, len(lengths), len(lengths) + 1)
    parts = [lengths.astype("<i4"), pointers.astype("<i8"), np.arange(len(lengths) + 1, dtype="<i8")]
    (folder / "train.idx").write_bytes(head + b"".join(part.tobytes() for part in parts))
    return folder
