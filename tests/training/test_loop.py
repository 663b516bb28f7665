from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_training import SETTINGS, Regressor, assert_same_weights, coloured, contrastive, line

from spotscope.errors import Cancelled
from spotscope.progress import Progress
from spotscope.training.augment import to_images
from spotscope.training.data import epoch_batches
from spotscope.training.engine import train
from spotscope.training.loop import TrainingLoop
from spotscope.training.models import Batch, StepResult, Trainable
from spotscope.training.settings import TrainingSettings


def gradients(model: Trainable, settings: TrainingSettings) -> list[torch.Tensor]:
    """Return the gradients of each step of a training, one tensor a step."""
    found: list[torch.Tensor] = []

    def keep(loop: TrainingLoop) -> None:
        found.append(torch.cat([p.grad.flatten().clone() for p in loop.model.parameters()]))
        step(loop)

    step = TrainingLoop._optimizer_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingLoop, "_optimizer_step", keep)
        train(model, line(), settings)
    return found


def test_memory_that_runs_out_within_a_step_leaves_nothing_of_it_in_the_next() -> None:
    class Once(Regressor):
        calls = 0

        def step(self, batch: Batch) -> StepResult:
            self.calls += 1
            if self.calls == 2:  # the first part's gradients are there already
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().step(batch)

    settings = replace(SETTINGS, batch_size=12, accumulate=2, augmentation=None, epochs=1)
    steady, once = Regressor(), Once()
    first, second = gradients(steady, settings), gradients(once, settings)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_parts_of_a_batch_weigh_as_their_spots() -> None:
    # 32 spots in 5 parts of 7 or 6; optimisers of Adam's kind would hide a wrong scale.
    settings = replace(SETTINGS, batch_size=32, augmentation=None, epochs=1)
    whole = gradients(Regressor(), settings)
    loop = "spotscope.training.loop.TrainingLoop._n_parts"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, property(lambda _: 5))
        parts = gradients(Regressor(), settings)
    assert len(whole) == len(parts) == 3
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_every_step_draws_anew_and_the_same_again() -> None:
    def drawn() -> list[float]:
        model, found = Regressor(), []
        step = model.step

        def draw(batch: Batch) -> StepResult:
            found.append(torch.rand(()).item())
            return step(batch)

        model.step = draw  # type: ignore[method-assign]
        train(model, line(), replace(SETTINGS, accumulate=2, batch_size=12))
        return found

    first = drawn()
    assert len(set(first)) == len(first) == 3 * 4 * 2  # epochs, steps, parts
    assert drawn() == first


def test_memory_that_runs_out_leaves_the_validation_loss_comparable() -> None:
    sizes: list[int] = []
    model = contrastive()
    step = model.step

    def greedy(batch: Batch) -> StepResult:
        if model.training and len(batch.index) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.extend([] if model.training else [len(batch.index)])
        return step(batch)

    model.step = greedy  # type: ignore[method-assign]
    settings = replace(SETTINGS, epochs=3, augmentation=None)
    result = train(model, coloured(), settings, validation=coloured(7))
    assert "6" in result.notes[0]  # a quarter of the 24
    assert sizes[-3:] == [7, 7, 7]
    assert [row["val_chance"] for row in result.history] == [pytest.approx(np.log(7))] * 3


def test_accumulated_batches_make_the_step_of_a_large_one() -> None:
    large, small = Regressor(), Regressor()
    settings = replace(SETTINGS, batch_size=32, augmentation=None)
    train(large, line(), settings)
    train(small, line(), replace(settings, batch_size=8, accumulate=4))
    for key, value in large.state_dict().items():
        torch.testing.assert_close(small.state_dict()[key], value, rtol=1e-4, atol=1e-6)


