"""How subtypes are learnt."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SubtypeSettings(BaseModel):
    """How subtypes are learnt."""

    model_config = ConfigDict(extra="forbid")

    trunk: Literal["none", "last", "all"] = Field(
        "none",
        title="Image network",
        description="Train none of it (frozen; quick on a CPU), its last stage, or all.",
    )
    start: Literal["auto", "trunk", "head"] = Field(
        "auto",
        title="After a pair",
        description="Classify what the pair's image network gives, or its head to the joint space;"
        " auto takes the head where the network was not trained.",
    )
    head: Literal["linear", "mlp"] = Field(
        "linear", title="Classifier", description="One layer, or two."
    )
    balanced: bool = Field(
        True, title="Balance", description="Let every class count the same, however rare."
    )
    decay: float = Field(
        3e-2,
        gt=0,
        title="Evenness",
        description="Pull of one frozen layer's weights to nothing: more for few labels.",
    )
    epochs: int = Field(
        30,
        ge=1,
        title="Epochs",
        description="Passes over the labelled spots; one layer on a frozen network needs none.",
    )
    batch_size: int = Field(64, ge=2, title="Batch", description="Spots at a time.")
    learning_rate: float = Field(1e-3, gt=0, title="Learning rate", description="Of AdamW.")
    weight_decay: float = Field(1e-2, ge=0, title="Weight decay", description="Of AdamW.")
    augment: bool = Field(
        True, title="Vary patches", description="Flips, quarter turns and stain, if trained."
    )
    seed: int = Field(0, ge=0, title="Seed", description="The same seed, the same classifier.")
    device: str = Field("auto", title="Device", description="auto, cpu, cuda or mps.")
