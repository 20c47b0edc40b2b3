"""The list of bad samples that lasts: written by the main process, read at the start, refused by other datasets."""

from __future__ import annotations

import gc
import inspect
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loader_sets import Listed, Numbered, indices_of, safe_of
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

from datacheck.errors import OutputError, UsageError
from datacheck.torch import BadSampleWarning, SafeDataset, TooManyBadSamplesError
from datacheck.torch.loader import quarantine_writer
from datacheck.torch.loader.fingerprint import fingerprint_of
from datacheck.torch.loader.quarantine import Quarantine

pytestmark = pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning")


def listed(path: Path) -> list[int]:
    return [sample["index"] for sample in json.loads(path.read_text())["samples"]]


def test_the_next_run_does_not_load_known_bad_samples(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    first = safe_of(Numbered(40, nan=(3,), broken=(9,)), quarantine=path)
    epoch = indices_of(DataLoader(first, batch_size=8, num_workers=2, multiprocessing_context="fork"))
    first.report()
    assert listed(path) == [3, 9]
    inner = Numbered(40, nan=(3,), broken=(9,))
    second = safe_of(inner, quarantine=path)
    assert indices_of(DataLoader(second, batch_size=8)) == epoch
    assert inner.loads.get(3) is None
    assert inner.loads.get(9) is None
    report = second.report()
    assert report.bad_indices == (3, 9)
    assert [sample.codes for sample in report.samples] == [("DC101",), ("DC901",)]


@pytest.mark.slow
def test_it_is_written_when_the_process_ends(tmp_path: Path) -> None:
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from loader_sets import Numbered, safe_of
from torch.utils.data import DataLoader
safe = safe_of(Numbered(40, nan=(3, 30)), quarantine={str(tmp_path / "bad.json")!r})
if __name__ == "__main__":
    list(DataLoader(safe, batch_size=8, num_workers=2, multiprocessing_context="fork"))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=120)
    assert listed(tmp_path / "bad.json") == [3, 30]


def test_the_quarantine_is_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    safe = safe_of(Numbered(40, nan=(3,)), quarantine=path, name="birds")
    list(safe)
    safe.report()
    record = json.loads(path.read_text())
    assert record["version"] == 1
    assert record["dataset"]["name"] == "birds"
    assert record["dataset"]["num_samples"] == 40
    (sample,) = record["samples"]
    assert (sample["index"], sample["codes"], sample["findings"][0]["field"]) == (3, ["DC101"], "0")


@pytest.mark.parametrize(
    "other", [Numbered(41), TensorDataset(torch.zeros(40)), Subset(Numbered(40), range(40)), Listed(["a"] * 40)]
)
def test_the_quarantine_of_another_dataset_is_refused(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "bad.json"
    safe = safe_of(Numbered(40, nan=(3,)), quarantine=path)
    list(safe)
    safe.report()
    with pytest.raises(UsageError, match=r"bad\.json: belongs to another dataset \(Numbered, 40 samples"):
        safe_of(other, quarantine=path)
    same = fingerprint_of(Numbered(40, nan=(3,)))
    assert safe_of(other, quarantine=path, fingerprint=same).report().bad_indices == (3,)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "[" * 100_000, '{"version": 1}', '{"version": 9, "dataset": {}, "samples": []}']
)
def test_a_file_that_is_not_a_quarantine_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UsageError, match=r"bad\.json"):
        safe_of(Numbered(4), quarantine=tmp_path / "bad.json")
    assert (tmp_path / "bad.json").read_text() == text


def test_a_quarantine_with_malformed_samples_is_refused(tmp_path: Path) -> None:
    head = {"fingerprint": "f", "name": "x", "num_samples": 4}
    text = json.dumps({"version": 1, "dataset": head, "samples": [{"index": "one"}]})
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UsageError, match="not a quarantine file"):
        safe_of(Numbered(4), quarantine=tmp_path / "bad.json", fingerprint="f")


def test_a_missing_folder_is_reported_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder that exists"):
        safe_of(Numbered(4, nan=(0,)), quarantine=tmp_path / "none" / "bad.json")


