"""Defects in loss code: what is computed from the model's output."""

import torch
import torch.nn.functional as F
from torch import nn

from .program import Step, defect


def mlp(width_in=6, width_out=3):
    return nn.Sequential(nn.Linear(width_in, 16), nn.ReLU(), nn.Linear(16, width_out))


@defect("log-of-zero-or-negative", "loss", "log")
def cross_entropy_by_hand_from_saturated_probabilities():
    def loss_fn(model, batch):
        probabilities = torch.softmax(model(batch["x"]) * 100, dim=-1)
        picked = probabilities.gather(1, batch["y"][:, None])
        return -torch.log(picked).mean()  # BUG

    torch.manual_seed(1)
    return Step(loss_fn, mlp(), {"x": torch.randn(16, 6) * 20, "y": torch.randint(0, 3, (16,))})


@defect("log-of-zero-or-negative", "loss", "log")
def binary_cross_entropy_by_hand():
    def loss_fn(model, batch):
        p = torch.sigmoid(model(batch["x"]).squeeze(-1))
        y = batch["y"]
        return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()  # BUG

    return Step(loss_fn, mlp(6, 1), {"x": torch.randn(8, 6) * 500, "y": torch.ones(8)})


@defect("log-of-zero-or-negative", "loss", "log", samples=(5,))
def poisson_loss_of_a_rate_of_zero():
    def loss_fn(model, batch):
        rate = F.relu(model(batch["x"])).squeeze(-1) * batch["exposure"] + (batch["exposure"] > 0) * 0.1
        return (rate - batch["count"] * torch.log(rate)).mean()  # BUG

    exposure = torch.ones(8)
    exposure[5] = 0
    return Step(loss_fn, mlp(6, 1), {"x": torch.randn(8, 6), "exposure": exposure, "count": torch.full((8,), 3.0)})


@defect("log-of-zero-or-negative", "loss", "log", "xlogy")
def entropy_bonus_of_a_certain_policy():
    def loss_fn(model, batch):
        probabilities = torch.softmax(model(batch) * 1e4, dim=-1)
        entropy = -(probabilities * probabilities.log()).sum(-1)  # BUG
        return -entropy.mean()

    return Step(loss_fn, mlp(), torch.randn(5, 6))


@defect("log-of-zero-or-negative", "loss", "log")
def kl_divergence_from_a_distribution_with_a_hole():
    def loss_fn(model, batch):
        x, target = batch
        guess = F.softmax(model(x), dim=-1)
        return F.kl_div(target.log(), guess, reduction="batchmean")  # BUG

    target = torch.full((4, 3), 1 / 3)
    target[1] = torch.tensor([0.5, 0.5, 0.0])
    return Step(loss_fn, mlp(), (torch.randn(4, 6), target))


@defect("empty-reduction", "loss", "nll_loss_forward")
def every_target_ignored():
    def loss_fn(model, batch):
        return F.cross_entropy(model(batch["x"]), batch["y"], ignore_index=-100)  # BUG

    return Step(loss_fn, mlp(), {"x": torch.randn(4, 6), "y": torch.full((4,), -100)})


@defect("empty-reduction", "loss", "nll_loss_forward", module=None)
def a_criterion_module_with_class_weights_of_zero():
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, 0.0]))

    def loss_fn(model, batch):
        return criterion(model(batch["x"]), batch["y"])  # BUG

    return Step(loss_fn, mlp(), {"x": torch.randn(4, 6), "y": torch.full((4,), 2)})


@defect("empty-reduction", "loss", "mean")
def contrastive_loss_without_a_positive_pair():
    def loss_fn(model, batch):
        embedding = F.normalize(model(batch["x"]), dim=-1)
        same = batch["y"][:, None] == batch["y"][None, :]
        same.fill_diagonal_(False)
        similarity = embedding @ embedding.T
        return (1 - similarity[same]).mean() + similarity[~same].mean()  # BUG

    return Step(loss_fn, mlp(), {"x": torch.randn(4, 6), "y": torch.arange(4)})


@defect("division-by-zero", "loss", "div")
def masked_loss_divided_by_the_number_kept():
    def loss_fn(model, batch):
        error = (model(batch["x"]).squeeze(-1) - batch["y"]).square()
        return (error * batch["keep"]).sum() / batch["keep"].sum()  # BUG

    return Step(loss_fn, mlp(6, 1), {"x": torch.randn(5, 6), "y": torch.randn(5), "keep": torch.zeros(5)})


@defect("division-by-zero", "loss", "div", samples=(2, 6))
def relative_error_of_a_target_of_zero():
    def loss_fn(model, batch):
        prediction = model(batch["x"]).squeeze(-1)
        return ((prediction - batch["y"]).abs() / batch["y"].abs()).mean()  # BUG

    y = torch.rand(8) + 1
    y[2] = y[6] = 0
    return Step(loss_fn, mlp(6, 1), {"x": torch.randn(8, 6), "y": y})


