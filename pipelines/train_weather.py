"""Train a small model on the weather windows, with bad samples among them that never reach it.

    python pipelines/train_weather.py [--epochs 3] [--workers 2]

The windows are those that ``pipelines/weather.yaml`` cleaned; it is run first if it was not. Then damage is planted in 40
of them, of the kinds that a loader meets: a NaN, an infinity, a value beyond the schema, a window of the wrong length, a
file that cannot be read. Training goes on, its weights stay finite, and the report names each of the 40 with its fault and
the row of the original file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import datacheck
from datacheck.torch import SafeCollate, SafeDataset, SampleOrigin, batch_origins, open_dataset

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
NUM_PLANTED = 40

Sample = dict[str, torch.Tensor]


def with_value(value: float) -> Callable[[Sample], Sample]:
    """Damage that writes one value into a window."""

    def damage(sample: Sample) -> Sample:
        windows = sample["windows"].clone()
        windows[11, 4] = value
        return {**sample, "windows": windows}

    return damage


def cut_short(sample: Sample) -> Sample:
    return {**sample, "windows": sample["windows"][:20]}


def unreadable(sample: Sample) -> Sample:
    raise ValueError(f"the block of a window with target {sample['targets']:.0f} is corrupt")


#: The code that each kind of damage must be reported with.
DAMAGES: dict[str, Callable[[Sample], Sample]] = {
    "DC101": with_value(float("nan")),
    "DC102": with_value(float("inf")),
    "DC202": with_value(1048.0),
    "DC004": cut_short,
    "DC901": unreadable,
}


class Damaged(Dataset[Sample]):
    """A data set with damage planted at some indices, which ``planted`` has with the code of each."""

    def __init__(self, inner: Any, number: int) -> None:
        self.inner = inner
        places = torch.randperm(len(inner), generator=torch.Generator().manual_seed(0))[:number].sort().values
        codes = list(DAMAGES)
        self.planted = {int(place): codes[order % len(codes)] for order, place in enumerate(places)}

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Sample:
        sample: Sample = self.inner[index]
        return DAMAGES[self.planted[index]](sample) if index in self.planted else sample

    def origin(self, index: int) -> SampleOrigin:
        """Asked by SafeDataset: the file and the row of a sample."""
        origin: SampleOrigin = self.inner.origin(index)
        return origin


class Forecast(nn.Module):
    """The temperature of the next hour from 24 hours of weather."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(24 * 9, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Degrees Fahrenheit ``(batch,)`` for windows ``(batch, 24, 9)``."""
        change: torch.Tensor = self.layers((windows - self.mean) / self.scale).squeeze(1)
        return windows[:, -1, 0] + change


def main(argv: list[str] | None = None) -> int:
    """Train, report, and hold the report to what was planted; 0 where it is exact and the weights are finite."""
    parser = argparse.ArgumentParser(description="Train on the weather windows with bad samples among them.")
    parser.add_argument("--pipeline", type=Path, default=ROOT / "pipelines" / "weather.yaml")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    run = datacheck.run(str(options.pipeline))
    cleaned = open_dataset(run.output, split="train")
    damaged = Damaged(cleaned, NUM_PLANTED)

    safe: SafeDataset[Sample] = SafeDataset(
        damaged, schema=options.pipeline.parent.parent / "schemas" / "weather.yaml", name="weather"
    )
    loader = DataLoader(safe, batch_size=256, shuffle=True, num_workers=options.workers, collate_fn=SafeCollate())
    some = torch.stack([cleaned[index]["windows"] for index in range(0, len(cleaned), 50)])
    model = Forecast(some.mean((0, 1)), some.std((0, 1)) + 1e-3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(options.epochs):
        safe.set_epoch(epoch)
        total = torch.zeros(())
        for batch in loader:
            loss = (model(batch["windows"]) - batch["targets"]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        print(f"epoch {epoch}: {(total / len(loader)).sqrt():.2f} degrees from the truth")

    report = safe.report()
    print(f"\n{report}")
    origins = batch_origins(batch)
    if origins is not None:
        print(f"\nthe last batch began with {origins[0]}")
    found = {sample.index: sample.codes[0] for sample in report.samples}
    is_exact = found == damaged.planted
    is_finite = all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    print(
        f"\n{len(damaged.planted)} samples were damaged, and the report has {'exactly' if is_exact else 'NOT'} these; ",
        end="",
    )
    print("all weights are finite" if is_finite else "WEIGHTS ARE NOT FINITE")
    return 0 if is_exact and is_finite else 1


if __name__ == "__main__":
    sys.exit(main())