def test_an_unwritable_quarantine_does_not_stop_training(tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    safe = safe_of(Numbered(40, nan=(3, 30)), quarantine=folder / "bad.json")
    safe[0]
    (folder / "bad.json").write_text("{")
    with pytest.warns(BadSampleWarning) as told:
        assert len(list(safe)) == 40
    assert [str(one.message) for one in told if "known to this run only" in str(one.message)]
    assert safe.report().bad_indices == (3, 30)
    assert (folder / "bad.json").read_text() == "{"
    (folder / "bad.json").unlink()
    safe.report()
    assert listed(folder / "bad.json") == [3, 30]


@pytest.mark.slow
def test_what_a_killed_run_found_is_known_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    program = f"""
import os, signal, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from loader_sets import Numbered, safe_of
from torch.utils.data import DataLoader
safe = safe_of(Numbered(40, nan=(3, 9), broken=(30,)), quarantine={str(path)!r})
if __name__ == "__main__":
    loader = DataLoader(safe, batch_size=8, num_workers=2, multiprocessing_context="fork", persistent_workers=True)
    for _ in loader:  # list() would ask for the length when workers may have found something, and have it written down
        pass
    for worker in loader._iterator._workers:
        os.kill(worker.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    assert not safe_of(Numbered(41), quarantine=path).report().samples
    inner = Numbered(40, nan=(3, 9), broken=(30,))
    safe = safe_of(inner, quarantine=path)
    assert listed(path) == [3, 9, 30]
    list(safe)
    assert not {3, 9, 30} & set(inner.loads)
    assert safe.report().bad_indices == (3, 9, 30)
    # The folder goes with the first run that comes when all processes have ended; killed ones may take their time.
    del safe
    for _ in range(200):
        safe_of(inner, quarantine=path)
        gc.collect()
        quarantine_writer._save_waiting()  # as the next dataset, or the end of the process, does
        if {one.name for one in tmp_path.iterdir()} == {"bad.json", ".bad.json.lock"}:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"{list(tmp_path.iterdir())} is left")


def test_a_running_run_keeps_its_event_log(tmp_path: Path) -> None:
    first = safe_of(Numbered(40, nan=(3,)), quarantine=tmp_path / "bad.json")
    list(DataLoader(first, batch_size=8, num_workers=1, multiprocessing_context="fork"))
    # A cell of a notebook that is run again: the first one was not asked for a report, and still has its samples.
    second = safe_of(Numbered(40, nan=(3,)), quarantine=tmp_path / "bad.json")
    assert second.report().bad_indices == (3,)
    assert first.report().bad_indices == (3,)
    assert first.report().counts["seen"] == 40


def test_concurrent_additions_are_all_kept(tmp_path: Path) -> None:
    found = list(safe_of(Numbered(400, nan=tuple(range(0, 400, 4)))).check().samples)

    def add(part: int) -> None:
        quarantine = Quarantine(tmp_path / "bad.json", "f", "x", 400)
        for place in range(part, len(found), 4):
            quarantine.add([found[place]])

    threads = [threading.Thread(target=add, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert listed(tmp_path / "bad.json") == list(range(0, 400, 4))
    assert {path.name for path in tmp_path.iterdir()} == {"bad.json", ".bad.json.lock"}


def test_too_many_quarantined_samples_raise_too(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    safe_of(Numbered(40, nan=(1, 2, 3)), quarantine=path).check()
    strict = SafeDataset(Numbered(40, nan=(1, 2, 3)), quarantine=path)
    with pytest.raises(TooManyBadSamplesError, match="3 samples of 40"):
        strict[1]


def test_a_stream_has_no_quarantine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="iterable"):
        safe_of(iter([1.0]), quarantine=tmp_path / "bad.json")


class Arrays:
    def __init__(self, values: Any, files: Any = ()) -> None:
        self.values, self.files, self.epoch = values, files, 0

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return index


def test_a_fingerprint_is_the_same_for_the_same_data_and_another_for_other_data() -> None:
    values = np.arange(10_000.0)
    same = Arrays(values.copy(), ["a", "b"])
    same.epoch = 7
    fingerprint = fingerprint_of(Arrays(values, ["a", "b"]))
    assert fingerprint_of(same) == fingerprint
    others = [
        Arrays(values + 1, ["a", "b"]),
        Arrays(values.astype("f4"), ["a", "b"]),
        Arrays(values, ["a", "c"]),
        Arrays(values, ["a", "b", "c"]),
        Arrays(torch.from_numpy(values), ["a", "b"]),
        Arrays(values, [("a", 1), ("b", 2)]),
        Arrays({"x": values}, ["a", "b"]),
    ]
    told = [fingerprint_of(other) for other in others]
    assert len({fingerprint, *told}) == 8
    subsets = {fingerprint_of(Subset(same, indices)) for indices in ([0, 1], [1, 0], [0, 2], range(2))}  # type: ignore[arg-type]
    assert len(subsets) == 3
    assert fingerprint_of(ConcatDataset([Listed([1]), Listed([1])])) != fingerprint_of(ConcatDataset([Listed([1])]))


def test_a_dataset_can_define_its_fingerprint() -> None:
    one, other = Numbered(3), Numbered(4)
    one.fingerprint = other.fingerprint = "mine"  # type: ignore[attr-defined]
    assert fingerprint_of(one) == fingerprint_of(other)


class Trainer:
    """Refers to itself, as trainers do: only the garbage collector frees it."""

    def __init__(self, dataset: SafeDataset[Any]) -> None:
        self.me, self.dataset = self, dataset


def test_a_dataset_that_is_collected_while_the_file_is_locked_does_not_wait_for_the_lock(
    tmp_path: Path,
) -> None:
    file = tmp_path / "bad.json"
    quarantine = Quarantine(file, "known", "data", 20)
    data = TensorDataset(torch.tensor([[1.0], [float("nan")], [3.0], [float("inf")], *[[4.0]] * 16]))
    gc.disable()
    try:
        trainer = Trainer(SafeDataset(data, max_bad_fraction=0.9, quarantine=file, fingerprint="known"))
        with pytest.warns(BadSampleWarning):
            trainer.dataset[1]
        trainer.dataset[3]
        assert listed(file) == [1], "the second is written a little later"
        lock = trainer.dataset._tracker.recorder.event_log.thread_lock
        del trainer
    finally:
        gc.enable()
    done = threading.Event()

    def collect() -> None:
        with quarantine._locked():
            gc.collect()
        done.set()

    with lock:
        threading.Thread(target=collect, daemon=True).start()
        assert done.wait(10), "the finalizer waits for a lock, of the file or of the log"
    SafeDataset(data, max_bad_fraction=0.9, quarantine=file, fingerprint="known")
    assert listed(file) == [1, 3]


def test_a_dataset_that_is_collected_in_a_deep_recursion_is_saved_later(tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    data = TensorDataset(torch.tensor([[1.0], [float("nan")], [3.0], [float("inf")], *[[4.0]] * 16]))
    gc.disable()
    try:
        trainer = Trainer(SafeDataset(data, max_bad_fraction=0.9, quarantine=file, fingerprint="known"))
        with pytest.warns(BadSampleWarning):
            trainer.dataset[1]
        trainer.dataset[3]
        del trainer

        def collect_below(calls: int) -> None:
            if calls:
                collect_below(calls - 1)
            else:
                gc.collect()

        used = len(inspect.stack(0))
        collect_below(sys.getrecursionlimit() - used - 20)
    finally:
        gc.enable()
    SafeDataset(data, max_bad_fraction=0.9, quarantine=file, fingerprint="known")
    assert listed(file) == [1, 3]


CHANGES: list[tuple[str, Any]] = [
    ("code", "DC1"),
    ("code", None),
    ("index", -1),
    ("index", 10**400),
    ("index", "1"),
    ("findings", 3),
    ("origin", 3),
    ("origin", {"index": 1}),
    ("error", {"kind": 3, "message": "", "traceback": ""}),
    ("epoch", []),
    ("worker", "x"),
    ("verdict", "fine"),
    ("num_violations", "x"),
    ("examples", [3]),
    ("detail", None),
]


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_a_damaged_sample_is_refused_when_it_is_read(name: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    data = TensorDataset(torch.tensor([[1.0], [float("nan")]]))
    with pytest.warns(BadSampleWarning):
        SafeDataset(data, max_bad_fraction=1, quarantine=file).check()
    gc.collect()  # it saves once more
    record = json.loads(file.read_text())
    sample = record["samples"][0]
    (sample if name in sample else sample["findings"][0])[name] = value
    file.write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"bad\.json: not a quarantine file"):
        SafeDataset(data, max_bad_fraction=1, quarantine=file)
