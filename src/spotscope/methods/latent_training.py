"""Training scVI and scANVI with scvi-tools: seeded, reported, cancelled, and its traps closed."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from spotscope.errors import Cancelled, SpotScopeError
from spotscope.methods.latent import UNKNOWN, LatentSettings, check_counts
from spotscope.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_PATIENT, _SUBTYPE = "patient", "subtype"


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
    if labels is not None:
        _check_labels(labels)
    label_epochs = 0 if labels is None else settings.label_epochs
    share = settings.epochs / (settings.epochs + label_epochs)
    model = learn_scvi(counts, patients, settings, progress.part(0.0, share), **options)
    if labels is None:
        return model
    return learn_scanvi(model, labels, settings, progress.part(share, 1.0))


def learn_scvi(
    counts: Any,
    patients: NDArray[np.str_],
    settings: LatentSettings,
    progress: Progress | None = None,
    **options: Any,
) -> Any:
    """Return the scVI that was learnt; it knows no labels, so that scANVI may begin at it."""
    progress = progress or Progress()
    check_counts(counts)
    progress.report(0.0, "Preparing the latent space")
    with quiet(), _seeded(settings.seed):
        model = bare_scvi(counts, patients, settings, **options)
        _train(model, settings.epochs, settings, progress, "Latent space")
    return model


def bare_scvi(
    counts: Any, patients: NDArray[np.str_], settings: LatentSettings, **options: Any
) -> Any:
    """Return an scVI of scvi-tools that has learnt nothing yet."""
    import scvi

    with quiet():
        table = _table(counts, patients)
        # Without a labels_key: scANVI would silently keep the one that scVI was set up with.
        scvi.model.SCVI.setup_anndata(table, batch_key=_PATIENT)
        return scvi.model.SCVI(
            table,
            n_latent=settings.width,
            n_layers=settings.layers,
            n_hidden=settings.hidden,
            gene_likelihood=settings.likelihood,
            dispersion=settings.dispersion,
            **options,
        )


def learn_scanvi(
    model: Any,
    labels: NDArray[np.str_],
    settings: LatentSettings,
    progress: Progress | None = None,
) -> Any:
    """Return the scANVI that goes on from a trained scVI with labels; the scVI stays as it is.

    Parameters
    ----------
    model
        Of `learn_scvi`.
    labels
        (n,) subtypes of its spots, "Unknown" where they are not to be told.
    """
    import pandas as pd

    progress = progress or Progress()
    _check_labels(labels)
    with quiet(), _seeded(settings.seed):
        model.adata.obs[_SUBTYPE] = pd.Categorical(labels)
        found = scanvi_from(model, _SUBTYPE)
        told = int((labels != UNKNOWN).sum())
        message = "Latent space with labels"
        _train(found, settings.label_epochs, settings, progress, message, told)
    return found


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
    reporter = _reporter(progress, epochs, message)
    broken: Exception | None = None
    try:
        model.train(
            max_epochs=epochs,
            accelerator=accelerator,
            devices=devices,
            train_size=1.0,
            # Its shuffling follows no seed of ours; batches are drawn anyway.
            shuffle_set_split=False,
            batch_size=_batch_size(settings.batch_size, sizes),
            plan_kwargs=plan,
            logger=False,
            enable_progress_bar=False,
            callbacks=[reporter],
        )
    except ValueError as error:  # what the library makes of a mean that is no number
        if "invalid values" not in str(error):
            raise
        broken = error
    progress.check()
    if broken is not None or not all(
        bool(value.isfinite().all()) for value in model.module.state_dict().values()
    ):
        raise SpotScopeError(
            "The latent space could not be learnt: its loss was no longer a number after"
            f" {reporter.last}; look for counts that are out of scale, or choose fewer genes."
        ) from broken


def _reporter(progress: Progress, epochs: int, message: str) -> Any:
    """Return a Lightning callback that reports each epoch and stops when the user asks to."""
    from lightning.pytorch import Callback

    class Reporter(Callback):
        last = "the start"

        def on_train_batch_end(self, trainer: Any, *given: Any) -> None:
            self.last = f"batch {given[-1] + 1} of epoch {trainer.current_epoch + 1}"
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


def _table(counts: Any, patients: NDArray[np.str_]) -> Any:
    import pandas as pd
    from anndata import AnnData

    obs = pd.DataFrame({_PATIENT: pd.Categorical(patients)}, index=_numbers(len(patients)))
    return AnnData(counts.astype(np.float32), obs, pd.DataFrame(index=_numbers(counts.shape[1])))


def _numbers(n: int) -> list[str]:
    return [str(i) for i in range(n)]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let what is drawn in the block follow from `seed`, and nothing after it."""
    import torch

    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' remarks, which are for their own users, from ours."""
    import scvi  # noqa: F401  # now: on import the libraries let their remarks loose again

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
