"""Defects in the forms in which people report them: geometry, sound, detection, sparse data, distributions."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .program import Step, defect


def linear(width: int, out: int, value: float | None = None) -> nn.Linear:
    layer = nn.Linear(width, out, bias=False)
    if value is not None:
        nn.init.constant_(layer.weight, value)
    return layer


def identity(width: int) -> nn.Linear:
    layer = nn.Linear(width, width, bias=False)
    nn.init.eye_(layer.weight)
    return layer


@defect("domain-error", "backward", "acos", samples=(1,), module="Pose")
def angle_of_the_identity_quaternion():
    class Pose(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = identity(4)

        def forward(self, x):
            quaternion = self.head(x)
            angle = 2 * torch.acos(quaternion[:, :1].clamp(-1, 1))  # BUG
            return angle * quaternion[:, 1:]

    x = torch.rand(4, 4) * 0.5
    x[1, 0] = 1.0
    return Step(lambda model, x: model(x).sum(), Pose(), x)


@defect("division-by-zero", "loss", "div", samples=(1,))
def scale_invariant_distortion_of_silence():
    def loss_fn(model, batch):
        estimate, reference = model(batch["mixed"]), batch["reference"]
        scale = (estimate * reference).sum(-1, keepdim=True) / (reference * reference).sum(-1, keepdim=True)  # BUG
        target = scale * reference
        noise = estimate - target
        return -10 * torch.log10((target**2).sum(-1) / ((noise**2).sum(-1) + 1e-8) + 1e-8).mean()

    reference = torch.randn(3, 16)
    reference[1] = 0
    return Step(loss_fn, nn.Linear(16, 16), {"mixed": torch.randn(3, 16), "reference": reference})


@defect("sqrt-gradient-at-zero", "backward", "pow", samples=(1,))
def spectrogram_compressed_by_a_small_power():
    def loss_fn(model, wave):
        spectrum = torch.stft(model(wave), 8, hop_length=4, window=torch.ones(8), return_complex=True)
        power = spectrum.real**2 + spectrum.imag**2
        return (power**0.3).mean()  # BUG

    wave = torch.randn(3, 32)
    wave[1] = 0
    return Step(loss_fn, linear(32, 32), wave)


@defect("division-by-zero", "loss", "div", samples=(3,))
def overlap_of_two_boxes_without_area():
    def area(box):
        return (box[:, 2] - box[:, 0]).clamp(min=0) * (box[:, 3] - box[:, 1]).clamp(min=0)

    def loss_fn(model, batch):
        boxes, truth = torch.cat([model(batch["x"]), 2 * model(batch["x"])], 1), batch["box"]
        low, high = torch.max(boxes[:, :2], truth[:, :2]), torch.min(boxes[:, 2:], truth[:, 2:])
        common = (high - low).clamp(min=0).prod(1)
        return (1 - common / (area(boxes) + area(truth) - common)).mean()  # BUG

    x = torch.rand(5, 2) + 0.5
    box = torch.tensor([[0.0, 0, 2, 2]]).repeat(5, 1)
    x[3] = 0
    box[3] = 1
    return Step(loss_fn, identity(2), {"x": x, "box": box})


@defect("empty-reduction", "forward", "mean", module="Router")
def expert_that_no_token_is_sent_to():
    class Router(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(4, 3)

        def forward(self, x):
            gates = self.gate(x).softmax(-1)
            chosen = gates.argmax(-1)
            return torch.stack([gates[chosen == expert, expert].mean() for expert in range(3)])  # BUG

    model = Router()
    with torch.no_grad():
        model.gate.weight.zero_()
        model.gate.bias.copy_(torch.tensor([1.0, 0.5, 0.0]))
    return Step(lambda model, x: model(x).var(), model, torch.randn(5, 4))


@defect("division-by-zero", "forward", "div", "reciprocal", module="Attention")
def softmax_over_the_edges_of_a_node_without_any():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.score = nn.Linear(2, 1)

        def forward(self, x, edges):
            weight = self.score(x[edges[0]]).squeeze(-1).exp()
            total = torch.zeros(len(x)).index_add(0, edges[1], weight)
            inverse = 1 / total  # BUG
            summed = torch.zeros(len(x), 2).index_add(0, edges[1], x[edges[0]] * weight[:, None])
            return summed * inverse[:, None]

    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    return Step(lambda model, batch: model(*batch).pow(2).sum(), Attention(), (torch.randn(4, 2), edges))


@defect("empty-reduction", "forward", "segment_reduce", module="Pool")
def mean_of_a_segment_without_rows():
    class Pool(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x, lengths):
            return torch.segment_reduce(self.layer(x), "mean", lengths=lengths, axis=0)  # BUG

    return Step(lambda model, batch: model(*batch).sum(), Pool(), (torch.randn(5, 3), torch.tensor([2, 0, 3])))


@defect("log-of-zero-or-negative", "loss", "log", "xlogy", samples=(0,))
def beta_density_at_the_end_of_its_support():
    def loss_fn(model, batch):
        shape = F.softplus(model(batch["x"])) + 1
        density = torch.distributions.Beta(shape[:, 0], shape[:, 1], validate_args=False)
        return -density.log_prob(batch["y"]).mean()  # BUG

    return Step(loss_fn, nn.Linear(2, 2), {"x": torch.randn(4, 2), "y": torch.tensor([0.0, 0.2, 0.5, 0.7])})


@defect("domain-error", "loss", "lgamma", samples=(2,))
def negative_binomial_without_dispersion():
    def loss_fn(model, batch):
        rate, y = F.relu(model(batch["x"])).squeeze(1), batch["y"]
        return -(torch.lgamma(y + rate) - torch.lgamma(rate) - torch.lgamma(y + 1)).mean()  # BUG

    x = torch.rand(4, 2) + 0.1
    x[2] = -1
    return Step(loss_fn, linear(2, 1, 1.0), {"x": x, "y": torch.tensor([0.0, 1, 3, 2])})


@defect("domain-error", "backward", "erfinv", samples=(3,))
def probit_that_is_clamped_after_it_is_infinite():
    def loss_fn(model, x):
        share = torch.sigmoid(model(x))
        return (math.sqrt(2) * torch.erfinv(2 * share - 1)).clamp(-5, 5).mean()  # BUG

    return Step(loss_fn, linear(1, 1, 1.0), torch.tensor([[0.1], [0.3], [-0.5], [40.0]]))


@defect("sqrt-gradient-at-zero", "backward", "sqrt")
def root_of_nothing_under_a_gradient_that_vanished():
    """No mask makes the gradient 0: fifty saturated steps do."""

    def loss_fn(model, x):
        hidden = (model(x) * 0).abs().sqrt()  # BUG
        for _ in range(50):
            hidden = torch.tanh(30 * (hidden + 1))
        return hidden.mean()

    return Step(loss_fn, nn.Linear(3, 2), torch.randn(4, 3))


@defect("masked-branch-gradient", "backward", "div", samples=(1,))
def cardinal_sine_with_a_where():
    def loss_fn(model, x):
        angle = model(x)
        return torch.where(angle == 0, torch.ones_like(angle), torch.sin(angle) / angle).sum()  # BUG

    x = torch.randn(3, 2)
    x[1] = 0
    return Step(loss_fn, linear(2, 2), x)


@defect("masked-branch-gradient", "backward", "log", samples=(0,))
def logarithm_that_an_assignment_replaces():
    def loss_fn(model, batch):
        error = (model(batch["x"]).squeeze(1) - batch["y"]).abs()
        large = torch.log(error)  # BUG
        large[error < 1] = 0.0
        return (large + error).mean()

    return Step(loss_fn, linear(1, 1, 1.0), {"x": torch.tensor([[1.0], [5.0], [9.0]]), "y": torch.ones(3)})


@defect("masked-branch-gradient", "backward", "sqrt", samples=(0, 2))
def distance_of_landmarks_that_are_not_labelled():
    def loss_fn(model, batch):
        distance = (model(batch["x"]) - batch["y"]).pow(2).sum(1).sqrt()  # BUG
        return (distance * batch["valid"].float()).sum() / batch["valid"].sum()

    x, y = torch.randn(4, 2), torch.randn(4, 2)
    y[0], y[2] = x[0], x[2]
    return Step(loss_fn, identity(2), {"x": x, "y": y, "valid": torch.tensor([False, True, False, True])})


@defect("division-by-zero", "loss", "div", samples=(2,))
def unit_phase_of_a_silent_spectrum():
    def loss_fn(model, wave):
        spectrum = torch.fft.fft(model(wave))
        return (spectrum / spectrum.abs()).real.sum()  # BUG

    wave = torch.randn(3, 4)
    wave[2] = 0
    return Step(loss_fn, linear(4, 4), wave)


@defect("division-by-zero", "loss", "div", samples=(1,))
def mean_of_each_sequence_when_one_has_no_target():
    def loss_fn(model, batch):
        logits = model(batch["token"]).transpose(1, 2)
        loss = F.cross_entropy(logits, batch["label"], ignore_index=-100, reduction="none")
        return (loss.sum(1) / (batch["label"] != -100).sum(1)).mean()  # BUG

    label = torch.randint(0, 5, (3, 4))
    label[1] = -100
    return Step(loss_fn, nn.Embedding(7, 5), {"token": torch.randint(0, 7, (3, 4)), "label": label})


@defect("fully-masked-softmax", "loss", "logsumexp", samples=(2,))
def contrastive_anchor_whose_positives_are_all_masked():
    def loss_fn(model, batch):
        unit = F.normalize(model(batch["x"]), dim=-1)
        scores = (unit @ unit.T / 0.1).masked_fill(torch.eye(4, dtype=torch.bool), -math.inf)
        positives = scores.masked_fill(batch["y"][:, None] != batch["y"][None, :], -math.inf)
        return (torch.logsumexp(scores, 1) - torch.logsumexp(positives, 1)).mean()  # BUG

    return Step(loss_fn, nn.Linear(2, 3), {"x": torch.randn(4, 2), "y": torch.tensor([0, 0, 1, 0])})


@defect("domain-error", "loss", "mul", samples=(1,))
def illegal_action_times_a_target_of_zero():
    def loss_fn(model, batch):
        logits = model(batch["x"]).masked_fill(batch["illegal"], -math.inf)
        return -(batch["target"] * logits.log_softmax(-1)).sum(-1).mean()  # BUG

    illegal = torch.zeros(4, 3, dtype=torch.bool)
    illegal[1, 2] = True
    target = torch.tensor([[1.0, 0, 0]]).repeat(4, 1)
    return Step(loss_fn, nn.Linear(2, 3), {"x": torch.randn(4, 2), "illegal": illegal, "target": target})


@defect("division-by-zero", "forward", "div", module="blocks.0.norm")
def shared_block_that_fails_the_second_time():
    class Norm(nn.Module):
        def forward(self, x):
            return x / x.abs().amax(-1, keepdim=True)  # BUG

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = Norm()
            self.layer = linear(2, 2, -1.0)

        def forward(self, x):
            return F.relu(self.layer(self.norm(x)))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            block = Block()
            self.blocks = nn.ModuleList([block, block])

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    return Step(lambda model, x: model(x).sum(), Network(), torch.rand(3, 2) + 0.1)


@defect("division-by-zero", "loss", "div", samples=(1,))
def one_of_several_infinities_does_harm():
    def loss_fn(model, batch):
        hidden, t = model(batch["x"]), batch["t"]
        (hidden / 0).sum()
        capped = (1 / t).clamp(max=10).detach()
        relative = (hidden.squeeze(1) - t) / t  # BUG
        best = torch.full_like(relative, math.inf)
        return torch.minimum(relative.abs(), best).mean() + capped.mean()

    return Step(loss_fn, nn.Linear(2, 1), {"x": torch.randn(4, 2), "t": torch.tensor([1.0, 0, 9, 2])})


@defect("log-of-zero-or-negative", "loss", "log", samples=(2,))
def likelihood_of_one_sample_under_vmap():
    def loss_fn(model, batch):
        def one(x, y):
            return -(y * torch.log(F.relu(model(x)))).sum()  # BUG

        return torch.vmap(one)(batch["x"], batch["y"]).mean()

    x = torch.rand(4, 2) + 0.1
    x[2] *= -1
    return Step(loss_fn, linear(2, 3, 1.0), {"x": x, "y": torch.rand(4, 3)})


@defect("domain-error", "loss", "pow")
def curvature_of_a_power_at_zero():
    def loss_fn(model, x):
        def energy(position):
            return model(position).abs().pow(1.5).sum()  # BUG

        return torch.func.hessian(energy)(x[0] * 0).sum()

    return Step(loss_fn, linear(2, 1), torch.randn(4, 2))


@defect("input-not-finite", "input", samples=(0, 3), field="1")
def targets_scaled_by_a_deviation_of_zero():
    y = np.array([[1.0, 2], [1, 5], [1, 3], [1, 7]], np.float32)
    with np.errstate(all="ignore"):
        scaled = (y - y.mean(0)) / y.std(0)
    scaled[1:3, 0] = 0

    def loss_fn(model, batch):
        return F.mse_loss(model(batch[0]), batch[1])  # BUG

    return Step(loss_fn, nn.Linear(3, 2), (torch.randn(4, 3), torch.from_numpy(scaled)))


@defect("bad-custom-backward", "backward", "reciprocal", samples=(1,))
def rounding_with_the_slope_of_a_logit():
    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(0, 1).round()

        @staticmethod
        def backward(ctx, gradient):
            (x,) = ctx.saved_tensors
            slope = 1 / (x * (1 - x))  # BUG
            return gradient * slope

    x = torch.rand(3, 2)
    x[1] = 0
    return Step(lambda model, x: Round.apply(model(x)).sum(), linear(2, 2), x)


@defect("bad-custom-backward", "backward", "mul", "neg")
def gradient_reversed_by_an_infinite_factor():
    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.factor = factor
            return x.view_as(x)

        @staticmethod
        def backward(ctx, gradient):
            return -ctx.factor * gradient, None  # BUG

    return Step(lambda model, x: Reverse.apply(model(x), 1e300 * 1e10).sum(), nn.Linear(2, 2), torch.randn(3, 2))


@defect("division-by-zero", "backward")
def hook_that_makes_gradients_unit_vectors():
    def loss_fn(model, x):
        hidden = model(x)
        hidden.register_hook(lambda gradient: gradient / gradient.norm(dim=1, keepdim=True))  # BUG
        return (hidden * torch.tensor([[1.0, 1], [0, 0], [1, 1]])).sum()

    return Step(loss_fn, nn.Linear(2, 2), torch.randn(3, 2))


@defect("division-by-zero", "loss", "div")
def functional_gradient_of_a_ratio_to_a_bias_of_zero():
    def loss_fn(model, x):
        parameters = {name: value.detach() for name, value in model.named_parameters()}

        def energy(parameters, x):
            return (torch.func.functional_call(model, parameters, (x,)) / parameters["bias"]).sum()  # BUG

        gradients = torch.func.grad(energy)(parameters, x)
        return sum(value.pow(2).sum() for value in gradients.values()) + 0 * model(x).sum()

    model = nn.Linear(2, 1)
    nn.init.zeros_(model.bias)
    return Step(loss_fn, model, torch.randn(3, 2))
