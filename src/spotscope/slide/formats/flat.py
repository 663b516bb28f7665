"""JPEG, PNG and other pictures that can only be decoded whole."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from spotscope.errors import SpotScopeError
from spotscope.slide.colour import Colour
from spotscope.slide.fingerprint import of_file
from spotscope.slide.formats import Opened
from spotscope.slide.levels import BLOCK_PX, LevelArray
from spotscope.slide.mpp import MppSource, from_resolution

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".jp2")

_UM_PER_INCH = 25400.0
_ORIENTATION = 0x0112
_settings = threading.Lock()


def open_flat(path: Path) -> Opened:
    """Open a picture; its pixels are decoded when they are first read.

    Raises
    ------
    SpotScopeError
        When its header cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    with _unhindered():
        try:
            picture = Image.open(path)
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise _unreadable(path) from error
    level = DecodedLevel(path, picture)
    return Opened(
        [level],
        of_file(path),
        sources=_sources(picture),
        notes=tuple(level.notes),
        closers=(level.forget,),
        flat=True,
    )


class DecodedLevel(LevelArray):
    """A picture that is decoded whole when it is first read, and then held until `forget`."""

    def __init__(self, path: Path, picture: Image) -> None:
        super().__init__(picture.height, picture.width, (BLOCK_PX, BLOCK_PX))
        self._path = path
        self._picture: Image | None = picture
        self._colour: Colour | None = None
        self._decoding = threading.Lock()
        self._decoded = False
        self.notes = list(_notes(path, picture))

    def read(self, top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
        """Return those pixels."""
        picture = self._load()
        piece = np.asarray(picture.crop((left, top, right, bottom)))
        piece = piece if piece.ndim == 3 else piece[:, :, None]
        return piece if self._colour is None else self._colour(piece)

    def forget(self) -> None:
        """Drop the decoded pixels; the level cannot be read after that."""
        if self._picture is not None:
            self._picture.close()
        self._picture = None

    def _load(self) -> Image:
        with self._decoding:
            if self._picture is None:
                raise SpotScopeError(f"'{self._path.name}' was closed; open it again.")
            if not self._decoded:
                with _unhindered():
                    try:
                        self._picture.load()
                    except (OSError, SyntaxError, ValueError) as error:
                        raise _unreadable(self._path) from error
                if self._picture.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
                    self._picture = self._picture.convert(_plain_mode(self._picture))
                if self._picture.mode != "RGB":
                    self._colour = self._make_colour(self._picture)
                self._decoded = True
            return self._picture

    def _make_colour(self, picture: Image) -> Colour:
        first = np.asarray(picture.crop((0, 0, 1, 1)))
        return Colour(
            self._path.name,
            len(picture.getbands()),
            first.dtype,
            lambda: np.asarray(picture),
            alpha=picture.mode in ("LA", "RGBA"),
        )


def _plain_mode(picture: Image) -> str:
    transparent = picture.mode == "PA" or "transparency" in picture.info
    return "RGBA" if transparent else "RGB"


def _notes(path: Path, picture: Image) -> Iterator[str]:
    """Say what is done with the picture, as far as its header tells."""
    if picture.mode in ("1", "L", "LA", "I", "F") or picture.mode.startswith("I;"):
        yield f"'{path.name}' is greyscale and is shown in greys; models of H&E expect colours."
    if picture.mode.startswith("I") or picture.mode == "F":
        yield f"'{path.name}' is scaled to 8 bits a colour."
    if picture.mode in ("LA", "RGBA", "PA") or "transparency" in picture.info:
        yield f"'{path.name}' has a transparent channel; it is shown on white."
    # Of a PNG, Pillow decodes all of it to answer.
    if picture.format == "JPEG" and picture.getexif().get(_ORIENTATION, 1) > 1:
        yield (
            f"'{path.name}' asks to be shown turned or flipped; SpotScope shows its pixels as"
            " they are stored, which is what spot positions refer to."
        )


def _sources(picture: Image) -> tuple[MppSource, ...]:
    across, down = picture.info.get("dpi", (0, 0))[:2]
    source = from_resolution("resolution in the picture", float(down), float(across), _UM_PER_INCH)
    return () if source is None else (source,)


@contextmanager
def _unhindered() -> Iterator[None]:
    """Let Pillow open pictures as large as slides, and never fill what is missing with grey.

    Both are switches of the whole process that other libraries turn as they like, so they are
    set for the moment and put back.
    """
    from PIL import Image, ImageFile

    with _settings, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def _unreadable(path: Path) -> SpotScopeError:
    return SpotScopeError(
        f"'{path.name}' cannot be read to its end; the picture may be damaged or cut short: copy"
        " or export it again."
    )
