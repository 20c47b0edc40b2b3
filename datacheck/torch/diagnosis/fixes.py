"""The suggested fix for each cause, as code that can be pasted."""

from __future__ import annotations

__all__ = ["suggest_fix"]

_SAFE = "from datacheck.torch.safe import "

_BY_OPERATION: dict[tuple[str, str], str] = {
    (
        "log-of-zero-or-negative",
        "log1p",
    ): f"{_SAFE}safe_log\ny = safe_log(1 + x, eps=1e-12)  # instead of torch.log1p(x)",
    ("log-of-zero-or-negative", "xlogy"): f"{_SAFE}safe_log\ny = x * safe_log(p)  # instead of torch.xlogy(x, p)",
    (
        "division-by-zero",
        "rsqrt",
    ): f"{_SAFE}safe_div, safe_sqrt\ny = safe_div(1.0, safe_sqrt(x))  # instead of x.rsqrt()",
    ("division-by-zero", "pow"): f"{_SAFE}safe_pow\ny = safe_pow(x, exponent, eps=1e-6)  # instead of x ** exponent",
    ("division-by-zero", "weight_norm_interface"): (
        "nn.init.normal_(layer.parametrizations.weight.original1, std=0.02)  # no row of it may be 0"
    ),
    ("domain-error", "pow"): f"{_SAFE}safe_pow\ny = safe_pow(x, exponent)  # the base is clamped to at least eps",
    ("domain-error", "sqrt"): f"{_SAFE}safe_sqrt\ny = safe_sqrt(x)  # 0 for x <= 0, with a gradient of 0 there",
    (
        "domain-error",
        "acos",
    ): f"{_SAFE}safe_acos\ny = safe_acos(x)  # finite, with a finite gradient, on all of [-1, 1]",
    (
        "domain-error",
        "asin",
    ): f"{_SAFE}safe_asin\ny = safe_asin(x)  # finite, with a finite gradient, on all of [-1, 1]",
    ("domain-error", "acosh"): f"{_SAFE}safe_acosh\ny = safe_acosh(x)  # 0 for x <= 1, with a gradient of 0 there",
    ("domain-error", "atanh"): f"{_SAFE}safe_atanh\ny = safe_atanh(x)  # x is clamped to [-1 + eps, 1 - eps]",
    ("domain-error", "atan2"): f"{_SAFE}safe_atan2\ny = safe_atan2(y, x)  # 0 with a gradient of 0 at the origin",
    ("domain-error", "logit"): "y = torch.logit(p, eps=1e-6)  # or keep the logits, and never make p",
    ("domain-error", "erfinv"): "y = torch.erfinv(x.clamp(-1 + 1e-6, 1 - 1e-6))  # infinite at -1 and 1",
    (
        "domain-error",
        "lgamma",
    ): "y = torch.lgamma(x.clamp(min=1e-6))  # infinite at 0; F.softplus(z) + 1e-6 is positive",
    (
        "domain-error",
        "digamma",
    ): "y = torch.digamma(x.clamp(min=1e-6))  # infinite at 0; F.softplus(z) + 1e-6 is positive",
    ("sqrt-gradient-at-zero", "norm"): f"{_SAFE}safe_norm\ny = safe_norm(x, dim=-1)  # gradient 0 at x = 0",
    (
        "sqrt-gradient-at-zero",
        "linalg_vector_norm",
    ): f"{_SAFE}safe_norm\ny = safe_norm(x, dim=-1)  # gradient 0 at x = 0",
    (
        "sqrt-gradient-at-zero",
        "pow",
    ): f"{_SAFE}safe_pow\ny = safe_pow(x, exponent)  # instead of x ** exponent; gradient 0 at 0",
    ("empty-reduction", "nll_loss_forward"): (
        "loss = F.cross_entropy(logits, target, ignore_index=ignore_index, reduction='sum')\n"
        "loss = loss / (target != ignore_index).sum().clamp(min=1)"
    ),
    ("empty-reduction", "segment_reduce"): (
        "y = torch.segment_reduce(x, 'sum', lengths=lengths) / lengths.clamp(min=1)[:, None]  # 0 for an empty segment"
    ),
    ("variance-of-one", "std"): (
        "y = x.std(dim, correction=0)  # or skip batches of one: DataLoader(..., drop_last=True)\n"
        f"{_SAFE}masked_std  # 0 where fewer than two values are kept"
    ),
    ("exploding-gradient", "forward"): (
        "# the values themselves grow at each pass of this line, so that clipping gradients comes too late:\n"
        "h = F.layer_norm(h, h.shape[-1:])  # after each pass; or a bounded activation such as torch.tanh\n"
        "torch.nn.init.orthogonal_(weight)  # before training: keeps the length of what it multiplies"
    ),
    ("buffer-not-finite", "running"): (
        "module.reset_running_stats()  # BatchNorm; or load the buffer from a checkpoint where it is finite\n"
        "guard = Guard(model, optimizer, on_trip='skip')  # restores buffers when it skips a step"
    ),
    ("constant-not-finite", "nan"): (
        "# it was computed before the step, or from random numbers drawn there; inside loss_fn, its line would be found:\n"
        "guard.step(loss_fn, batch)  # or, for this batch: diagnose(loss_fn, model, batch)"
    ),
    ("fully-masked-softmax", "multi_head_attention"): (
        "# before the layer: a sample without any key may attend to all of them, and is left out of the loss\n"
        "key_padding_mask = key_padding_mask & ~key_padding_mask.all(dim=1, keepdim=True)"
    ),
    ("fully-masked-softmax", "log_softmax"): f"{_SAFE}masked_log_softmax\ny = masked_log_softmax(scores, keep, dim=-1)",
}

