"""The origins of samples survive the collator that Transformers puts around the user's own."""

from __future__ import annotations

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
