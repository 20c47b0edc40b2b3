"""Defects of half precision."""

import torch
import torch.nn.functional as F
from torch import nn

from .program import Step, defect


@defect("float16-underflow", "forward", "div", "reciprocal")
def epsilon_that_is_zero_in_half():
    class Normalise(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4).half()

        def forward(self, x):
            x = self.linear(x)
            return x / (x.abs().sum(-1, keepdim=True) + 1e-8)  # BUG

    model = Normalise()
    with torch.no_grad():
        model.linear.bias.zero_()
    x = torch.randn(4, 4).half()
    x[2] = 0
    return Step(lambda m, b: m(b).float().mean(), model, x)


@defect("float16-underflow", "loss", "log")
def log_with_a_clamp_that_is_zero_in_half():
    def loss_fn(model, batch):
        p = torch.softmax(model(batch["x"]) * 30, -1)
        return -torch.log(p.clamp(min=1e-9)).gather(1, batch["y"][:, None]).mean()  # BUG

    torch.manual_seed(3)
    x = torch.randn(8, 4).half() * 3
    return Step(loss_fn, nn.Linear(4, 3).half(), {"x": x, "y": torch.randint(0, 3, (8,))})


@defect("float16-overflow", "forward", "mul", "pow", "sum", "mean")
def square_beyond_sixty_five_thousand():
    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4).half()

        def forward(self, x):
            hidden = self.linear(x)
            return hidden.pow(2).mean(-1)  # BUG

    return Step(lambda m, b: m(b).float().mean(), Energy(), torch.full((3, 4), 900.0).half())


@defect("float16-overflow", "forward", "mul", "add", "sub")
def mask_constant_that_becomes_minus_infinity():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4).half()

        def forward(self, x, keep):
            scores = self.linear(x) @ x.transpose(1, 2)
            mask = (1 - keep.half()) * -1e9  # BUG
            return torch.softmax(scores + mask[:, None, :], -1) @ x

    keep = torch.ones(3, 5)
    keep[1] = 0
    return Step(lambda m, b: m(*b).float().mean(), Attention(), (torch.randn(3, 5, 4).half(), keep))


@defect("float16-overflow", "forward", "addmm", "mm")
def autocast_matmul_that_overflows():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 4)

        def forward(self, x):
            return self.linear(x)  # BUG

    def loss_fn(model, batch):
        with torch.autocast("cpu", dtype=torch.float16):
            out = model(batch)
        return out.float().mean()

    model = Net()
    with torch.no_grad():
        model.linear.weight.fill_(100.0)
    return Step(loss_fn, model, torch.full((2, 64), 100.0))


@defect("float16-overflow", "forward", "to_copy")
def cast_of_a_large_feature():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 1).half()

        def forward(self, x):
            x = x.half()  # BUG
            return self.linear(x)

    x = torch.rand(4, 3)
    x[1, 2] = 1e6
    return Step(lambda m, b: m(b).float().mean(), Net(), x)


@defect("float16-overflow", "forward", "sum", "cumsum")
def sum_of_a_long_sequence():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1).half())

        def forward(self, x):
            return (x * self.scale).sum(-1)  # BUG

    return Step(lambda m, b: m(b).float().mean(), Net(), torch.full((2, 4096), 40.0).half())


@defect("float16-overflow", "backward", "mul", "mm", "div", "to_copy", "addmm", "mse_loss", "pow", "sub")
def gradient_that_overflows_in_half():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4).half()

        def forward(self, x):
            hidden = self.linear(x)
            return hidden * 300  # BUG

    def loss_fn(model, batch):
        return (model(batch).float() * 300).sum()

    return Step(loss_fn, Net(), torch.rand(3, 4).half())


@defect("float16-overflow", "forward", "exp")
def exponential_beyond_eleven():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 2).half()

        def forward(self, x):
            return torch.exp(self.linear(x))  # BUG

    model = Net()
    with torch.no_grad():
        model.linear.bias.fill_(15.0)
    return Step(lambda m, b: m(b).float().log1p().mean(), model, torch.randn(3, 4).half())


@defect("float16-underflow", "backward", "sqrt", "rsqrt", "div", "pow")
def square_that_underflows_under_a_root():
    def loss_fn(model, batch):
        out = model(batch)
        return torch.sqrt(out.square().sum(-1) + 1e-12).float().mean()  # BUG

    model = nn.Linear(4, 4).half()
    with torch.no_grad():
        model.weight.mul_(1e-6)
        model.bias.zero_()
    return Step(loss_fn, model, torch.rand(3, 4).half())


@defect("division-by-zero", "forward", "div")
def bfloat16_difference_that_cancels():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 1).bfloat16()

        def forward(self, x):
            spread = (x + 1e-4) - x
            return self.linear(x / spread)  # BUG

    return Step(lambda m, b: m(b).float().mean(), Net(), torch.rand(3, 4).bfloat16() + 100)


@defect("exp-overflow", "forward", "exp")
def bfloat16_exponential():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 2).bfloat16()

        def forward(self, x):
            return F.softplus(self.linear(x)) + torch.exp(self.linear(x) + 200)  # BUG

    return Step(lambda m, b: m(b).float().mean(), Net(), torch.randn(3, 4).bfloat16())


@defect("float16-underflow", "backward", "sqrt")
def square_of_a_small_number_under_a_root():
    def loss_fn(model, batch):
        return torch.sqrt(model(batch).square().sum(-1)).float().mean()  # BUG

    model = nn.Linear(4, 4).half()
    with torch.no_grad():
        model.weight.mul_(1e-6)
        model.bias.zero_()
    return Step(loss_fn, model, torch.rand(3, 4).half() + 0.5)


@defect("float16-underflow", "loss", "log")
def log_of_a_softmax_that_underflows():
    def loss_fn(model, batch):
        p = torch.softmax(model(batch["x"]), -1)
        return -torch.log(p).gather(1, batch["y"][:, None]).float().mean()  # BUG

    model = nn.Linear(4, 3).half()
    with torch.no_grad():
        model.bias.copy_(torch.tensor([20.0, 0.0, 0.0]))
    return Step(loss_fn, model, {"x": torch.randn(8, 4).half(), "y": torch.ones(8, dtype=torch.long)})
