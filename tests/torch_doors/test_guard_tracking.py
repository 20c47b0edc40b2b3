"""What a guard logs while training runs, and what it writes for ``datacheck watch``."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from datacheck.cli.app import main as datacheck  # noqa: E402
from datacheck.errors import UsageError  # noqa: E402
from datacheck.torch import BadSampleWarning, Guard, NonFiniteError, SafeDataset  # noqa: E402


def batches(number: int, bad_at: tuple[int, ...] = ()) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for position in range(number):
        batch = torch.randn(4, 3, generator=generator)
        if position in bad_at:
            batch[2, 1] = torch.nan
        yield batch


def loss_fn(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return (model(batch) ** 2).mean()


def train(number: int = 6, bad_at: tuple[int, ...] = (3,), **options: Any) -> Guard:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=0.1), **{"on_trip": "skip", **options})
    for batch in batches(number, bad_at):
        guard.step(loss_fn, batch)
    guard.finished()
    return guard


def events_in(folder: Path, name: str = "guard.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def test_a_function_gets_finite_counters_and_the_step_as_a_number() -> None:
    logged: list[dict[str, Any]] = []
    guard = train(log=logged.append, log_every_n_steps=2, step_name="train/global_step")
    assert [entry["train/global_step"] for entry in logged] == [2, 4, 6]
    assert [entry["datacheck/trips"] for entry in logged] == [0, 1, 1]
    assert [entry["datacheck/skipped_steps"] for entry in logged] == [0, 1, 1]
    assert [entry["datacheck/nonfinite_loss"] for entry in logged] == [0, 1, 1]
    assert [entry["datacheck/nonfinite_grad_values"] for entry in logged] == [0, 8, 8]
    assert ["datacheck/loss" in entry for entry in logged] == [True, False, True]
    assert logged[0]["datacheck/grad_norm"] == guard.history.gradient_norms[1]
    assert logged[2]["datacheck/update_ratio"] > 0
    assert all(math.isfinite(value) for entry in logged for value in entry.values())


def test_a_step_that_trips_is_logged_at_once() -> None:
    logged: list[dict[str, Any]] = []
    train(log=logged.append, log_every_n_steps=100)
    assert [entry["datacheck/step"] for entry in logged] == [4]


def test_the_step_is_the_trainers_where_it_reports_one() -> None:
    logged: list[dict[str, Any]] = []
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = Guard(model, optimizer, log=logged.append, log_every_n_steps=1)
    for number, batch in enumerate(batches(2)):
        guard.begin(batch, loss_fn, step=500 + number)
        loss_fn(model, batch).backward()
        guard.check()
        optimizer.step()
    assert [entry["datacheck/step"] for entry in logged] == [500, 501]
    guard.remove()


class Recorder:
    """Takes any call, and remembers it."""

    def __init__(self, **attributes: Any) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.__dict__.update(attributes)

    def method(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> None:
            self.calls.append((name, args, kwargs))

        setattr(self, name, call)
        return self

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]


def test_a_summary_writer_gets_scalars_and_the_diagnosis_as_text() -> None:
    writer = Recorder().method("add_scalar").method("add_text")
    train(log=writer, log_every_n_steps=3)
    assert {args[2] for args, _ in writer.named("add_scalar")} == {3, 4, 6}
    ((text, _),) = writer.named("add_text")
    assert "input-not-finite" in text[1]


def test_a_run_of_wandb_is_never_given_a_step_but_a_number_and_an_axis() -> None:
    run = Recorder().method("log").method("define_metric").method("alert")
    train(log=run, log_every_n_steps=3)
    assert run.named("define_metric") == [(("datacheck/*",), {"step_metric": "datacheck/step"})]
    assert [kwargs for _, kwargs in run.named("log")] == [{}] * 3
    assert run.named("log")[0][0][0]["datacheck/step"] == 3
    assert "input-not-finite" in run.named("alert")[0][1]["text"]


def test_mlflow_gets_metrics_by_step_and_the_diagnosis_as_an_artifact() -> None:
    module = Recorder().method("log_metrics").method("log_text")
    train(log=module, log_every_n_steps=3)
    assert [kwargs for _, kwargs in module.named("log_metrics")] == [{"step": 3}, {"step": 4}, {"step": 6}]
    assert module.named("log_text")[0][0][1] == "datacheck/diagnosis-00000004.txt"


def test_a_logger_of_lightning_passes_the_text_to_what_it_wraps() -> None:
    writer = Recorder().method("add_text").method("add_scalar")
    logger = Recorder(experiment=writer).method("log_metrics").method("log_hyperparams")
    train(log=[logger], log_every_n_steps=3)
    assert [kwargs for _, kwargs in logger.named("log_metrics")] == [{"step": 3}, {"step": 4}, {"step": 6}]
    assert len(writer.named("add_text")) == 1


def test_an_accelerator_passes_a_step_to_all_trackers_but_wandbs() -> None:
    inner = Recorder().method("log").method("define_metric").method("alert")
    wandb = Recorder(name="wandb", tracker=inner).method("log")
    board = Recorder(name="tensorboard", tracker=Recorder().method("add_scalar").method("add_text")).method("log")
    own = Recorder(name="own").method("log")
    train(log=SimpleNamespace(trackers=[wandb, board, own], log=None), log_every_n_steps=3)
    assert {kwargs["step"] for _, kwargs in wandb.named("log")} == {None}
    assert [kwargs["step"] for _, kwargs in board.named("log")] == [3, 4, 6]
    assert len(own.named("log")) == 3
    assert len(inner.named("alert")) == len(board.tracker.named("add_text")) == 1


def test_a_logger_that_fails_is_reported_once_and_training_goes_on() -> None:
    def fail(_: dict[str, Any]) -> None:
        raise ConnectionError("no route to host")

    logged: list[dict[str, Any]] = []
    guard = train(bad_at=(), log=[fail, logged.append], log_every_n_steps=1)
    notes = [finding for finding in guard.report().findings if finding.code == "DC005"]
    assert [note.detail for note in notes] == ["ConnectionError: no route to host: nothing more is logged there"]
    assert len(logged) == 6


@pytest.mark.parametrize("target", [3, "file.txt", object(), [3]])
def test_what_cannot_be_logged_to_is_refused(target: object) -> None:
    with pytest.raises(UsageError, match="log: cannot log to"):
        train(log=target)


def test_the_weights_are_the_same_with_logging_as_without(tmp_path: Path) -> None:
    plain, logged = train(), train(log=lambda _: None, run_dir=tmp_path)
    pairs = zip(*(guard._runner.training.model.parameters() for guard in (plain, logged)), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_the_file_of_a_run_tells_what_happened(tmp_path: Path) -> None:
    train(run_dir=tmp_path / "run")
    events = events_in(tmp_path / "run")
    assert [event["event"] for event in events] == [
        "start", "step", "trip", "diagnosis", "bad_batch", "action", "step", "end",
    ]  # fmt: skip
    assert events[0]["num_parameters"] == 8
    assert (events[2]["step"], events[2]["code"], events[6]["loss"]) == (4, "DC450", "nan")
    assert events[7] | {"error": None, "skipped_steps": 1, "loss": events[7]["loss"]} == events[7]


def test_an_error_that_ends_the_run_is_in_its_file(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=0.1), run_dir=tmp_path)
    first, second = batches(2, (1,))
    guard.step(loss_fn, first)
    with pytest.raises(NonFiniteError) as caught:
        guard.step(loss_fn, second)
    guard.finished(caught.value)
    assert events_in(tmp_path)[-1]["error"].startswith("NonFiniteError: step 2: DC407 input-not-finite")


def test_a_run_that_was_stopped_is_resumed_without_the_batch_that_its_file_names(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError):
        train(on_trip="raise", run_dir=tmp_path)
    again = train(on_trip="raise", run_dir=tmp_path, skip_bad_batches=True)
    assert [finding.code for finding in again.report().findings] == ["DC456", "DC460"]
    assert [event["event"] for event in events_in(tmp_path)].count("bad_batch") == 1


def test_bad_samples_of_a_safe_dataset_are_counted_and_named(tmp_path: Path) -> None:
    x = torch.randn(64, 3)
    x[5, 0] = torch.nan
    dataset = SafeDataset(TensorDataset(x), max_bad_fraction=0.5)
    logged: list[dict[str, Any]] = []
    model = nn.Linear(3, 2)
    guard = Guard(
        model, torch.optim.SGD(model.parameters(), lr=0.1), log=logged.append, log_every_n_steps=1, run_dir=tmp_path
    )
    with pytest.warns(BadSampleWarning):
        loaded = [batch for (batch,) in DataLoader(dataset, batch_size=8)]
    for batch in loaded:
        guard.step(loss_fn, batch)
    guard.finished()
    assert logged[-1]["datacheck/bad_samples"] == logged[-1]["datacheck/replaced_samples"] == 1
    (sample,) = [event for event in events_in(tmp_path) if event["event"] == "bad_sample"]
    assert sample["index"] == 5
    assert "DC101" in sample["message"]


@pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning")
def test_samples_of_before_the_guard_are_not_its_own(tmp_path: Path) -> None:
    def safe(row: int) -> SafeDataset:
        x = torch.ones(64, 3)
        x[row, 0] = torch.nan
        return SafeDataset(TensorDataset(x), max_bad_fraction=0.5)

    earlier, other = safe(1), safe(2)
    assert all(len([dataset[row] for row in range(64)]) == 64 for dataset in (earlier, other))
    model = nn.Linear(3, 2)
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=0.1), run_dir=tmp_path)
    del other
    gc.collect()  # its counts go with it, and are not taken from those of the others
    dataset = safe(5)
    for (batch,) in DataLoader(dataset, batch_size=8):
        guard.step(loss_fn, batch)
    guard.finished()
    (sample,) = [event for event in events_in(tmp_path) if event["event"] == "bad_sample"]
    assert sample["index"] == 5
    assert events_in(tmp_path)[-1]["bad_samples"] == 1
    del earlier


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="run_dir: cannot write to"):
        train(run_dir=tmp_path / "file")


def test_watch_prints_a_line_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(run_dir=tmp_path)
    assert datacheck(["watch", str(tmp_path), "--once"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("step 6, loss ")
    assert first.endswith("1 trip, skip 1, ended")
    assert second.startswith("step 4: DC407 input-not-finite (input)")
    assert datacheck(["watch", str(tmp_path)]) == 0, "a run that has ended is shown once"


def test_the_page_of_a_report_shows_the_curves_with_their_anomalies() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    batches = [torch.randn(8, 4) for _ in range(12)]
    batches[8][3, 2] = torch.nan
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with Guard(model, torch.optim.SGD(model.parameters(), lr=0.01), scaler=scaler, on_trip="skip") as guard:
        for batch in batches:
            guard.step(lambda model, batch: model(batch).square().mean(), batch)
        report = guard.report()
    assert dict(report.curves["loss_scale"]) == dict.fromkeys(range(1, 13), 1024.0)
    assert [step for step, _ in report.curves["loss"]] == list(range(1, 13))
    page = report.to_html()
    assert page == report.to_html()
    for part in ("Loss by step", "Gradient norm by step", "Learning rate", "nan at step 9", "anomaly at step 9"):
        assert part in page
    for part in ("Loss scale by step", "1 step with an anomaly", "Propagation path", "<dt>action: skip</dt><dd>1</dd>"):
        assert part in page
    assert "guard.step(lambda model, batch: model(batch).square().mean(), batch)</code>" in page, "the line of a link"
    assert "input-not-finite" in page
