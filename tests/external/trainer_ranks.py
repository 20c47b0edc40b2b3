"""Two gloo ranks train with one trainer; started by the test as ``python trainer_ranks.py TRAINER RANK FOLDER``."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

RANK = int(sys.argv[2])
os.environ.update(RANK=str(RANK), LOCAL_RANK=str(RANK), WORLD_SIZE="2", NODE_RANK="0", OMP_NUM_THREADS="1")

import torch  # noqa: E402
from torch.utils.data import DataLoader, DistributedSampler  # noqa: E402
from trainer_problem import BATCH_SIZE, Net, Problem, Samples, optimizer_of  # noqa: E402

import datacheck  # noqa: E402

#: Of 32 samples, rank 1 gets every other one, in order: sample 19 is in its third batch, at position 1.
BAD = 19


def train_lightning(options: dict[str, Any] | None) -> Any:
    from trainer_runs import lightning_module, lightning_trainer

    callbacks = [] if options is None else [datacheck.lightning.GuardCallback(**options)]
    trainer = lightning_trainer(Problem(clip=0.5), callbacks, devices=2, strategy="ddp", use_distributed_sampler=False)
    module, samples = lightning_module(), Samples(BAD if options else None)
    sampler: Any = DistributedSampler(samples, 2, RANK, shuffle=False)
    trainer.fit(module, DataLoader(samples, batch_size=BATCH_SIZE, sampler=sampler))
    return module.net, callbacks[0].guard if callbacks else None


def train_accelerate(options: dict[str, Any] | None) -> Any:
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True)
    plain = Net()
    optimizer, _ = optimizer_of(plain)
    samples = Samples(BAD if options else None)
    sampler: Any = DistributedSampler(samples, 2, RANK, shuffle=False)
    loader = DataLoader(samples, batch_size=BATCH_SIZE, sampler=sampler)
    model, optimizer = accelerator.prepare(plain, optimizer)
    guard = None if options is None else datacheck.accelerate.guard(accelerator, model, optimizer, **options)
    for batch in loader:
        loss = model(**batch)["loss"]
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return plain, guard


def train_transformers(options: dict[str, Any] | None) -> Any:
    import tempfile

    from trainer_runs import transformers_trainer

    problem = Problem(bad=BAD if options else None, clip=0.5)
    trainer = transformers_trainer(problem, tempfile.mkdtemp())
    # The batches of ranks alternate here, where those of a DistributedSampler alternate samples.
    order = [index for start in range(0, 32, 8) for rank in (0, 1) for index in range(start + rank, start + 8, 2)]
    trainer._get_train_sampler = lambda *_: order  # type: ignore[method-assign]
    guard = None if options is None else datacheck.transformers.guard(trainer, **options)
    trainer.train()
    return trainer.model, None if guard is None else guard.guard


def main(trainer: str, folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    train = globals()[f"train_{trainer}"]
    results = {}
    for name, options in {"plain": None, "guarded": {}, "skip": {"on_trip": "skip"}}.items():
        clean = name == "guarded"
        if clean:
            globals()["BAD"] = None
        model, guard = train(options)
        globals()["BAD"] = 19
        results[name] = {
            "weights": [value.double().tolist() for value in model.state_dict().values()],
            "findings": [] if guard is None else [finding.to_dict() for finding in guard.report().findings],
            "diagnoses": [] if guard is None else [one.to_dict() for one in guard.report().diagnoses],
        }
    (folder / f"{RANK}.json").write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[3]))
    os._exit(0)
