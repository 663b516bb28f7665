"""From stain concentrations to the colours that a scanner sees, differently in each patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Optical density of haematoxylin and eosin in red, green, blue: unit vectors between those of
# Ruifrok and Johnston (2001) and the reference of Macenko et al. (2009).
_HAEMATOXYLIN = np.array([0.62, 0.70, 0.36])
_EOSIN = np.array([0.16, 0.90, 0.42])


@dataclass(frozen=True)
class Stain:
    """How one laboratory's staining and scanner look.

    Attributes
    ----------
    vectors
        (2, 3) optical density of one unit of haematoxylin and of eosin in R, G, B.
    white
        (3,) colour of bare glass.
    """

    vectors: NDArray[np.float64]
    white: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Stain:
        """Draw a patient's staining: hue and strength of both stains, and the glass."""
        vectors = np.stack([_HAEMATOXYLIN, _EOSIN])
        vectors = np.clip(vectors + rng.normal(0, 0.03, (2, 3)), 0.03, None)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        strength = np.array([1.25, 0.88]) * np.exp(rng.normal(0, [0.11, 0.13]))
        white = 243 + rng.normal(0, 2.5, 3)
        return cls(vectors * strength[:, None], np.clip(white, 232, 252))

    def varied(self, rng: np.random.Generator) -> Stain:
        """Return the same staining on another section: slightly stronger or weaker."""
        return Stain(self.vectors * np.exp(rng.normal(0, 0.03, (2, 1))), self.white)

    def colours(
        self,
        rng: np.random.Generator,
        haematoxylin: NDArray[np.float32],
        eosin: NDArray[np.float32],
        blur_px: float,
    ) -> NDArray[np.uint8]:
        """Return (rows, cols, 3) RGB by the Beer-Lambert law, blurred by optics, with noise."""
        planes = [ndimage.gaussian_filter(p, blur_px, truncate=3) for p in (haematoxylin, eosin)]
        image = np.empty((*haematoxylin.shape, 3), np.uint8)
        noise = rng.standard_normal(2**20 + 7, dtype=np.float32) * 2.2
        for channel in range(3):
            density = planes[0] * np.float32(self.vectors[0, channel])
            density += planes[1] * np.float32(self.vectors[1, channel])
            light = np.float32(self.white[channel]) * np.exp(-density)
            # a long strip of noise, laid again from a new start: a draw per pixel costs more
            start = int(rng.integers(0, noise.size))
            light += np.resize(np.roll(noise, start), light.size).reshape(light.shape)
            np.clip(light, 0, 255, out=light)
            image[..., channel] = np.rint(light, out=light)
        return image
