"""Defects whose loss is finite: only a gradient is not."""

import torch
import torch.nn.functional as F
from torch import nn

from .program import Step, defect


def mlp(out=3):
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, out))


@defect("masked-branch-gradient", "backward", "log", samples=(1,))
def where_picks_the_finite_branch():
    def loss_fn(model, batch):
        x = model(batch["x"]).squeeze(-1).abs() * batch["on"]
        return torch.where(x > 0, torch.log(x), torch.zeros_like(x)).mean()  # BUG

    on = torch.ones(4)
    on[1] = 0
    return Step(loss_fn, mlp(1), {"x": torch.randn(4, 4), "on": on})


@defect("masked-branch-gradient", "backward", "div")
def where_guards_a_division():
    def loss_fn(model, batch):
        total = torch.sigmoid(model(batch["x"])) * batch["present"]
        count = total.sum(-1)
        ratio = total[:, 0] / count  # BUG
        return torch.where(count > 0, ratio, torch.zeros_like(ratio)).mean() + total.mean()

    present = torch.ones(4, 3)
    present[2] = 0
    return Step(loss_fn, mlp(), {"x": torch.randn(4, 4), "present": present})


@defect("masked-branch-gradient", "backward", "exp")
def where_guards_an_exponential():
    class SafeExp(nn.Module):
        def forward(self, x):
            return torch.where(x < 20, torch.exp(x), x)  # BUG

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 4)
            self.act = SafeExp()

        def forward(self, x):
            return self.act(self.body(x) * 1e4)

    return Step(lambda m, b: m(b).mean(), Net(), torch.randn(3, 4))


@defect("masked-branch-gradient", "backward", "sqrt", "pow", samples=(2,))
def mask_multiplied_after_a_root():
    def loss_fn(model, batch):
        energy = model(batch["x"]).square().sum(-1) * batch["keep"]
        return (torch.sqrt(energy) * batch["keep"]).sum()  # BUG

    keep = torch.ones(4)
    keep[2] = 0
    return Step(loss_fn, mlp(), {"x": torch.randn(4, 4), "keep": keep})


@defect("masked-branch-gradient", "backward", "log")
def indexing_drops_the_bad_rows_after_the_log():
    def loss_fn(model, batch):
        p = F.relu(model(batch["x"])).sum(-1) * batch["valid"]
        log_p = torch.log(p + 0.0)  # BUG
        return log_p[batch["valid"] > 0].mean()

    model = mlp()
    with torch.no_grad():
        model[2].bias.fill_(5.0)
    return Step(loss_fn, model, {"x": torch.randn(4, 4), "valid": torch.tensor([1.0, 0.0, 1.0, 1.0])})


@defect("masked-branch-gradient", "backward", "acos", "asin")
def where_guards_an_angle():
    def loss_fn(model, batch):
        cosine = torch.tanh(model(batch) * 100)
        angle = torch.acos(cosine)  # BUG
        return torch.where(cosine.abs() < 0.999, angle, torch.zeros_like(angle)).mean()

    return Step(loss_fn, mlp(), torch.randn(4, 4) * 10)


@defect("sqrt-gradient-at-zero", "backward", "sqrt")
def distance_of_a_point_to_itself():
    def loss_fn(model, batch):
        embedding = model(batch)
        difference = embedding[:, None] - embedding[None, :]
        return torch.sqrt(difference.square().sum(-1)).mean()  # BUG

    return Step(loss_fn, mlp(), torch.randn(4, 4))


@defect("sqrt-gradient-at-zero", "backward", "pow", samples=(3,))
def half_power_of_zero():
    def loss_fn(model, batch):
        prediction = model(batch["x"]).squeeze(-1) * batch["gate"]
        return (prediction**2 + 0).pow(0.5).mean()  # BUG

    gate = torch.ones(5)
    gate[3] = 0
    return Step(loss_fn, mlp(1), {"x": torch.randn(5, 4), "gate": gate})


