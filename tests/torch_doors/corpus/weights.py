"""Defects in weights and buffers. The marked line is the first that reads the bad value, or overflows because of it."""

import torch
import torch.nn.functional as F
from torch import nn

from .program import Step, defect


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


@defect("parameter-not-finite", "parameter", "addmm", module="2")
def one_nan_weight():
    def loss_fn(model, batch):
        return model(batch).square().mean()  # BUG

    model = mlp()
    with torch.no_grad():
        model[2].weight[0, 3] = float("nan")
    return Step(loss_fn, model, torch.randn(5, 4))


@defect("parameter-not-finite", "parameter", module="encoder.embed")
def diverged_row_of_an_embedding():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(12, 4)

        def forward(self, tokens):
            return self.embed(tokens).mean(1)  # BUG

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder()
            self.head = nn.Linear(4, 1)

        def forward(self, tokens):
            return self.head(self.encoder(tokens))

    model = Net()
    with torch.no_grad():
        model.encoder.embed.weight[7] = float("inf")
    return Step(lambda m, b: m(b).mean(), model, torch.tensor([[1, 2], [7, 3], [4, 5]]))


@defect("parameter-not-finite", "parameter", module="Scale")
def parameter_made_with_empty_and_never_filled():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.empty(4).fill_(float("nan")))

        def forward(self, x):
            return x * self.scale  # BUG

    return Step(lambda m, b: m(b).mean(), Scale(), torch.randn(3, 4))


@defect("parameter-not-finite", "parameter", module="decoder")
def tied_weight_that_is_infinite():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = nn.Linear(4, 9, bias=False)
            self.embed = nn.Embedding(9, 4)
            self.embed.weight = self.decoder.weight

        def forward(self, tokens):
            hidden = self.embed(tokens)  # BUG
            return self.decoder(hidden)

    model = Net()
    with torch.no_grad():
        model.decoder.weight[2, 2] = float("-inf")
    tokens = torch.tensor([[2, 3], [1, 2]])
    return Step(lambda m, b: F.cross_entropy(m(b).flatten(0, 1), b.flatten()), model, tokens)


@defect("buffer-not-finite", "buffer", "native_batch_norm", module="1")
def poisoned_running_mean_in_evaluation():
    def loss_fn(model, batch):
        return model(batch).square().mean()  # BUG

    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)).eval()
    model[1].running_mean[2] = float("nan")
    return Step(loss_fn, model, torch.randn(5, 4))


@defect("buffer-not-finite", "buffer", module="scaler")
def feature_scaler_fitted_on_a_nan():
    class Scaler(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.1, float("nan"), 0.0, 0.2]))
            self.register_buffer("std", torch.ones(4))

        def forward(self, x):
            return (x - self.mean) / self.std  # BUG

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scaler = Scaler()
            self.linear = nn.Linear(4, 1)

        def forward(self, x):
            return self.linear(self.scaler(x))

    return Step(lambda m, b: m(b).mean(), Net(), torch.randn(3, 4))


@defect("division-by-zero", "forward", "div", module="scaler")
def feature_scaler_fitted_on_a_constant_column():
    class Scaler(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("std", torch.tensor([1.0, 0.0, 2.0]))

        def forward(self, x):
            return x / self.std  # BUG

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scaler = Scaler()
            self.linear = nn.Linear(3, 1)

        def forward(self, x):
            return self.linear(self.scaler(x))

    return Step(lambda m, b: m(b).mean(), Net(), torch.randn(3, 3))


@defect("buffer-not-finite", "buffer")
def positional_table_that_overflowed():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.exp(torch.arange(0, 200.0, 2)).view(25, 4))
            self.linear = nn.Linear(4, 1)

        def forward(self, x):
            return self.linear(x + self.table[: x.shape[1]])  # BUG

    return Step(lambda m, b: m(b).mean(), Net(), torch.randn(2, 25, 4))


@defect("learning-rate-too-high", "forward", "addmm", "mm")
def weights_that_grew_beyond_use():
    def loss_fn(model, batch):
        return model(batch).square().mean()  # BUG

    model = mlp()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e25)
    return Step(loss_fn, model, torch.randn(5, 4))


@defect("fully-masked-softmax", "forward", "softmax")
def causal_mask_buffer_with_a_window_of_nothing():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            mask = torch.triu(torch.full((5, 5), float("-inf")), 1)
            mask[2] = float("-inf")
            self.register_buffer("mask", mask)
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            scores = self.linear(x) @ x.transpose(1, 2) + self.mask
            return torch.softmax(scores, -1) @ x  # BUG

    return Step(lambda m, b: m(b).mean(), Net(), torch.randn(2, 5, 4))


@defect("parameter-not-finite", "parameter")
def learned_temperature_that_is_nan_in_a_loss_module():
    class Contrast(nn.Module):
        def __init__(self):
            super().__init__()
            self.temperature = nn.Parameter(torch.tensor(float("nan")))

        def forward(self, x):
            return (x @ x.T / self.temperature).logsumexp(-1).mean()  # BUG

    criterion = Contrast()

    def loss_fn(model, batch):
        return criterion(model(batch))

    return Step(loss_fn, nn.Linear(4, 4), torch.randn(3, 4))


@defect("division-by-zero", "forward", "div")
def weight_normalisation_of_a_zero_weight():
    class NormalisedLinear(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 4))

        def forward(self, x):
            weight = self.weight / self.weight.norm(dim=1, keepdim=True)  # BUG
            return F.linear(x, weight)

    return Step(lambda m, b: m(b).mean(), NormalisedLinear(), torch.randn(3, 4))
