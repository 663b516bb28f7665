"""Batch-agnostic latent spaces of spots: scVI and scANVI, trained once and then frozen.

The encoder sees counts alone and the patient goes into the decoder (TPIRBAE section 3.1), so what
is kept is the encoder: two dense layers and two heads, read by numpy. Nothing of it can move
afterwards, no patient need be known, and scvi-tools is needed for training alone.
"""

from __future__ import annotations

import json
import logging
import warnings
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spotscope.errors import Cancelled, SpotScopeError
from spotscope.files import write_json, written_beside
from spotscope.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from spotscope.data.cohort import Cohort

Kind = Literal["scvi", "scanvi"]

UNKNOWN = "Unknown"
"""Label of the spots whose subtype is not told to scANVI."""
WEIGHTS, RECORD = "latent.safetensors", "latent.json"
FORMAT = 1
_BLOCK = 4096  # spots encoded at a time
_LEAST_VARIANCE = 1e-4  # that scvi-tools adds to the posterior's
_PATIENT, _SUBTYPE = "patient", "subtype"


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
    """

    kind: Kind
    genes: list[str]
    weights: dict[str, NDArray[np.float32]]
    settings: LatentSettings = field(default_factory=LatentSettings)
    patients: list[str] = field(default_factory=list)

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

    def posterior(self, cohort: Cohort) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean and standard deviation of all spots of `cohort`, in their order."""
        parts = [self.encode(s.counts[:, s.columns(self.genes)]) for s in cohort.sections]
        means, scales = zip(*parts, strict=True)
        return np.concatenate(means), np.concatenate(scales)

    def _encode(self, counts: NDArray[np.float32]) -> tuple[Any, Any]:
        weights, values = self.weights, np.log1p(counts)
        for layer in range(self.settings.layers):
            values = values @ weights[f"layer{layer}.weight"].T + weights[f"layer{layer}.bias"]
            np.maximum(values, 0, out=values)
        mean = values @ weights["mean.weight"].T + weights["mean.bias"]
        variance = np.exp(values @ weights["variance.weight"].T + weights["variance.bias"])
        return mean, np.sqrt(variance + np.float32(_LEAST_VARIANCE))

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
        return cls(record["kind"], record["genes"], weights, settings, record["patients"])


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


def train_latent_model(
    counts: Any,
    patients: NDArray[np.str_],
    labels: NDArray[np.str_] | None,
    settings: LatentSettings,
    progress: Progress | None = None,
    **options: Any,
) -> Any:
    """Return the model of scvi-tools that was learnt: scVI, or with `labels` scANVI.

    Parameters
    ----------
    counts
        (n, G) raw counts.
    patients
        (n,) of each spot; the decoder is told, the encoder is not.
    labels
        (n,) subtypes, "Unknown" where they are not to be told; None for scVI.
    options
        Further ones of ``scvi.model.SCVI``.
    """
    progress = progress or Progress()
    check_counts(counts)
    if labels is not None:
        _check_labels(labels)
    progress.report(0.0, "Preparing the latent space")
    with _quiet(), _seeded(settings.seed):
        import scvi

        table = _table(counts, patients, labels)
        # Without a labels_key: scANVI would silently keep the one that scVI was set up with.
        scvi.model.SCVI.setup_anndata(table, batch_key=_PATIENT)
        model = scvi.model.SCVI(
            table,
            n_latent=settings.width,
            n_layers=settings.layers,
            n_hidden=settings.hidden,
            gene_likelihood=settings.likelihood,
            dispersion=settings.dispersion,
            **options,
        )
        label_epochs = 0 if labels is None else settings.label_epochs
        share = settings.epochs / (settings.epochs + label_epochs)
        _train(model, settings.epochs, settings, progress.part(0.0, share), "Latent space")
        if labels is None:
            return model
        told = int((labels != UNKNOWN).sum())
        model = scanvi_from(model, _SUBTYPE)
        part = progress.part(share, 1.0)
        _train(model, label_epochs, settings, part, "Latent space with labels", told)
    return model


def scanvi_from(model: Any, labels_key: str) -> Any:
    """Return the scANVI that begins at a trained scVI and learns the labels in `labels_key`.

    Raises
    ------
    SpotScopeError
        When the scVI was set up with other labels, which scvi-tools would use without a word.
    """
    import scvi

    registered = model.registry["setup_args"]["labels_key"]
    if registered not in (None, labels_key):
        raise SpotScopeError(
            f"This scVI model was set up with the labels '{registered}', so scANVI would learn"
            f" those instead of '{labels_key}'; set scVI up without labels."
        )
    return scvi.model.SCANVI.from_scvi_model(model, UNKNOWN, labels_key=labels_key)