def test_several_devices_share_the_steps_and_end_with_the_same_weights(tmp_path: Path) -> None:
    script = tmp_path / "several.py"
    script.write_text(f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
torch.set_num_threads(1)
from dataclasses import replace
from safetensors.torch import save_file
from tiny_training import SETTINGS, Regressor, line
from spotscope.training.engine import train
model = Regressor()
train(model, line(), replace(SETTINGS, devices=2, batch_size=8, accumulate=2, augmentation=None))
rank = os.environ.get("LOCAL_RANK", "0")
save_file(model.state_dict(), {str(tmp_path)!r} + f"/{{rank}}.safetensors")
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    # By hand: each takes every other batch of 8 x 2 spots, and their gradients are averaged.
    model, data = Regressor(), line()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-3)
    for epoch in range(SETTINGS.epochs):
        rows = epoch_batches(data.section, 16, SETTINGS.seed, epoch)
        for pair in zip(rows[0::2], rows[1::2], strict=True):
            optimiser.zero_grad()
            for row in pair:
                index = torch.from_numpy(row.copy())
                batch = Batch(index, None, (), data.spots.spot_inputs(index))
                (model.step(batch).loss / 2).backward()
            optimiser.step()
    for key, value in model.state_dict().items():
        assert torch.equal(first[key], second[key])
        torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("resumed", [False, True])
def test_mixed_precision_learns_keeps_full_weights_and_goes_on_where_it_was(
    resumed: bool, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, epochs=6, precision="bfloat16")
    seen: set[torch.dtype] = set()
    model = contrastive()
    watch = model.image_encoder.convolve.register_forward_hook(
        lambda module, _inputs, output: seen.add(output.dtype) if module.training else None
    )
    if resumed:
        progress = Progress(lambda step: progress.cancel.set() if step.fraction > 0.5 else None)
        with pytest.raises(Cancelled):
            train(model, coloured(), settings, folder=tmp_path, progress=progress)
        model = contrastive(seed=5)
    result = train(model, coloured(), settings, folder=tmp_path)
    watch.remove()
    assert seen == {torch.bfloat16}
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert result.learnt
    assert result.epochs == 6
    unbroken = contrastive()
    assert train(unbroken, coloured(), settings).history == result.history
    assert_same_weights(model, unbroken)


def test_validation_spots_are_seen_as_they_are() -> None:
    seen: list[torch.Tensor] = []
    model, checks = contrastive(), coloured(24, seed=9)
    step = model.step

    def look(batch: Batch) -> StepResult:
        if not model.training and len(batch.index) == 24:
            assert checks.patches is not None
            plain = to_images(checks.patches.take(batch.index))
            seen.append((batch.images - plain).abs().max())
        return step(batch)

    model.step = look  # type: ignore[method-assign]
    train(model, coloured(), replace(SETTINGS, epochs=2), validation=checks)
    assert seen == [0, 0]


def test_a_run_broken_after_its_best_epoch_still_ends_with_that_epochs_weights(
    tmp_path: Path,
) -> None:
    class Killed(Exception):
        pass

    class Worsens(Regressor):
        """The validation loss is lowest in epoch 2."""

        def __init__(self, killed_in: int = 0) -> None:
            super().__init__()
            self.killed_in = killed_in
            self.register_buffer("checks", torch.zeros(()))

        def step(self, batch: Batch) -> StepResult:
            result = super().step(batch)
            if self.training:
                if self.killed_in and self.checks >= self.killed_in:
                    raise Killed
                return result
            self.checks += 1
            return StepResult(result.loss * 0 + (self.checks - 2).abs())

    settings = replace(SETTINGS, epochs=6, checkpoint_steps=1)
    whole, broken, again = Worsens(), Worsens(killed_in=4), Worsens()
    train(whole, line(), settings, validation=line(20))
    with pytest.raises(Killed):
        train(broken, line(), settings, validation=line(20), folder=tmp_path)
    result = train(again, line(), settings, validation=line(20), folder=tmp_path)
    assert result.best_epoch == whole.checks == 2
    assert_same_weights(again, whole)
