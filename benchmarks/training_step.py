"""Time a training step of the engine against the bare network, and against the plain recipe.

    PYTHONPATH=src python3 benchmarks/training_step.py --device cuda

bare: forward and backward pass of the same network on tensors that lie on the device, in the same
precision and layout, without optimiser, augmentation or data. plain: a Dataset that crops each
patch from the slide with Pillow, a DataLoader as it comes, float32, AdamW. Each figure is the
median over rounds that take turns. On a CPU the processor's time is taken, not the clock's, so
that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from spotscope.nets.contrastive import ContrastiveLoss
from spotscope.nets.image import image_encoder
from spotscope.nets.projection import ProjectionHead
from spotscope.nets.spots import NeighbourTransformer
from spotscope.training.augment import Augmentation, to_images
from spotscope.training.data import NeighbourTable, SpotTable, TrainingData
from spotscope.training.engine import train
from spotscope.training.models import Batch, ContrastiveModel, StepResult
from spotscope.training.patches import PatchStore
from spotscope.training.settings import TrainingSettings

GENES = {"bleep": 3467, "mclstexp": 785}
SIDE = 6000  # pixels of the slide that the plain recipe crops from


class Timed(ContrastiveModel):
    """Notes when each step of the training begins, and not what measures its memory."""

    def __init__(self, *parts: torch.nn.Module) -> None:
        super().__init__(*parts)
        self.begun: list[float] = []

    def step(self, batch: Batch) -> StepResult:
        if self.training:
            self.begun.append(now())
        return super().step(batch)


def make_model(name: str) -> Timed:
    torch.manual_seed(0)
    if name == "bleep":
        encoder = image_encoder("resnet50")
        spots: torch.nn.Module = torch.nn.Identity()
        loss = ContrastiveLoss("soft_target", normalise=True, temperature=0.1)
    else:
        encoder = image_encoder("densenet121")
        spots = NeighbourTransformer(GENES[name])
        loss = ContrastiveLoss("hard")
    heads = ProjectionHead(encoder.width), ProjectionHead(GENES[name])
    return Timed(encoder, heads[0], spots, heads[1], loss)


def make_data(name: str, n: int, px: int) -> TrainingData:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, px, px, 3), dtype=np.uint8)
    expression = torch.rand(n, GENES[name])
    section = np.arange(n) % 4
    spots = SpotTable(expression)
    if name == "mclstexp":
        positions = torch.from_numpy(rng.uniform(0, 6000, (n, 2)))
        spots = NeighbourTable(expression, positions, torch.from_numpy(section), 8, 200.0)
    return TrainingData(spots, section, PatchStore([pixels]))


def engine_step(
    name: str, data: TrainingData, device: str, batch: int, steps: int, resident: bool | None
) -> float:
    model = make_model(name)
    settings = TrainingSettings(
        epochs=max(2, -(-steps // (len(data) // batch))),
        batch_size=batch,
        augmentation=Augmentation(),
        device=device,
        resident=resident,
    )
    train(model, data, settings)
    begun = model.begun[len(model.begun) // 3 :]
    return (begun[-1] - begun[0]) / (len(begun) - 1)


def bare_step(name: str, data: TrainingData, device: str, batch: int, steps: int) -> float:
    model = make_model(name).to(device, memory_format=torch.channels_last).train()
    index = torch.arange(batch)
    assert data.patches is not None
    images = to_images(data.patches.take(index).to(device))
    inputs = tuple(part.to(device) for part in data.spots.spot_inputs(index))
    given = Batch(index.to(device), images, (), inputs)
    warm, total = max(1, steps // 2), max(3, steps * 3 // 2)
    begun = 0.0
    with benchmarked(device):
        for number in range(total):
            if number == warm:
                synchronise(device)
                begun = now()
            with autocast(device):
                loss = ContrastiveModel.step(model, given).loss
            loss.backward()
            model.zero_grad()
        synchronise(device)
    return (now() - begun) / (total - warm)


class Crops(Dataset):
    """Spots cropped one at a time, turned and made into tensors, as the published code does."""

    def __init__(self, name: str, data: TrainingData, px: int) -> None:
        from torchvision import transforms

        rng = np.random.default_rng(1)
        self.slide = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
        self.corners = rng.integers(0, SIDE - px, (len(data), 2))
        self.px = px
        self.data = data
        turns = [transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip()]
        self.change = transforms.Compose([*turns, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, ...]:
        left, top = (int(v) for v in self.corners[number])
        patch = self.slide.crop((left, top, left + self.px, top + self.px))
        inputs = self.data.spots.spot_inputs(torch.tensor([number]))
        return self.change(patch), *(part[0] for part in inputs)


def plain_step(
    name: str, data: TrainingData, device: str, batch: int, steps: int, px: int
) -> float:
    model = make_model(name).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(Crops(name, data, px), batch, shuffle=True, drop_last=True)
    times: list[float] = []
    while len(times) < max(3, steps):
        for images, *inputs in loader:
            moved = tuple(part.to(device) for part in inputs)
            given = Batch(torch.arange(batch), images.to(device), (), moved)
            optimizer.zero_grad()
            ContrastiveModel.step(model, given).loss.backward()
            optimizer.step()
            synchronise(device)
            times.append(now())
            if len(times) >= max(3, steps):
                break
    kept = times[len(times) // 3 :]
    return (kept[-1] - kept[0]) / (len(kept) - 1)


def now() -> float:
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def autocast(device: str) -> contextlib.AbstractContextManager[object]:
    return torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda"))


@contextlib.contextmanager
def benchmarked(device: str):
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = device.startswith("cuda")
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", nargs="+", default=["bleep", "mclstexp"])
    parser.add_argument("--batch", type=int, help="default 256 and 128 on a GPU, 16 on a CPU")
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--steps", type=int, help="default 60 on a GPU, 6 on a CPU")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    gpu = options.device.startswith("cuda")
    steps = options.steps or (60 if gpu else 6)
    for name in options.models:
        batch = options.batch or ({"bleep": 256, "mclstexp": 128}[name] if gpu else 16)
        data = make_data(name, batch * (16 if gpu else 3), options.px)
        given = (options.device, batch, steps)
        rounds: dict[str, list[float]] = {"bare": [], "engine": [], "from_files": [], "plain": []}
        for _ in range(options.rounds):
            rounds["bare"].append(bare_step(name, data, *given))
            rounds["engine"].append(engine_step(name, data, *given, None))
            if gpu:
                rounds["from_files"].append(engine_step(name, data, *given, False))
        rounds["plain"].append(plain_step(name, data, *given, options.px))
        step = {key: statistics.median(values) for key, values in rounds.items() if values}
        pairs = zip(rounds["bare"], rounds["engine"], strict=True)
        print(
            json.dumps(
                {
                    "model": name,
                    "device": torch.cuda.get_device_name() if gpu else "CPU",
                    "batch": batch,
                    "px": options.px,
                    "ms": {key: round(1000 * value, 1) for key, value in step.items()},
                    "bare_over_engine": round(statistics.median(b / e for b, e in pairs), 3),
                    "wanted_at_least": 0.9 if gpu else 0.95,
                    "faster_than_plain": round(step["plain"] / step["engine"], 2),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
