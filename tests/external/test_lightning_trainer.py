"""What only Lightning has: metrics, manual optimization, its checkpoints, its loggers, its second name."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from trainer_problem import BATCH_SIZE, Net, Problem, Samples, optimizer_of
from trainer_runs import lightning_module, lightning_trainer, run_lightning

from datacheck.errors import UsageError
from datacheck.torch import NonFiniteError

lightning = pytest.importorskip("lightning")

from datacheck.lightning import GuardCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")


def loader(bad: int | None = None) -> Any:
    return DataLoader(Samples(bad), batch_size=BATCH_SIZE)


def test_metrics_of_an_epoch_are_those_of_the_steps_that_were_made() -> None:
    made = run_lightning(Problem(bad=9, guard={"on_trip": "skip"}))
    losses = [float(loss) for loss in made.state["outputs"]]
    assert len(losses) == 8, "a replay leaves no entries in the module's lists"
    expected = sum(loss for loss in losses if math.isfinite(loss)) / 7
    assert float(made.state["metrics"]["loss"]) == pytest.approx(expected)
    first = run_lightning(Problem(bad=1, guard={"on_trip": "skip"}))
    assert math.isfinite(float(first.state["metrics"]["loss"]))


class Pair(lightning.LightningModule):  # type: ignore[misc, name-defined]
    """Two models and two optimizers, as in a GAN; the second loss is broken in the third batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.first, self.second = nn.Linear(4, 2), nn.Linear(4, 2)
        self.history: list[list[torch.Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for part, optimizer in zip((self.first, self.second), self.optimizers(), strict=True):
            loss = ((part(batch["x"]) - batch["labels"]) ** 2).mean()
            if part is self.second and batch_idx == 2:
                loss = loss + torch.log(part.weight.sum() * 0)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.history.append([part.weight.detach().clone() for part in (self.first, self.second)])

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters(), lr=0.05) for part in (self.first, self.second)]


def test_manual_optimization_skips_the_one_optimizer_whose_loss_is_bad() -> None:
    module, callback = Pair(), GuardCallback(on_trip="skip")
    lightning_trainer(Problem(), [callback]).fit(module, loader())
    before, after = module.history[1], module.history[2]
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert not torch.equal(module.history[3][1], after[1])
    assert [finding.rule for finding in callback.report().findings if finding.code == "DC460"] == ["skip"]
    assert (callback.report().diagnoses[0].source or "").startswith("loss = loss + torch.log")


def test_a_checkpoint_carries_the_guard_and_a_resumed_run_skips_the_bad_batch(tmp_path: Path) -> None:
    module, callback = lightning_module(), GuardCallback(on_trip="skip")
    trainer = lightning_trainer(Problem(), [callback])
    trainer.fit(module, loader(9))
    trainer.save_checkpoint(tmp_path / "last.ckpt")

    resumed = GuardCallback(on_trip="raise", skip_bad_batches=True)
    again = lightning_trainer(Problem(epochs=2), [resumed])
    again.fit(lightning_module(), loader(9), ckpt_path=tmp_path / "last.ckpt", weights_only=False)
    assert resumed.report().num_rows == 16
    assert [finding.code for finding in resumed.report().findings] == ["DC456", "DC460"]


def test_the_trainers_loggers_get_the_counters_by_its_global_step(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(tmp_path)
    callback = GuardCallback(on_trip="skip", log_every_n_steps=2)
    trainer = lightning_trainer(Problem(), [callback], logger=logger)
    trainer.fit(lightning_module(), loader(9))
    logger.save()
    with Path(logger.log_dir, "metrics.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["datacheck/trips"]]
    assert [row["datacheck/trips"] for row in rows] == ["0", "1", "1", "1", "1"]
    assert [row["step"] for row in rows] == ["1", "2", "3", "5", "7"]


def test_the_guard_works_in_the_package_that_is_called_pytorch_lightning() -> None:
    pytorch_lightning = pytest.importorskip("pytorch_lightning")

    class Module(pytorch_lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, batch: Any) -> torch.Tensor:
            return self.net(**batch)["loss"]

        def configure_optimizers(self) -> Any:
            return optimizer_of(self)[0]

    trainer = pytorch_lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[GuardCallback()],
    )
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(Module(), loader(9))
    assert caught.value.diagnosis.samples == (1,)


class Searching(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.net(**batch)["loss"]

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


def test_an_optimizer_that_evaluates_the_loss_itself_is_checked_at_each_evaluation() -> None:
    results = []
    for callbacks in ([], [GuardCallback()]):
        module = Searching()
        lightning_trainer(Problem(), callbacks).fit(module, loader())
        results.append([value.clone() for value in module.state_dict().values()])
    assert all(map(torch.equal, *results))
    module, callback = Searching(), GuardCallback(on_trip="skip")
    lightning_trainer(Problem(), [callback]).fit(module, loader(9))
    assert all(value.isfinite().all() for value in module.state_dict().values())
    assert "DC460" in [finding.code for finding in callback.report().findings]


def test_models_with_activation_checkpointing_are_replayed() -> None:
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(Net):
        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return checkpoint(super().forward, x, labels, use_reentrant=False)  # type: ignore[no-any-return]

    module = lightning_module()
    module.net = Checkpointed()
    callback = GuardCallback()
    with pytest.raises(NonFiniteError) as caught:
        lightning_trainer(Problem(), [callback]).fit(module, loader(9))
    assert (caught.value.diagnosis.cause, caught.value.diagnosis.samples) == ("log-of-zero-or-negative", (1,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_trip": "skp"}, "did you mean 'skip'"),
        ({"evry_n_steps": 3}, "evry_n_steps: unknown option of a guard"),
        ({"max_grad_norm": 1.0}, "max_grad_norm: leave it out: the trainer clips"),
        ({"watch": "layer"}, "watch='layer'"),
    ],
)
def test_a_wrong_option_is_an_error_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        GuardCallback(**options)


def test_an_error_that_a_nan_causes_gets_the_diagnosis_as_a_note() -> None:
    module = lightning_module()
    plain = module.training_step

    def training_step(batch: Any, batch_idx: int) -> torch.Tensor:
        loss = plain(batch, batch_idx)
        assert torch.isfinite(loss), "the loss is not finite"
        return loss  # type: ignore[no-any-return]

    module.training_step = training_step
    with pytest.raises(AssertionError, match="the loss is not finite") as caught:
        lightning_trainer(Problem(), [GuardCallback()]).fit(module, loader(9))
    assert "log-of-zero-or-negative" in "".join(caught.value.__notes__)
