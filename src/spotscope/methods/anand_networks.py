"""Anand et al.'s networks: a dense one on the embedding, and one over the graph of spots."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from spotscope.errors import SpotScopeError
from spotscope.methods.anand import AnandMethod, AnandSettings, Data, Floats, standard

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from spotscope.data.cohort import Cohort
    from spotscope.data.places import Places
    from spotscope.methods.base import Arrays, MethodSettings
    from spotscope.nets.graph import Graph
    from spotscope.progress import Progress


class NetworkSettings(AnandSettings):
    """Settings of `mlp`, as published: Adam 1e-3, batches of 32, patience 30."""

    epochs: int = Field(1000, ge=1, title="Epochs", description="At most.")
    patience: int = Field(
        30, ge=1, title="Patience", description="Epochs without a gain on held-out spots."
    )
    batch: int = Field(32, ge=2, title="Batch", description="Spots at a time.")
    learning_rate: float = Field(1e-3, gt=0, title="Learning rate", description="Of the steps.")
    dropout: float = Field(0.5, ge=0, lt=1, title="Dropout", description="Share left out.")


class GnnSettings(NetworkSettings):
    """Settings of `gnn`, as published: Nadam 1e-3, batches of 128, patience 15."""

    epochs: int = Field(100, ge=1, title="Epochs", description="At most.")
    patience: int = Field(
        15, ge=1, title="Patience", description="Epochs without a gain on held-out spots."
    )
    batch: int = Field(128, ge=2, title="Batch", description="Spots at a time.")
    dropout: float = Field(0.8, ge=0, lt=1, title="Dropout", description="Share left out.")

    PUBLISHED: ClassVar[dict[str, Any]] = {"view": "neighbourhood", "adjacency": False}


class _Network(AnandMethod):
    """A network that stops when held-out spots are predicted best."""

    Settings: ClassVar[type[MethodSettings]] = NetworkSettings
    settings: NetworkSettings
    LEARNT: ClassVar[tuple[str, ...]] = ("mean", "spread", "level")
    _level: Floats

    @abstractmethod
    def build(self, width_in: int, width_out: int) -> nn.Module:
        """Return the untrained network."""

    @abstractmethod
    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the paper's optimiser."""

    def graph(self, data: Data) -> Graph | None:
        """Return the graph of all spots, or None where spots stand alone."""
        return None

    def regress(
        self, data: Data, held: NDArray[np.intp], progress: Progress
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Train; given validation spots, or one group drawn by the seed, decide when to stop."""
        import torch

        rng = np.random.default_rng(self.settings.seed)
        group = None if (held < 0).any() else rng.choice(np.unique(held))
        tested = held >= 0 if group is None else held == group
        self._mean, self._spread = standard(data.inputs, ~tested)
        inputs = torch.from_numpy((data.inputs - self._mean) / self._spread).float()
        # Around the training mean, so that an untrained network predicts the null model.
        self._level = data.targets[~tested].mean(axis=0)
        targets = torch.from_numpy(data.targets - self._level).float()
        with torch.random.fork_rng():
            torch.manual_seed(self.settings.seed)
            self._network = self.build(inputs.shape[1], targets.shape[1])
            train, check = (torch.from_numpy(np.flatnonzero(m)) for m in (~tested, tested))
            self._train(inputs, targets, train, check, self.graph(data), progress)
            predicted = self._forward(inputs, self.graph(data)).numpy() + self._level
        return predicted, tested

    def _train(
        self,
        inputs: Tensor,
        targets: Tensor,
        train: Tensor,
        check: Tensor,
        graph: Graph | None,
        progress: Progress,
    ) -> None:
        import torch
        from torch.nn.functional import mse_loss

        settings, network = self.settings, self._network
        optimiser = self.optimiser(network)
        best, kept, waited = float("inf"), copy.deepcopy(network.state_dict()), 0
        for epoch in range(settings.epochs):
            network.train()
            total = 0.0
            batches = train[torch.randperm(len(train))].split(settings.batch)
            # Batch statistics of a single spot do not exist.
            for number, batch in enumerate((b for b in batches if len(b) > 1), 1):
                progress.check()
                optimiser.zero_grad(set_to_none=True)
                loss = mse_loss(self._at(inputs, graph, batch), targets[batch])
                if not bool(loss.isfinite()):
                    self._stopped(f"batch {number} of epoch {epoch + 1}", best)
                    network.load_state_dict(kept)
                    return
                loss.backward()
                optimiser.step()
                total += loss.item() * len(batch)
            held = mse_loss(self._forward(inputs, graph)[check], targets[check]).item()
            if held < best - 1e-8:
                best, kept, waited = held, copy.deepcopy(network.state_dict()), 0
            else:
                waited += 1
            progress.report(
                (epoch + 1) / settings.epochs,
                f"Epoch {epoch + 1}",
                loss=total / max(len(train), 1),
                val_loss=held,
                epochs_done=epoch + 1.0,
            )
            if waited >= settings.patience:
                break
        network.load_state_dict(kept)

    def _stopped(self, where: str, best: float) -> None:
        """Note that the loss was no number, or refuse when nothing good was learnt before it."""
        if not np.isfinite(best):
            raise SpotScopeError(
                f"The loss is not a number in {where}; choose a smaller learning rate."
            )
        self.notes.append(
            f"Stopped: the loss was not a number in {where}; the best epoch's weights are kept."
        )

    def _at(self, inputs: Tensor, graph: Graph | None, batch: Tensor) -> Tensor:
        if graph is None:
            return self._network(inputs[batch])
        nodes, part = graph.around(batch, hops=2)
        return self._network(inputs[nodes], part)[: len(batch)]

    def _forward(self, inputs: Tensor, graph: Graph | None) -> Tensor:
        import torch

        self._network.eval()
        with torch.no_grad():
            return self._network(inputs) if graph is None else self._network(inputs, graph)

    def respond(self, inputs: Floats, places: Places) -> Floats:
        """Return the network's prediction."""
        import torch

        standardised = torch.from_numpy((inputs - self._mean) / self._spread).float()
        return self._forward(standardised, self.place_graph(places)).numpy() + self._level

    def place_graph(self, places: Places) -> Graph | None:
        """Return the graph of places to predict, or None where spots stand alone."""
        return None

    def arrays(self) -> Arrays:
        """Return the embedding and the network's weights."""
        state = {f"network.{k}": v.numpy() for k, v in self._network.state_dict().items()}
        return super().arrays() | state

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        import torch

        super().restore(arrays)
        self._network = self.build(len(self._mean), len(self._level))
        state = {
            name.removeprefix("network."): torch.from_numpy(np.array(value))
            for name, value in arrays.items()
            if name.startswith("network.")
        }
        self._network.load_state_dict(state)


class MlpMethod(_Network):
    """Three dense layers of 64 with ReLU and dropout between, mean squared error, Adam."""

    name: ClassVar[str] = "mlp"
    title: ClassVar[str] = "Dense network (Anand et al.)"
    summary: ClassVar[str] = "small dense network on 32-dimensional embeddings"

    def build(self, width_in: int, width_out: int) -> nn.Module:
        """Return 64-64-64 and a linear output."""
        from spotscope.nets.counts import MLP

        return MLP(width_in, width_out, dropout=self.settings.dropout)

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return Adam."""
        import torch

        return torch.optim.Adam(network.parameters(), lr=self.settings.learning_rate)


class GnnMethod(_Network):
    """Two convolutions ``h' = FFN([h || mean of its neighbours' h])`` over the graph of spots."""

    name: ClassVar[str] = "gnn"
    title: ClassVar[str] = "Graph network (Anand et al.)"
    summary: ClassVar[str] = "graph network over the nearest spots"
    Settings: ClassVar[type[MethodSettings]] = GnnSettings
    settings: GnnSettings

    def build(self, width_in: int, width_out: int) -> nn.Module:
        """Return the network of hidden width 32."""
        from spotscope.nets.gcn import MeanConvNetwork

        return MeanConvNetwork(width_in, width_out, dropout=self.settings.dropout)

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return Nadam."""
        import torch

        return torch.optim.NAdam(network.parameters(), lr=self.settings.learning_rate)

    def graph(self, data: Data) -> Graph:
        """Return the block-diagonal graph of all sections."""
        from spotscope.data.places import Places
        from spotscope.nets.graph import block_diagonal

        return block_diagonal(
            [self._embedding.graph(Places.on_spots(s)) for s in _sections(data.cohorts)]
        )

    def place_graph(self, places: Places) -> Graph:
        """Return the graph of the places."""
        return self._embedding.graph(places)


def _sections(cohorts: tuple[Cohort, ...]) -> list[Any]:
    return [section for cohort in cohorts for section in cohort.sections]
