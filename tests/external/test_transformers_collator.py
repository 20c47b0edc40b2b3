"""The origins of samples survive the collator that Transformers puts around the user's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from datacheck.torch import SafeCollate, SafeDataset, batch_origins

utils = pytest.importorskip("transformers.trainer_utils")


class Rows(Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": torch.full((2,), float(index)), "index": index, "text": "dropped by the trainer"}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_trainers_own_collator_keeps_the_origins(num_workers: int) -> None:
    collate = utils.RemoveColumnsCollator(SafeCollate(), ["x", "index"])
    context = "fork" if num_workers else None
    loader: DataLoader[Any] = DataLoader(
        SafeDataset(Rows()), batch_size=6, num_workers=num_workers, multiprocessing_context=context, collate_fn=collate
    )
    found = [[one.index for one in batch_origins(batch) or ()] for batch in loader]
    assert found == [list(range(start, start + 6)) for start in range(0, 24, 6)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_warning_points_at_the_line_that_trains(tmp_path: Path, num_workers: int) -> None:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM.format(num_workers=num_workers, folder=str(tmp_path)))
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=120, check=True)
    line = 1 + program.read_text().splitlines().index("trainer.train()")
    assert f"{program}:{line}: BadSampleWarning: " in done.stderr


PROGRAM = """
import torch
from transformers import Trainer, TrainingArguments
from datacheck.torch import SafeDataset

class Model(torch.nn.Linear):
    def forward(self, x, labels):
        return {{"loss": (super().forward(x) - labels).square().mean()}}

rows = [{{"x": torch.ones(4), "labels": torch.ones(1)}} for _ in range(8)]
rows[2]["x"][0] = torch.nan
options = dict(num_train_epochs=1, report_to=[], use_cpu=True, save_strategy="no", dataloader_num_workers={num_workers})
dataset = SafeDataset(rows, max_bad_fraction=1.0)
trainer = Trainer(Model(4, 1), TrainingArguments({folder!r}, **options), train_dataset=dataset)
trainer.train()
"""
