"""Rewritings that keep the meaning of an expression and stay finite at the edge: tried in this order, and only as tried."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["IDENTITIES", "RULES", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """An expression, and what may take its place.

    ``is_flat`` says that a gradient of 0 at the repaired values is right: nothing is kept there, or they are a minimum;
    ``spares_nan`` says so of those that were NaN: 0 / 0 is the mean of nothing. ``is_wider`` says that the result has
    another dtype. ``causes`` restricts it to some causes; empty for all. ``eps`` in the replacement is a number that
    neither rounds to 0 in the dtype nor has an infinite reciprocal, and
    ``dtype`` that of the result.
    """

    pattern: str
    replacement: str
    is_flat: bool = False
    spares_nan: bool = False
    is_wider: bool = False
    causes: tuple[str, ...] = ()


_HALF = ("float16-overflow", "float16-underflow")

#: One function that is stable where a composition of two is not: equal in exact arithmetic, and right where that is not.
#: They may apply to a later line, which reads the result of the one at fault.
IDENTITIES = (
    Rule("log(softmax(x, dim))", "F.log_softmax(x, dim=dim)"),
    Rule("log(gather(softmax(x, dim), axis, index))", "F.log_softmax(x, dim=dim).gather(axis, index)"),
    Rule("log(sigmoid(x))", "F.logsigmoid(x)"),
    Rule("log2(sigmoid(x))", "F.logsigmoid(x) * 1.4426950408889634"),
    Rule("log10(sigmoid(x))", "F.logsigmoid(x) * 0.4342944819032518"),
    Rule("log2(softmax(x, dim))", "F.log_softmax(x, dim=dim) * 1.4426950408889634"),
    Rule("log10(softmax(x, dim))", "F.log_softmax(x, dim=dim) * 0.4342944819032518"),
    Rule("log(1 - sigmoid(x))", "F.logsigmoid(-x)"),
    Rule("log(sum(exp(x), dim, keepdim))", "torch.logsumexp(x, dim=dim, keepdim=keepdim)"),
    Rule(
        "-(y * log(sigmoid(x)) + (1 - y) * log(1 - sigmoid(x)))",
        "F.binary_cross_entropy_with_logits(x, y, reduction='none')",
    ),
    Rule(
        "y * log(sigmoid(x)) + (1 - y) * log(1 - sigmoid(x))",
        "-F.binary_cross_entropy_with_logits(x, y, reduction='none')",
    ),
    Rule("log(1 + exp(x))", "F.softplus(x)"),
    Rule("log1p(exp(x))", "F.softplus(x)"),
    Rule("log(cosh(x))", "F.softplus(2 * x) - x - 0.6931471805599453"),
    Rule("1 / (1 + exp(-x))", "torch.sigmoid(x)"),
    Rule("exp(x) / (1 + exp(x))", "torch.sigmoid(x)"),
    Rule("exp(x) / sum(exp(x), dim, keepdim)", "torch.softmax(x, dim=dim)"),
    Rule("sqrt(sum(x ** 2, dim, keepdim))", "safe_norm(x, dim=dim, keepdim=keepdim)"),
    Rule("sqrt(sum(pow(x, 2), dim, keepdim))", "safe_norm(x, dim=dim, keepdim=keepdim)"),
    Rule("sqrt(sum(square(x), dim, keepdim))", "safe_norm(x, dim=dim, keepdim=keepdim)"),
    Rule("x / norm(x, p, dim, keepdim)", "safe_normalize(x, dim=dim)"),
    Rule("x / sqrt(sum(pow(x, 2), dim, keepdim))", "safe_normalize(x, dim=dim)"),
)

#: Slices of which nothing is kept.
_MASKED = (
    Rule(
        "MultiheadAttention(..., key_padding_mask=mask)",
        "module(..., key_padding_mask=mask & ~mask.all(dim=1, keepdim=True))",
        is_flat=True,
    ),
    Rule("softmax(x, dim)", "masked_softmax(x, dim=dim)", is_flat=True),
    Rule("log_softmax(x, dim)", "masked_log_softmax(x, dim=dim)", is_flat=True),
    Rule("logsumexp(x, dim, keepdim)", "masked_logsumexp(x, dim=dim, keepdim=keepdim)", is_flat=True),
    Rule("mean(x, dim, keepdim)", "masked_mean(x, dim=dim, keepdim=keepdim)", is_flat=True),
    Rule("var(x, dim, keepdim=keepdim)", "masked_var(x, dim=dim, keepdim=keepdim)", is_flat=True),
    Rule("std(x, dim, keepdim=keepdim)", "masked_std(x, dim=dim, keepdim=keepdim)", is_flat=True),
    Rule(
        "var(x, dim, keepdim=keepdim, correction=correction)",
        "masked_var(x, dim=dim, keepdim=keepdim, correction=correction)",
        is_flat=True,
    ),
    Rule(
        "std(x, dim, keepdim=keepdim, correction=correction)",
        "masked_std(x, dim=dim, keepdim=keepdim, correction=correction)",
        is_flat=True,
    ),
    Rule("std(x, dim, unbiased=False)", "masked_std(x, dim=dim, correction=0)", is_flat=True),
    Rule(
        "cross_entropy(x, target, weight=weight, ignore_index=ignore_index, label_smoothing=smoothing)",
        "safe_cross_entropy(x, target, weight=weight, ignore_index=ignore_index, label_smoothing=smoothing)",
        is_flat=True,
    ),
    Rule(
        "CrossEntropyLoss(x, target)",
        "safe_cross_entropy(x, target, weight=module.weight, ignore_index=module.ignore_index,"
        " label_smoothing=module.label_smoothing)",
        is_flat=True,
    ),
    Rule(
        "nll_loss(x, target, weight=weight, ignore_index=ignore_index)",
        "F.nll_loss(x, target, weight=weight, ignore_index=ignore_index, reduction='none').sum()"
        " / (target != ignore_index).sum().clamp(min=1)",
        is_flat=True,
    ),
    *(
        Rule(f"{name}(x, target)", f"masked_mean(F.{name}(x, target, reduction='none'))", is_flat=True)
        for name in (
            "mse_loss",
            "l1_loss",
            "smooth_l1_loss",
            "huber_loss",
            "binary_cross_entropy",
            "binary_cross_entropy_with_logits",
        )
    ),
)

#: Infinities that meet a 0, and sums of two masks.
_INFINITIES = (
    Rule("exp(p) * p", "torch.exp(p) * p.clamp(min=torch.finfo(dtype).min)", is_flat=True),
    Rule("p * log(p)", "p * safe_log(p)"),
    Rule(
        "a * b",
        "a * b.clamp(min=torch.finfo(dtype).min)",
        is_flat=True,
        causes=("domain-error", "constant-not-finite"),
    ),
    Rule("a * c", "a * torch.finfo(dtype).min", is_flat=True, causes=("float16-overflow",)),
    Rule("a + b", "(a + b).clamp(min=torch.finfo(dtype).min)", is_flat=True, causes=("float16-overflow",)),
)

#: Functions at the edge of their domain.
_EDGES = (
    *(
        rule
        for name in ("log", "log2", "log10")
        for rule in (
            Rule(f"{name}(x)", f"safe_{name}(x)"),
            Rule(f"{name}(x + e)", f"torch.{name}(x + eps)", causes=("float16-underflow",)),
            Rule(f"{name}(x)", f"torch.{name}(x + eps)"),
            Rule(f"{name}(x)", f"torch.{name}(x + 1e-10)"),
            Rule(f"{name}(x)", f"torch.{name}(x.clamp(min=0) + eps)"),
        )
    ),
    Rule("log1p(x)", "torch.log1p(x + eps)"),
    Rule("log1p(x)", "safe_log(1 + x, eps=eps)"),
    Rule("xlogy(x, y)", "x * safe_log(y)"),
    Rule("sqrt(x)", "safe_sqrt(x)", is_flat=True),
    Rule("sqrt(x)", "torch.sqrt(x.clamp(min=eps))"),
    Rule("norm(x, p, dim, keepdim)", "safe_norm(x, dim=dim, keepdim=keepdim)", is_flat=True),
    Rule("rsqrt(x)", "torch.rsqrt(x + eps)"),
    Rule("rsqrt(x)", "safe_div(1.0, safe_sqrt(x))"),
    Rule("reciprocal(x)", "safe_div(1.0, x)"),
    Rule("a / b", "safe_div(a, b)", spares_nan=True),
    Rule("a / b", "a / b.clamp(min=eps)"),
    Rule("a / b", "a / (b + eps)"),
    Rule("x ** exponent", "safe_pow(x, exponent)", is_flat=True, causes=("sqrt-gradient-at-zero",)),
    Rule("x ** exponent", "safe_pow(x, exponent)"),
    Rule("x ** exponent", "safe_pow(x, exponent, eps=eps)"),
    *(Rule(f"{name}(x)", f"torch.{name}(x * (1 - eps))") for name in ("acos", "asin", "erfinv")),
    *(Rule(f"{name}(x)", f"torch.{name}(x * (1 - eps))") for name in ("atanh",)),
    Rule("acos(x)", "safe_acos(x)", is_flat=True),
    Rule("asin(x)", "safe_asin(x)", is_flat=True),
    Rule("acosh(x)", "safe_acosh(x)", is_flat=True),
    Rule("atanh(x)", "safe_atanh(x)"),
    Rule("atan2(y, x)", "safe_atan2(y, x)", is_flat=True),
    Rule("logit(x)", "torch.logit(x * (1 - 2 * eps) + eps)"),
    Rule("logit(x)", "torch.logit(x, eps=eps)"),
    Rule("lgamma(x)", "torch.lgamma(x + eps)"),
    Rule("digamma(x)", "torch.digamma(x + eps)"),
    Rule("exp(x)", "safe_exp(x)"),
    Rule("expm1(x)", "torch.expm1(x.clamp(max=88.0))"),
    Rule("eigh(x)", "safe_eigh(x)", is_flat=True),
    Rule("svd(x, full_matrices=False)", "safe_svd(x)", is_flat=True),
    *(
        Rule(f"{name}(x)", f"torch.linalg.{name}(x + eps * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device))")
        for name in ("cholesky", "inv", "slogdet")
    ),
    Rule("logdet(x)", "torch.logdet(x + eps * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device))"),
    Rule(
        "solve(a, b)",
        "torch.linalg.solve(a + eps * torch.eye(a.shape[-1], dtype=a.dtype, device=a.device), b)",
    ),
    Rule(
        "ctc_loss(x, targets, input_lengths, target_lengths)",
        "F.ctc_loss(x, targets, input_lengths, target_lengths, zero_infinity=True)",
        is_flat=True,
    ),
)

#: The operation alone in float32. Last, for it changes the dtype.
_IN_FLOAT32 = (
    *(
        Rule(f"a {operator} b", f"in_float32(torch.{name}, a, b)", is_wider=True, causes=_HALF)
        for operator, name in (("@", "matmul"), ("*", "mul"), ("+", "add"), ("-", "sub"), ("/", "div"), ("**", "pow"))
    ),
    Rule("Linear(x)", "in_float32(module, x)", is_wider=True, causes=_HALF),
    *(
        Rule(
            f"{name}(x, dim, keepdim)",
            f"in_float32(torch.{name}, x, dim=dim, keepdim=keepdim)",
            is_wider=True,
            causes=_HALF,
        )
        for name in ("sum", "mean", "logsumexp")
    ),
    *(
        Rule(f"{name}(x)", f"in_float32(torch.{name}, x)", is_wider=True, causes=_HALF)
        for name in ("square", "exp", "rsqrt", "sqrt", "log", "reciprocal", "cumsum")
    ),
    *(
        Rule(f"{name}(a, b)", f"in_float32(torch.{name}, a, b)", is_wider=True, causes=_HALF)
        for name in ("matmul", "einsum", "div", "mul", "pow")
    ),
)

RULES = (*IDENTITIES, *_MASKED, *_INFINITIES, *_EDGES, *_IN_FLOAT32)