@defect("division-by-zero", "loss", "div")
def dice_loss_of_two_empty_masks():
    def loss_fn(model, batch):
        guess = F.relu(model(batch["x"]) - 1e3)
        overlap = (guess * batch["mask"]).sum(-1)
        return (1 - 2 * overlap / (guess.sum(-1) + batch["mask"].sum(-1))).mean()  # BUG

    mask = torch.ones(4, 3)
    mask[2] = 0
    return Step(loss_fn, mlp(), {"x": torch.randn(4, 6), "mask": mask})


@defect("exp-overflow", "loss", "exp")
def importance_ratio_of_far_policies():
    def loss_fn(model, batch):
        log_probability = F.log_softmax(model(batch["x"]), -1).gather(1, batch["a"][:, None]).squeeze(-1)
        ratio = torch.exp(log_probability - batch["old"])  # BUG
        return -(ratio * batch["advantage"]).mean()

    old = torch.full((6,), -1.0)
    old[3] = -200.0
    batch = {"x": torch.randn(6, 6), "a": torch.randint(0, 3, (6,)), "old": old, "advantage": torch.randn(6)}
    return Step(loss_fn, mlp(), batch)


@defect("exp-overflow", "loss", "exp")
def gaussian_likelihood_with_a_predicted_log_variance():
    def loss_fn(model, batch):
        mean, log_variance = model(batch["x"]).chunk(2, dim=-1)
        precision = torch.exp(-log_variance)  # BUG
        return (precision * (mean - batch["y"]).square() + log_variance).mean()

    model = mlp(6, 2)
    with torch.no_grad():
        model[2].bias[1] = -120.0
    return Step(loss_fn, model, {"x": torch.randn(6, 6), "y": torch.randn(6, 1)})


@defect("domain-error", "loss", "ctc_loss", "_ctc_loss", samples=(1,))
def ctc_target_longer_than_its_input():
    def loss_fn(model, batch):
        log_probabilities = F.log_softmax(model(batch["x"]), dim=-1).transpose(0, 1)
        return F.ctc_loss(log_probabilities, batch["y"], batch["input_lengths"], batch["target_lengths"])  # BUG

    batch = {
        "x": torch.randn(3, 5, 6),
        "y": torch.randint(1, 3, (3, 7)),
        "input_lengths": torch.tensor([5, 5, 5]),
        "target_lengths": torch.tensor([2, 7, 2]),
    }
    return Step(loss_fn, mlp(), batch)


@defect("domain-error", "loss", "lgamma", "digamma")
def gamma_function_of_a_count_of_zero():
    def loss_fn(model, batch):
        shape = F.relu(model(batch["x"])).squeeze(-1) * 0 + batch["count"]
        return torch.lgamma(shape).mean()  # BUG

    return Step(loss_fn, mlp(6, 1), {"x": torch.randn(4, 6), "count": torch.tensor([1.0, 2.0, 0.0, 3.0])})


@defect("log-of-zero-or-negative", "loss", "log", "log1p")
def flow_with_a_negative_determinant():
    def loss_fn(model, batch):
        scale = model(batch["x"])
        log_determinant = torch.log1p(scale.sum(-1) * 0 + batch["d"])  # BUG
        return -log_determinant.mean()

    return Step(loss_fn, mlp(), {"x": torch.randn(4, 6), "d": torch.tensor([0.5, -1.0, 0.2, 0.1])})


@defect("log-of-zero-or-negative", "forward", "log")
def functional_code_without_any_module():
    weight = torch.randn(6, 1, requires_grad=True)
    x = torch.randn(8, 6)

    def loss_fn(weights, batch):
        score = (batch @ weights).clamp(min=0)
        return torch.log(score).mean()  # BUG

    return Step(loss_fn, weight, x)


@defect("constant-not-finite", "loss", "masked_fill", "fill", "full", "where", "nll_loss_forward")
def target_class_is_one_that_was_masked():
    def loss_fn(model, batch):
        logits = model(batch["x"]).masked_fill(~batch["allowed"], float("-inf"))  # BUG
        return F.cross_entropy(logits, batch["y"])

    allowed = torch.ones(4, 3, dtype=torch.bool)
    allowed[2, 1] = False
    return Step(loss_fn, mlp(), {"x": torch.randn(4, 6), "allowed": allowed, "y": torch.tensor([0, 1, 1, 2])})


@defect("empty-reduction", "loss", "min", "amin", "max", "amax")
def hardest_negative_when_there_is_none():
    def loss_fn(model, batch):
        embedding = model(batch["x"])
        distance = torch.cdist(embedding, embedding)
        negatives = distance.masked_fill(batch["y"][:, None] == batch["y"][None, :], float("inf"))
        hardest = negatives.amin(dim=1)  # BUG
        return F.relu(1.0 - hardest + distance.mean()).mean() + hardest.mean()

    return Step(loss_fn, mlp(), {"x": torch.randn(4, 6), "y": torch.zeros(4)})


@defect("variance-of-one", "loss", "std", "var")
def variance_regulariser_on_the_last_small_batch():
    def loss_fn(model, batch):
        embedding = model(batch)
        spread = embedding.var(dim=0)  # BUG
        return embedding.square().mean() + F.relu(1 - spread).mean()

    return Step(loss_fn, mlp(), torch.randn(1, 6))
