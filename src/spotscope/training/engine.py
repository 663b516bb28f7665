"""Train a network on patches and spots."""

from __future__ import annotations

import hashlib
import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from spotscope.errors import SpotScopeError
from spotscope.progress import Progress
from spotscope.training.state import FILE, RunState, read_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from spotscope.training.data import TrainingData
    from spotscope.training.models import Trainable
    from spotscope.training.settings import TrainingSettings

_CHANCE = 0.01  # a loss within this share of chance has learnt nothing


@dataclass(frozen=True)
class TrainingResult:
    """What came of a run.

    Attributes
    ----------
    history
        One row of figures an epoch: "epoch", "loss", "chance", "top1", "top5", "val_loss", ...
    epochs
        Epochs trained.
    best_epoch
        The epoch whose weights were kept, by validation loss; None without validation.
    learnt
        False when the loss ended within 1 % of chance.
    notes
        Sentences for the user: memory that ran out, early stopping, not learning.
    """

    history: list[dict[str, float]]
    epochs: int
    best_epoch: int | None
    learnt: bool
    notes: list[str]


def train(
    model: Trainable,
    data: TrainingData,
    settings: TrainingSettings,
    *,
    validation: TrainingData | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train `model` in place and leave it on the CPU, in evaluation mode.

    Parameters
    ----------
    data
        Spots to train on.
    validation
        Spots of other patients; the weights of the epoch with their lowest loss are kept.
    folder
        Where a state to resume from is kept. A run that was killed or cancelled and is started
        again with the same folder goes on to the same result as an unbroken one. `discard` it
        once the model is saved.
    progress
        Told the epoch, loss, chance and in-batch retrieval; cancels within a second.

    Raises
    ------
    SpotScopeError
        When there are too few spots, the device is not there, its memory holds no batch, the loss
        is not a number in the first epoch, or `folder` is of another run.
    Cancelled
        When the user stopped it; the last state is in `folder`.
    """
    progress = progress or Progress()
    _refuse_small(model, data, validation, settings)
    what = _what(model, data, validation, settings)
    found = read_run(folder, what) if folder is not None else None
    state, tensors = found or (RunState(), {"model": {}, "optimizer": {}})
    if found:
        model.load_state_dict(tensors["model"])
    if not state.finished:
        _fit(model, data, validation, settings, progress, state, tensors, what, folder)
    if state.best:
        model.load_state_dict(state.best)
    model.eval()
    return _result(state)


def discard(folder: Path) -> None:
    """Remove the state to resume from: the run's model is saved."""
    (folder / FILE).unlink(missing_ok=True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make what is drawn in the block (initial weights) follow from `seed`, and nothing after."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _fit(
    model: Trainable,
    data: TrainingData,
    validation: TrainingData | None,
    settings: TrainingSettings,
    progress: Progress,
    state: RunState,
    tensors: dict[str, dict[str, Tensor]],
    what: dict[str, Any],
    folder: Path | None,
) -> None:
    from spotscope.training.loop import LossNotFinite, TrainingLoop

    progress.report(0.0, "Preparing the training")
    device = settings.chosen_device()
    model.train()
    model.to(memory_format=torch.channels_last)
    loop = TrainingLoop(
        model, data, validation, settings, progress, state, tensors["optimizer"], what, folder
    )
    with _quiet(), seeded(settings.seed), _cancellable(model, progress, device):
        trainer = _trainer(settings, state, device, validation is not None)
        try:
            trainer.fit(loop)
        except LossNotFinite as error:
            _keep_last_good(model, state, folder, what, error)
        except BaseException:
            _end_others(trainer)
            raise
        finally:
            loop.resident.clear()
            data.spots.to(torch.device("cpu"))
            if validation is not None:
                validation.spots.to(torch.device("cpu"))
            model.cpu().to(memory_format=torch.contiguous_format)


def _trainer(settings: TrainingSettings, state: RunState, device: str, validate: bool) -> Any:
    import lightning.pytorch as pl

    kind, _, number = device.partition(":")
    low = settings.precision == "bfloat16" or (
        settings.precision == "auto" and kind == "cuda" and torch.cuda.is_bf16_supported()
    )
    several = settings.devices > 1
    return pl.Trainer(
        accelerator=kind,
        devices=settings.devices if several or kind != "cuda" else [int(number)],
        strategy="ddp" if several else "auto",
        precision="bf16-mixed" if low else "32-true",
        max_epochs=settings.epochs - state.epoch,
        limit_val_batches=None if validate else 0,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        deterministic="warn" if settings.deterministic else None,
        benchmark=kind == "cuda" and not settings.deterministic,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _end_others(trainer: Any) -> None:
    """End the processes of the other GPUs, which would wait for this one."""
    for process in getattr(trainer.strategy.launcher, "procs", ()):
        process.kill()
        process.wait()


def _keep_last_good(
    model: Trainable, state: RunState, folder: Path | None, what: dict[str, Any], error: Exception
) -> None:
    """Leave the last weights that were good in `model`, or say that there are none."""
    from spotscope.training.loop import finite

    where = f"batch {state.batch + 1} of epoch {state.epoch + 1}"
    if not state.history:
        raise SpotScopeError(
            f"The loss is not a number in {where}; choose a lower learning rate, or float32"
            " precision."
        ) from error
    kept = "the best epoch's weights are kept"
    if not state.best and finite(model):
        kept = "the weights before it are kept"
    elif not state.best:
        saved = read_run(folder, what) if folder is not None else None
        if saved is None:
            raise SpotScopeError(
                f"The loss is not a number in {where} and no earlier weights were kept; choose a"
                " lower learning rate."
            ) from error
        model.load_state_dict(saved[1]["model"])
        kept = f"the weights after {saved[0].epoch} epochs are kept"
    state.notes.append(f"Stopped: the loss was not a number in {where}; {kept}.")


def _result(state: RunState) -> TrainingResult:
    notes, learnt = list(state.notes), True
    last = state.history[-1] if state.history else {}
    if "chance" in last:
        loss, chance = last.get("contrastive", last["loss"]), last["chance"]
        learnt = loss < (1 - _CHANCE) * chance
        if not learnt:
            notes.append(
                f"The model has not learnt: its loss of {loss:.3f} is that of guessing"
                f" ({chance:.3f}); train longer, choose another learning rate, or check that"
                " patches and spots belong together."
            )
    return TrainingResult(state.history, state.epoch, state.best_epoch, learnt, notes)


def _refuse_small(
    model: Trainable,
    data: TrainingData,
    validation: TrainingData | None,
    settings: TrainingSettings,
) -> None:
    least = model.smallest_batch
    if settings.batch_size < least:
        raise SpotScopeError(f"This method compares spots, so a batch needs at least {least}.")
    for name, spots in (("train", data), ("validate", validation)):
        if spots is not None and len(spots) < least:
            raise SpotScopeError(
                f"There are {len(spots)} spots to {name} on and at least {least} are needed; add"
                " sections."
            )


def _what(
    model: nn.Module,
    data: TrainingData,
    validation: TrainingData | None,
    settings: TrainingSettings,
) -> dict[str, Any]:
    """Return what makes a run this one: its settings, network and spots."""
    network = [f"{key} {tuple(value.shape)}" for key, value in model.state_dict().items()]
    digest = hashlib.sha256("\n".join([type(model).__name__, *network]).encode())
    for spots in (data, validation):  # the best epoch so far is the best on these very spots
        digest.update(b"none" if spots is None else np.ascontiguousarray(spots.section).tobytes())
    return {"settings": settings.what(), "network_and_spots": digest.hexdigest()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's remarks, which are for its own users, from ours."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    benchmark = torch.backends.cudnn.benchmark
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*num_workers.*")
            yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _cancellable(model: nn.Module, progress: Progress, device: str) -> Iterator[None]:
    """Look at the cancel flag after every layer, both ways: a step on a CPU can take a minute."""
    if device != "cpu":
        yield
        return

    def look(*_: object) -> None:
        progress.check()

    def watch(_module: nn.Module, _inputs: object, output: object) -> None:
        progress.check()
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(look)

    layers = [module for module in model.modules() if not any(module.children())]
    handles = [layer.register_forward_hook(watch) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
