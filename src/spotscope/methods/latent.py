"""Batch-agnostic latent spaces of spots: scVI and scANVI, trained once and then frozen.

The encoder sees counts alone and the patient goes into the decoder (TPIRBAE section 3.1), so what
is kept is the encoder: two dense layers and two heads, read by numpy. Nothing of it can move
afterwards, no patient need be known, and scvi-tools is needed for training alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spotscope.errors import SpotScopeError
from spotscope.files import write_json, written_beside

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort
    from spotscope.progress import Progress

Kind = Literal["scvi", "scanvi"]

UNKNOWN = "Unknown"
"""Label of the spots whose subtype is not told to scANVI."""
WEIGHTS, RECORD = "latent.safetensors", "latent.json"
FORMAT = 1
_BLOCK = 4096  # spots encoded at a time
_LEAST_VARIANCE = 1e-4  # that scvi-tools adds to the posterior's


@dataclass(frozen=True)
class LatentSettings:
    """How a latent space is learnt.

    Attributes
    ----------
    width, layers, hidden
        Of the encoder and the decoder; 30 and 2 in the paper, the library's 128.
    likelihood
        Of a count: zero-inflated (the paper) or plain negative binomial.
    dispersion
        One for each gene (the paper), or one for each gene and patient.
    epochs
        Passes over the spots with scVI's objective.
    label_epochs
        Further passes with scANVI's, which begins at the scVI that was learnt.
    kl_weight
        Weight of the divergence from the prior after its warm-up over the first half of the
        epochs; the library warms up for 400, which shorter runs never reach.
    label_weight
        Weight of the classification in scANVI's objective; the library's 50.
    batch_size, learning_rate, seed
        Of the training.
    device
        auto, cpu or cuda.
    """

    width: int = 30
    layers: int = 2
    hidden: int = 128
    likelihood: Literal["zinb", "nb"] = "zinb"
    dispersion: Literal["gene", "gene-batch"] = "gene"
    epochs: int = 100
    label_epochs: int = 20
    kl_weight: float = 1.0
    label_weight: float = 50.0
    batch_size: int = 128
    learning_rate: float = 1e-3
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class LatentSpace:
    """A frozen encoder ``q(z | counts) = N(mean, scale²)``.

    Attributes
    ----------
    kind
        "scvi" or "scanvi".
    genes
        G names, in the order of the counts.
    weights
        Dense layers by name, normalisation folded in; read-only.
    settings, patients
        What it was learnt with, and on whom.
    classes
        Subtypes that scANVI tells of counts; none of scVI.
    """

    kind: Kind
    genes: list[str]
    weights: dict[str, NDArray[np.float32]]
    settings: LatentSettings = field(default_factory=LatentSettings)
    patients: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for array in self.weights.values():
            array.setflags(write=False)

    @property
    def width(self) -> int:
        """Numbers of a latent variable."""
        return len(self.weights["mean.bias"])

    def encode(self, counts: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the posterior's mean and standard deviation (n, width) each.

        Parameters
        ----------
        counts
            (n, G) raw counts of `genes`, sparse or not; of any patient.

        Raises
        ------
        SpotScopeError
            When they are not counts.
        """
        check_counts(counts)
        parts = [self._encode(_dense(counts[at : at + _BLOCK])) for at in _starts(counts)]
        empty = np.empty((0, self.width), np.float32)
        means, scales = zip(*parts, strict=True) if parts else ((empty,), (empty,))
        return np.concatenate(means), np.concatenate(scales)

    def tell(self, means: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scANVI's probability of each class (n, K) at posterior means (n, width).

        Raises
        ------
        SpotScopeError
            When no subtypes were told to the space.
        """
        if not self.classes:
            raise SpotScopeError(
                "This latent space was learnt without subtypes, so it tells none; learn it with"
                " labels (scanvi)."
            )
        values = means
        for layer in range(self.settings.layers):
            values = np.maximum(self._dense(f"tell{layer}", values), 0)
        logits = self._dense("tell", values).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)

    def posterior(self, cohort: Cohort) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean and standard deviation of all spots of `cohort`, in their order."""
        parts = [self.encode(s.counts[:, s.columns(self.genes)]) for s in cohort.sections]
        means, scales = zip(*parts, strict=True)
        return np.concatenate(means), np.concatenate(scales)

    def _encode(self, counts: NDArray[np.float32]) -> tuple[Any, Any]:
        values = np.log1p(counts)
        for layer in range(self.settings.layers):
            values = np.maximum(self._dense(f"layer{layer}", values), 0)
        variance = np.exp(self._dense("variance", values))
        return self._dense("mean", values), np.sqrt(variance + np.float32(_LEAST_VARIANCE))

    def _dense(self, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def save(self, folder: Path) -> None:
        """Write weights and genes to a folder: safetensors and JSON."""
        from safetensors.numpy import save_file

        with written_beside(folder) as beside:
            beside.mkdir()
            save_file(self.weights, beside / WEIGHTS)
            write_json(beside / RECORD, self.record())

    def record(self) -> dict[str, Any]:
        """Return all but the weights, for JSON."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "settings": asdict(self.settings),
            "patients": self.patients,
            "classes": self.classes,
            "genes": self.genes,
        }

    @classmethod
    def load(cls, folder: Path) -> LatentSpace:
        """Read what `save` wrote.

        Raises
        ------
        SpotScopeError
            When it is not there, not whole, or of a newer version.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            if record["format"] > FORMAT:
                raise SpotScopeError(
                    f"The latent space in '{folder}' was made by a newer SpotScope; update it."
                )
            return cls.from_record(record, load_file(folder / WEIGHTS))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise SpotScopeError(
                f"'{folder}' holds no whole latent space; copy the whole folder or learn it again."
            ) from error

    @classmethod
    def from_record(
        cls, record: dict[str, Any], weights: dict[str, NDArray[np.float32]]
    ) -> LatentSpace:
        """Return the space that `record` and its weights describe."""
        settings = LatentSettings(**record["settings"])
        classes = record.get("classes", [])  # earlier ones kept no classifier
        return cls(record["kind"], record["genes"], weights, settings, record["patients"], classes)


def fit_latent(
    cohort: Cohort,
    kind: Kind = "scvi",
    settings: LatentSettings | None = None,
    progress: Progress | None = None,
    *,
    genes: Sequence[str] | None = None,
    hidden: Collection[str] = (),
) -> LatentSpace:
    """Learn a latent space from the spots of `cohort`.

    Parameters
    ----------
    cohort
        Training sections; leave the test patients out, so that their counts teach nothing.
    kind
        "scvi", or "scanvi", which is told the labelled spots' subtypes as well.
    settings
        Of the training.
    progress
        Told each epoch; cancels within a second.
    genes
        To learn on; None takes the 2,000 most variable ones of `cohort`.
    hidden
        Patients whose labels must not be told: they become "Unknown" before anything is set up.

    Raises
    ------
    SpotScopeError
        When the counts are not whole numbers, or scANVI has fewer than two classes to learn.
    Cancelled
        When the user stopped it.
    """
    from scipy import sparse

    from spotscope.data.panels import PanelSettings, choose_panel
    from spotscope.methods.latent_training import train_latent_model

    if genes is None:
        genes = choose_panel(cohort, PanelSettings.model_validate({"n_genes": 2000}))
    counts = sparse.vstack([s.counts[:, s.columns(genes)] for s in cohort.sections], "csr")
    patients = cohort.patient_of
    labels = cohort_labels(cohort) if kind == "scanvi" else None
    if labels is not None:
        labels[np.isin(patients, list(hidden))] = UNKNOWN
    settings = settings or LatentSettings()
    model = train_latent_model(counts, patients, labels, settings, progress)
    return frozen(model, kind, genes, settings, cohort.patients)


def frozen(
    model: Any, kind: Kind, genes: Sequence[str], settings: LatentSettings, patients: list[str]
) -> LatentSpace:
    """Return the encoder of a trained scVI or scANVI, batch normalisation folded in."""
    encoder = model.module.z_encoder
    dense = {f"layer{i}": _folded(layer) for i, layer in enumerate(encoder.encoder.fc_layers)}
    dense["mean"] = (encoder.mean_encoder.weight, encoder.mean_encoder.bias)
    dense["variance"] = (encoder.var_encoder.weight, encoder.var_encoder.bias)
    classes: list[str] = []
    if kind == "scanvi":
        hidden, last = model.module.classifier.classifier
        dense |= {f"tell{i}": _folded(layer) for i, layer in enumerate(hidden.fc_layers)}
        dense["tell"] = (last.weight, last.bias)
        known = model.adata_manager.get_state_registry("labels").categorical_mapping
        classes = [str(name) for name in known[: len(last.bias)]]
    weights = {
        f"{name}.{part}": np.array(value.detach().cpu().numpy(), np.float32)
        for name, pair in dense.items()
        for part, value in zip(("weight", "bias"), pair, strict=True)
    }
    return LatentSpace(kind, list(genes), weights, settings, list(patients), classes)


def _folded(layer: Any) -> tuple[Any, Any]:
    """Return weight and bias of a dense layer with the normalisation after it."""
    from torch import nn

    linear, norm = (_part(layer, kind) for kind in (nn.Linear, nn.BatchNorm1d))
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = (linear.bias - norm.running_mean) * factor + norm.bias
    return linear.weight * factor[:, None], shift


def _part(layer: Any, kind: type) -> Any:
    (found,) = (part for part in layer if isinstance(part, kind))
    return found


def cohort_labels(cohort: Cohort) -> NDArray[np.str_]:
    """Return (n,) the subtype of each spot of `cohort`, "Unknown" where it has none."""
    parts: list[NDArray[np.str_]] = []
    for section in cohort.sections:
        labels = section.labels
        if labels is None:
            parts.append(np.full(section.n_spots, UNKNOWN))
            continue
        names = np.array([*(str(c) for c in labels.categories), UNKNOWN])
        parts.append(names[labels.codes])  # a missing label has the code -1
    return np.concatenate(parts)


def check_counts(counts: Any) -> None:
    """Raise when `counts`, sparse or not, are not whole numbers of at least 0."""
    values = counts.data if hasattr(counts, "indptr") else np.asarray(counts)
    if not (np.isfinite(values).all() and (values >= 0).all() and (values % 1 == 0).all()):
        raise SpotScopeError(
            "A latent space is learnt from raw counts, and these are not whole numbers; import"
            " the sections with their counts before any normalisation."
        )


def _starts(counts: Any) -> range:
    return range(0, counts.shape[0], _BLOCK)


def _dense(counts: Any) -> NDArray[np.float32]:
    return np.asarray(counts.toarray() if hasattr(counts, "indptr") else counts, np.float32)
