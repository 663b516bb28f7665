"""What can be set of the simulated study."""

from __future__ import annotations

from dataclasses import dataclass

from spotscope.errors import SpotScopeError

SUBTYPES = (
    "invasive cancer",
    "cancer in situ",
    "breast glands",
    "connective tissue",
    "immune infiltrate",
    "adipose tissue",
)
INVASIVE, IN_SITU, GLANDS, CONNECTIVE, IMMUNE, ADIPOSE = range(len(SUBTYPES))


@dataclass(frozen=True)
class StudySettings:
    """Size, optics and strengths of the simulated study.

    Attributes
    ----------
    shape_px
        Rows and columns of each image.
    mpp_um
        Micrometres per pixel.
    spot_diameter_um, spot_pitch_um
        Spots on a hexagonal lattice, as on a Visium slide.
    batch_sd
        Standard deviation of a patient's shift of each gene, natural log.
    depth
        Counts of a spot of ordinary nuclear density, over all genes.
    depth_sd
        Standard deviation of the log of a spot's capture efficiency, which no image shows.
    dispersion
        Negative binomial size: variance = mean + mean^2 / dispersion.
    dropout
        Largest probability that a gene's counts in a spot are lost.
    map_step_px
        Pitch of the truth's maps; between the nodes they are linear.
    """

    shape_px: tuple[int, int] = (2000, 2400)
    mpp_um: float = 1.0
    spot_diameter_um: float = 55.0
    spot_pitch_um: float = 100.0
    batch_sd: float = 0.25
    depth: float = 1800.0
    depth_sd: float = 0.25
    dispersion: float = 4.0
    dropout: float = 0.25
    map_step_px: int = 8

    def __post_init__(self) -> None:
        if min(self.shape_px) * self.mpp_um < 400:
            raise SpotScopeError(
                "A simulated section must be at least 400 µm high and wide; make it larger."
            )
        if not 0.25 <= self.mpp_um <= 2:
            raise SpotScopeError("A simulated section needs 0.25 to 2 µm per pixel.")
