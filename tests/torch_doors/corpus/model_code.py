"""Defects in model code, met in the forward pass."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .program import Step, defect


def regression(model, batch):
    return F.mse_loss(model(batch["x"]).squeeze(-1), batch["y"])


def classify(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["y"])


def table(rows=8, width=6):
    return {"x": torch.randn(rows, width), "y": torch.randn(rows)}


@defect("log-of-zero-or-negative", "forward", "log", samples=(3,), module="features")
def log_of_relu_features():
    class LogFeatures(nn.Module):
        def forward(self, x):
            return torch.log(x)  # BUG

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = LogFeatures()
            self.head = nn.Linear(6, 1)

        def forward(self, x):
            return self.head(self.features(x.abs()))

    batch = table()
    batch["x"][3, 2] = 0.0
    return Step(regression, Net(), batch)


@defect("division-by-zero", "forward", "div", samples=(1, 5))
def standardise_each_row_by_its_own_std():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(6, 1)

        def forward(self, x):
            mean = x.mean(dim=1, keepdim=True)
            std = x.std(dim=1, keepdim=True)
            x = (x - mean) / std  # BUG
            return self.head(x)

    batch = table()
    batch["x"][1] = 2.0
    batch["x"][5] = 0.0
    return Step(regression, Net(), batch)


@defect("division-by-zero", "forward", "div", samples=(2,))
def mean_pool_of_a_sequence_of_padding():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(20, 8, padding_idx=0)
            self.head = nn.Linear(8, 3)

        def forward(self, tokens):
            keep = (tokens != 0).unsqueeze(-1).float()
            hidden = self.embed(tokens) * keep
            pooled = hidden.sum(1) / keep.sum(1)  # BUG
            return self.head(pooled)

    tokens = torch.randint(1, 20, (4, 7))
    tokens[2] = 0
    return Step(classify, Encoder(), {"x": tokens, "y": torch.tensor([0, 1, 2, 0])})


@defect("fully-masked-softmax", "forward", "softmax", samples=(1,), module="block.attention")
def attention_over_a_sample_without_keys():
    class Attention(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.qkv = nn.Linear(width, 3 * width)

        def forward(self, x, keep):
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
            scores = scores.masked_fill(~keep[:, None, :], float("-inf"))
            weights = scores.softmax(dim=-1)  # BUG
            return weights @ v

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm = nn.LayerNorm(width)
            self.attention = Attention(width)

        def forward(self, x, keep):
            return x + self.attention(self.norm(x), keep)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block(8)
            self.head = nn.Linear(8, 1)

        def forward(self, x, keep):
            return self.head(self.block(x, keep).mean(1))

    def loss_fn(model, batch):
        return F.mse_loss(model(batch["x"], batch["keep"]).squeeze(-1), batch["y"])

    keep = torch.ones(4, 5, dtype=torch.bool)
    keep[0, 3:] = False
    keep[1] = False
    return Step(loss_fn, Net(), {"x": torch.randn(4, 5, 8), "keep": keep, "y": torch.randn(4)})


@defect("fully-masked-softmax", "forward", "softmax", "baddbmm", "bmm", samples=(0,))
def multihead_attention_with_everything_padded():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 1)

        def forward(self, x, padding):
            out, _ = self.attention(x, x, x, key_padding_mask=padding)  # BUG
            return self.head(out.mean(1))

    def loss_fn(model, batch):
        x, padding, y = batch
        return F.mse_loss(model(x, padding).squeeze(-1), y)

    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[0] = True
    return Step(loss_fn, Net(), (torch.randn(3, 5, 8), padding, torch.randn(3)))


@defect("exp-overflow", "forward", "exp")
def softmax_by_hand_without_the_maximum():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(6, 4)

        def forward(self, x):
            logits = self.body(x)
            powers = torch.exp(logits)  # BUG
            return powers / powers.sum(dim=-1, keepdim=True)

    def loss_fn(model, batch):
        return -(model(batch["x"]).gather(1, batch["y"][:, None]) + 1e-6).log().mean()

    x = torch.randn(8, 6)
    x[4] = 3e3
    return Step(loss_fn, Net(), {"x": x, "y": torch.randint(0, 4, (8,))})


@defect("exp-overflow", "forward", "exp")
def variational_encoder_with_a_free_log_variance():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Linear(6, 2)
            self.log_variance = nn.Linear(6, 2)

        def forward(self, x):
            mean, log_variance = self.mean(x), self.log_variance(x)
            std = torch.exp(0.5 * log_variance)  # BUG
            return mean + std * torch.randn_like(std), mean, log_variance

    def loss_fn(model, batch):
        z, mean, log_variance = model(batch)
        return z.square().mean() + mean.square().mean() + log_variance.mean()

    encoder = Encoder()
    with torch.no_grad():
        encoder.log_variance.bias.fill_(400.0)
    return Step(loss_fn, encoder, torch.randn(5, 6))


@defect("domain-error", "forward", "acos", samples=(2,))
def angle_between_vectors_that_are_the_same():
    class Net(nn.Module):
        def forward(self, a, b):
            cosine = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)) * (1 + 1e-6)
            return torch.acos(cosine)  # BUG

    def loss_fn(model, batch):
        return model(batch["a"], batch["b"]).mean()

    a, b = torch.randn(4, 3), torch.randn(4, 3)
    b[2] = 2 * a[2]
    return Step(loss_fn, Net(), {"a": a.requires_grad_(), "b": b})


@defect("domain-error", "forward", "pow", samples=(0,))
def gamma_curve_of_a_negative_pixel():
    class Gamma(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.tensor(2.2))
            self.scale = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, image):
            image = image * self.scale
            return image ** (1 / self.gamma)  # BUG

    image = torch.rand(2, 3, 4, 4) + 0.1
    image[0, 1, 2, 3] = -0.02
    return Step(lambda model, batch: model(batch).mean(), Gamma(), image)


@defect("domain-error", "forward", "sqrt")
def variance_by_the_difference_of_squares():
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))

        def forward(self, x):
            mean = x.mean(0)
            variance = (x * x).mean(0) - mean * mean
            return (x - mean) / torch.sqrt(variance - 1e-3) * self.scale  # BUG

    x = torch.randn(16, 4)
    x[:, 2] = 300.0
    return Step(lambda model, batch: model(batch).square().mean(), Norm(), x)


@defect("domain-error", "forward", "atanh")
def squashed_gaussian_policy_at_the_bound():
    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Linear(4, 2)

        def log_prob(self, state, action):
            raw = torch.atanh(action)  # BUG
            return -(raw - self.mean(state)).square().sum(-1)

        def forward(self, state, action):
            return self.log_prob(state, action)

    def loss_fn(policy, batch):
        return -policy.log_prob(batch["state"], batch["action"]).mean()

    action = torch.rand(6, 2) * 1.8 - 0.9
    action[4, 1] = 1.0
    return Step(loss_fn, Policy(), {"state": torch.randn(6, 4), "action": action})


@defect("empty-reduction", "forward", "mean")
def mean_over_selected_tokens_when_none_is_selected():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(6, 6)

        def forward(self, x):
            hidden = torch.tanh(self.body(x))
            chosen = hidden[hidden > 1.5]
            return hidden.mean() + chosen.mean()  # BUG

    return Step(lambda model, batch: model(batch), Net(), torch.randn(4, 6))


@defect("variance-of-one", "forward", "std", "var", "std_mean", "var_mean")
def normalise_advantages_in_a_batch_of_one():
    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.value = nn.Linear(4, 1)

        def forward(self, state, returns):
            advantage = returns - self.value(state).squeeze(-1)
            return (advantage - advantage.mean()) / (advantage.std() + 1e-8)  # BUG

    return Step(lambda m, b: m(b["s"], b["r"]).square().sum(), Critic(), {"s": torch.randn(1, 4), "r": torch.randn(1)})


@defect("variance-of-one", "forward", "std", "var")
def minibatch_std_layer_with_groups_of_one():
    class MinibatchStd(nn.Module):
        def __init__(self, group_size):
            super().__init__()
            self.group_size = group_size

        def forward(self, x):
            groups = x.view(self.group_size, -1, *x.shape[1:])
            spread = groups.std(dim=0)  # BUG
            spread = spread.mean(dim=(1, 2, 3), keepdim=True).repeat(self.group_size, 1, *x.shape[2:])
            return torch.cat([x, spread], dim=1)

    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.std = MinibatchStd(1)
            self.out = nn.Conv2d(5, 1, 4)

        def forward(self, image):
            return self.out(self.std(self.conv(image)))

    return Step(lambda model, batch: model(batch).mean(), Critic(), torch.randn(4, 3, 4, 4))


@defect("division-by-zero", "forward", "reciprocal", "pow", "div")
def graph_normalisation_with_an_isolated_node():
    class GraphLayer(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(5, 5)

        def forward(self, x, adjacency):
            degree = adjacency.sum(1)
            scale = degree.pow(-0.5)  # BUG
            return (scale[:, None] * adjacency * scale[None, :]) @ self.linear(x)

    adjacency = torch.ones(6, 6)
    adjacency[3, :] = 0
    adjacency[:, 3] = 0
    return Step(lambda m, b: m(*b).square().mean(), GraphLayer(), (torch.randn(6, 5), adjacency))


@defect("division-by-zero", "forward", "rsqrt")
def rms_norm_without_epsilon():
    class RMSNorm(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))

        def forward(self, x):
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)) * self.weight  # BUG

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = nn.ModuleList(RMSNorm(6) for _ in range(2))
            self.out = nn.Linear(6, 1)

        def forward(self, x):
            for norm in self.norms:
                x = x + norm.forward(x)
            return self.out(x)

    batch = table()
    batch["x"][6] = 0.0
    return Step(regression, Net(), batch)


@defect("exp-overflow", "forward", "pow", "exp2", "exp", "sinh", "cosh", samples=(7,))
def hyperbolic_layer_far_from_the_origin():
    class Hyperbolic(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 1)

        def forward(self, x):
            radius = x.norm(dim=-1, keepdim=True)
            mapped = torch.sinh(radius) * x / (radius + 1e-6)  # BUG
            return self.linear(mapped)

    batch = table()
    batch["x"][7] *= 1e3
    return Step(regression, Hyperbolic(), batch)


@defect("exploding-gradient", "forward", "mm", "addmm", "bmm", "mv", "matmul", "add", "mul")
def linear_recurrence_with_a_large_transition():
    class Recurrence(nn.Module):
        def __init__(self):
            super().__init__()
            self.transition = nn.Parameter(torch.eye(8) * 3.0 + torch.randn(8, 8) * 0.1)

        def forward(self, x):
            state = torch.zeros(x.shape[0], 8)
            for step in range(x.shape[1]):
                state = state @ self.transition + x[:, step]  # BUG
            return state

    return Step(lambda m, b: m(b).square().mean(), Recurrence(), torch.randn(4, 120, 8))


@defect("constant-not-finite", "forward", "full", "masked_fill", "fill", "index_put", "scatter", "copy", "lift_fresh")
def padding_written_as_nan_and_pooled():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 4)

        def forward(self, x, keep):
            hidden = self.body(x)
            hidden = hidden.masked_fill(~keep[..., None], float("nan"))  # BUG
            return hidden.mean(dim=1)

    keep = torch.ones(3, 5, dtype=torch.bool)
    keep[1, 4] = False
    return Step(lambda m, b: m(*b).square().mean(), Net(), (torch.randn(3, 5, 4), keep))


@defect("degenerate-decomposition", "forward", "linalg_inv_ex", "linalg_solve_ex", "inverse", "linalg_solve")
def whitening_with_an_unchecked_inverse():
    class Whiten(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))

        def forward(self, x):
            covariance = x.T @ x
            inverse, _ = torch.linalg.inv_ex(covariance)  # BUG
            return x @ inverse * self.scale

    x = torch.zeros(6, 4)
    x[:, 0] = 1.0
    return Step(lambda m, b: m(b).square().mean(), Whiten(), x)


@defect("log-of-zero-or-negative", "forward", "log", module="gate")
def called_by_forward_so_that_no_hook_fires():
    class Gate(nn.Module):
        def forward(self, x):
            share = F.relu(x) / (F.relu(x).sum(-1, keepdim=True) + 1e-6)
            return share * share.log()  # BUG

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = Gate()
            self.body = nn.Linear(6, 6)

        def forward(self, x):
            return self.gate.forward(self.body.forward(x))

    return Step(lambda m, b: m(b).sum(), Net(), torch.randn(5, 6))


@defect("log-of-zero-or-negative", "forward", "log")
def in_place_log_hides_its_input():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(6, 6)

        def forward(self, x):
            hidden = self.body(x).relu_()
            hidden = hidden * 2
            hidden.log_()  # BUG
            return hidden.mean(-1)

    return Step(lambda m, b: m(b).mean(), Net(), torch.randn(5, 6))


@defect("division-by-zero", "forward", "div")
def in_place_division_through_a_view():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(6, 6)

        def forward(self, x, lengths):
            hidden = self.body(x) * 1.0
            left = hidden[:, :3]
            left.div_(lengths[:, None])  # BUG
            return hidden.sum(-1)

    lengths = torch.tensor([1.0, 2.0, 0.0, 4.0])
    return Step(lambda m, b: m(*b).mean(), Net(), (torch.randn(4, 6), lengths))


@defect("division-by-zero", "forward", "native_layer_norm", "native_batch_norm", "native_group_norm", "div", "rsqrt")
def layer_norm_with_an_epsilon_of_zero():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(6, eps=0.0)
            self.head = nn.Linear(6, 1)

        def forward(self, x):
            return self.head(self.norm(x))  # BUG

    batch = table()
    batch["x"][2] = 1.0
    return Step(regression, Net(), batch)


@defect("log-of-zero-or-negative", "forward", "log", samples=(1,))
def under_activation_checkpointing():
    from torch.utils.checkpoint import checkpoint

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            return self.linear(torch.log(x))  # BUG

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block()

        def forward(self, x):
            return checkpoint(self.block, x, use_reentrant=False).sum(-1)

    x = torch.rand(3, 4) + 0.1
    x[1, 0] = -0.5
    return Step(lambda m, b: m(b).mean(), Net(), x.requires_grad_())


@defect("division-by-zero", "forward", "div", "reciprocal")
def one_branch_of_several_in_a_mixture():
    class Expert(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.kind = kind
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            x = self.linear(x)
            return x / x.detach().relu().amax(-1, keepdim=True) if self.kind == "ratio" else x  # BUG

    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleDict({"plain": Expert("plain"), "ratio": Expert("ratio")})
            with torch.no_grad():
                self.experts["ratio"].linear.bias.fill_(-50.0)

        def forward(self, x):
            return {name: expert(x) for name, expert in self.experts.items()}

    def loss_fn(model, batch):
        out = model(batch)
        return out["plain"].square().mean() + out["ratio"].mean()

    return Step(loss_fn, Mixture(), torch.randn(3, 4))
