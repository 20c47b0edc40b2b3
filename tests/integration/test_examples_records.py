"""The example pipelines of chats and images, on real records, against what Python and NumPy say of them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import datacheck

pytest.importorskip("msgspec")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def records(example: Path) -> Path:
    """The example folder, with chats and images in its data."""
    spec = importlib.util.spec_from_file_location("make_records", example / "pipelines" / "make_records.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.STEP = 200
    assert module.main(["--output", str(example / "data")]) == 0
    assert module.main(["--output", str(example / "data")]) == 0  # what is there is left alone
    return example


def test_chats_without_an_answer_are_left_out_and_the_others_are_as_they_were(records: Path) -> None:
    report = datacheck.run(records / "pipelines" / "chat.yaml")
    assert report.ok
    for split in ("train", "test"):
        lines = (records / "data" / "chat" / f"{split}.jsonl").read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if all((turn["content"] or "").strip() for turn in json.loads(line)["messages"])]
        written = b"".join(path.read_bytes() for path in sorted((records / "out" / "chat" / split).glob("*.jsonl")))
        assert written == b"".join(kept)
        assert len(kept) < len(lines) or split == "test"


def test_images_with_gaps_are_set_aside_and_the_others_stay_in_their_class(records: Path) -> None:
    report = datacheck.run(records / "pipelines" / "windows.yaml")
    for split in ("train", "val", "test"):
        folder, out = records / "data" / "windows" / split, records / "out" / "windows" / split
        kept = set()
        for path in folder.rglob("*.tif"):
            values = np.asarray(Image.open(path))
            if np.isfinite(values).all() and values.min() >= -100 and values.max() <= 400:
                kept.add(path.relative_to(folder))
        assert {path.relative_to(out) for path in out.rglob("*.tif")} == kept
        assert kept
        assert all((out / name).read_bytes() == (folder / name).read_bytes() for name in kept)
    num_read, num_kept, num_dropped, num_quarantined = report.totals().values()
    assert (num_dropped, num_read) == (0, num_kept + num_quarantined)
