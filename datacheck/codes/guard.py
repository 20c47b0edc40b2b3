"""DC45x and DC46x: what a guard detects in a training step, and what it does about it."""

from __future__ import annotations

from functools import partial

from datacheck.codes.code import Code, Family

_code = partial(Code, family=Family.TRAINING, level="training")

CODES = (
    _code(
        code="DC450",
        name="loss-not-finite",
        message="the loss is non-finite: {detail}",
        finds="A training step whose loss is NaN or infinite.",
        why="Its gradients are NaN, and one update makes every weight they reach NaN for good.",
        example="""`torch.log(probability).mean()` with one probability that is 0:

                DC450 the loss is non-finite: it is -inf; 12 parameters of 14 have a non-finite gradient (step 97)""",
        remedy="""Read the diagnosis of the step: it names the operation, the line and the samples. To keep training in
            the meantime: `Guard(model, optimizer, on_trip="skip")`.""",
    ),
    _code(
        code="DC451",
        name="gradient-not-finite",
        message="{violations} of {checked} gradient values are non-finite, first in {field}: {detail}",
        finds="A training step with a finite loss and non-finite gradients.",
        why="The update would make the weights and the optimizer's moments NaN, and neither recovers.",
        example="""`x.sqrt()` at x = 0 is 0, and its gradient is infinite:

                DC451 64 of 64 gradient values are non-finite, first in 'head.weight': the loss is 0.69; 2 of 14 parameters (step 97)""",
        remedy="Read the diagnosis of the step: it names the forward line whose derivative is non-finite.",
    ),
    _code(
        code="DC452",
        name="loss-spike",
        severity="warning",
        message="the loss jumped: {detail}",
        finds="A finite loss far above the median of recent steps, measured in median absolute deviations.",
        why="One bad batch can undo hours of training without ever being NaN.",
        example="""A batch with wrong labels, after 300 steps between 2.1 and 2.4:

                DC452 warning: the loss jumped: 80, 412 deviations above the median 2.2 of the last steps (step 310)""",
        remedy='Inspect the batch. `Guard(..., on_trip="skip")` or `"clip"` keeps such a step from the weights.',
    ),
    _code(
        code="DC453",
        name="gradient-spike",
        severity="warning",
        message="the gradient norm jumped: {detail}",
        finds="A finite gradient norm far above the median of recent steps, measured in median absolute deviations.",
        why="One update with it moves the weights further than all earlier steps together.",
        example="""One sample on the steep side of an exponential:

                DC453 warning: the gradient norm jumped: 4000, 9100 deviations above the median 1.1 of the last steps (step 310)""",
        remedy="Clip gradients (`torch.nn.utils.clip_grad_norm_`), lower the learning rate, or inspect the batch.",
    ),
    _code(
        code="DC454",
        name="loss-scale-collapsed",
        message="the loss scale fell to {detail}",
        finds="A GradScaler that halved its scale so often that scaled gradients underflow.",
        why="Each step is skipped without an error: training has stopped, and nothing reports it.",
        example="""A gradient that is NaN in every step halves the scale in every step:

                DC454 the loss scale fell to 0.5 (step 17)""",
        remedy="The gradients are non-finite for another reason than the scale: read the diagnosis of the step.",
    ),
    _code(
        code="DC455",
        name="state-not-finite",
        message="{violations} of {checked} values are non-finite in {field} after the update: {detail}",
        finds="A parameter, buffer or optimizer state that was finite before an update and is non-finite after it.",
        why="Every later step of the model is NaN.",
        example="""`AdamW(eps=0)` divides 0 by 0 for a gradient that is exactly 0:

                DC455 64 of 64 values are non-finite in 'head.weight' after the update: step 2 (step 2)""",
        remedy="""Go back to the last checkpoint (`on_trip="rollback"` keeps one), and raise the optimizer's `eps` or
            lower its learning rate, as the diagnosis says.""",
    ),
    _code(
        code="DC456",
        name="known-bad-batch",
        severity="warning",
        message="the batch was bad before, and its update was skipped: {detail}",
        finds="With `skip_bad_batches=True`, a batch that made a step trip before training was resumed.",
        why="A resumed run meets the same batches in the same order, and would trip at the same place again.",
        example="""The run was resumed from a checkpoint before the bad batch:

                DC456 warning: the batch was bad before, and its update was skipped: DC450, input-not-finite, in step 412 of an earlier run (step 12)""",
        remedy="Clean the samples that `guard.bad_batches` names, or wrap the dataset in `SafeDataset`.",
    ),
    _code(
        code="DC457",
        name="unsound-setup",
        severity="warning",
        message="{detail}",
        finds="""Settings, before the first step: a learning rate that is infinite or far too large, an epsilon that is 0 in the
            dtype, a GradScaler without float16, frozen parameters in the optimizer. In the first batch: labels or
            indices out of range, labels that are all ignored, targets too long for CTC. Also what half precision loses
            although the step is finite.""",
        why="Such a run fails in its first update, or trains nothing and says nothing.",
        example="""`guard.preflight(batch, loss_fn)` of a learning rate that was meant to be 3e-4:

                DC457 warning: the learning rate is 30; each update is about as large as the learning rate (Adam)""",
        remedy="Change the setting that the finding names. `guard.preflight(batch, loss_fn)` checks again.",
    ),
    _code(
        code="DC460",
        name="guard-acted",
        severity="info",
        message="{rule}: {detail}",
        finds="What a guard did about an anomaly: it warned, skipped, clipped, rolled back and so on.",
        why="It is not a problem in itself: a run with many such steps is not a healthy one.",
        example="""One update was skipped:

                DC460 info: skip: the update of step 17 was skipped (step 17)""",
        remedy="Nothing, if it is rare. Otherwise, fix what the other findings name.",
    ),
)
