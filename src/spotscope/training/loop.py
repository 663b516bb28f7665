"""One training run as Lightning sees it: batches in, steps, validation, progress, states out."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from spotscope.errors import Cancelled, SpotScopeError
from spotscope.training import memory
from spotscope.training.augment import to_images
from spotscope.training.data import Batches, Part, TrainingData, epoch_batches
from spotscope.training.figures import read_later, stacked
from spotscope.training.models import Batch, Trainable
from spotscope.training.state import RunState, cpu_copy, load_optimizer, write_run

if TYPE_CHECKING:
    from pathlib import Path

    from spotscope.progress import Progress
    from spotscope.training.settings import TrainingSettings

_REPORT_EVERY = 0.2  # seconds
_SAVE_SHARE = 20  # writing states at ends of epochs may take a twentieth of the time


class LossNotFinite(Exception):
    """The loss of a batch is not a number; the weights are those before that batch."""


class TrainingLoop(pl.LightningModule):
    """Trains a model on spots; see `engine.train`.

    Parameters
    ----------
    model, data, validation, settings, progress
        Of `engine.train`.
    state
        Where to go on from; updated in place.
    optimizer_state
        Tensors of `state.read_run`; empty at the start of a run.
    what
        What a resumed run must share with this one.
    folder
        For the state to resume from; None for none.
    """

    def __init__(
        self,
        model: Trainable,
        data: TrainingData,
        validation: TrainingData | None,
        settings: TrainingSettings,
        progress: Progress,
        state: RunState,
        optimizer_state: dict[str, Tensor],
        what: dict[str, Any],
        folder: Path | None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.data = data
        self.validation = validation
        self.settings = settings
        self.progress = progress
        self.state = state
        self.optimizer_state = optimizer_state
        self.what = what
        self.folder = folder
        self.resident: dict[int, Tensor] = {}
        self._names: list[str] = []
        self._validated: list[tuple[int, list[float]]] = []
        self._reported = 0.0
        self._saved_at = time.monotonic()
        self._save_took = 0.0
        self._steps_since_save = 0
        self._first_step = 0

    # -- batches ----------------------------------------------------------------------------

    def _batch_size(self, data: TrainingData) -> int:
        wanted = self.settings.batch_size * self.settings.accumulate
        return min(wanted, len(data) // self.trainer.world_size)

    @property
    def n_batches(self) -> int:
        """Steps an epoch on each device."""
        world = self.trainer.world_size
        return max(1, len(self.data) // (self._batch_size(self.data) * world))

    def train_dataloader(self) -> Batches:
        """Return what is left of the running epoch, this device's share of it."""
        rows = epoch_batches(
            self.data.section, self._batch_size(self.data), self.settings.seed, self.state.epoch
        )
        rows = rows[self.trainer.global_rank :: self.trainer.world_size][: self.n_batches]
        return self._batches(self.data, rows[self.state.batch :])

    def val_dataloader(self) -> Batches:
        """Return the validation spots in batches that are the same in every epoch."""
        assert self.validation is not None
        size = min(self.settings.batch_size, len(self.validation))
        rows = epoch_batches(self.validation.section, size, self.settings.seed, 0)
        if not self.state.validation_splits:
            most = max(1, size // self.model.smallest_batch)
            self.state.validation_splits = min(self.state.splits, most)
        return self._batches(self.validation, rows)

    def _batches(self, data: TrainingData, rows: np.ndarray) -> Batches:
        splits = self._n_parts if data is self.data else self.state.validation_splits
        read = data.patches is not None and id(data) not in self.resident
        return Batches(data, rows, splits, read=read, ahead=self.device.type == "cuda")

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Leave the parts on the CPU: each is moved when its turn comes."""
        return batch

    def _on_device(self, data: TrainingData, part: Part, augment: bool) -> Batch:
        index = part.index.to(self.device, non_blocking=True)
        images = None
        if data.patches is not None:
            whole = self.resident.get(id(data))
            if whole is not None:
                pixels = whole[part.patches.to(self.device, non_blocking=True)]
            else:
                assert part.pixels is not None
                pixels = part.pixels.to(self.device, non_blocking=True)
            change = self.settings.augmentation if augment else None
            images = change(pixels) if change is not None else to_images(pixels)
        return Batch(index, images, data.spots.image_inputs(index), data.spots.spot_inputs(index))

    # -- start ------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser over what is trained."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        options: dict[str, Any] = {
            "lr": self.settings.learning_rate,
            "weight_decay": self.settings.weight_decay,
        }
        if self.settings.optimizer == "nadam":
            return torch.optim.NAdam(trained, **options)
        kind = torch.optim.AdamW if self.settings.optimizer == "adamw" else torch.optim.Adam
        return kind(trained, fused=self.device.type in ("cuda", "cpu"), **options)

    def on_fit_start(self) -> None:
        """Put the tables, and the patches where they fit, on the device."""
        for data in (self.data, self.validation):
            if data is None:
                continue
            data.spots.to(self.device)
            keep = self.settings.resident
            if data.patches is not None and (
                data.patches.fits(self.device) if keep is None else keep
            ):
                self.resident[id(data)] = data.patches.on_device(self.device)
        if self.device.type == "cpu" and self.data.patches is not None and not self.state.started:
            self._make_room()

    def _make_room(self) -> None:
        """Cut the batch into parts that this computer's memory holds."""
        total, smallest = self._batch_size(self.data), self.model.smallest_batch
        if self.trainer.world_size > 1 or total < memory.MORE:
            return
        self.model.eval()  # so that no statistics move
        needed, room = memory.bytes_a_spot(self._loss_of_first), memory.room_bytes()
        self.model.train()
        while needed * total / self._n_parts > room and total >= 2 * self._n_parts * smallest:
            self._halve(total)

    def _loss_of_first(self, number: int) -> Tensor:
        part = self._in_parts(torch.arange(number), 1)[0]
        return self.model.step(self._on_device(self.data, part, augment=False)).loss

    def on_train_start(self) -> None:
        """Go on with the moments of the run that is resumed."""
        if self.optimizer_state:
            load_optimizer(self._optimizer, self.optimizer_state)
            self.optimizer_state = {}
        self._first_step = self.state.epoch * self.n_batches + self.state.batch
        self._saved_at = time.monotonic()

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[0]

    # -- a step -----------------------------------------------------------------------------

    def training_step(self, parts: list[Part], batch_idx: int) -> None:
        """Take one step; when the GPU's memory does not hold the batch, in twice as many parts."""
        if len(parts) < self._n_parts:  # read ahead before memory ran out
            parts = self._parts_again(parts)
        while (numbers := self._try_step(parts)) is None:
            self._halve(sum(len(part.index) for part in parts))
            parts = self._parts_again(parts)
        for name, value in zip(self._names, numbers, strict=True):
            self.state.sums[name] = self.state.sums.get(name, 0.0) + value
        self.state.counted += 1

    def _try_step(self, parts: list[Part]) -> list[float] | None:
        """Return the step's values, or None when memory ran out before anything changed."""
        total = sum(len(part.index) for part in parts)
        no_sync = getattr(self.trainer.model, "no_sync", nullcontext)
        values: Tensor | None = None
        try:
            for number, part in enumerate(parts):
                self._seed(number)
                share = len(part.index) / total
                result = self.model.step(self._on_device(self.data, part, augment=True))
                self._names, found = stacked(result)
                values = found * share if values is None else values + found * share
                last = number == len(parts) - 1
                # Asked for before the last backward pass, so that reading it waits for the
                # forward pass alone and the GPU is never idle.
                read = read_later(values) if last else None
                with nullcontext() if last else no_sync():
                    self.manual_backward(result.loss * share)
        except torch.OutOfMemoryError:
            self._optimizer.zero_grad()
            return None
        assert read is not None
        numbers = read()
        if not self._everywhere(math.isfinite(numbers[0])):
            self._optimizer.zero_grad()
            raise LossNotFinite
        self._optimizer_step()
        return numbers

    def _everywhere(self, fine: bool) -> bool:
        """Say whether it is so on all devices, which must stop together or wait for ever."""
        if self.trainer.world_size == 1:
            return fine
        gathered = self.all_gather(torch.tensor(float(fine), device=self.device))
        return bool(gathered.min() > 0)  # type: ignore[union-attr]

    def _optimizer_step(self) -> None:
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.step()
        optimizer.zero_grad()

    def _seed(self, part: int) -> None:
        rank = self.trainer.global_rank
        where = [self.settings.seed, self.state.epoch, self.state.batch, part, rank]
        torch.manual_seed(int(np.random.SeedSequence(where).generate_state(1, np.uint64)[0] >> 1))

    @property
    def _n_parts(self) -> int:
        return self.state.splits * self.settings.accumulate

    def _parts_again(self, parts: list[Part]) -> list[Part]:
        return self._in_parts(torch.cat([part.index for part in parts]), self._n_parts)

    def _in_parts(self, index: Tensor, number: int) -> list[Part]:
        return self._batches(self.data, np.empty((0, 0), dtype=np.int64)).parts(index, number)

    def _halve(self, total: int) -> None:
        """Take half as many of a batch's `total` spots at once from now on."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        most = -(-total // self._n_parts)
        if self.trainer.world_size > 1 or total < 2 * self._n_parts * self.model.smallest_batch:
            raise SpotScopeError(
                f"The memory of the {self.device.type} does not hold {most} spots at once; choose"
                " a smaller batch, smaller patches or a smaller encoder."
            )
        self.state.splits *= 2
        note = (
            f"The memory of the {self.device.type} holds {-(-total // self._n_parts)} of a batch's"
            f" {total} spots at once; the gradients of the parts are added up."
        )
        if self.state.splits == 2:
            self.state.notes.append(note)
        else:
            self.state.notes[-1] = note

    # -- after a step and an epoch ------------------------------------------------------------

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Report, keep a state when one is due, and stop when asked to."""
        self.state.batch += 1
        self._steps_since_save += 1
        ended = self.state.batch >= self.n_batches
        try:
            self._report()
        except Cancelled:
            if not ended:
                self.save()
            raise
        if not ended and self._due():
            self.save()

    def validation_step(self, parts: list[Part], batch_idx: int) -> None:
        """Note the loss of one validation batch."""
        self.progress.check()
        assert self.validation is not None
        for part in parts:
            result = self.model.step(self._on_device(self.validation, part, augment=False))
            self._names, values = stacked(result)
            self._validated.append((len(part.index), values.tolist()))

    def on_train_epoch_end(self) -> None:
        """Close the epoch: its figures, the best weights, early stopping, a state to resume."""
        state = self.state
        row = {name: total / state.counted for name, total in state.sums.items()}
        row = {"epoch": float(state.epoch + 1), **row, **self._validation_means()}
        state.history.append(row)
        state.epoch, state.batch, state.sums, state.counted = state.epoch + 1, 0, {}, 0
        self._judge(row.get("val_loss"))
        state.finished = state.finished or state.epoch >= self.settings.epochs
        if state.finished:
            self.trainer.should_stop = True
        since = time.monotonic() - self._saved_at
        if state.finished or self._due() or since > _SAVE_SHARE * self._save_took:
            self.save()
        self._report(at_once=True)

    def _validation_means(self) -> dict[str, float]:
        if not self._validated:
            return {}
        sizes = [size for size, _ in self._validated]
        means = np.average([values for _, values in self._validated], axis=0, weights=sizes)
        self._validated = []
        return {f"val_{name}": float(v) for name, v in zip(self._names, means, strict=True)}

    def _judge(self, loss: float | None) -> None:
        state = self.state
        if loss is None:
            return
        if self.trainer.world_size > 1:  # so that all devices stop at the same epoch
            gathered = self.all_gather(torch.tensor(loss, device=self.device))
            loss = float(gathered.mean())  # type: ignore[union-attr]
        if state.best_loss is None or loss < state.best_loss - self.settings.min_delta:
            state.best_loss, state.best_epoch, state.waited = loss, state.epoch, 0
            state.best = cpu_copy(self.model)
            return
        state.waited += 1
        if self.settings.patience is not None and state.waited >= self.settings.patience:
            state.finished = True
            state.notes.append(
                f"Stopped after epoch {state.epoch}: the validation loss was lowest in epoch"
                f" {state.best_epoch}, whose weights are kept."
            )

    def _report(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._reported < _REPORT_EVERY:
            self.progress.check()
            return
        self._reported = now
        state, total = self.state, self.settings.epochs * self.n_batches
        done = state.epoch * self.n_batches + state.batch
        values = dict(state.history[-1]) if state.history else {}
        if state.counted:
            values |= {name: value / state.counted for name, value in state.sums.items()}
        values["epoch"] = float(min(state.epoch + 1, self.settings.epochs))
        values["epochs_done"] = done / self.n_batches
        self.progress.report(
            (done - self._first_step) / max(1, total - self._first_step),
            f"Epoch {values['epoch']:.0f} of {self.settings.epochs}",
            **values,
        )

    def _due(self) -> bool:
        steps = self.settings.checkpoint_steps
        since = time.monotonic() - self._saved_at
        by_steps = steps is not None and self._steps_since_save >= steps
        return by_steps or since >= self.settings.checkpoint_seconds

    def save(self) -> None:
        """Write the state to resume from, on the first device, unless its weights are broken."""
        if self.folder is None or self.trainer.global_rank or not finite(self.model):
            return
        start = time.monotonic()
        write_run(self.folder, self.model, self._optimizer, self.state, self.what)
        self._saved_at = time.monotonic()
        self._save_took = self._saved_at - start
        self._steps_since_save = 0


@torch.no_grad()
def finite(model: torch.nn.Module) -> bool:
    """Say whether every weight of `model` is a number."""
    return all(bool(p.isfinite().all()) for p in model.parameters())
