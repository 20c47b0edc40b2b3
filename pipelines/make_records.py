"""Write more example data: chats as JSON Lines, and windows of weather as images, after ``pipelines/make_data.py``.

    python pipelines/make_records.py [--output data]

Nothing is repaired here, and nothing is planted. What is wrong with the records is wrong with their sources:

``chat/{train,test}.jsonl``
    One question about each public function of some modules of Python, and what its documentation answers. Some have none:
    the answer is null.
``windows/{train,val,test}/{colder,warmer}/NNNNN.tif``
    Every 40th window of ``weather/*/windows.npy`` as an image of floats, 24 hours by the first 5 features, in a folder by
    whether the next hour is warmer than the last. Gaps of the weather stations are NaN in the pixels. Needs Pillow.
"""

from __future__ import annotations

import argparse
import collections
import csv
import functools
import inspect
import itertools
import json
import math
import os
import random
import re
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("train", "val", "test")
#: Every so many windows one becomes an image.
STEP = 40
NUM_FEATURES = 5


def chats() -> Iterator[dict[str, Any]]:
    """A record for each public function, in the order of the names."""
    for module in (
        argparse,
        collections,
        csv,
        functools,
        inspect,
        itertools,
        json,
        math,
        os,
        random,
        re,
        shutil,
        statistics,
    ):
        for name in sorted(dir(module)):
            function = getattr(module, name)
            if name.startswith("_") or not callable(function) or inspect.isclass(function):
                continue
            full_name = f"{module.__name__}.{name}"
            text = getattr(function, "__doc__", None)
            paragraphs = None if text is None else inspect.cleandoc(text).split("\n\n")
            answer = None if paragraphs is None else paragraphs[min(1, len(paragraphs) - 1)].replace("\n", " ")
            question = f"What does {full_name} do?"
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            record: dict[str, Any] = {"id": full_name, "messages": messages}
            if text is not None:
                record["meta"] = {"num_lines": text.count("\n"), "has_example": ">>>" in text}
            yield record


def write_chats(folder: Path) -> None:
    """Every tenth record is for the test."""
    folder.mkdir(parents=True)
    records = [json.dumps(record, ensure_ascii=False) + "\n" for record in chats()]
    is_test = [index % 10 == 9 for index in range(len(records))]
    for name, wanted in (("train", False), ("test", True)):
        chosen = [record for record, test in zip(records, is_test, strict=True) if test is wanted]
        (folder / f"{name}.jsonl").write_text("".join(chosen), encoding="utf-8")


def write_windows(weather: Path, folder: Path) -> None:
    """Images of windows, by what comes next."""
    from PIL import Image

    for split in SPLITS:
        windows = np.load(weather / split / "windows.npy", mmap_mode="r")
        targets = np.load(weather / split / "targets.npy")
        for index in range(0, len(windows), STEP):
            last, following = windows[index, -1, 0], targets[index]
            label = "warmer" if following > last else "colder"
            path = folder / split / label / f"{index:05d}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.array(windows[index, :, :NUM_FEATURES], np.float32)).save(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="data", help="the folder with what make_data.py wrote")
    data = Path(parser.parse_args(arguments).output)
    if not (data / "weather").is_dir():
        print(f"{data / 'weather'}: no such folder; run pipelines/make_data.py first", file=sys.stderr)
        return 2
    for name in ("chat", "windows"):
        if (data / name).is_dir():
            continue
        partial = data / f".{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        if name == "chat":
            write_chats(partial)
        else:
            write_windows(data / "weather", partial)
        partial.rename(data / name)
        print(f"wrote {data / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
