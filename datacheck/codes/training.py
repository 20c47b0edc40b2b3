"""DC40x: causes of non-finite or diverging training steps."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

_code = partial(Code, family=Family.TRAINING, level="training")

CODES = (
    _code(
        code="DC401",
        name="unstable-loss",
        message="the loss is non-finite: {detail}",
        finds="A loss that became NaN or infinite in the code that computes it from the model's output.",
        why="""Its gradients are NaN for every weight they reach, and one update makes those weights NaN. From then on
            every prediction is NaN, and no later batch can undo it.""",
        example="""A logarithm is taken of a probability that is exactly 0:

                DC401 log-of-zero-or-negative (loss) in aten.log.default at train/loss.py:31""",
        remedy="""Use a numerically stable form: `F.cross_entropy` on logits instead of the log of a softmax, or
            `datacheck.torch.safe.safe_log` where you need a log. The diagnosis has the line to paste.""",
    ),
    _code(
        code="DC402",
        name="unstable-forward",
        message="the forward pass is non-finite: {detail}",
        finds="An operation of the model whose NaN or infinity reached the loss.",
        why="As with a non-finite loss, one update makes every weight NaN. Only the line to fix is another one.",
        example="""Every key of one sample is padding, so its attention reduces over a fully masked slice:

                DC402 fully-masked-softmax (forward) in aten._softmax.default in encoder.3 at attention.py:88""",
        remedy="""Fix the operation that the diagnosis names, for example with `datacheck.torch.safe.masked_softmax`.
            NaN and infinities that never reach the loss or a gradient are not reported.""",
    ),
    _code(
        code="DC403",
        name="unstable-backward",
        message="a gradient is non-finite: {detail}",
        finds="A gradient that became NaN or infinite in the backward pass although the loss is finite.",
        why="""The loss curve looks healthy while the weights are destroyed: the loss of the *next* step is NaN, and by
            then the operation to blame is gone.""",
        example="""`torch.where` picks the finite branch, but the gradient of the other branch is 0 times infinity:

                DC403 masked-branch-gradient (backward) in aten.log.default at train/loss.py:31""",
        remedy="""Make the *input* of the operation safe, not its output: `torch.where(x > 0, torch.log(torch.where(x >
            0, x, 1.0)), 0.0)`, or the form in `datacheck.torch.safe`.""",
    ),
    _code(
        code="DC404",
        name="parameter-not-finite",
        message="a parameter is non-finite: {detail}",
        finds="A weight that is NaN or infinite.",
        why="Every output that depends on it is NaN. Only an earlier checkpoint has its value.",
        example="""A checkpoint was saved after the run had diverged:

                DC404 parameter-not-finite (parameter) in head at train/model.py:52""",
        remedy="""Load the last checkpoint whose weights are all finite (`all(p.isfinite().all() for p in
            model.parameters())`) and train with `Guard(model, optimizer)`, which stops before a bad update. Weights
            created with `torch.empty` must be initialised.""",
    ),
    _code(
        code="DC405",
        name="buffer-not-finite",
        message="a buffer is non-finite: {detail}",
        finds="A buffer, such as BatchNorm's running mean, that is NaN or infinite.",
        why="""Running statistics never forget a NaN, and skipping the step does not undo them. Training may look
            healthy, because it uses the batch's own statistics; evaluation is NaN.""",
        example="""A bad batch went through BatchNorm:

                DC405 buffer-not-finite (buffer) in features.1 at train/model.py:40""",
        remedy="""Reset the statistics (`module.reset_running_stats()`), and run some clean batches in training mode
            before evaluating. `Guard(..., on_trip="skip")` restores buffers when it skips a step.""",
    ),
    _code(
        code="DC406",
        name="unstable-update",
        message="the update is non-finite: {detail}",
        finds="An optimizer whose update or state became NaN or infinite although the gradients were finite.",
        why="The weights are destroyed where nothing checks: after the gradients were found to be finite.",
        example="""Adam with `eps=0` divides 0 by 0 for a weight that has had no gradient yet:

                DC406 optimizer-epsilon (optimizer) in aten.addcdiv_.default at train/loop.py:77""",
        remedy="""Give Adam an `eps` that its dtype can represent (1e-8 in float32, 1e-4 for weights in float16), keep
            master weights in float32, and lower the learning rate.""",
    ),
    _code(
        code="DC407",
        name="bad-batch",
        message="the batch is bad: {detail}",
        finds="A batch with a NaN, an infinity or a value outside its schema that broke the training step.",
        why="One bad value in one sample makes the loss of the whole batch NaN, and every gradient with it.",
        example="""A gap in a weather series was loaded as NaN:

                DC407 input-not-finite (input) in 'humidity', samples 3 and 17""",
        remedy="""Clean the data with `datacheck run`, or catch it in the loader with `SafeDataset(ds)`. The diagnosis
            lists the samples, with their file and row if the batch carries them.""",
    ),
    _code(
        code="DC408",
        name="divergence",
        message="training diverges: {detail}",
        finds="A loss, gradient norm or update that grew until it overflowed, with no single operation to blame.",
        why="The step that overflows is the last of many that went wrong. Skipping it changes nothing.",
        example="""The loss doubled every few steps while updates grew to a tenth of the weights:

                DC408 learning-rate-too-high (optimizer) at step 412""",
        remedy="""Go back to a checkpoint from before the loss rose; lower the learning rate (to a tenth), add warm-up,
            and clip the gradient norm with `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)`.""",
    ),
    _code(
        code="DC409",
        name="not-reproducible",
        message="the anomaly did not repeat: {detail}",
        finds="A step that was non-finite in training and is finite when replayed from the same state.",
        why="""Nondeterministic kernels, a race in the data loading, or faulty memory: each will happen again, and the
            weights it leaves behind may be wrong and finite.""",
        example="""The gradients were NaN in training and finite in the replay:

                DC409 not-reproducible (backward) at step 9,120""",
        remedy="""Turn on `torch.use_deterministic_algorithms(True)` and see whether it repeats. If it happens on only
            one machine, test that machine's memory.""",
    ),
)
