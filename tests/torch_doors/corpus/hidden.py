"""Infinities that a division hides, and values that code in NumPy makes: torch sees a 0, or an array from nowhere."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .program import Step, defect


def ones(width: int, out: int) -> nn.Linear:
    layer = nn.Linear(width, out, bias=False)
    nn.init.ones_(layer.weight)
    return layer


@defect("exp-overflow", "loss", "exp", samples=(0,))
def normaliser_that_overflows_so_that_every_share_is_zero():
    def loss_fn(model, x):
        total = model(x).exp().sum(1, keepdim=True)  # BUG
        share = model(x) / total
        return share.abs().log().mean()

    return Step(loss_fn, ones(2, 3), torch.tensor([[60.0, 60], [1, 1], [1, 0]]))


@defect("division-by-zero", "loss", "div", "reciprocal")
def weights_of_classes_of_which_one_is_absent():
    def loss_fn(model, batch):
        counts = torch.bincount(batch["y"], minlength=4).float()
        weight = 1.0 / counts  # BUG
        weight = weight / weight.sum()
        return F.cross_entropy(model(batch["x"]), batch["y"], weight=weight)

    return Step(loss_fn, nn.Linear(3, 4), {"x": torch.randn(5, 3), "y": torch.tensor([0, 1, 0, 3, 1])})


@defect("input-not-finite", "input", samples=(1,), field="range")
def range_without_an_echo_becomes_an_inverse_of_zero():
    def loss_fn(model, batch):
        inverse = 1.0 / batch["range"]  # BUG
        return (model(inverse) + inverse.log()).mean()

    distance = torch.rand(4, 3) + 0.1
    distance[1, 2] = math.inf
    return Step(loss_fn, nn.Linear(3, 3), {"range": distance})


@defect("exp-overflow", "forward", "exp", samples=(1,), module="Gate")
def exponential_that_is_divided_by_itself():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = ones(1, 1)

        def forward(self, x):
            grown = torch.exp(self.layer(x))  # BUG
            inverse = 1 / grown
            return inverse * grown + inverse

    return Step(lambda model, x: model(x).sum(), Gate(), torch.tensor([[1.0], [100.0], [2.0]]))


@defect("log-of-zero-or-negative", "loss", "log")
def probability_of_an_action_that_a_mask_forbids():
    """The 0 comes from an infinity here too, but an intended one: the logarithm is at fault."""

    def loss_fn(model, batch):
        chance = model(batch["x"]).masked_fill(batch["illegal"], -math.inf).softmax(-1)
        return -chance.gather(1, batch["action"]).log().mean()  # BUG

    illegal = torch.tensor([[False, True, False]] * 4)
    action = torch.tensor([[0], [1], [2], [0]])
    return Step(loss_fn, nn.Linear(2, 3), {"x": torch.randn(4, 2), "illegal": illegal, "action": action})


@defect("bad-custom-backward", "backward")
def slope_in_numpy():
    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.root = np.sqrt(np.abs(x.detach().numpy()))
            return torch.from_numpy(ctx.root)

        @staticmethod
        def backward(ctx, gradient):
            incoming = gradient.numpy()
            with np.errstate(all="ignore"):
                slope = 0.5 / ctx.root  # BUG
            outgoing = incoming * slope
            return torch.from_numpy(outgoing)

    x = torch.rand(3, 2)
    x[1] = 0
    return Step(lambda model, x: Root.apply(model(x)).sum(), ones(2, 2), x)


@defect("bad-custom-backward", "backward")
def slope_in_numpy_returned_from_a_with():
    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.root = np.sqrt(np.abs(x.detach().numpy()))
            return torch.from_numpy(ctx.root)

        @staticmethod
        def backward(ctx, gradient):
            with np.errstate(all="ignore"):
                return torch.from_numpy(gradient.numpy() * 0.5 / ctx.root)  # BUG

    x = torch.rand(3, 2)
    x[1] = 0
    return Step(lambda model, x: Root.apply(model(x)).sum(), ones(2, 2), x)


@defect("constant-not-finite", "forward", samples=(1,), module="Logarithm")
def forward_in_numpy():
    class Log(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            with np.errstate(all="ignore"):
                values = np.log(x.detach().numpy())  # BUG
            return torch.from_numpy(values)

        @staticmethod
        def backward(ctx, gradient):
            return gradient / ctx.saved_tensors[0]

    class Logarithm(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = ones(2, 2)

        def forward(self, x):
            return Log.apply(self.layer(x))

    x = torch.rand(3, 2)
    x[1] = 0
    return Step(lambda model, x: model(x).sum(), Logarithm(), x)


@defect("constant-not-finite", "loss", samples=(2,))
def weights_of_samples_in_numpy():
    def loss_fn(model, batch):
        with np.errstate(all="ignore"):
            weight = 1 / batch["age"].numpy()  # BUG
        halved = weight / 2
        return (model(batch["x"]).squeeze(1) ** 2 * torch.from_numpy(halved)).mean()

    return Step(loss_fn, nn.Linear(2, 1), {"x": torch.randn(4, 2), "age": torch.tensor([1.0, 2, 0, 4])})


@defect("constant-not-finite", "loss")
def weights_of_classes_in_numpy():
    def loss_fn(model, batch):
        counts = np.bincount(batch["y"].numpy(), minlength=3).astype(np.float32)
        with np.errstate(all="ignore"):
            share = counts.sum() / counts  # BUG
        weight = torch.tensor(share)
        return F.cross_entropy(model(batch["x"]), batch["y"], weight=weight) + 0 * weight.sum()

    return Step(loss_fn, nn.Linear(2, 3), {"x": torch.randn(4, 2), "y": torch.tensor([0, 1, 1, 0])})


@defect("input-not-finite", "input", samples=(1,), field="y")
def missing_number_in_a_list_of_plain_ones():
    def loss_fn(model, batch):
        return F.mse_loss(model(batch["x"]), torch.tensor(batch["y"]))  # BUG

    return Step(loss_fn, nn.Linear(2, 1), {"x": torch.randn(3, 2), "y": [[1.0], [math.nan], [3.0]]})


@defect("constant-not-finite", "loss", "lift_fresh")
def empty_cell_that_is_read_as_nan():
    def loss_fn(model, batch):
        y = torch.tensor([float(cell) if cell else math.nan for cell in batch["y"]])  # BUG
        return F.mse_loss(model(batch["x"]).squeeze(1), y)

    return Step(loss_fn, nn.Linear(2, 1), {"x": torch.randn(3, 2), "y": ["1", "", "3"]})


@defect("fully-masked-softmax", "loss", "log_softmax", samples=(1,))
def mask_that_is_added_as_a_logarithm_and_keeps_nothing():
    def loss_fn(model, batch):
        scores = model(batch["x"]) + batch["keep"].log()
        return -scores.log_softmax(-1)[:, 0].mean()  # BUG

    keep = torch.ones(3, 4)
    keep[1] = 0
    return Step(loss_fn, nn.Linear(2, 4), {"x": torch.randn(3, 2), "keep": keep})
