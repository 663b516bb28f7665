"""Where a model comes from."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from spotscope.encoders.base import Encoder


@dataclass
class Provenance:
    """Where a model comes from; written beside it and into every prediction.

    Attributes
    ----------
    method, title
        Which method.
    encoder, encoder_fingerprint
        The encoder by its resolved spec and its weights; empty when the method looks at no image.
    patch_um, patch_px
        The patch it sees.
    training_sections, training_patients
        Names, sorted.
    n_spots
        It was trained on.
    seed
        Of the settings.
    scores
        Of the validation during training, such as `pearson`.
    notes
        Sentences about the training for the user, such as that nothing was learnt.
    versions
        Of SpotScope and the libraries that matter.
    created
        UTC, ISO 8601.
    """

    method: str
    title: str
    encoder: str = ""
    encoder_fingerprint: str = ""
    patch_um: float = 0.0
    patch_px: int = 0
    training_sections: list[str] = field(default_factory=list)
    training_patients: list[str] = field(default_factory=list)
    n_spots: int = 0
    seed: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """Return what a model's folder says; fields that other versions added are left out."""
        known = {each.name for each in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})

    def seen_through(self, encoder: Encoder) -> Self:
        """Return the same of a model that looks at the image through `encoder`."""
        return dataclasses.replace(
            self,
            encoder=encoder.name,
            encoder_fingerprint=encoder.fingerprint,
            patch_um=encoder.patch_um,
            patch_px=encoder.patch_px,
        )


def now() -> str:
    """Return the time as provenance gives it: UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions(libraries: Collection[str]) -> dict[str, str]:
    """Return the installed version of each library, "unknown" where it tells none."""
    found = {}
    for name in libraries:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
