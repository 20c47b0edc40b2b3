"""Programs that two ranks run together, one after the other; started as ``python loader_ranks.py RANK FOLDER``."""

from __future__ import annotations

import datetime
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from loader_sets import Numbered
from torch.utils.data import DataLoader, DistributedSampler

from datacheck.errors import UsageError
from datacheck.torch import SafeCollate, SafeDataset, TooManyBadSamplesError, batch_origins
from datacheck.torch.loader import provenance


def forget_batches() -> None:
    """As in a process that made none yet."""
    provenance._batches.clear()
    provenance._num_batches = 0


def train(rank: int, folder: Path) -> dict[str, Any]:
    """Two epochs over a set with bad samples on both ranks, an all-reduce a batch as a training has it."""
    safe = SafeDataset(
        Numbered(60, nan=(3, 10, 11), broken=(40,)), max_bad_fraction=0.1, quarantine=folder / f"bad{rank}.json"
    )
    sampler: DistributedSampler[Any] = DistributedSampler(safe, shuffle=True, seed=5)
    loader = DataLoader(safe, batch_size=5, sampler=sampler, num_workers=1, multiprocessing_context="fork")
    given: list[list[int]] = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        safe.set_epoch(epoch)
        given.append([])
        for vectors, indices in loader:
            assert torch.isfinite(vectors).all()
            dist.all_reduce(vectors.sum())
            given[-1] += indices.tolist()
    safe.synchronize()
    report = safe.report()
    return {
        "given": given,
        "bad": report.bad_indices,
        "quarantine": [sample["index"] for sample in json.loads((folder / f"bad{rank}.json").read_text())["samples"]],
        "compact": len(safe.compact()),
    }


def cap(rank: int, folder: Path) -> dict[str, Any]:
    """Rank 1 alone has bad samples: 4 % of its own, 2 % of all. Both stop, at the same place."""
    safe = SafeDataset(Numbered(100, nan=(1, 3, 5)), max_bad_fraction=0.02)
    safe.synchronize()
    places = range(rank, 100, 2)
    steps = 0
    told = []
    try:
        for steps, index in enumerate(places):
            safe[index]
            dist.all_reduce(torch.ones(1))
            if steps % 10 == 9:
                safe.synchronize()
    except TooManyBadSamplesError as error:
        told.append(str(error))
    return {"steps": steps, "told": told}


def disagree(rank: int, folder: Path) -> dict[str, Any]:
    """Ranks that know of different bad samples do not compact."""
    safe = SafeDataset(Numbered(20, nan=(3,)), max_bad_fraction=1.0)
    safe[3 if rank else 4]
    told = []
    try:
        safe.compact()
    except UsageError as error:
        told.append(str(error))
    safe.synchronize()
    return {"told": told, "length": len(safe.compact()), "bad": safe.report().bad_indices}


def unsynchronized(rank: int, folder: Path) -> dict[str, Any]:
    """Nobody calls set_epoch or synchronize; only rank 1 has bad samples, 8 % of its own, 4 % of all. One epoch."""
    num_steps, raised = 0, []
    loaders: list[tuple[Any, int]] = [(DataLoader, 0), (DataLoader, 2)]
    if importlib.util.find_spec("torchdata"):
        from torchdata.stateful_dataloader import StatefulDataLoader

        loaders.append((StatefulDataLoader, 0))
    for make_loader, num_workers in loaders:
        safe = SafeDataset(Numbered(100, nan=(1, 3, 5, 7)), max_bad_fraction=0.02)
        sampler: DistributedSampler[Any] = DistributedSampler(safe, shuffle=False)
        loader = make_loader(safe, batch_size=5, sampler=sampler, num_workers=num_workers, collate_fn=SafeCollate())
        try:
            for vectors, _ in loader:
                dist.all_reduce(vectors.sum())
                num_steps += 1
        except TooManyBadSamplesError as error:
            raised.append(str(error))
    return {"loaders": len(loaders), "steps": num_steps, "raised": raised}


def over_and_over(rank: int, folder: Path) -> dict[str, Any]:
    """Persistent workers, epochs that are broken off by all ranks, and a loader that is asked again after its end."""
    safe = SafeDataset(Numbered(100, nan=(1, 3, 5, 7)), max_bad_fraction=0.05)
    sampler: DistributedSampler[Any] = DistributedSampler(safe, shuffle=True)
    loader = DataLoader(safe, batch_size=5, sampler=sampler, num_workers=1, persistent_workers=True)
    steps = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        batches = iter(loader)
        steps.append(0)
        for vectors, _ in batches:
            dist.all_reduce(vectors.sum())
            steps[-1] += 1
            if epoch == 1 and steps[-1] == 3:
                break
        if rank and epoch != 1:
            steps[-1] += sum(1 for _ in batches)
    return {"steps": steps, "bad": safe.report().bad_indices}


def alone(rank: int, folder: Path) -> dict[str, Any]:
    """A sampler that nobody knows to be that of all ranks: each rank judges its own samples."""
    told = []
    for num_workers in (0, 1):
        safe = SafeDataset(Numbered(100, nan=(1, 3, 5, 7)), max_bad_fraction=0.02)
        loader = DataLoader(safe, batch_size=5, sampler=range(rank, 100, 2), num_workers=num_workers)
        try:
            told.append(sum(1 for _ in loader))
        except TooManyBadSamplesError as error:
            told.append(str(error))
    return {"told": told}


def dispatched(rank: int, folder: Path) -> dict[str, Any]:
    """Rank 0 loads for both and sends the batches, as Accelerate does with ``dispatch_batches``."""
    forget_batches()
    safe = SafeDataset(Numbered(20, nan=(3,)), max_bad_fraction=1.0)
    loader = DataLoader(safe, batch_size=5, collate_fn=SafeCollate())
    origins = []
    batches = iter(loader)
    for _ in range(2):
        batch = [torch.cat(parts) for parts in zip(next(batches), next(batches), strict=True)] if rank == 0 else []
        vectors, indices = batch if rank == 0 else (torch.empty(10, 4), torch.empty(10, dtype=torch.int64))
        dist.broadcast(vectors, 0)
        dist.broadcast(indices, 0)
        found = batch_origins((vectors[5 * rank :][:5].clone(), indices[5 * rank :][:5].clone()))
        origins.append(None if found is None else [origin.index for origin in found])
    return {"origins": origins, "report": str(safe.report())}


PROGRAMS: dict[str, Callable[[int, Path], dict[str, Any]]] = {
    "train": train,
    "cap": cap,
    "disagree": disagree,
    "unsynchronized": unsynchronized,
    "over_and_over": over_and_over,
    "alone": alone,
    "dispatched": dispatched,
}


def main(rank: int, folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    results = {name: program(rank, folder) for name, program in PROGRAMS.items()}
    (folder / f"results{rank}.json").write_text(json.dumps(results))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
