"""Defects in code that relies on the batch size, raises, nests transforms, or multiplies by a value that happens to be 0."""

import torch
import torch.nn.functional as F
from torch import nn

from .program import Step, defect


@defect("division-by-zero", "loss", "div", samples=(1,))
def contrastive_pairs_of_a_fixed_batch():
    def loss_fn(model, x):
        z = model(x)
        z = z / z.norm(dim=1, keepdim=True)  # BUG
        return F.cross_entropy(z @ z.T / 0.1, torch.arange(5))

    x = torch.rand(5, 4) + 0.1
    x[1] = 0
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight.abs_()
    return Step(loss_fn, model, x)


@defect("input-not-finite", "input", samples=(1,), field="x")
def distribution_that_refuses_its_parameters():
    def loss_fn(model, batch):
        logits = model(batch["x"])  # BUG
        return -torch.distributions.Categorical(logits=logits).log_prob(batch["action"]).mean()

    x = torch.randn(4, 3)
    x[1, 0] = float("nan")
    return Step(loss_fn, nn.Linear(3, 4), {"x": x, "action": torch.arange(4)})


@defect("sqrt-gradient-at-zero", "loss", "sqrt", samples=(1,))
def force_of_an_energy_at_rest():
    def loss_fn(model, x):
        def energy(position):
            return (model(position) ** 2).sum().sqrt()  # BUG

        return torch.vmap(torch.func.grad(energy))(x).pow(2).mean()

    x = torch.randn(4, 3)
    x[1] = 0
    return Step(loss_fn, nn.Linear(3, 3, bias=False), x)


@defect("sqrt-gradient-at-zero", "backward", "sqrt", samples=(2,))
def root_times_a_trained_factor_of_zero():
    def loss_fn(model, x):
        hidden = model(x)
        return (hidden * hidden.norm(dim=-1, keepdim=True).sqrt()).sum()  # BUG

    x = torch.randn(4, 3)
    x[2] = 0
    return Step(loss_fn, nn.Linear(3, 3, bias=False), x)


@defect("sqrt-gradient-at-zero", "backward", "pow", samples=(2,))
def focal_loss_of_a_certain_sample():
    def loss_fn(model, batch):
        log_p = F.log_softmax(model(batch["x"]), -1)[torch.arange(len(batch["y"])), batch["y"]]
        weight = (1 - log_p.exp()) ** 0.5  # BUG
        return -(weight * log_p).mean()

    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 0]]))
        model.bias.zero_()
    x = torch.randn(4, 3)
    x[2, 0] = 200
    return Step(loss_fn, model, {"x": x, "y": torch.zeros(4, dtype=torch.long)})


@defect("log-of-zero-or-negative", "forward", "log", samples=(2,), field="price")
def log_of_returns_of_a_worthless_share():
    def loss_fn(model, batch):
        returns = torch.log(batch["price"][:, 1:] / batch["price"][:, :-1])  # BUG
        return F.mse_loss(model(returns), batch["target"])

    price = torch.rand(5, 10) + 1
    price[2, 4] = 0
    return Step(loss_fn, nn.Linear(9, 1), {"price": price, "target": torch.randn(5, 1)})


@defect("division-by-zero", "forward", "div", field="x")
def standardised_constant_column():
    def loss_fn(model, batch):
        x = batch["x"]
        z = (x - x.mean(0)) / x.std(0)  # BUG
        return F.cross_entropy(model(z), batch["label"])

    x = torch.randn(16, 4)
    x[:, 3] = 1.0
    return Step(loss_fn, nn.Linear(4, 2), {"x": x, "label": torch.randint(2, (16,))})


@defect("division-by-zero", "loss", "div", samples=(1,))
def dice_of_an_empty_mask():
    def loss_fn(model, batch):
        prediction = (model(batch["image"]) > 1e3).float() + 0 * model(batch["image"])
        inside = (prediction * batch["mask"]).sum(1)
        return (1 - 2 * inside / (prediction.sum(1) + batch["mask"].sum(1))).mean()  # BUG

    mask = torch.ones(3, 6)
    mask[1] = 0
    return Step(loss_fn, nn.Linear(4, 6), {"image": torch.rand(3, 4), "mask": mask})
