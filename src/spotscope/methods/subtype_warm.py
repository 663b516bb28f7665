"""Going on from an earlier subtype classifier: after a few more labels a training is short."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spotscope.methods.linear_head import LinearHead
from spotscope.methods.subtype_network import standards_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotscope.methods.pair_images import PairImages
    from spotscope.training.classifier import ClassifierModel

LEARNT_ANEW = (
    "The earlier classifier looks at the image in another way, so this one was learnt from the"
    " beginning."
)


def projected_alike(first: ClassifierModel, second: ClassifierModel) -> bool:
    """Whether two networks make the same of the image side's features, before their heads."""
    import torch

    ours, theirs = (model.projection.state_dict() for model in (first, second))
    same = ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    return same and first.head.state_dict().keys() == second.head.state_dict().keys()


def begun_head(
    earlier: ClassifierModel,
    earlier_classes: Sequence[str],
    classes: Sequence[str],
    standards: tuple[PairImages, PairImages] | None,
) -> LinearHead:
    """Return the earlier classifier's single layer for `classes`; a new class begins at nothing.

    Parameters
    ----------
    standards
        The earlier image side and the one now, whose standardisations differ; None where both
        are a pair's, which stays.
    """
    state = {k: v.numpy() for k, v in earlier.head.state_dict().items()}
    head = LinearHead(*(state[k].astype(np.float64) for k in ("weight", "bias")))
    if standards is not None:
        before, now = standards
        head = head.before(*standards_of(before)).after(*standards_of(now))
    known = list(earlier_classes)
    rows = [known.index(name) if name in known else -1 for name in classes]
    padded = np.vstack([head.weight, np.zeros(head.weight.shape[1])])[rows]
    return LinearHead(padded, np.append(head.bias, head.bias.min())[rows])


def go_on(
    model: ClassifierModel,
    earlier: ClassifierModel,
    classes: Sequence[str],
    earlier_classes: Sequence[str],
) -> None:
    """Give a network the weights of an earlier one; classes are matched by name."""
    import torch

    state, theirs = model.state_dict(), earlier.state_dict()
    last = [name for name in state if name.startswith("head.")][-2:]
    ours = [i for i, name in enumerate(classes) if name in earlier_classes]
    rows = [list(earlier_classes).index(classes[i]) for i in ours]
    with torch.no_grad():
        for name, value in state.items():
            if name in last:
                value[ours] = theirs[name][rows]
            elif name in theirs and theirs[name].shape == value.shape:
                value.copy_(theirs[name])
