from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import SETTINGS, Regressor, assert_same_weights, coloured, contrastive, line

from spotscope.errors import Cancelled, SpotScopeError
from spotscope.nets.image import image_encoder
from spotscope.progress import Progress, Step
from spotscope.training import memory
from spotscope.training.data import SpotTable, TrainingData
from spotscope.training.engine import discard, train
from spotscope.training.memory import bytes_a_spot
from spotscope.training.models import Batch, ContrastiveModel, StepResult
from spotscope.training.state import FILE


@pytest.fixture(scope="module")
def unbroken() -> tuple[ContrastiveModel, list[dict[str, float]]]:
    torch.set_num_threads(1)
    model = contrastive()
    result = train(model, coloured(), SETTINGS, validation=coloured(30, seed=9))
    return model, result.history


def test_training_learns_and_tells_how_it_goes() -> None:
    steps: list[Step] = []
    settings = replace(SETTINGS, epochs=8)
    result = train(contrastive(), coloured(), settings, progress=Progress(steps.append))
    assert result.learnt
    assert result.epochs == 8
    last = result.history[-1]
    assert last["loss"] < 0.7 * last["chance"]
    assert last["chance"] == pytest.approx(np.log(24), rel=1e-6)
    assert last["top5"] > last["top1"] > 1 / 24
    assert steps[-1].fraction == 1
    assert {"epoch", "loss", "chance", "top1", "top5"} <= set(steps[-1].values)


@pytest.mark.parametrize("after", [2, 4, 7])
def test_a_run_broken_at_any_batch_goes_on_to_the_same_weights(
    after: int, tmp_path: Path, unbroken: tuple[ContrastiveModel, list[dict[str, float]]]
) -> None:
    class Killed(Exception):
        pass

    calls = 0

    def kill(step: object) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise Killed

    model = contrastive()
    step = model.step
    model.step = lambda batch: (kill(batch) if model.training else None, step(batch))[1]  # type: ignore[method-assign]
    settings = replace(SETTINGS, checkpoint_steps=1)
    validation = coloured(30, seed=9)
    with pytest.raises(Killed):
        train(model, coloured(), settings, validation=validation, folder=tmp_path)
    again = contrastive(seed=5)  # its own first weights must not matter
    result = train(again, coloured(), settings, validation=validation, folder=tmp_path)
    assert_same_weights(again, unbroken[0])
    assert result.history == unbroken[1]


def test_a_run_ended_by_the_system_goes_on_to_the_same_weights(
    tmp_path: Path, unbroken: tuple[ContrastiveModel, list[dict[str, float]]]
) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from dataclasses import replace
from tiny_training import SETTINGS, coloured, contrastive
from spotscope.progress import Progress
from spotscope.training.engine import train
settings = replace(SETTINGS, checkpoint_steps=1)
train(contrastive(), coloured(), settings, validation=coloured(30, seed=9),
      folder=Path({str(tmp_path)!r}), progress=Progress(lambda step: time.sleep(0.05)))