#: Layers that divide by a deviation.
_LAYERS: dict[tuple[str, str], str] = {
    ("division-by-zero", op): f"layer = {layer}  # an eps above 0; 1e-3 in float16"
    for op, layer in (
        ("native_group_norm", "nn.GroupNorm(num_groups, num_channels, eps=1e-5)"),
        ("native_layer_norm", "nn.LayerNorm(normalized_shape, eps=1e-5)"),
    )
}
_BY_OPERATION.update(_LAYERS)
for _op in ("cudnn_batch_norm", "native_batch_norm"):
    _BY_OPERATION["division-by-zero", _op] = "layer.reset_running_stats()  # its running_var plus eps is 0 or negative"

#: Losses over a selection that may be empty.
_LOSSES: dict[tuple[str, str], str] = {
    ("empty-reduction", op): (
        f"loss = F.{call}(prediction, target, reduction='sum')\n"
        "loss = loss / max(prediction.numel(), 1)  # 0, with gradients of 0, where nothing is selected"
    )
    for op, call in (
        ("binary_cross_entropy", "binary_cross_entropy"),
        ("binary_cross_entropy_with_logits", "binary_cross_entropy_with_logits"),
        ("huber_loss", "huber_loss"),
        ("mse_loss", "mse_loss"),
        ("smooth_l1_loss", "smooth_l1_loss"),
    )
}
_BY_OPERATION.update(_LOSSES)

#: An infinite loss that no number put in its way prevents: the sample has to go.
_ALIGNMENTS: dict[tuple[str, str], str] = {
    ("domain-error", op): (
        "loss = F.ctc_loss(log_probs, targets, input_lengths, target_lengths, zero_infinity=True)\n"
        "# such a sample counts 0 then; better leave it out of the data, or subsample the input less"
    )
    for op in ("ctc_loss", "cudnn_ctc_loss")
}
_BY_OPERATION.update(_ALIGNMENTS)

#: The maximum of a fully masked slice needs a default of its own.
_EXTREMES: dict[tuple[str, str], str] = {
    ("empty-reduction", op): (
        f"y = {call}(torch.where(keep, x, torch.finfo(x.dtype).{bound}), dim=-1)\n"
        "y = torch.where(keep.any(dim=-1), y, 0.0)  # 0, without a gradient, where nothing is kept"
    )
    for op, call, bound in (
        ("amax", "torch.amax", "min"),
        ("max", "torch.amax", "min"),
        ("amin", "torch.amin", "max"),
        ("min", "torch.amin", "max"),
    )
}
_BY_OPERATION.update(_EXTREMES)

