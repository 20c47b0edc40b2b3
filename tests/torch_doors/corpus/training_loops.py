"""Defects that need several steps to show: in the optimizer, the learning rate, or the dynamics. The guard meets them."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .program import Training, training_defect

INF = float("inf")


def batches(num=400, rows=16, width=4):
    for _ in range(num):
        x = torch.randn(rows, width)
        yield {"x": x, "y": x.sum(1, keepdim=True) + 0.1 * torch.randn(rows, 1)}


def regression(model, batch):
    return F.mse_loss(model(batch["x"]), batch["y"])


def mlp(width=4, out=1):
    return nn.Sequential(nn.Linear(width, 16), nn.Tanh(), nn.Linear(16, out))


@training_defect("learning-rate-too-high")
def sgd_with_a_rate_of_ten():
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    return Training(model, torch.optim.SGD(model.parameters(), lr=10.0), regression, batches())


@training_defect("learning-rate-too-high")
def sgd_just_beyond_the_edge_of_stability():
    model = nn.Linear(4, 1)
    return Training(model, torch.optim.SGD(model.parameters(), lr=1.8), regression, batches())


@training_defect("learning-rate-too-high")
def momentum_that_adds_up():
    model = nn.Linear(4, 1)
    return Training(model, torch.optim.SGD(model.parameters(), lr=0.9, momentum=0.99), regression, batches())


@training_defect("learning-rate-too-high")
def warm_up_that_never_stops():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=1.1)
    return Training(model, optimizer, regression, batches(), scheduler)


@training_defect("optimizer-epsilon", phase="optimizer")
def adam_without_an_epsilon():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(8, 1))

    def tokens():
        for _ in range(5):
            yield {"x": torch.randint(0, 5, (8, 2)), "y": torch.randn(8, 1)}

    return Training(model, torch.optim.Adam(model.parameters(), lr=1e-3, eps=0.0), regression, tokens())


@training_defect("optimizer-epsilon", phase="optimizer")
def adam_on_half_weights_with_the_usual_epsilon():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)).half()
    with torch.no_grad():
        model[0].bias.fill_(-50.0)

    def loss_fn(model, batch):
        return F.mse_loss(model(batch["x"].half()).float(), batch["y"])

    return Training(model, torch.optim.Adam(model.parameters(), lr=1e-3, foreach=False), loss_fn, batches(5))


@training_defect("exploding-gradient", phase="backward")
def recurrence_that_explodes_on_one_long_sequence():
    class Recurrence(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.full((4,), 8.0))

        def forward(self, x):
            state = torch.zeros(x.shape[0], 4)
            for step in range(x.shape[1]):
                state = torch.sin(self.gain * state + x[:, step])
            return state.mean(1, keepdim=True)

    def sequences():
        for step in range(40):
            length = 800 if step == 30 else 6
            yield {"x": torch.randn(8, length, 4), "y": torch.zeros(8, 1)}

    model = Recurrence()
    return Training(model, torch.optim.SGD(model.parameters(), lr=1e-4), regression, sequences())


@training_defect("input-not-finite", phase="input")
def one_bad_batch_among_good_ones():
    def spoiled():
        for step, batch in enumerate(batches(20)):
            if step == 12:
                batch["x"][5, 2] = math.nan
            yield batch

    model = mlp()
    return Training(model, torch.optim.AdamW(model.parameters(), lr=1e-3), regression, spoiled())


@training_defect("not-reproducible")
def a_fault_that_comes_from_outside_the_step():
    calls = []

    def loss_fn(model, batch):
        calls.append(1)
        return regression(model, batch) * (INF if len(calls) == 7 else 1.0)

    model = mlp()
    return Training(model, torch.optim.AdamW(model.parameters(), lr=1e-3), loss_fn, batches(20))


@training_defect("exp-overflow", phase="loss")
def a_count_whose_rate_is_beyond_float32():
    def loss_fn(model, batch):
        log_rate = model(batch["x"])
        return (log_rate.exp() - batch["y"].abs() * log_rate).mean()

    def outlier():
        for step, batch in enumerate(batches(20)):
            if step == 12:
                batch["x"][5] = 1e5
            yield batch

    model = nn.Linear(4, 1)
    nn.init.constant_(model.weight, 0.1)
    return Training(model, torch.optim.SGD(model.parameters(), lr=1e-3), loss_fn, outlier())


@training_defect("log-of-zero-or-negative", phase="loss")
def a_probability_that_became_zero_in_a_run_that_went_well():
    def loss_fn(model, batch):
        probability = torch.softmax(model(batch["x"]), dim=-1)
        return -torch.log(probability[:, 0]).mean()

    def outlier():
        for step, batch in enumerate(batches(20)):
            if step == 12:
                batch["x"][5] = -1e5
            yield batch

    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight[0], model.weight[1] = 0.1, -0.1
    return Training(model, torch.optim.SGD(model.parameters(), lr=1e-3), loss_fn, outlier())