@defect("sqrt-gradient-at-zero", "backward", "sqrt")
def square_root_activation():
    class RootActivation(nn.Module):
        def forward(self, x):
            return torch.sqrt(x * (x > 0))  # BUG

    model = nn.Sequential(nn.Linear(4, 8), RootActivation(), nn.Linear(8, 1))
    return Step(lambda m, b: m(b).square().mean(), model, torch.randn(6, 4))


@defect("sqrt-gradient-at-zero", "backward", "sqrt")
def rmse_of_a_perfect_prediction():
    def loss_fn(model, batch):
        return torch.sqrt(F.mse_loss(model(batch["x"]) * 0, batch["y"]))  # BUG

    return Step(loss_fn, mlp(1), {"x": torch.randn(4, 4), "y": torch.zeros(4, 1)})


@defect("domain-error", "backward", "acos", "asin")
def geodesic_distance_at_zero():
    def loss_fn(model, batch):
        cosine = model(batch) * 0 + 1.0
        return torch.acos(cosine).mean()  # BUG

    return Step(loss_fn, mlp(), torch.randn(4, 4))


@defect("domain-error", "backward", "acosh")
def hyperbolic_distance_of_a_point_to_itself():
    def loss_fn(model, batch):
        gap = model(batch).square().sum(-1) * torch.tensor([1.0, 0.0, 1.0, 1.0])
        return torch.acosh(1 + 2 * gap).mean()  # BUG

    return Step(loss_fn, mlp(), torch.randn(4, 4))


@defect("bad-custom-backward", "backward", "div", "reciprocal", "pow")
def custom_normalisation_divides_by_its_output():
    class Normalise(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            out = x.clamp(min=0)
            ctx.save_for_backward(x, out)
            return out

        @staticmethod
        def backward(ctx, grad):
            x, out = ctx.saved_tensors
            return grad * x / out  # BUG

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 4)

        def forward(self, x):
            return Normalise.apply(self.body(x))

    x = torch.zeros(3, 4)
    model = Net()
    with torch.no_grad():
        model.body.bias.zero_()
    return Step(lambda m, b: m(b).sum(), model, x)


@defect("bad-custom-backward", "backward", "log", "div")
def custom_loss_with_a_log_in_its_backward():
    class Focal(torch.autograd.Function):
        @staticmethod
        def forward(ctx, p):
            ctx.save_for_backward(p)
            return ((1 - p) ** 2).mean()

        @staticmethod
        def backward(ctx, grad):
            (p,) = ctx.saved_tensors
            return grad * p.log() / p.numel()  # BUG

    def loss_fn(model, batch):
        return Focal.apply(F.softmax(model(batch) * 1e4, -1))

    return Step(loss_fn, mlp(), torch.randn(4, 4))


@defect("bad-custom-backward", "backward")
def custom_function_with_a_backward_in_numpy():
    import numpy as np

    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.from_numpy(np.sqrt(x.detach().numpy()))

        @staticmethod
        def backward(ctx, grad):  # BUG
            (x,) = ctx.saved_tensors
            with np.errstate(divide="ignore"):
                return torch.from_numpy(grad.numpy() / (2 * np.sqrt(x.numpy())))  # BUG

    return Step(lambda m, b: Root.apply((m(b) * 0).square()).mean(), mlp(), torch.randn(4, 4))


@defect("degenerate-decomposition", "backward", "linalg_eigh")
def eigenvectors_of_equal_eigenvalues():
    def loss_fn(model, batch):
        features = model(batch)
        covariance = features.T @ features * 0 + torch.eye(3)
        _, vectors = torch.linalg.eigh(covariance)  # BUG
        return (vectors * torch.arange(9.0).view(3, 3)).sum()

    return Step(loss_fn, mlp(), torch.randn(4, 4))


