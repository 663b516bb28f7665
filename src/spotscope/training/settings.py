"""What a training run is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from spotscope.errors import SpotScopeError

if TYPE_CHECKING:
    from spotscope.training.augment import Augmentation

# Where and how often, but not what: a run may be resumed with these changed.
_FREE = ("device", "devices", "precision", "checkpoint_seconds", "checkpoint_steps", "resident")


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes
    ----------
    epochs, batch_size, learning_rate, weight_decay, optimizer
        The publications': see the presets of each method.
    accumulate
        Batches whose gradients make one step.
    patience, min_delta
        Stop when the validation loss has not fallen by `min_delta` for `patience` epochs; None
        trains all epochs. Used only with validation data.
    augmentation
        Applied to training patches on the device; None for none.
    seed
        Of the order of spots, augmentation and dropout.
    device
        "auto", "cpu", "cuda", "cuda:1", "mps".
    devices
        How many GPUs; with more than one every GPU has `batch_size` pairs of its own, and the
        running script is started once more for each (Lightning's "ddp"), so that this is for
        scripts, not for a window.
    precision
        "auto" is bfloat16 mixed on CUDA, float32 elsewhere.
    deterministic
        Choose reproducible kernels on a GPU as well, which are slower.
    checkpoint_seconds, checkpoint_steps
        A state to resume from is written this often beside the ends of epochs.
    resident
        Keep the patches on the device; None does when they fill less than half its free memory.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    optimizer: Literal["adamw", "adam", "nadam"] = "adamw"
    accumulate: int = 1
    patience: int | None = None
    min_delta: float = 0.0
    augmentation: Augmentation | None = None
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    deterministic: bool = False
    checkpoint_seconds: float = 30.0
    checkpoint_steps: int | None = None
    resident: bool | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "devices"):
            if getattr(self, name) < 1:
                raise SpotScopeError(f"{name} must be at least 1.")
        if not self.learning_rate > 0:
            raise SpotScopeError("learning_rate must be above 0.")

    def what(self) -> dict[str, Any]:
        """Return what a resumed run must share with the run that it goes on from."""
        return {key: value for key, value in asdict(self).items() if key not in _FREE}

    def chosen_device(self) -> str:
        """Return the device to use; "auto" takes a GPU where there is one.

        Raises
        ------
        SpotScopeError
            When the device is not there.
        """
        import torch

        cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
        device = self.device
        if device == "auto":
            device = "cuda:0" if cuda else "mps" if mps else "cpu"
        kind, _, number = device.partition(":")
        present = {"cpu": 1, "cuda": torch.cuda.device_count() if cuda else 0, "mps": int(mps)}
        if kind not in present or (number and not number.isdigit()):
            raise SpotScopeError(f"'{self.device}' is no device; use auto, cpu, cuda or mps.")
        if int(number or 0) >= present[kind]:
            raise SpotScopeError(
                f"The device '{self.device}' is not there; choose 'auto', or 'cpu' to go without."
            )
        self._check_devices(kind, present[kind])
        return f"cuda:{number or 0}" if kind == "cuda" else kind

    def _check_devices(self, kind: str, present: int) -> None:
        if kind != "cpu" and self.devices > present:
            raise SpotScopeError(
                f"devices = {self.devices}, and of '{kind}' there are {present}; choose fewer."
            )


def usable_devices() -> dict[str, str]:
    """Return what can train on this computer, the quickest first: names for people by spec."""
    import torch

    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = {f"cuda:{card}": torch.cuda.get_device_name(card) for card in range(cards)}
    if torch.backends.mps.is_available():
        found["mps"] = "Apple graphics"
    return {**found, "cpu": "Processor"}
