"""Defects that came with the data. The marked line is the first that reads the bad value."""

from collections import UserDict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .program import Step, defect


@defect("input-not-finite", "input", "addmm", samples=(2, 5), field="x")
def nan_in_two_rows_of_a_dict():
    def loss_fn(model, batch):
        return F.mse_loss(model(batch["x"]), batch["y"])  # BUG

    x = torch.randn(8, 4)
    x[2, 1] = float("nan")
    x[5, 3] = float("inf")
    return Step(loss_fn, nn.Linear(4, 1), {"x": x, "y": torch.randn(8, 1)})


@defect("input-not-finite", "input", "mse_loss", "sub", samples=(3,), field="1")
def nan_in_the_target():
    def loss_fn(model, batch):
        x, y = batch
        return F.mse_loss(model(x), y)  # BUG

    y = torch.randn(6, 1)
    y[3] = float("nan")
    return Step(loss_fn, nn.Linear(4, 1), (torch.randn(6, 4), y))


@defect("input-not-finite", "input", "convolution", samples=(1,), field="image")
def one_pixel_of_one_image():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            x = self.conv(x)  # BUG
            return self.head(F.relu(self.norm(x)).mean((2, 3)))

    image = torch.rand(4, 3, 8, 8)
    image[1, 0, 3, 3] = float("nan")
    batch = {"image": image, "label": torch.tensor([0, 1, 1, 0])}
    return Step(lambda m, b: F.cross_entropy(m(b["image"]), b["label"]), Net(), batch)


@defect("input-not-finite", "input", "mm", "addmm", "clone", samples=(0,), field="series.values")
def gap_in_a_series_inside_a_dataclass():
    @dataclass
    class Series:
        values: torch.Tensor
        times: torch.Tensor

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(2, 6, batch_first=True)
            self.head = nn.Linear(6, 1)

        def forward(self, series):
            _, state = self.rnn(series.values)  # BUG
            return self.head(state[-1])

    values = torch.randn(3, 7, 2)
    values[0, 4, 0] = float("nan")
    batch = {"series": Series(values, torch.arange(21).view(3, 7)), "y": torch.randn(3, 1)}
    return Step(lambda m, b: F.mse_loss(m(b["series"]), b["y"]), Net(), batch)


@defect("input-not-finite", "input", "mul", samples=(4,), field="weight")
def infinite_sample_weight_in_a_named_tuple():
    class Batch(NamedTuple):
        x: torch.Tensor
        weight: torch.Tensor

    def loss_fn(model, batch):
        error = model(batch.x).square().squeeze(-1)
        return (error * batch.weight).sum()  # BUG

    weight = torch.ones(5)
    weight[4] = float("inf")
    return Step(loss_fn, nn.Linear(4, 1), Batch(torch.randn(5, 4), weight))


@defect("input-not-finite", "input", "_to_copy", "to_copy", samples=(1,), field="x")
def float64_features_from_pandas():
    def loss_fn(model, batch):
        x = batch["x"].float()  # BUG
        return model(x).square().mean()

    x = torch.randn(4, 3, dtype=torch.float64)
    x[1, 1] = float("nan")
    return Step(loss_fn, nn.Linear(3, 1), {"x": x})


@defect("input-not-finite", "input", samples=(2,), field="x")
def numpy_array_that_shares_its_memory():
    def loss_fn(model, batch):
        x = torch.from_numpy(batch["x"])
        return model(x * 2).square().mean()  # BUG

    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    x[2, 0] = np.nan
    return Step(loss_fn, nn.Linear(3, 1), {"x": x})


@defect("input-not-finite", "input", samples=(2,), field="x")
def numpy_array_that_is_copied():
    def loss_fn(model, batch):
        x = torch.tensor(batch["x"])  # BUG
        return model(x * 2).square().mean()

    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    x[2, 0] = np.nan
    return Step(loss_fn, nn.Linear(3, 1), UserDict({"x": x}))


@defect("input-not-finite", "input", "native_layer_norm", samples=(3,), field="x")
def nan_feature_beside_a_benign_nan_column():
    def loss_fn(model, batch):
        known = torch.nan_to_num(batch["optional"], nan=0.0)
        x = F.layer_norm(batch["x"], (4,))  # BUG
        return model(x + known).square().mean()

    optional = torch.randn(6, 4)
    optional[0] = float("nan")
    x = torch.randn(6, 4)
    x[3, 2] = float("nan")
    return Step(loss_fn, nn.Linear(4, 1), {"optional": optional, "x": x})


@defect("input-not-finite", "input", "embedding", "mul", "index_select", samples=(1,), field="value")
def missing_value_scales_an_embedding():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.head = nn.Linear(4, 1)

        def forward(self, index, value):
            hidden = self.embed(index) * value[..., None]  # BUG
            return self.head(hidden.sum(1))

    value = torch.rand(3, 2)
    value[1, 0] = float("nan")
    batch = {"index": torch.randint(0, 10, (3, 2)), "value": value}
    return Step(lambda m, b: m(b["index"], b["value"]).mean(), Net(), batch)


@defect("input-not-finite", "input", samples=(1,))
def a_list_of_samples_of_different_lengths():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 1)

        def forward(self, sequence):
            return self.linear(sequence).mean()  # BUG

    def loss_fn(model, batch):
        return torch.stack([model(sequence) for sequence in batch]).mean()

    batch = [torch.randn(3, 2), torch.randn(5, 2), torch.randn(4, 2)]
    batch[1][4, 1] = float("nan")
    return Step(loss_fn, Net(), batch)


@defect("log-of-zero-or-negative", "forward", "log", samples=(0, 2), field="price")
def log_of_a_price_of_zero_before_the_model():
    def loss_fn(model, batch):
        x = torch.log(batch["price"])  # BUG
        return model(x).square().mean()

    price = torch.rand(4, 3) + 1
    price[0, 1] = 0.0
    price[2, 2] = -1.0
    return Step(loss_fn, nn.Linear(3, 1), {"price": price})
