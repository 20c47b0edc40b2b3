"""Rewritings that keep the meaning of an expression and stay finite at the edge: tried in this order, and only as tried."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """An expression, and what may take its place.

    ``spares_nan`` says that what was NaN needs no gradient: 0 / 0 is the mean of nothing. ``is_wider`` says that the result
    has another dtype. ``causes`` restricts it to some causes; empty for all. ``eps`` in the replacement is a number that
    neither rounds to 0 in the dtype nor has an infinite reciprocal, and ``dtype`` the dtype of the result.
    """

    pattern: str
    replacement: str
    spares_nan: bool = False
    is_wider: bool = False
    causes: tuple[str, ...] = ()


def _rules(table: str, options: str = "") -> tuple[Rule, ...]:
    """The rules of a table, one a line: ``expression -> replacement | options``.

    Options are ``spares_nan``, ``wider`` and causes. A line with ``NAME`` in it ends with ``for`` and the names of
    functions: it is a rule for each of them.
    """
    rules = []
    for line in table.strip().splitlines():
        text, _, names = line.partition(" for ")
        text, _, own = text.partition(" | ")
        words = (own or options).split()
        causes = tuple(word for word in words if word not in ("spares_nan", "wider"))
        for name in names.split() or [""]:
            pattern, _, replacement = text.replace("NAME", name).partition(" -> ")
            flags = ("spares_nan" in words, "wider" in words)
            rules.append(Rule(pattern.strip(), replacement.strip(), *flags, causes))
    return tuple(rules)


#: One function that is stable where a composition of two is not: equal in exact arithmetic, and right where that is not.
#: They may apply to a later line, which reads the result of the one at fault.
IDENTITIES = _rules("""
log(softmax(x, dim)) -> F.log_softmax(x, dim=dim)
log(gather(softmax(x, dim), axis, index)) -> F.log_softmax(x, dim=dim).gather(axis, index)
log(sigmoid(x)) -> F.logsigmoid(x)
log2(sigmoid(x)) -> F.logsigmoid(x) * 1.4426950408889634
log10(sigmoid(x)) -> F.logsigmoid(x) * 0.4342944819032518
log2(softmax(x, dim)) -> F.log_softmax(x, dim=dim) * 1.4426950408889634
log10(softmax(x, dim)) -> F.log_softmax(x, dim=dim) * 0.4342944819032518
log(1 - sigmoid(x)) -> F.logsigmoid(-x)
log(prod(x, dim, keepdim)) -> torch.log(x).sum(dim=dim, keepdim=keepdim)
log(sum(exp(x), dim, keepdim)) -> torch.logsumexp(x, dim=dim, keepdim=keepdim)
-(y * log(sigmoid(x)) + (1 - y) * log(1 - sigmoid(x))) -> F.binary_cross_entropy_with_logits(x, y, reduction='none')
y * log(sigmoid(x)) + (1 - y) * log(1 - sigmoid(x)) -> -F.binary_cross_entropy_with_logits(x, y, reduction='none')
log(1 + exp(x)) -> F.softplus(x)
log1p(exp(x)) -> F.softplus(x)
log(cosh(x)) -> F.softplus(2 * x) - x - 0.6931471805599453
1 / (1 + exp(-x)) -> torch.sigmoid(x)
exp(x) / (1 + exp(x)) -> torch.sigmoid(x)
exp(x) / sum(exp(x), dim, keepdim) -> torch.softmax(x, dim=dim)
sqrt(sum(x ** 2, dim, keepdim)) -> safe_norm(x, dim=dim, keepdim=keepdim)
sqrt(sum(pow(x, 2), dim, keepdim)) -> safe_norm(x, dim=dim, keepdim=keepdim)
sqrt(sum(square(x), dim, keepdim)) -> safe_norm(x, dim=dim, keepdim=keepdim)
x / norm(x, p, dim, keepdim) -> safe_normalize(x, dim=dim)
x / sqrt(sum(pow(x, 2), dim, keepdim)) -> safe_normalize(x, dim=dim)
""")

#: Slices of which nothing is kept.
_MASKED = _rules("""
MultiheadAttention(..., key_padding_mask=mask) -> module(..., key_padding_mask=mask & ~mask.all(dim=1, keepdim=True))
softmax(x, dim) -> masked_softmax(x, dim=dim)
log_softmax(x, dim) -> masked_log_softmax(x, dim=dim)
logsumexp(x, dim, keepdim) -> masked_logsumexp(x, dim=dim, keepdim=keepdim)
mean(x, dim, keepdim) -> masked_mean(x, dim=dim, keepdim=keepdim)
NAME(x, dim, keepdim=keepdim) -> masked_NAME(x, dim=dim, keepdim=keepdim) for var std
NAME(x, dim, keepdim=keepdim, correction=correction) \
-> masked_NAME(x, dim=dim, keepdim=keepdim, correction=correction) for var std
std(x, dim, unbiased=False) -> masked_std(x, dim=dim, correction=0)
cross_entropy(x, target, weight=weight, ignore_index=ignore_index, label_smoothing=smoothing) \
-> safe_cross_entropy(x, target, weight=weight, ignore_index=ignore_index, label_smoothing=smoothing)
CrossEntropyLoss(x, target) -> safe_cross_entropy(x, target, weight=module.weight, \
ignore_index=module.ignore_index, label_smoothing=module.label_smoothing)
nll_loss(x, target, weight=weight, ignore_index=ignore_index) \
-> F.nll_loss(x, target, weight=weight, ignore_index=ignore_index, reduction='none').sum() \
/ (target != ignore_index).sum().clamp(min=1)
NAME(x, target) -> masked_mean(F.NAME(x, target, reduction='none')) for mse_loss l1_loss smooth_l1_loss huber_loss \
binary_cross_entropy binary_cross_entropy_with_logits
""")

#: Infinities that meet a 0, and sums of two masks.
_INFINITIES = _rules("""
exp(p) * p -> torch.exp(p) * p.clamp(min=torch.finfo(dtype).min)
p * log(p) -> p * safe_log(p)
a * b -> a * b.clamp(min=torch.finfo(dtype).min) | domain-error constant-not-finite
a * c -> a * torch.finfo(dtype).min | float16-overflow
a + b -> (a + b).clamp(min=torch.finfo(dtype).min) | float16-overflow
""")

#: Functions at the edge of their domain.
_EDGES = _rules("""
NAME(x) -> safe_NAME(x) for log log2 log10
NAME(x + e) -> torch.NAME(x + eps) | float16-underflow for log log2 log10
NAME(x) -> torch.NAME(x + eps) for log log2 log10
NAME(x) -> torch.NAME(x + 1e-10) for log log2 log10
NAME(x) -> torch.NAME(x.clamp(min=0) + eps) for log log2 log10
log1p(x) -> torch.log1p(x + eps)
log1p(x) -> safe_log(1 + x, eps=eps)
xlogy(x, y) -> x * safe_log(y)
sqrt(x) -> safe_sqrt(x)
sqrt(x) -> torch.sqrt(x.clamp(min=eps))
norm(x, p, dim, keepdim) -> safe_norm(x, dim=dim, keepdim=keepdim)
rsqrt(x) -> torch.rsqrt(x + eps)
rsqrt(x) -> safe_div(1.0, safe_sqrt(x))
reciprocal(x) -> safe_div(1.0, x)
a / b -> safe_div(a, b) | spares_nan
a / b -> a / b.clamp(min=eps)
a / b -> a / (b + eps)
x ** exponent -> safe_pow(x, exponent) | sqrt-gradient-at-zero
x ** exponent -> safe_pow(x, exponent)
x ** exponent -> safe_pow(x, exponent, eps=eps)
NAME(x) -> torch.NAME(x * (1 - eps)) for acos asin erfinv atanh
acos(x) -> safe_acos(x)
asin(x) -> safe_asin(x)
acosh(x) -> safe_acosh(x)
atanh(x) -> safe_atanh(x)
atan2(y, x) -> safe_atan2(y, x)
logit(x) -> torch.logit(x * (1 - 2 * eps) + eps)
logit(x) -> torch.logit(x, eps=eps)
NAME(x) -> torch.NAME(x + eps) for lgamma digamma
exp(x) -> safe_exp(x)
expm1(x) -> torch.expm1(x.clamp(max=88.0))
eigh(x) -> safe_eigh(x)
svd(x, full_matrices=False) -> safe_svd(x)
NAME(x) -> torch.linalg.NAME(x + eps * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)) for cholesky inv slogdet
logdet(x) -> torch.logdet(x + eps * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device))
solve(a, b) -> torch.linalg.solve(a + eps * torch.eye(a.shape[-1], dtype=a.dtype, device=a.device), b)
ctc_loss(x, targets, input_lengths, target_lengths) \
-> F.ctc_loss(x, targets, input_lengths, target_lengths, zero_infinity=True)
""")

#: The operation alone in float32. Last, since it changes the dtype.
_IN_FLOAT32 = _rules(
    """
a @ b -> in_float32(torch.matmul, a, b)
a * b -> in_float32(torch.mul, a, b)
a + b -> in_float32(torch.add, a, b)
a - b -> in_float32(torch.sub, a, b)
a / b -> in_float32(torch.div, a, b)
a ** b -> in_float32(torch.pow, a, b)
Linear(x) -> in_float32(module, x)
NAME(x, dim, keepdim) -> in_float32(torch.NAME, x, dim=dim, keepdim=keepdim) for sum mean logsumexp
NAME(x) -> in_float32(torch.NAME, x) for square exp rsqrt sqrt log reciprocal cumsum
NAME(a, b) -> in_float32(torch.NAME, a, b) for matmul einsum div mul pow
""",
    "wider float16-overflow float16-underflow",
)

RULES = (*IDENTITIES, *_MASKED, *_INFINITIES, *_EDGES, *_IN_FLOAT32)
