"""The state of a run, written so that a killed one goes on to the same result."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spotscope.errors import SpotScopeError
from spotscope.files import written_beside

if TYPE_CHECKING:
    from pathlib import Path

FILE = "resume.safetensors"
_FORMAT = "spotscope-run-1"
_PLAIN = torch.contiguous_format  # what safetensors can hold
_KINDS = ("model", "best", "optimizer")


@dataclass
class RunState:
    """Where a run stands.

    The order of spots, augmentation and dropout of a step follow from the seed and its number
    alone, so that no generator's state needs keeping.

    Attributes
    ----------
    epoch, batch
        Epochs done, and batches done in the running one.
    splits
        Parts that a batch is cut into since memory ran out.
    validation_splits
        Parts that a validation batch is cut into, the same in all epochs: a contrastive loss
        falls with its batch, and would seem to gain when memory runs out. 0 until it is known.
    sums, counted
        Of the running epoch's values, over `counted` batches.
    history
        One row of figures for each finished epoch.
    best_loss, best_epoch, waited
        Lowest validation loss, its epoch, and epochs without a lower one.
    finished
        Nothing is left to do.
    notes
        Sentences for the user.
    best
        The weights of `best_epoch`, on the CPU.
    """

    epoch: int = 0
    batch: int = 0
    splits: int = 1
    validation_splits: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counted: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_loss: float | None = None
    best_epoch: int | None = None
    waited: int = 0
    finished: bool = False
    notes: list[str] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def started(self) -> bool:
        """Whether a step was taken."""
        return self.epoch > 0 or self.batch > 0


def cpu_copy(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the weights and statistics of `model` on the CPU."""
    state = model.state_dict().items()
    return {key: torch.clone(v.detach().cpu(), memory_format=_PLAIN) for key, v in state}


def write_run(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: RunState,
    what: dict[str, Any],
) -> None:
    """Write all that a run needs to go on into one file of `folder`, whole or not at all."""
    from safetensors.torch import save_file

    tensors = {f"model/{key}": value for key, value in cpu_copy(model).items()}
    tensors |= {f"best/{key}": value for key, value in state.best.items()}
    for number, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            moved = torch.as_tensor(value).detach().cpu().contiguous()
            tensors[f"optimizer/{number}/{key}"] = moved
    plain = {f.name: getattr(state, f.name) for f in fields(state) if f.name != "best"}
    header = {"format": _FORMAT, "state": json.dumps(plain), "what": json.dumps(what)}
    with written_beside(folder / FILE) as beside:
        save_file(tensors, beside, header)


def read_run(
    folder: Path, what: dict[str, Any]
) -> tuple[RunState, dict[str, dict[str, Tensor]]] | None:
    """Return the state in `folder` with its tensors by kind, or None when there is none.

    Raises
    ------
    SpotScopeError
        When the file is damaged, or of a run with other settings, data or network.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise SpotScopeError(
            f"The unfinished training in '{folder}' is damaged; delete that folder and start anew."
        ) from error
    if header.get("format") != _FORMAT or header["what"] != json.dumps(what):
        raise SpotScopeError(
            f"The unfinished training in '{folder}' is of another method, other settings or other"
            " sections; choose another folder or delete that one."
        )
    by_kind: dict[str, dict[str, Tensor]] = {kind: {} for kind in _KINDS}
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        by_kind[kind][name] = value
    return RunState(**json.loads(header["state"]), best=by_kind["best"]), by_kind


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give `optimizer` the moments that `read_run` returned."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    values: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/", 1)
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:  # the fused kernels want the parameter's own layout
            value = torch.empty_like(parameter, device="cpu").copy_(value)
        values.setdefault(int(number), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": values, "param_groups": groups})
