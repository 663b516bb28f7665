"""From what files store to (rows, cols, 3) uint8 RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spotscope.errors import SpotScopeError
from spotscope.slide.levels import WHITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_COMMON_BITS = (8, 10, 12, 14, 16)


class Colour:
    """How the stored values of one image become RGB.

    Parameters
    ----------
    name
        The file, for messages.
    n_channels
        Stored channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
    dtype
        Stored type.
    sample
        Values of a coarse level, (rows, cols, channels), from which the real range is taken when
        the file states none; called only then.
    bits
        Significant bits that the file states.
    alpha
        Whether the file states that the last channel is one.
    inverted
        Whether zero is white.
    channel_names
        For the message that refuses many channels.

    Raises
    ------
    SpotScopeError
        When the channels are not red, green and blue.
    """

    def __init__(
        self,
        name: str,
        n_channels: int,
        dtype: np.dtype,
        sample: Callable[[], NDArray],
        bits: int | None = None,
        alpha: bool = False,
        inverted: bool = False,
        channel_names: tuple[str, ...] = (),
    ) -> None:
        self.notes: list[str] = []
        self._alpha = alpha and n_channels in (2, 4)
        if n_channels - self._alpha not in (1, 3):
            listed = f" ({', '.join(channel_names)})" if channel_names else ""
            raise SpotScopeError(
                f"'{name}' has {n_channels} channels{listed}, but SpotScope draws H&E in red,"
                " green and blue; export it as an RGB image, or one channel of it as grey."
            )
        if self._alpha:
            self.notes.append(f"'{name}' has a transparent channel; it is shown on white.")
        if n_channels - self._alpha == 1:
            self.notes.append(
                f"'{name}' is greyscale and is shown in greys; models of H&E expect colours."
            )
        self._inverted = inverted
        self._low, self._high = self._range(name, np.dtype(dtype), sample, bits)

    def _range(
        self, name: str, dtype: np.dtype, sample: Callable[[], NDArray], bits: int | None
    ) -> tuple[float, float]:
        """Return the stored values of black and white."""
        if dtype.kind == "b":
            return 0.0, 1.0
        if dtype == np.uint8:
            return 0.0, 255.0
        if dtype.kind == "u" and bits is not None and 8 <= bits < 8 * dtype.itemsize:
            said = f"the {bits} bits that it states"
            low, high = 0.0, 2.0**bits - 1
        else:
            values = sample()
            values = values[np.isfinite(values)] if dtype.kind == "f" else values
            low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
            if dtype.kind == "u" and dtype.itemsize == 2:
                low = 0.0
                bits = next((b for b in _COMMON_BITS if high < 2**b), 16)
                high = 2.0**bits - 1
                said = f"the {bits} bits that its pixels use"
            elif dtype.kind == "f" and low >= 0 and high <= 1:
                low, high, said = 0.0, 1.0, "its range from 0 to 1"
            else:
                low, high = min(low, 0.0), max(high, 1.0)
                said = f"its range from {low:g} to {high:g}"
        self.notes.append(f"'{name}' is scaled from {said} to 8 bits a colour.")
        return low, high

    def __call__(self, raw: NDArray) -> NDArray[np.uint8]:
        """Turn (rows, cols, channels) into (rows, cols, 3) uint8."""
        if raw.dtype != np.uint8:
            scaled = (np.asarray(raw, np.float32) - self._low) * (255 / (self._high - self._low))
            raw = np.clip(np.nan_to_num(scaled) + 0.5, 0, 255).astype(np.uint8)
        if self._alpha:
            raw = on_white(raw)
        if self._inverted:
            raw = WHITE - raw
        return raw if raw.shape[2] == 3 else np.repeat(raw, 3, axis=2)


def on_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay (rows, cols, 2 or 4) grey or RGB with straight alpha on white; alpha is dropped."""
    if pixels[..., -1].min(initial=WHITE) == WHITE:
        return pixels[..., :-1]
    alpha = pixels[..., -1:].astype(np.uint16)
    colours = pixels[..., :-1].astype(np.uint16)
    return ((colours * alpha + WHITE * (255 - alpha) + 127) // 255).astype(np.uint8)
