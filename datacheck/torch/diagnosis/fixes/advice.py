"""General advice for each cause: what to change where no rewritten line could be verified."""

from __future__ import annotations

ADVICE: dict[str, str] = {
    "bad-custom-backward": (
        "# check the backward against finite differences, at the edges of its domain too:\n"
        "# torch.autograd.gradcheck(function, inputs in float64)"
    ),
    "buffer-not-finite": "# compute the buffer again from finite data, or load a checkpoint in which it is finite",
    "constant-not-finite": (
        "# if it is made before the step, make it inside guard.step(loss_fn, batch) or diagnose, to learn the line;\n"
        "# a fill value must not reach the loss: select before computing with it, since 0 * inf is NaN"
    ),
    "degenerate-decomposition": (
        "# keep the matrix away from singular, or do not differentiate through its vectors:\n"
        "# torch.linalg.eigvalsh and svdvals have finite gradients; datacheck.torch.safe has safe_eigh and safe_svd"
    ),
    "division-by-zero": "# keep the divisor away from 0: datacheck.torch.safe.safe_div, or an eps that the dtype can hold",
    "domain-error": "# keep the argument inside the domain before the operation, not the result after it",
    "empty-reduction": "# nothing is left to reduce: skip such batches, or see masked_mean in datacheck.torch.safe",
    "exp-overflow": (
        "# use the stable form: torch.sigmoid, torch.tanh, F.softplus, F.softmax, torch.logsumexp; or bound the exponent"
    ),
    "exploding-gradient": (
        "# values grow with each pass: normalise or bound them (layer_norm, tanh), initialise with orthogonal weights,\n"
        "# clip gradients before optimizer.step(), or truncate the recurrence"
    ),
    "float16-overflow": (
        "# run this operation in float32 (datacheck.torch.safe.in_float32) or the model in bfloat16, which has the range of"
        " float32"
    ),
    "float16-underflow": "# use an eps that the dtype can hold (1e-4 in float16), or float32 for this operation",
    "fully-masked-softmax": "# keep at least one key in every row, or use masked_softmax of datacheck.torch.safe",
    "input-not-finite": (
        "from datacheck.torch import SafeDataset\n"
        "dataset = SafeDataset(dataset)  # replaces and names bad samples; or clean the files: datacheck run\n"
        "# where it is masked on purpose: select by index or torch.where before computing with it; 0 * NaN is NaN"
    ),
    "input-out-of-schema": (
        "from datacheck.torch import SafeDataset\n"
        "dataset = SafeDataset(dataset, schema=schema)  # the schema that this batch was checked against"
    ),
    "learning-rate-too-high": "# lower the learning rate, warm it up, or clip gradients before optimizer.step()",
    "log-of-zero-or-negative": (
        "# use the stable form: F.log_softmax, F.logsigmoid, torch.logsumexp; or safe_log of datacheck.torch.safe"
    ),
    "masked-branch-gradient": (
        "# make the input safe before the operation, not its output after it: select with torch.where first,\n"
        "# with a value inside the domain where the result is not used"
    ),
    "optimizer-epsilon": (
        "for group in optimizer.param_groups:\n    group['eps'] = 1e-6  # 1e-4 where weights or moments are float16"
    ),
    "overflow": "# scale the values down before the operation, or compute this line in float64",
    "parameter-not-finite": "# load a checkpoint in which the parameter is finite, then train under Guard",
    "sqrt-gradient-at-zero": "# see safe_sqrt, safe_norm and safe_pow in datacheck.torch.safe: gradient 0 at 0",
    "variance-of-one": "# skip batches of one (DataLoader(..., drop_last=True)), or use correction=0",
}

#: Advice for operations that the advice for their cause does not fit.
_OF_OPERATIONS: dict[str, str] = {
    "linalg_matrix_exp": "# bound the norm of the matrix before torch.matrix_exp, or compute it in float64",
    "logdet": (
        "# a change of variables needs log|det|, which is torch.linalg.slogdet(x).logabsdet; a covariance must be positive\n"
        "# definite: build it as L @ L.mT, and 2 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1) is its log determinant"
    ),
    "special_entr": "# keep what is a probability at 0 or above: its entropy is -inf below",
}


def advice_for(cause: str, op: str) -> str:
    """The advice for a cause at an operation of this family; empty where there is none."""
    return _OF_OPERATIONS.get(op, ADVICE.get(cause, ""))