def frozen(
    model: Any, kind: Kind, genes: Sequence[str], settings: LatentSettings, patients: list[str]
) -> LatentSpace:
    """Return the encoder of a trained scVI or scANVI, batch normalisation folded in."""
    from torch import nn

    encoder = model.module.z_encoder
    dense: dict[str, tuple[Any, Any]] = {}
    for number, layer in enumerate(encoder.encoder.fc_layers):
        (linear,) = (part for part in layer if isinstance(part, nn.Linear))
        (norm,) = (part for part in layer if isinstance(part, nn.BatchNorm1d))
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = (linear.bias - norm.running_mean) * factor + norm.bias
        dense[f"layer{number}"] = (linear.weight * factor[:, None], shift)
    dense["mean"] = (encoder.mean_encoder.weight, encoder.mean_encoder.bias)
    dense["variance"] = (encoder.var_encoder.weight, encoder.var_encoder.bias)
    weights = {
        f"{name}.{part}": np.array(value.detach().cpu().numpy(), np.float32)
        for name, pair in dense.items()
        for part, value in zip(("weight", "bias"), pair, strict=True)
    }
    return LatentSpace(kind, list(genes), weights, settings, list(patients))


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


def _check_labels(labels: NDArray[np.str_]) -> None:
    classes = np.unique(labels[labels != UNKNOWN])
    if len(classes) < 2:
        found = f"only '{classes[0]}' is" if len(classes) else "no spot is"
        raise SpotScopeError(
            f"scANVI learns from labelled spots of at least two subtypes and {found} labelled;"
            " label more, or choose scvi, which needs no labels."
        )


def _train(
    model: Any,
    epochs: int,
    settings: LatentSettings,
    progress: Progress,
    message: str,
    n_labelled: int | None = None,
) -> None:
    plan: dict[str, Any] = {
        "lr": settings.learning_rate,
        "n_epochs_kl_warmup": max(1, epochs // 2),
        "max_kl_weight": settings.kl_weight,
    }
    sizes = [model.adata.n_obs]
    if n_labelled is not None:
        plan["classification_ratio"] = settings.label_weight
        sizes.append(n_labelled)
    accelerator, devices = _place(settings.device)
    model.train(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=devices,
        train_size=1.0,
        shuffle_set_split=False,  # its shuffling follows no seed of ours; batches are drawn anyway
        batch_size=_batch_size(settings.batch_size, sizes),
        plan_kwargs=plan,
        logger=False,
        enable_progress_bar=False,
        callbacks=[_reporter(progress, epochs, message)],
    )
    progress.check()
    if not all(bool(value.isfinite().all()) for value in model.module.state_dict().values()):
        raise SpotScopeError(
            "The latent space could not be learnt: its weights are no longer numbers; choose a"
            " lower learning rate."
        )


def _reporter(progress: Progress, epochs: int, message: str) -> Any:
    """Return a Lightning callback that reports each epoch and stops when the user asks to."""
    from lightning.pytorch import Callback

    class Reporter(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if progress.cancel.is_set():
                trainer.should_stop = True

        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            done = trainer.current_epoch + 1
            try:
                progress.report(done / epochs, f"{message}: epoch {done} of {epochs}")
            except Cancelled:  # raised again after the training, which must end in order
                trainer.should_stop = True

    return Reporter()


def _batch_size(wanted: int, sizes: Sequence[int]) -> int:
    """Return the largest batch up to `wanted` that leaves no single spot: it cannot be normed."""
    return next(b for b in range(wanted, 1, -1) if all(n % b != 1 for n in sizes))


def _place(device: str) -> tuple[str, Any]:
    import torch

    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        return "gpu", [int(number or 0)]
    return "cpu", 1  # scvi-tools advises against mps


def _table(counts: Any, patients: NDArray[np.str_], labels: NDArray[np.str_] | None) -> Any:
    import pandas as pd
    from anndata import AnnData

    obs = pd.DataFrame({_PATIENT: pd.Categorical(patients)}, index=_numbers(len(patients)))
    if labels is not None:
        obs[_SUBTYPE] = pd.Categorical(labels)
    return AnnData(counts.astype(np.float32), obs, pd.DataFrame(index=_numbers(counts.shape[1])))


def _numbers(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def _starts(counts: Any) -> range:
    return range(0, counts.shape[0], _BLOCK)


def _dense(counts: Any) -> NDArray[np.float32]:
    return np.asarray(counts.toarray() if hasattr(counts, "indptr") else counts, np.float32)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let what is drawn in the block follow from `seed`, and nothing after it."""
    import torch

    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' remarks, which are for their own users, from ours."""
    loggers = [logging.getLogger(name) for name in ("scvi", "lightning.pytorch")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
