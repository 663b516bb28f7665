"""TPIRBAE (Nishimura, Bise and Kojima): contrastive pairs with a batch-agnostic spot encoder.

scVI or scANVI learns a latent variable that the patient does not enter; frozen and sampled anew at
each step, it is the spot's side of a contrastive pair. Subtypes are then learnt from the trained
image side (`methods/subtypes.py`); expression is predicted by retrieval as in BLEEP. See
docs/methods/tpirbae.md for what differs and why.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from spotscope.methods.bleep import BleepMethod, BleepSettings
from spotscope.methods.latent import LatentSettings, LatentSpace, cohort_labels, fit_latent

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from spotscope.data.cohort import Cohort
    from spotscope.methods.base import Arrays, MethodSettings
    from spotscope.nets.contrastive import ContrastiveLoss, LossKind
    from spotscope.progress import Progress
    from spotscope.training.data import SpotTable

LOSSES: dict[str, LossKind] = {"si": "hard", "wsi": "weighted", "swsi": "weighted_separate"}
_LATENT_SHARE = 0.4  # of the progress


class TpirbaeSettings(BleepSettings):
    """Settings of `tpirbae`: AdamW 1e-3, batches of 1,024, 5 epochs, heads as BLEEP's."""

    latent: Literal["scanvi", "scvi", "genes"] = Field(
        "scanvi",
        title="Spot side",
        description="scANVI (learns from labels too), scVI, or the genes as in CLIP.",
    )
    contrast: Literal["si", "wsi", "swsi"] = Field(
        "si",
        title="Loss",
        description="Plain, weighted by both similarities, or by each side's own.",
    )
    epochs: int = Field(5, ge=1, title="Epochs", description="Passes over the training spots.")
    batch_size: int = Field(1024, ge=2, title="Batch", description="Spots compared at a time.")
    latent_width: int = Field(30, ge=1, title="Latent", description="Numbers of a latent spot.")
    latent_layers: int = Field(2, ge=1, title="Latent layers", description="Of its encoder.")
    latent_epochs: int = Field(
        100, ge=1, title="Latent epochs", description="Passes of scVI over the training spots."
    )
    label_epochs: int = Field(
        20, ge=1, title="Label epochs", description="Further passes of scANVI with the labels."
    )
    likelihood: Literal["zinb", "nb"] = Field(
        "zinb",
        title="Counts",
        description="Negative binomial, with more zeros (zinb) or without (nb).",
    )
    dispersion: Literal["gene", "gene-batch"] = Field(
        "gene", title="Dispersion", description="Of each gene, or of each gene and patient."
    )
    kl_weight: float = Field(
        1.0, gt=0, title="Prior", description="Pull of the latent spots to one common cloud."
    )


class TpirbaeMethod(BleepMethod):
    """Contrastive pair whose spot side is a frozen latent variable without the patient.

    Learnt on the training sections alone: neither the counts nor the labels of the others enter.
    """

    name: ClassVar[str] = "tpirbae"
    title: ClassVar[str] = "TPIRBAE"
    summary: ClassVar[str] = "contrastive pair with patient-free spots; for subtypes"
    Settings: ClassVar[type[MethodSettings]] = TpirbaeSettings
    settings: TpirbaeSettings
    latent: LatentSpace | None = None

    def learn(self, cohort: Cohort, validation: Cohort | None, progress: Progress) -> None:
        """Learn the latent space and freeze it, then train the pair."""
        self._enough(cohort)
        kind = self.settings.latent
        if kind == "genes":
            super().learn(cohort, validation, progress)
            return
        kept = self._run_folder(cohort, validation) / "latent"
        if (kept / "latent.json").exists():  # of a training that was killed, which goes on
            self.latent = LatentSpace.load(kept)
        else:
            part = progress.part(0.0, _LATENT_SHARE)
            self.latent = fit_latent(cohort, kind, self._latent_settings(), part, genes=self.genes)
            self.latent.save(kept)
        super().learn(cohort, validation, progress.part(_LATENT_SHARE, 1.0))
        shutil.rmtree(kept, ignore_errors=True)

    def spot_table(self, cohort: Cohort) -> SpotTable:
        """Return the posterior's mean and scale, or the expression of the panel."""
        import torch

        from spotscope.training.data import SpotTable

        if self.latent is None:
            return super().spot_table(cohort)
        return SpotTable(*(torch.from_numpy(part) for part in self.latent.posterior(cohort)))

    def spot_encoder(self, cohort: Cohort | None) -> tuple[nn.Module, int]:
        """Return what samples the latent variable; it has no weights."""
        from spotscope.nets.spots import LatentSampler

        if self.latent is None:
            return super().spot_encoder(cohort)
        return LatentSampler(self.latent.width), self.latent.width

    def loss(self) -> ContrastiveLoss:
        """Return L_SI, L_WSI or L_SWSI."""
        from spotscope.nets.contrastive import ContrastiveLoss

        settings = self.settings
        bare = settings.paper_compat and settings.contrast == "swsi"
        return ContrastiveLoss(
            LOSSES[settings.contrast],
            temperature=settings.temperature,
            normalise=settings.normalise,
            target_temperature=1.0 if bare else settings.temperature,
            published=settings.paper_compat,
        )

    def arrays(self) -> Arrays:
        """Return the pair's weights, the reference and the latent space."""
        arrays = super().arrays()
        if self.latent is None:
            return arrays
        record = json.dumps(self.latent.record()).encode()
        return {
            **arrays,
            **{f"latent.{name}": value for name, value in self.latent.weights.items()},
            "latent.record": np.frombuffer(record, np.uint8),
        }

    def restore(self, arrays: Arrays) -> None:
        """Take them back; scvi-tools is not needed any more."""
        if "latent.record" in arrays:
            record = json.loads(arrays["latent.record"].tobytes())
            weights = {
                name.removeprefix("latent."): value
                for name, value in arrays.items()
                if name.startswith("latent.") and name != "latent.record"
            }
            self.latent = LatentSpace.from_record(record, weights)
        super().restore(arrays)

    # -- inside

    def _latent_settings(self) -> LatentSettings:
        settings = self.settings
        return LatentSettings(
            width=settings.latent_width,
            layers=settings.latent_layers,
            likelihood=settings.likelihood,
            dispersion=settings.dispersion,
            epochs=settings.latent_epochs,
            label_epochs=settings.label_epochs,
            kl_weight=settings.kl_weight,
            seed=settings.seed,
            device=settings.device,
        )

    def _run_folder(self, cohort: Cohort, validation: Cohort | None) -> Path:
        """Return where this very training resumes from; the labels are part of it here."""
        folder = super()._run_folder(cohort, validation)
        labels = hashlib.sha256("\n".join(cohort_labels(cohort)).encode()).hexdigest()[:8]
        return folder.with_name(f"{folder.name}-{labels}")
