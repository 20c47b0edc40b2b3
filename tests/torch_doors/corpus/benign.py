"""More harmless programs: bad values that are selected away, intended infinities, and infinite slopes times 0."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from .program import Step, harmless


def linear(width: int = 3, out: int = 2) -> nn.Linear:
    return nn.Linear(width, out)


@harmless
def penalty_below_one_on_a_pruned_weight():
    model = linear()
    with torch.no_grad():
        model.weight[1] = 0
    return Step(
        lambda model, x: model(x).mean() + torch.norm(model.weight, p=0.5, dim=1).sum(), model, torch.randn(4, 3)
    )


@harmless
def gradient_penalty_of_a_dead_critic():
    def loss_fn(model, real):
        x = real.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return ((gradient.norm(2, dim=1) - 1) ** 2).mean()

    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight.abs_()
    return Step(loss_fn, model, -torch.rand(4, 3))


@harmless
def entropy_whose_infinite_slope_a_relu_stops():
    model = nn.Linear(2, 3, bias=False)
    nn.init.ones_(model.weight)
    x = torch.rand(4, 2)
    x[0] = 0
    return Step(lambda model, x: torch.special.entr(F.relu(model(x))).sum(), model, x)


@harmless
def deviation_of_outputs_that_are_all_the_same():
    model = linear()
    nn.init.zeros_(model.weight)
    return Step(lambda model, x: model(x).std(0).sum(), model, torch.randn(4, 3))


@harmless
def rows_with_nan_are_left_out():
    x = torch.randn(4, 3)
    x[1, 1] = math.nan
    return Step(lambda model, x: model(x[~x.isnan().any(1)]).pow(2).mean(), linear(), x)


@harmless
def losses_that_are_not_finite_are_left_out():
    def loss_fn(model, x):
        losses = [model(row[None]).pow(2).mean() for row in x]
        return torch.stack([loss for loss in losses if torch.isfinite(loss)]).mean()

    x = torch.randn(4, 3)
    x[1, 1] = math.inf
    return Step(loss_fn, linear(), x)


@harmless
def kernel_of_infinite_distances():
    distance = torch.full((4, 4), math.inf)
    distance.fill_diagonal_(0)
    return Step(
        lambda model, batch: (torch.exp(-batch["d"]) @ model(batch["x"])).mean(),
        linear(),
        {"d": distance, "x": torch.randn(4, 3)},
    )


@harmless
def inverse_distances_with_an_infinite_diagonal():
    def loss_fn(model, x):
        hidden = model(x)
        distance = torch.cdist(hidden, hidden.detach() + 0.1)
        return (1 / distance.masked_fill(torch.eye(4, dtype=torch.bool), math.inf)).sum()

    return Step(loss_fn, linear(), torch.randn(4, 3))


@harmless
def least_cost_with_infinite_padding():
    def loss_fn(model, batch):
        return model(batch["x"]).squeeze(-1).masked_fill(batch["pad"], math.inf).min(1).values.mean()

    pad = torch.zeros(3, 4, dtype=torch.bool)
    pad[1, 2:] = True
    return Step(loss_fn, linear(2, 1), {"x": torch.randn(3, 4, 2), "pad": pad})


@harmless
def forward_algorithm_of_a_left_to_right_model():
    def loss_fn(model, x):
        score = torch.tensor([0.0, -math.inf, -math.inf])
        moves = torch.zeros(3, 3).masked_fill(torch.ones(3, 3).tril(-1).bool(), -math.inf)
        for emission in model(x):
            score = torch.logsumexp(score[:, None] + moves, 0) + emission
        return -torch.logsumexp(score, 0)

    return Step(loss_fn, linear(2, 3), torch.randn(5, 2))


@harmless
def gates_that_are_forced_open():
    def loss_fn(model, batch):
        gate = torch.where(batch["force"], math.inf, model(batch["x"])).sigmoid()
        return (gate * model(batch["x"])).mean()

    force = torch.tensor([[True, False]] * 4)
    return Step(loss_fn, linear(), {"x": torch.randn(4, 3), "force": force})


@harmless
def infinite_feature_that_is_squashed():
    x = torch.randn(4, 3)
    x[0, 0] = math.inf
    return Step(lambda model, x: model(torch.tanh(x)).pow(2).mean(), linear(), x)


@harmless
def query_without_keys_in_torchs_own_attention():
    def loss_fn(model, x):
        query = model(x)[:, None]
        mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
        mask[0, 0, 2] = False
        return F.scaled_dot_product_attention(query, query, query, attn_mask=mask).pow(2).mean()

    return Step(loss_fn, linear(4, 4), torch.randn(2, 5, 4))


@harmless
def unknown_entries_of_a_table_are_never_looked_up():
    def loss_fn(model, batch):
        table = torch.cat([batch["known"], torch.full((1, 3), math.nan)])
        return model(table[batch["row"]]).pow(2).mean()

    return Step(loss_fn, linear(), {"known": torch.randn(4, 3), "row": torch.tensor([0, 2, 3])})


@harmless
def infinite_slope_into_a_frozen_layer():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1))
    model[0].requires_grad_(False).weight.zero_()
    return Step(lambda model, x: model[1](model[0](x).abs().sqrt()).mean(), model, torch.randn(4, 1))


@harmless
def causal_mask_in_a_checkpointed_block():
    def block(layer, x):
        return (layer(x) + torch.triu(torch.full((3, 3), -math.inf), 1)).softmax(-1)

    return Step(
        lambda model, x: checkpoint(block, model, x, use_reentrant=False).pow(2).mean(), linear(3, 3), torch.randn(3, 3)
    )


@harmless
def bins_with_infinite_ends():
    edges = torch.tensor([-math.inf, 0.0, 1.0, math.inf])
    return Step(lambda model, x: model(torch.bucketize(x, edges)).pow(2).mean(), nn.Embedding(5, 2), torch.randn(4, 3))


@harmless
def overflow_in_half_that_is_only_counted():
    def loss_fn(model, x):
        narrow = (model(x) * 1e6).half().float().detach()
        return model(x).pow(2).mean() + narrow.isinf().float().mean()

    return Step(loss_fn, linear(), torch.randn(4, 3))
