"""Harmless programs, full of NaN and infinities that never reach the loss or a gradient."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .program import Step, harmless

INF, NAN = float("inf"), float("nan")


def linear(width=4, out=4):
    return nn.Linear(width, out)


@harmless
def causal_mask_of_minus_infinity():
    def loss_fn(model, x):
        scores = model(x) @ x.transpose(1, 2) + torch.triu(torch.full((5, 5), -INF), 1)
        return (torch.softmax(scores, -1) @ x).mean()

    return Step(loss_fn, linear(), torch.randn(2, 5, 4))


@harmless
def masked_fill_of_some_keys():
    def loss_fn(model, batch):
        scores = model(batch["x"]).masked_fill(~batch["keep"], -INF)
        return F.cross_entropy(scores, batch["y"])

    keep = torch.tensor([[True, True, False, True]] * 3)
    return Step(loss_fn, linear(), {"x": torch.randn(3, 4), "keep": keep, "y": torch.tensor([0, 1, 3])})


@harmless
def transformer_layer_with_padding():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 3:] = True
    return Step(lambda m, b: m(b[0], src_key_padding_mask=b[1])[~b[1]].mean(), model, (torch.randn(3, 5, 8), padding))


@harmless
def normalise_a_zero_vector():
    def loss_fn(model, x):
        return F.normalize(model(x) * torch.tensor([[1.0], [0.0], [1.0]]), dim=-1).sum()

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def cosine_similarity_of_a_zero_vector():
    def loss_fn(model, x):
        return F.cosine_similarity(model(x) * 0, x).mean()

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def norm_of_a_zero_vector():
    return Step(lambda m, x: torch.linalg.vector_norm(m(x) * 0, dim=-1).mean(), linear(), torch.randn(3, 4))


@harmless
def max_pool_with_padding():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, stride=2, padding=1))
    return Step(lambda m, x: m(x).mean(), model, torch.randn(2, 1, 8, 8))


@harmless
def missing_targets_are_nan_and_selected_away():
    def loss_fn(model, batch):
        x, y = batch
        known = ~torch.isnan(y)
        return F.mse_loss(model(x)[known], y[known])

    y = torch.randn(3, 4)
    y[1, 2] = NAN
    return Step(loss_fn, linear(), (torch.randn(3, 4), y))


@harmless
def missing_inputs_are_replaced():
    def loss_fn(model, x):
        return model(torch.where(torch.isnan(x), torch.zeros_like(x), x)).mean()

    x = torch.randn(3, 4)
    x[0, 0] = NAN
    return Step(loss_fn, linear(), x)


@harmless
def nan_to_num_of_the_batch():
    x = torch.randn(3, 4)
    x[0, 0], x[1, 1], x[2, 2] = NAN, INF, -INF
    return Step(lambda m, b: m(torch.nan_to_num(b, nan=0.0, posinf=1.0, neginf=-1.0)).mean(), linear(), x)


@harmless
def nanmean_of_the_targets():
    def loss_fn(model, batch):
        x, y = batch
        return (model(x).mean() - torch.nanmean(y)).square()

    y = torch.randn(5)
    y[2] = NAN
    return Step(loss_fn, linear(), (torch.randn(5, 4), y))


@harmless
def double_where_is_the_right_way():
    def loss_fn(model, x):
        h = F.relu(model(x))
        safe = torch.where(h > 0, h, torch.ones_like(h))
        return torch.where(h > 0, torch.log(safe), torch.zeros_like(h)).mean()

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def ratio_computed_without_gradient_for_a_log():
    def loss_fn(model, x):
        out = model(x)
        with torch.no_grad():
            metric = (out / (out - out)).mean()
        assert not torch.isfinite(metric)
        return out.mean()

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def best_score_starts_at_infinity():
    def loss_fn(model, x):
        best = torch.tensor(INF)
        out = model(x)
        best = torch.minimum(best, out.square().mean())
        return best + out.mean()

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def running_maximum_from_minus_infinity():
    class Online(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            peak = torch.full((x.shape[0],), -INF)
            total = torch.zeros(x.shape[0])
            for column in self.linear(x).unbind(1):
                higher = torch.maximum(peak, column)
                total = total * torch.exp(peak - higher) + torch.exp(column - higher)
                peak = higher
            return peak + total.log()

    return Step(lambda m, x: m(x).mean(), Online(), torch.randn(3, 4))


@harmless
def batch_norm_of_a_constant_feature():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with torch.no_grad():
        model[0].weight.zero_()
    return Step(lambda m, x: m(x).square().mean(), model, torch.randn(3, 4))


@harmless
def kl_divergence_with_zeros_in_the_target():
    def loss_fn(model, batch):
        return F.kl_div(F.log_softmax(model(batch[0]), -1), batch[1], reduction="batchmean")

    return Step(loss_fn, linear(), (torch.randn(2, 4), torch.tensor([[1.0, 0, 0, 0], [0, 0.5, 0.5, 0]])))


@harmless
def binary_cross_entropy_of_extreme_logits():
    def loss_fn(model, x):
        return F.binary_cross_entropy_with_logits(model(x) * 1e6, torch.ones(3, 4))

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def binary_cross_entropy_of_saturated_probabilities():
    def loss_fn(model, x):
        return F.binary_cross_entropy(torch.sigmoid(model(x) * 1e4), torch.ones(3, 4))

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def unselected_expert_is_nan():
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.good, self.bad = linear(), linear()

        def forward(self, x):
            outputs = [self.good(x), (self.bad(x) * INF).detach()]
            return outputs[0]

    return Step(lambda m, x: m(x).mean(), Mixture(), torch.randn(3, 4))


@harmless
def auxiliary_head_without_a_loss():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = linear(), linear(4, 1)

        def forward(self, x):
            hidden = self.body(x)
            return {"main": self.head(hidden), "diagnostic": torch.log(hidden - hidden)}

    return Step(lambda m, x: m(x)["main"].mean(), TwoHeads(), torch.randn(3, 4))


@harmless
def ignored_targets_in_part():
    def loss_fn(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1], ignore_index=-1)

    return Step(loss_fn, linear(), (torch.randn(3, 4), torch.tensor([-1, 2, -1])))


@harmless
def padding_of_minus_infinity_before_a_maximum():
    def loss_fn(model, x):
        return F.pad(model(x), (1, 1), value=-INF).amax(-1).mean()

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def top_k_sampling_filter():
    def loss_fn(model, x):
        logits = model(x)
        kth = logits.topk(2).values[:, -1:]
        kept = torch.where(logits < kth, torch.full_like(logits, -INF), logits)
        return (torch.softmax(kept, -1) * torch.arange(4.0)).sum()

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def beam_search_scores_start_at_minus_infinity():
    def loss_fn(model, x):
        scores = torch.full((3, 4), -INF)
        scores[:, 0] = 0.0
        total = scores + F.log_softmax(model(x), -1)
        return -total.logsumexp(-1).mean()

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def uninitialised_buffer_that_is_written_first():
    def loss_fn(model, x):
        out = torch.empty(3, 4).fill_(NAN)
        out.copy_(x)
        return model(out).mean()

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def detached_perplexity_overflows():
    def loss_fn(model, x):
        loss = model(x).square().mean() * 1e4
        perplexity = torch.exp(loss.detach() + 1e4)
        assert math.isinf(perplexity.item())
        return loss

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def a_batch_field_that_the_model_never_reads():
    x = {"x": torch.randn(3, 4), "extra": torch.full((3,), NAN)}
    return Step(lambda m, b: m(b["x"]).mean(), linear(), x)


@harmless
def a_frozen_branch_with_an_infinite_weight():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.live, self.dead = linear(), linear()
            with torch.no_grad():
                self.dead.weight.fill_(INF)

        def forward(self, x):
            return self.live(x)

    return Step(lambda m, x: m(x).mean(), Net(), torch.randn(3, 4))


@harmless
def log_softmax_of_masked_logits_gathered_where_kept():
    def loss_fn(model, batch):
        logits = model(batch[0]).masked_fill(batch[1], -INF)
        return -F.log_softmax(logits, -1)[torch.arange(3), torch.tensor([0, 1, 0])].mean()

    mask = torch.tensor([[False, False, True, True]] * 3)
    return Step(loss_fn, linear(), (torch.randn(3, 4), mask))


@harmless
def angle_of_the_origin():
    def loss_fn(model, x):
        out = model(x) * 0
        return torch.atan2(out[:, 0], out[:, 1]).mean()

    return Step(loss_fn, linear(), torch.randn(3, 4))


@harmless
def square_root_of_a_relu():
    return Step(lambda m, x: torch.sqrt(F.relu(m(x) - 10)).mean(), linear(), torch.randn(3, 4))


@harmless
def clamp_of_an_infinite_ratio_of_constants():
    def loss_fn(model, batch):
        weight = (1.0 / batch[1]).clamp(max=10.0)
        return (model(batch[0]) * weight[:, None]).mean()

    return Step(loss_fn, linear(), (torch.randn(3, 4), torch.tensor([1.0, 0.0, 2.0])))


@harmless
def infinite_gradient_of_an_input_that_is_not_trained():
    def loss_fn(model, batch):
        x = batch.clone().requires_grad_()
        return model(batch).mean() + torch.sqrt(x.abs()).mean()

    batch = torch.randn(3, 4)
    batch[1, 2] = 0.0
    return Step(loss_fn, linear(), batch)


@harmless
def graph_normalisation_that_removes_infinities():
    def loss_fn(model, batch):
        x, degree = batch
        scale = degree.pow(-0.5)
        scale[scale == INF] = 0.0
        return (model(x) * scale[:, None]).mean()

    return Step(loss_fn, linear(), (torch.randn(4, 4), torch.tensor([1.0, 0.0, 2.0, 3.0])))


@harmless
def log_sum_exp_by_hand_of_a_masked_row():
    def loss_fn(model, x):
        scores = model(x).masked_fill(torch.arange(3)[:, None] == 1, -INF)
        peak = scores.max(-1, keepdim=True).values
        peak = torch.where(torch.isinf(peak), torch.zeros_like(peak), peak)
        powers = torch.exp(scores - peak)
        return (powers / (powers.sum(-1, keepdim=True) + 1e-9)).mean()

    return Step(loss_fn, linear(), torch.randn(3, 4))