"""
    child = subprocess.Popen([sys.executable, "-c", script], env=dict(os.environ))
    deadline = time.monotonic() + 120
    while not (tmp_path / FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (tmp_path / FILE).exists()
    again = contrastive(seed=5)
    settings = replace(SETTINGS, checkpoint_steps=1)
    train(again, coloured(), settings, validation=coloured(30, seed=9), folder=tmp_path)
    assert_same_weights(again, unbroken[0])


def test_a_finished_run_is_not_trained_again_until_discarded(tmp_path: Path) -> None:
    first, second = contrastive(), contrastive(seed=5)
    settings = replace(SETTINGS, epochs=1)
    train(first, coloured(), settings, folder=tmp_path)
    result = train(second, coloured(), settings, folder=tmp_path)
    assert_same_weights(second, first)
    assert len(result.history) == 1
    discard(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_state_is_no_pickle_and_of_another_run_or_damaged_it_is_refused(
    tmp_path: Path,
) -> None:
    settings = replace(SETTINGS, epochs=1)
    train(contrastive(), coloured(), settings, folder=tmp_path)
    raw = (tmp_path / FILE).read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert header["__metadata__"]["format"] == "spotscope-run-1"
    for other in (replace(settings, learning_rate=0.5), replace(settings, seed=1)):
        with pytest.raises(SpotScopeError, match="other settings"):
            train(contrastive(), coloured(), other, folder=tmp_path)
    with pytest.raises(SpotScopeError, match="other settings"):
        train(contrastive(), coloured(50), settings, folder=tmp_path)
    (tmp_path / FILE).write_bytes(raw[:100])
    with pytest.raises(SpotScopeError, match="damaged"):
        train(contrastive(), coloured(), settings, folder=tmp_path)


def test_cancel_between_steps_keeps_a_state_and_going_on_gives_the_same(
    tmp_path: Path, unbroken: tuple[ContrastiveModel, list[dict[str, float]]]
) -> None:
    progress = Progress()
    model = contrastive()
    optimised = 0
    step = model.step

    def count(batch: Batch) -> StepResult:
        nonlocal optimised
        result = step(batch)
        optimised += model.training  # not what measures the memory
        if optimised == 6:
            # Set in the last layer's backward pass, so that it is seen after the step.
            result.loss.register_hook(lambda _: threading.Timer(0, progress.cancel.set).start())
        return result

    model.step = count  # type: ignore[method-assign]
    kept = {"validation": coloured(30, seed=9), "folder": tmp_path}
    with pytest.raises(Cancelled):
        train(model, coloured(), SETTINGS, progress=progress, **kept)
    again = contrastive(seed=5)
    train(again, coloured(), SETTINGS, **kept)
    assert_same_weights(again, unbroken[0])


def test_cancel_within_a_long_step_on_a_cpu_takes_less_than_a_second() -> None:
    class Slow(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.1)
            return x

    model = Regressor()
    model.network = torch.nn.Sequential(*[Slow() for _ in range(100)], model.network)
    progress = Progress()
    asked: list[float] = []

    def ask() -> None:
        asked.append(time.monotonic())
        progress.cancel.set()

    timer = threading.Timer(1.0, ask)
    timer.start()
    with pytest.raises(Cancelled):
        train(model, line(), SETTINGS, progress=progress)
    assert time.monotonic() - asked[0] < 1


def test_memory_that_runs_out_halves_the_batch_and_says_so_once() -> None:
    class Greedy(Regressor):
        def step(self, batch: Batch) -> StepResult:
            if len(batch.index) > 8:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().step(batch)

    modest, greedy = Regressor(), Greedy()
    train(modest, line(), replace(SETTINGS, augmentation=None))
    result = train(greedy, line(), replace(SETTINGS, augmentation=None))
    assert result.notes == [
        "The memory of the cpu holds 6 of a batch's 24 spots at once; the gradients of the parts"
        " are added up."
    ]
    for key, value in modest.state_dict().items():
        torch.testing.assert_close(greedy.state_dict()[key], value, rtol=1e-4, atol=1e-6)


def test_a_batch_that_a_computer_has_no_room_for_is_cut_before_the_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    class Noting(ContrastiveModel):
        def step(self, batch: Batch) -> StepResult:
            sizes.append((self.training, len(batch.index)))
            return super().step(batch)

    def trained() -> tuple[ContrastiveModel, list[str]]:
        model = contrastive()
        model.__class__ = Noting
        return model, train(model, coloured(96), SETTINGS).notes

    whole, notes = trained()
    assert not notes
    assert {size for training, size in sizes if training} == {24}
    sizes.clear()
    a_spot = bytes_a_spot(lambda n: whole.embed_images(torch.rand(n, 3, 8, 8)))
    monkeypatch.setattr(memory, "room_bytes", lambda: 18 * a_spot)
    cut, notes = trained()
    assert notes == [
        "The memory of the cpu holds 12 of a batch's 24 spots at once; the gradients of the parts"
        " are added up."
    ]
    assert {size for training, size in sizes if training} == {12}
    assert all(torch.isfinite(value).all() for value in cut.state_dict().values())


def test_memory_that_holds_no_batch_is_said() -> None:
    class Insatiable(Regressor):
        def step(self, batch: Batch) -> StepResult:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(SpotScopeError, match="does not hold 2 spots at once; choose a smaller"):
        train(Insatiable(), line(), SETTINGS)


def test_a_loss_that_is_no_number_stops_and_keeps_the_weights_before_it() -> None:
    class Breaks(Regressor):
        seen = 0

        def step(self, batch: Batch) -> StepResult:
            self.seen += 1
            result = super().step(batch)
            return StepResult(result.loss * (torch.nan if self.seen == 7 else 1.0))

    model = Breaks()
    result = train(model, line(), SETTINGS)
    assert result.epochs == 1
    assert result.notes == [
        "Stopped: the loss was not a number in batch 3 of epoch 2; the weights before it are kept."
    ]
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    early = Breaks()
    early.seen = 5
    with pytest.raises(SpotScopeError, match="not a number in batch 2 of epoch 1"):
        train(early, line(), SETTINGS)


def test_training_stops_early_and_keeps_the_best_epochs_weights() -> None:
    class Recorded(Regressor):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("validations", torch.zeros(()))

        def step(self, batch: Batch) -> StepResult:
            result = super().step(batch)
            if self.training:
                return result
            # Falls for three epochs, then rises; one validation batch an epoch.
            self.validations += 1
            worse = (self.validations - 3).abs()
            return StepResult(result.loss * 0 + worse)

    model = Recorded()
    settings = replace(SETTINGS, epochs=20, patience=2)
    result = train(model, line(), settings, validation=line(20))
    assert result.epochs == 5
    assert result.best_epoch == 3
    assert model.validations == 3  # the state of that epoch, not of the last
    assert "lowest in epoch 3" in result.notes[0]
    assert [row["val_loss"] for row in result.history] == [2, 1, 0, 1, 2]


def test_a_loss_that_ends_at_chance_is_said_to_have_learnt_nothing() -> None:
    model = contrastive()
    for parameter in model.image_head.norm.parameters():
        torch.nn.init.zeros_(parameter)
        parameter.requires_grad_(False)
    result = train(model, coloured(), replace(SETTINGS, epochs=1))
    assert not result.learnt
    assert "has not learnt: its loss of 3.178 is that of guessing (3.178)" in result.notes[0]


def test_frozen_parts_do_not_move_in_training() -> None:
    model = contrastive()
    encoder = image_encoder("resnet18", trainable="none")
    model.image_encoder = encoder
    model.image_head = type(model.image_head)(encoder.width, 16)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    train(model, coloured(), replace(SETTINGS, epochs=1, patience=1), validation=coloured(30))
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_training_leaves_the_random_state_of_others_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    train(contrastive(), coloured(), replace(SETTINGS, epochs=1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("resident", [True, False])
def test_patches_on_the_device_or_read_from_files_train_the_same(
    resident: bool, unbroken: tuple[ContrastiveModel, list[dict[str, float]]]
) -> None:
    model = contrastive()
    settings = replace(SETTINGS, resident=resident)
    train(model, coloured(), settings, validation=coloured(30, seed=9))
    assert_same_weights(model, unbroken[0])


def test_a_run_with_other_validation_spots_does_not_go_on_from_this_one(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=1)
    train(contrastive(), coloured(), settings, folder=tmp_path, validation=coloured(30))
    for other in (None, coloured(36)):
        with pytest.raises(SpotScopeError, match="other settings or other sections"):
            train(contrastive(), coloured(), settings, folder=tmp_path, validation=other)


def test_bad_requests_are_refused_in_a_sentence() -> None:
    with pytest.raises(SpotScopeError, match="at least 2"):
        train(contrastive(), coloured(), replace(SETTINGS, batch_size=1))
    with pytest.raises(SpotScopeError, match="1 spots to train on"):
        train(contrastive(), TrainingData(SpotTable(torch.zeros(1, 3)), np.zeros(1)), SETTINGS)
    with pytest.raises(SpotScopeError, match="epochs must be at least 1"):
        replace(SETTINGS, epochs=0)
    with pytest.raises(SpotScopeError, match="learning_rate must be above 0"):
        replace(SETTINGS, learning_rate=float("nan"))
    with pytest.raises(SpotScopeError, match="'tpu' is no device"):
        replace(SETTINGS, device="tpu").chosen_device()
    with pytest.raises(SpotScopeError, match="'cuda:7' is not there"):
        replace(SETTINGS, device="cuda:7").chosen_device()


def test_more_devices_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("auto", "cuda"):
        assert replace(SETTINGS, device=device, devices=2).chosen_device() == "cuda:0"
        with pytest.raises(SpotScopeError, match="devices = 3, and of 'cuda' there are 2"):
            replace(SETTINGS, device=device, devices=3).chosen_device()