_BY_CAUSE: dict[str, str] = {
    "bad-custom-backward": (
        "# check the backward against finite differences, at the edges too:\n"
        "torch.autograd.gradcheck(MyFunction.apply, (x.double().requires_grad_(),))"
    ),
    "buffer-not-finite": (
        "model.load_state_dict(last_good_checkpoint)  # or compute the buffer again, from finite data alone:\n"
        "data = data[torch.isfinite(data).all(dim=-1)]"
    ),
    "constant-not-finite": (
        "# do not let a value that was masked with -inf be the target, or take part in the loss:\n"
        "loss = torch.where(keep, loss_per_item, 0.0).sum() / keep.sum().clamp(min=1)"
    ),
    "degenerate-decomposition": (
        "# separate equal eigenvalues, and keep the matrix away from singular:\n"
        "a = a + 1e-6 * torch.diag(torch.linspace(1.0, 2.0, a.shape[-1], dtype=a.dtype, device=a.device))\n"
        "# or do not differentiate through eigenvectors: use torch.linalg.eigvalsh, or detach them"
    ),
    "division-by-zero": f"{_SAFE}safe_div\ny = safe_div(a, b)  # 0 where b is 0, with gradients of 0 there",
    "domain-error": "x = x.clamp(low + eps, high - eps)  # before the operation, not after it",
    "empty-reduction": f"{_SAFE}masked_mean\ny = masked_mean(x, keep, dim=None)  # 0 where nothing is kept",
    "exp-overflow": (
        "y = torch.exp(x.clamp(max=80.0))  # 10.0 in float16\n"
        "# better, where it is a part of one of these: torch.sigmoid, torch.tanh, F.softplus, F.softmax, torch.logsumexp,\n"
        "# which do not overflow"
    ),
    "exploding-gradient": (
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # before optimizer.step()\n"
        "# in a recurrence: orthogonal or small initial weights, a bounded activation, truncated backpropagation"
    ),
    "float16-overflow": (
        "with torch.autocast(device_type=x.device.type, enabled=False):\n"
        "    y = operation(x.float())  # or bfloat16, which has the range of float32\n"
        "# a mask constant must fit its dtype: scores.masked_fill(~keep, torch.finfo(scores.dtype).min)"
    ),
    "float16-underflow": (
        "eps = torch.finfo(x.dtype).eps  # 1e-3 in float16, where 1e-8 is 0\n"
        "y = operation(x.float().clamp(min=eps))  # in float32, with a gradient of 0 below eps"
    ),
    "fully-masked-softmax": f"{_SAFE}masked_softmax\ny = masked_softmax(scores, keep, dim=-1)  # 0 where all is masked",
    "input-not-finite": (
        "from datacheck.torch import SafeDataset\n"
        "loader = DataLoader(SafeDataset(dataset), batch_size=batch_size)  # replaces and names bad samples\n"
        "# or clean the files once: datacheck run pipeline.yaml\n"
        "# where it is masked on purpose: select by x[keep] or torch.where before computing with it; 0 * NaN is NaN"
    ),
    "input-out-of-schema": (
        "from datacheck.torch import SafeDataset\n"
        "loader = DataLoader(SafeDataset(dataset, schema='schemas/train.yaml'), batch_size=batch_size)"
    ),
    "learning-rate-too-high": (
        "for group in optimizer.param_groups:\n"
        "    group['lr'] *= 0.1  # from a checkpoint before the climb\n"
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # before optimizer.step()"
    ),
    "log-of-zero-or-negative": (
        f"{_SAFE}safe_log\n"
        "y = safe_log(x)  # finite, with a finite gradient, for every x\n"
        "# of a softmax: F.log_softmax(logits, dim=-1); of a sum of exponentials: torch.logsumexp(x, dim=-1);\n"
        "# of a sigmoid: F.logsigmoid(logits); of 1 - sigmoid: F.logsigmoid(-logits)"
    ),
    "masked-branch-gradient": (
        "# make the input safe before the operation, not its output after it:\n"
        "x_safe = torch.where(keep, x, torch.ones_like(x))\n"
        "y = torch.where(keep, operation(x_safe), 0.0)"
    ),
    "optimizer-epsilon": (
        "optimizer = torch.optim.AdamW(model.parameters(), lr=lr, eps=1e-6)  # 1e-4 where weights are float16"
    ),
    "overflow": "x = x / x.detach().abs().amax().clamp(min=1.0)  # normalise before, or compute in float64",
    "parameter-not-finite": (
        "bad = [name for name, p in model.named_parameters() if not p.isfinite().all()]\n"
        "model.load_state_dict(last_good_checkpoint)  # then train under Guard(model, optimizer)"
    ),
    "sqrt-gradient-at-zero": f"{_SAFE}safe_sqrt\ny = safe_sqrt(x)  # 0 at 0, with a gradient of 0 there",
    "variance-of-one": (
        "y = x.var(dim, correction=0)  # or skip batches of one: DataLoader(..., drop_last=True)\n"
        f"{_SAFE}masked_var  # 0 where fewer than two values are kept"
    ),
}


def suggest_fix(cause: str, op: str) -> str:
    """The suggested fix for a cause in an operation; empty where there is no general one."""
    return _BY_OPERATION.get((cause, op)) or _BY_CAUSE.get(cause, "")
