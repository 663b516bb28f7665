"""Predict by retrieval: the measured spots whose embeddings lie nearest to a patch's.

BLEEP, mclSTExp, ST-GCHB and TPIRBAE all predict this way and differ in metric, k and weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from spotscope.errors import SpotScopeError
from spotscope.files import written_beside
from spotscope.nets.projection import unit
from spotscope.nets.topk import largest
from spotscope.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

Metric = Literal["cosine", "euclidean"]
Weights = Literal["mean", "softmax", "inverse"]
_FORMAT = "spotscope-reference-1"
_SPARE = 8  # candidates beyond k that exact distances choose from
_GATHER = 64 << 20  # bytes of neighbours' rows held at once


@dataclass(frozen=True)
class Neighbours:
    """The reference spots nearest to each query.

    Attributes
    ----------
    index
        (Q, k) int64 into the reference, nearest first.
    similarity
        (Q, k) float32: the cosine, or minus the distance of the Euclidean metric.
    distance2
        (Q, k) float32 squared Euclidean distance of the embeddings as they are.
    """

    index: Tensor
    similarity: Tensor
    distance2: Tensor


@dataclass(frozen=True)
class Retrieved:
    """A prediction by retrieval.

    Attributes
    ----------
    expression
        (Q, G) float32, the weighted mean of the neighbours' expression.
    spread
        (Q, G) float32, the weighted standard deviation of it over the neighbours.
    weights
        (Q, k) float32; rows sum to one.
    neighbours
        What it was made from.
    """

    expression: NDArray[np.float32]
    spread: NDArray[np.float32]
    weights: NDArray[np.float32]
    neighbours: Neighbours


class ReferenceIndex:
    """Measured spots with their embeddings, to be searched exactly.

    Parameters
    ----------
    embeddings
        (N, d) of the training spots, and of these alone.
    expression
        (N, G), in the unit of the predictions.
    sections
        N names, the section of each spot.
    spots
        N names, each spot's barcode in its section.
    metric
        By which neighbours are chosen.
    device
        Where to search.

    Raises
    ------
    SpotScopeError
        When there are no spots, lengths differ, or a number is not finite.
    """

    def __init__(
        self,
        embeddings: Tensor | NDArray[np.float32],
        expression: Tensor | NDArray[np.float32],
        sections: Sequence[str],
        spots: Sequence[str],
        *,
        metric: Metric = "cosine",
        device: str | torch.device = "cpu",
    ) -> None:
        self.metric = metric
        self.embeddings = torch.as_tensor(embeddings, dtype=torch.float32)
        self.expression = torch.as_tensor(expression, dtype=torch.float32)
        self.section_names, codes = np.unique(np.asarray(sections, dtype=str), return_inverse=True)
        self.section_codes: NDArray[np.int32] = codes.astype(np.int32)
        self.spots = np.asarray(spots, dtype=str)
        n = len(self.embeddings)
        if not n or {len(self.expression), len(codes), len(self.spots)} != {n}:
            raise SpotScopeError(
                "A reference needs at least one spot, and an embedding, an expression, a section"
                " and a barcode for each."
            )
        for name, values in (("embedding", self.embeddings), ("expression", self.expression)):
            if not bool(values.isfinite().all()):
                raise SpotScopeError(
                    f"A reference spot's {name} is not a number; train again with a lower"
                    " learning rate or remove spots without counts."
                )
        self.to(device)

    def __len__(self) -> int:
        return len(self.embeddings)

    def to(self, device: str | torch.device) -> ReferenceIndex:
        """Search on `device` from now on."""
        self.device = torch.device(device)
        self.embeddings = self.embeddings.to(self.device)
        self.expression = self.expression.to(self.device)
        self._centre = self.embeddings.mean(dim=0, keepdim=True)
        self._keys = self._searchable(self.embeddings, query=False)
        return self

    def fits(self, device: str | torch.device) -> bool:
        """Say whether it fills less than half of what is free on `device`, a CUDA GPU."""
        device = torch.device(device)
        if device.type != "cuda":
            return False  # it searches from main memory where there is no other
        needed = 2 * self.embeddings.nbytes + self.expression.nbytes
        return self.device == device or needed < torch.cuda.mem_get_info(device)[0] / 2

    def search(
        self,
        queries: Tensor | NDArray[np.float32],
        k: int,
        progress: Progress | None = None,
    ) -> Neighbours:
        """Return the `k` nearest reference spots of each query (Q, d), exactly.

        Raises
        ------
        SpotScopeError
            When `k` is more than there are spots, or the widths differ.
        """
        if not 1 <= k <= len(self):
            raise SpotScopeError(
                f"k = {k} neighbours cannot be had from {len(self)} reference spots; choose k"
                f" from 1 to {len(self)}."
            )
        found = torch.as_tensor(queries, dtype=torch.float32, device=self.device)
        if found.ndim != 2 or found.shape[1] != self.embeddings.shape[1]:
            raise SpotScopeError(
                f"The reference has embeddings of width {self.embeddings.shape[1]}; the queries"
                f" have shape {tuple(found.shape)}: use the model that made the reference."
            )
        if not bool(found.isfinite().all()):
            raise SpotScopeError(
                "An embedding of the section to predict is not a number; train again with a lower"
                " learning rate."
            )
        spare = 0 if self.metric == "cosine" else _SPARE
        scores, index = largest(
            self._searchable(found, query=True),
            self._keys,
            min(k + spare, len(self)),
            progress or Progress(),
        )
        distance2 = self._distance2(found, index)
        if self.metric == "cosine":
            return Neighbours(index, scores.clamp(-1, 1), distance2)
        distance2, order = distance2.topk(k, dim=1, largest=False)
        return Neighbours(index.gather(1, order), -distance2.sqrt(), distance2)

    def retrieve(
        self,
        queries: Tensor | NDArray[np.float32],
        k: int,
        *,
        query_sections: Collection[str],
        weights: Weights = "mean",
        temperature: float = 0.1,
        eps: float = 1e-6,
        progress: Progress | None = None,
    ) -> Retrieved:
        """Predict expression at `queries` (Q, d) from their `k` nearest reference spots.

        Parameters
        ----------
        query_sections
            The sections that the queries come from; none may be in the reference.
        weights
            "mean" (BLEEP, ST-GCHB); "softmax" of similarity / `temperature`; "inverse"
            ``1/(d^2 + eps)`` of the squared Euclidean distance (mclSTExp).

        Raises
        ------
        SpotScopeError
            When a query's section is in the reference, or `search` refuses.
        """
        self.refuse_overlap(query_sections)
        neighbours = self.search(queries, k, progress)
        shares = neighbour_weights(neighbours, weights, temperature, eps)
        mean, spread = self._combine(neighbours.index, shares, progress or Progress())
        return Retrieved(mean, spread, shares.cpu().numpy(), neighbours)

    def refuse_overlap(self, query_sections: Collection[str]) -> None:
        """Raise when a section to predict is in the reference: it would be shown its answer."""
        both = sorted(set(query_sections) & set(self.section_names.tolist()))
        if both:
            raise SpotScopeError(
                f"Section '{both[0]}' is in this model's reference, so its own measurements"
                " would be its prediction; predict a section that the model was not trained on."
            )

    def describe(self, index: Tensor) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
        """Return the section names and barcodes of reference spots `index`, in its shape."""
        at = index.cpu().numpy()
        return self.section_names[self.section_codes[at]], self.spots[at]

    def save(self, path: Path) -> None:
        """Write the reference as one safetensors file, whole or not at all."""
        from safetensors.torch import save_file

        arrays = {
            "embeddings": self.embeddings.cpu().contiguous(),
            "expression": self.expression.cpu().contiguous(),
            "sections": torch.from_numpy(self.section_codes),
            "spots": _as_bytes(self.spots),
        }
        names = json.dumps([str(name) for name in self.section_names])
        header = {"format": _FORMAT, "metric": self.metric, "section_names": names}
        with written_beside(Path(path)) as beside:
            save_file(arrays, beside, header)

    @classmethod
    def load(cls, path: Path, device: str | torch.device = "cpu") -> ReferenceIndex:
        """Read what `save` wrote.

        Raises
        ------
        SpotScopeError
            When the file is missing, damaged or something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                if header.get("format") != _FORMAT:
                    raise SpotScopeError(f"'{Path(path).name}' is not a reference of SpotScope.")
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise SpotScopeError(
                f"The reference '{Path(path).name}' is missing or damaged; train again."
            ) from error
        names = np.asarray(json.loads(header["section_names"]), dtype=str)
        return cls(
            arrays["embeddings"],
            arrays["expression"],
            names[arrays["sections"].numpy()].tolist(),
            _as_names(arrays["spots"]).tolist(),
            metric="euclidean" if header["metric"] == "euclidean" else "cosine",
            device=device,
        )

    def _searchable(self, rows: Tensor, *, query: bool) -> Tensor:
        """Return rows whose products rank as the metric does."""
        if self.metric == "cosine":
            return unit(rows)
        # |q - r|^2 = |q|^2 - (2 q.r - |r|^2): one more column carries -|r|^2. Distances do not
        # change when all is centred, and the products lose less to rounding.
        rows = rows - self._centre
        extra = rows.new_ones(len(rows), 1) if query else -(rows * rows).sum(1, keepdim=True)
        pad = rows.new_zeros(len(rows), -(rows.shape[1] + 1) % 8)
        return torch.cat([2 * rows if query else rows, extra, pad], dim=1)

    def _distance2(self, queries: Tensor, index: Tensor) -> Tensor:
        distance2 = torch.empty(index.shape, device=self.device)
        step = _rows_at_once(index.shape[1] * queries.shape[1])
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            apart = self.embeddings[index[part]] - queries[part, None, :]
            distance2[part] = apart.square_().sum(dim=2)
        return distance2

    def _combine(
        self, index: Tensor, weights: Tensor, progress: Progress
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        shape = (len(index), self.expression.shape[1])
        mean, spread = np.empty(shape, np.float32), np.empty(shape, np.float32)
        step = _rows_at_once(index.shape[1] * shape[1])
        for start in range(0, len(index), step):
            progress.check()
            part = slice(start, start + step)
            values = self.expression[index[part]]
            average = torch.einsum("qk,qkg->qg", weights[part], values)
            values.sub_(average[:, None, :]).square_()
            variance = torch.einsum("qk,qkg->qg", weights[part], values)
            mean[part], spread[part] = average.cpu().numpy(), variance.sqrt().cpu().numpy()
        return mean, spread


def neighbour_weights(
    neighbours: Neighbours,
    kind: Weights = "mean",
    temperature: float = 0.1,
    eps: float = 1e-6,
) -> Tensor:
    """Return each neighbour's share (Q, k); rows sum to one and never rise with distance.

    "softmax" is ``softmax_j(similarity_j / temperature)``; "inverse" ``1/(d^2 + eps)``, where
    `eps` keeps a neighbour at distance zero finite.
    """
    if kind == "mean":
        return torch.full_like(neighbours.similarity, 1 / neighbours.similarity.shape[1])
    if kind == "softmax":
        return (neighbours.similarity / temperature).softmax(dim=1)
    share = 1 / (neighbours.distance2 + eps)
    return share / share.sum(dim=1, keepdim=True)


def _rows_at_once(numbers_a_row: int) -> int:
    return max(1, _GATHER // (4 * numbers_a_row))


def _as_bytes(names: NDArray[np.str_]) -> Tensor:
    raw = np.char.encode(names, "utf-8")
    width = max(1, raw.dtype.itemsize)
    return torch.from_numpy(raw.astype(f"S{width}").view(np.uint8).reshape(len(names), width))


def _as_names(raw: Tensor) -> NDArray[np.str_]:
    array = np.ascontiguousarray(raw.numpy())
    return np.char.decode(array.view(f"S{array.shape[1]}")[:, 0], "utf-8")
