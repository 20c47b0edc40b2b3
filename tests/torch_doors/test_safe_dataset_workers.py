"""Reports and replacements across processes: forked, spawned, persistent, killed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from loader_sets import Batched, BatchedKillsItsWorker, Flaky, KillsItsWorker, Numbered, ending, indices_of, safe_of
from torch.utils.data import ConcatDataset, DataLoader, Subset, WeightedRandomSampler, random_split

from datacheck.torch import SafeCollate, SafeDataset, batch_origins
from datacheck.torch.loader.event_log import EventLog

pytestmark = [
    pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning"),
    # Python 3.12 warns of forking a process that has threads, as torch has them.
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]

BAD = {"nan": (3, 17, 41), "broken": (28,)}
ALL_BAD = (3, 17, 28, 41)


def event_log_folder(safe: SafeDataset[Any]) -> Path:
    return safe._tracker.recorder.event_log.folder


@pytest.fixture(scope="module")
def in_one_process() -> list[int]:
    return indices_of(DataLoader(safe_of(Numbered(60, **BAD)), batch_size=8))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("context", "kind"), [("fork", Numbered), ("fork", Batched), ("spawn", Numbered), ("forkserver", Batched)]
)
def test_every_bad_sample_of_any_worker_is_reported_and_replaced_alike(
    context: str, kind: type[Numbered], in_one_process: list[int]
) -> None:
    safe = safe_of(kind(60, **BAD))
    loader = DataLoader(
        safe,
        batch_size=8,
        num_workers=2,
        multiprocessing_context=context,
        persistent_workers=True,
        collate_fn=SafeCollate(),
    )
    first = indices_of(loader)
    report = safe.report()
    assert first == in_one_process
    assert report.bad_indices == ALL_BAD
    assert report.counts["seen"] == 60
    assert report.counts["replaced"] == 4
    assert {sample.worker for sample in report.samples} <= {0, 1}
    (raised,) = (sample for sample in report.samples if sample.index == 28)
    assert raised.error is not None
    assert (raised.error.kind, raised.error.message) == ("ValueError", "no sample 28")
    assert "Traceback" in raised.error.traceback
    assert "loader_sets.py" in raised.error.traceback
    # The next epoch in the same workers: the same samples, drawn anew for the epoch that the main process set.
    safe.set_epoch(1)
    second = indices_of(loader)
    assert [place for place in range(60) if second[place] != place] == list(ALL_BAD)
    assert [second[place] for place in ALL_BAD] != [first[place] for place in ALL_BAD]
    assert safe.report().counts["replaced"] == 8
    for batch in loader:
        origins = batch_origins(batch)
        assert origins is not None
        assert [origin.index for origin in origins] == batch[1].tolist()


def test_workers_do_not_load_samples_known_before_the_fork(tmp_path: Path) -> None:
    safe = safe_of(Numbered(60, **BAD))
    safe.check(num_workers=2, multiprocessing_context="fork")
    assert safe.report().bad_indices == ALL_BAD
    epoch = indices_of(DataLoader(safe, batch_size=8, num_workers=2))
    assert [place for place in range(60) if epoch[place] != place] == list(ALL_BAD)
    assert len(safe.report().samples) == 4


def test_a_killed_worker_loses_no_report() -> None:
    safe = safe_of(KillsItsWorker(60, last=50, **BAD))
    loader = DataLoader(safe, batch_size=2, num_workers=1, prefetch_factor=1)
    with ending(loader) as batches, pytest.raises(RuntimeError, match=r"killed|exited unexpectedly"):
        list(batches)
    report = safe.report()
    assert report.bad_indices == ALL_BAD
    assert report.counts["seen"] >= 50
    # Whatever killed it, the sample that it was loading is named, in this report and in later ones.
    for found in (report, safe.report()):
        (killed,) = (sample for sample in found.samples if sample.verdict == "killed")
        assert killed.index == 50
        assert killed.message == (
            "sample 50: DC901 cannot be read: the process that was loading it was killed (KillsItsWorker, row 50)"
        )


def test_a_later_worker_reports_what_killed_an_earlier_one() -> None:
    safe = safe_of(BatchedKillsItsWorker(60, last=50))
    loader = DataLoader(safe, batch_size=4, num_workers=1, prefetch_factor=1, multiprocessing_context="fork")
    # Which error torch raises depends on what the main process did when the worker was killed.
    with ending(loader) as batches, pytest.raises((RuntimeError, OSError, EOFError)):
        list(batches)
    with ending(loader) as batches:
        next(batches)
    (killed,) = safe.report().samples
    assert (killed.index, killed.codes) == (48, ("DC901",))
    assert "or another sample of its batch of 4, was killed" in killed.message


def test_half_a_line_of_a_killed_worker_is_ignored() -> None:
    safe = safe_of(Numbered(60, **BAD))
    safe[3]
    folder = event_log_folder(safe)
    with (folder / "slot-007.jsonl").open("ab") as file:
        file.write(b'{"index": 9, "verdict": "ba')
    safe[17]
    assert safe.report().bad_indices == (3, 17)


def test_there_are_no_more_files_after_many_epochs() -> None:
    safe = safe_of(Numbered(20, nan=(3,)))
    loader = DataLoader(safe, batch_size=5, num_workers=2, multiprocessing_context="fork")
    sizes = []
    for _ in range(5):
        indices_of(loader)
        files = list(event_log_folder(safe).iterdir())
        sizes.append((len(files), sum(file.stat().st_size for file in files if file.suffix == ".jsonl")))
    assert sizes[-1] == sizes[1]
    assert safe.report().counts["seen"] == 100


def test_a_transient_error_in_a_worker_is_retried(tmp_path: Path) -> None:
    safe = safe_of(Flaky(20, 7, tmp_path / "seen"))
    assert indices_of(DataLoader(safe, batch_size=5, num_workers=1)) == list(range(20))
    assert not safe.report().samples
    assert safe.report().counts["retried"] == 0  # the look after the first one went well at once


@pytest.mark.parametrize("num_workers", [0, 1])
def test_samplers_and_wrapping_datasets_work(num_workers: int) -> None:
    safe = safe_of(Numbered(40, nan=(5, 30)))
    part, _ = random_split(ConcatDataset([safe, Numbered(10)]), [40, 10], torch.Generator().manual_seed(1))
    sampler = WeightedRandomSampler(torch.ones(40).tolist(), 200, generator=torch.Generator().manual_seed(2))
    loader = DataLoader(Subset(part, range(40)), batch_size=16, sampler=sampler, num_workers=num_workers)
    assert all(torch.isfinite(vectors).all() for vectors, _ in loader)
    assert sum(len(indices) for _, indices in loader) == 200
    assert set(safe.report().bad_indices) <= {5, 30}


def test_the_folder_is_deleted_with_the_dataset() -> None:
    safe = safe_of(Numbered(5, nan=(1,)))
    safe[1]
    folder = event_log_folder(safe)
    assert folder.is_dir()
    del safe
    gc.collect()
    assert not folder.exists()


def test_a_deleted_folder_is_created_again() -> None:
    event_log = EventLog()
    for path in event_log.folder.iterdir():
        path.unlink()
    event_log.folder.rmdir()
    event_log.require_attached()
    with event_log.locked():
        event_log.append({"index": 1})
    assert [record for record, _ in event_log.read(again=True)] == [{"index": 1}]


MEMORY = """
import gc, sys, tracemalloc, warnings
from pathlib import Path
from datacheck.torch import SafeDataset

warnings.simplefilter("ignore")

class Huge:
    def __len__(self):
        return 10_000_000
    def __getitem__(self, index):
        return float("nan") if index % 10_000 == 0 else float(index)

def run_epochs(number):
    for index in [index for _ in range(number) for index in range(0, 10_000_000, 10_000)]:
        safe[index]
    gc.collect()
    return tracemalloc.get_traced_memory()[0]

tracemalloc.start()
safe = SafeDataset(Huge(), max_bad_fraction=1)
first = run_epochs(2)
good = safe.compact()
assert len(good) == 10_000_000 - 1000 and good[0] == 1.0
log = safe._tracker.recorder.event_log.folder / "slot-000.jsonl"
size = log.stat().st_size
print(first, run_epochs(3), size, log.stat().st_size)
"""


@pytest.mark.slow
def test_memory_is_that_of_the_bad_samples_and_does_not_grow(run_python: Callable[[str], str]) -> None:
    first, later, log_first, log_later = map(int, run_python(MEMORY).split())
    assert first < 16 << 20
    assert later - first < 1 << 18
    assert log_first == log_later < 2 << 20