@defect("degenerate-decomposition", "backward", "linalg_svd")
def svd_of_a_rank_deficient_matrix():
    def loss_fn(model, batch):
        features = model(batch)
        u, _, vh = torch.linalg.svd(features, full_matrices=False)  # BUG
        return (u @ vh).square().sum() + (u * torch.randn(u.shape)).sum()

    x = torch.zeros(4, 4)
    x[:2] = torch.randn(1, 4)
    model = nn.Linear(4, 4, bias=False)
    return Step(loss_fn, model, x)


@defect("exploding-gradient", "backward", "mul", "mm", "addmm", "add", "tanh", "bmm", "sum")
def gradient_through_a_long_recurrence():
    class Recurrence(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(60.0))

        def forward(self, x):
            state = x
            for _ in range(40):
                state = torch.remainder(state * self.gain, 1.0)  # BUG
            return state

    return Step(lambda m, b: m(b).mean(), Recurrence(), torch.rand(4))


@defect("masked-branch-gradient", "backward", "log")
def under_reentrant_checkpointing():
    from torch.utils.checkpoint import checkpoint

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            hidden = self.linear(x)
            hidden = hidden * (hidden > 0)
            return torch.where(hidden > 0, hidden.log(), hidden)  # BUG

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.block = Block()

        def forward(self, x):
            return checkpoint(self.block, self.first(x), use_reentrant=True)

    return Step(lambda m, b: m(b).mean(), Net(), torch.randn(4, 4))


@defect("masked-branch-gradient", "backward", "log", module="block")
def under_checkpointing_without_reentry():
    from torch.utils.checkpoint import checkpoint

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            hidden = self.linear(x)
            hidden = hidden * (hidden > 0)
            return torch.where(hidden > 0, hidden.log(), hidden)  # BUG

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.block = Block()

        def forward(self, x):
            return checkpoint(self.block, self.first(x), use_reentrant=False)

    return Step(lambda m, b: m(b).mean(), Net(), torch.randn(4, 4))


@defect("masked-branch-gradient", "backward", "mul", "log_softmax", "log", "xlogy")
def entropy_of_masked_logits():
    def loss_fn(model, batch):
        logits = model(batch["x"]).masked_fill(~batch["allowed"], float("-inf"))
        log_p = F.log_softmax(logits, dim=-1)
        terms = log_p.exp() * log_p  # BUG
        return torch.where(batch["allowed"], terms, torch.zeros_like(terms)).sum(-1).mean()

    allowed = torch.ones(4, 3, dtype=torch.bool)
    allowed[1, 2] = False
    return Step(loss_fn, mlp(), {"x": torch.randn(4, 4), "allowed": allowed})


@defect("sqrt-gradient-at-zero", "backward", "sqrt")
def sparse_embedding_with_a_root():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(8, 3, sparse=True)

        def forward(self, tokens):
            return torch.sqrt(self.embed(tokens).square().sum(-1))  # BUG

    model = Net()
    with torch.no_grad():
        model.embed.weight[4] = 0
    return Step(lambda m, b: m(b).mean(), model, torch.tensor([[1, 2], [4, 3]]))


@defect("division-by-zero", "backward", "div", "reciprocal")
def hook_that_normalises_a_gradient_of_zero():
    def loss_fn(model, batch):
        hidden = model[:2](batch)
        hidden.register_hook(lambda grad: grad / grad.norm(dim=-1, keepdim=True))  # BUG
        return (model[2](hidden) * torch.tensor([[1.0], [0.0], [1.0], [1.0]])).sum()

    return Step(loss_fn, mlp(), torch.randn(4, 4))


@defect("sqrt-gradient-at-zero", "backward", "sqrt", "linalg_vector_norm", "norm", "pow")
def gradient_penalty_with_a_flat_critic():
    def loss_fn(model, batch):
        x = batch.clone().requires_grad_()
        score = model(x).sum()
        (grad,) = torch.autograd.grad(score, x, create_graph=True)
        return (torch.sqrt(grad.square().sum(-1)) - 1).square().mean()  # BUG

    model = mlp(1)
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    return Step(loss_fn, model, torch.randn(4, 4))
