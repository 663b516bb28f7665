"""The labels of an open section as they are now, whether saved or not; no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from spotscope.plugin.opened import OpenSection
    from spotscope.plugin.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of a section's spots.

    Attributes
    ----------
    names
        (n_spots,) class or None; spots that are to be left out have none.
    """

    names: NDArray[np.object_]

    @property
    def count(self) -> int:
        """How many spots have one."""
        return sum(name is not None for name in self.names)

    @property
    def classes(self) -> set[str]:
        """The classes that occur."""
        return {str(name) for name in self.names if name is not None}

    def same(self, other: Labels) -> bool:
        """Whether the other labels say the same of every spot."""
        return np.array_equal(self.names, other.names)


def labels_of(workspace: Workspace, opened: OpenSection) -> Labels:
    """Return the labels of a section: those of its annotations where these are open."""
    document = workspace.annotating.document_of(opened)
    if document is None:
        labels = opened.section.labels if opened.section.has_spots else None
        if labels is None:
            return Labels(np.full(opened.n_spots, None, object))
        # -1, unlabelled, takes the last one.
        return Labels(np.array([*labels.categories, None], object)[labels.codes])
    return Labels(document.subtypes())
