"""Records: JSON Lines, tar shards, token bins and images, beside the loops that people write to read them."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.json

import datacheck
from benchmarks.bench import Bench, is_installed
from benchmarks.results import Claim, Section, time_ratio
from benchmarks.timing import Contender, Timing, race

__all__ = ["measure"]

_JSON_BYTES, _TAR_SAMPLES, _TOKENS, _IMAGES = 160 << 20, 60_000, 1 << 28, 1000
_VOCABULARY = 50_257
_WORDS = ["the", "of", "and", "to", "in", "is", "you", "that", "it", "he", "was", "for", "on", "are", "as", "with"]


def measure(bench: Bench) -> Section:
    """Each format in turn; one file lies on the disk at a time."""
    section = Section(
        "records",
        "JSON Lines of chats, tar shards of arrays, token bins, JPEGs; page cache warm, one worker each, by processor time",
        [
            "datacheck.scan(path, workers=1) from a path to a report, all values checked; the others read, and check nothing.",
            "bare: json.loads or msgspec over the lines; reading each member with tarfile; max() over a map.",
        ],
    )
    with bench.room("records") as room:
        for work in (_measure_json, _measure_tar, _measure_tokens, _measure_images):
            work(bench, room, section)
    return section


def _scan(path: Path, schema: object = None) -> Callable[[], int]:
    return lambda: len(datacheck.scan(path, schema, workers=1).findings)


def _claims(section: Section, timings: dict[str, Timing], ours: str, targets: dict[str, float]) -> list[Claim]:
    section.add_timings(timings.values())
    others = [name for name in timings if name != ours]
    return [time_ratio(f"{ours} / {name}", timings[ours], timings[name], targets.get(name)) for name in others]


def _measure_json(bench: Bench, room: Path, section: Section) -> None:
    path, random = room / "chat.jsonl", np.random.default_rng(1)
    with path.open("w") as file:
        while file.tell() < _JSON_BYTES * bench.scale:
            turns = [" ".join(random.choice(_WORDS, int(random.integers(20, 120)))) for _ in range(4)]
            messages = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(turns)]
            file.write(json.dumps({"id": file.tell(), "score": float(random.random()), "messages": messages}) + "\n")

    def loads() -> int:
        with path.open("rb") as lines:
            return sum(1 for line in lines if json.loads(line))

    contenders = [Contender("JSON Lines: datacheck", _scan(path), 0), Contender("JSON Lines: json.loads", loads)]
    contenders.append(Contender("JSON Lines: pyarrow.json", lambda: pyarrow.json.read_json(path).num_rows))
    if is_installed("msgspec"):
        import msgspec

        decode = msgspec.json.Decoder().decode_lines
        contenders.append(Contender("JSON Lines: msgspec", lambda: len(decode(path.read_bytes()))))
    if is_installed("polars"):
        import polars

        contenders.append(Contender("JSON Lines: polars", lambda: polars.read_ndjson(path).height))
    if is_installed("datasets"):
        import datasets

        def stream() -> int:
            return sum(1 for _ in datasets.load_dataset("json", data_files=str(path), split="train", streaming=True))

        contenders.append(Contender("JSON Lines: datasets, streaming", stream))
    timings = race(contenders, num_bytes=path.stat().st_size, clock=time.process_time)
    targets = {"JSON Lines: json.loads": 1.3, "JSON Lines: msgspec": 1.3}
    section.claims += _claims(section, timings, "JSON Lines: datacheck", targets)
    path.unlink()


def _measure_tar(bench: Bench, room: Path, section: Section) -> None:
    path, random = room / "shard.tar", np.random.default_rng(2)
    with tarfile.open(path, "w") as archive:
        for key in range(max(1, int(_TAR_SAMPLES * bench.scale))):
            array = io.BytesIO()
            np.save(array, random.standard_normal(512).astype(np.float32))
            for suffix, content in (("npy", array.getvalue()), ("cls", b"3"), ("json", b'{"score": 0.5}')):
                info = tarfile.TarInfo(f"{key:08d}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    def members() -> int:
        with tarfile.open(path) as archive:
            return sum(len(file.read()) for one in archive if (file := archive.extractfile(one)) is not None)

    contenders = [Contender("tar: datacheck", _scan(path), 0), Contender("tar: tarfile", members)]
    if is_installed("webdataset"):
        import webdataset

        def samples() -> int:
            return sum(1 for _ in webdataset.WebDataset(str(path), shardshuffle=False))

        contenders.append(Contender("tar: webdataset", samples))
    timings = race(contenders, num_bytes=path.stat().st_size, clock=time.process_time)
    section.claims += _claims(section, timings, "tar: datacheck", {"tar: tarfile": 1.3, "tar: webdataset": 1.3})
    path.unlink()


def _measure_tokens(bench: Bench, room: Path, section: Section) -> None:
    path = room / "train.bin"
    count = max(1000, int(_TOKENS * bench.scale))
    np.random.default_rng(3).integers(0, _VOCABULARY, count).astype("<u2").tofile(path)
    schema = datacheck.Schema.model_validate({"fields": {"tokens": {"dtype": "uint16", "lt": _VOCABULARY}}})
    contenders = [
        Contender("token bin: datacheck", _scan(path, schema), 0),
        Contender("token bin: max() of the map", lambda: bool(np.memmap(path, "<u2", "r").max() < _VOCABULARY), True),
    ]
    timings = race(contenders, num_bytes=path.stat().st_size, clock=time.process_time)
    section.claims += _claims(section, timings, "token bin: datacheck", {"token bin: max() of the map": 1.2})
    path.unlink()


def _measure_images(bench: Bench, room: Path, section: Section) -> None:
    if not is_installed("PIL"):
        return
    from PIL import Image

    folder, random = room / "images", np.random.default_rng(4)
    folder.mkdir()
    for number in range(max(2, int(_IMAGES * bench.scale))):
        small = Image.fromarray(random.integers(0, 255, (60, 80, 3), dtype=np.uint8))
        small.resize((640, 480)).save(folder / f"{number}.jpg")
    paths = sorted(folder.iterdir())

    def load() -> int:
        return sum(Image.open(path).convert("RGB").width for path in paths)

    contenders = [Contender("JPEGs: datacheck", _scan(folder), 0), Contender("JPEGs: PIL, decoded", load)]
    timings = race(contenders, num_bytes=sum(path.stat().st_size for path in paths), clock=time.process_time)
    section.claims += _claims(section, timings, "JPEGs: datacheck", {})
    for path in paths:
        path.unlink()
    folder.rmdir()
