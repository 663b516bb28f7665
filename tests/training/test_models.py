from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import coloured, contrastive

from spotscope.training.augment import to_images
from spotscope.training.embed import embed_images, embed_spots
from spotscope.training.models import Batch, ContrastiveModel, StepResult


def batch_of(n: int = 12) -> Batch:
    data = coloured(n)
    index = torch.arange(n)
    images = to_images(data.patches.take(index))
    return Batch(index, images, (), data.spots.spot_inputs(index))


def test_a_step_reports_loss_chance_and_hits() -> None:
    model = contrastive().eval()
    batch = batch_of()
    result = model.step(batch)
    pairs = model.loss(model.embed_images(batch.images), model.embed_spots(*batch.spot_inputs))
    torch.testing.assert_close(result.loss, pairs.loss)
    assert result.chance.item() == pytest.approx(np.log(12), rel=1e-6)
    assert set(result.values) == {"top1", "top5"}


def test_further_losses_are_added_and_shown_beside_the_contrastive_one() -> None:
    class Bound(ContrastiveModel):
        def further_losses(self, batch, image_features, spot_features):
            return {"size": image_features.square().mean(), "spots": spot_features.mean()}

    plain = contrastive().eval()
    model = Bound(
        plain.image_encoder, plain.image_head, plain.spot_encoder, plain.spot_head, plain.loss
    )
    result: StepResult = model.eval().step(batch_of())
    expected = result.values["contrastive"] + result.values["size"] + result.values["spots"]
    torch.testing.assert_close(result.loss.detach(), expected)
    torch.testing.assert_close(result.values["contrastive"], plain.step(batch_of()).loss.detach())


def test_embeddings_do_not_depend_on_the_batch_and_two_passes_agree() -> None:
    data, model = coloured(40), contrastive()

    def pixels(start: int, stop: int) -> np.ndarray:
        return data.patches.take(torch.arange(start, stop)).numpy()

    model.train()
    whole = embed_images(model, pixels, 40, batch_size=64)
    np.testing.assert_allclose(embed_images(model, pixels, 40, batch_size=7), whole, atol=1e-6)
    np.testing.assert_array_equal(embed_images(model, pixels, 40, batch_size=64), whole)
    spots = embed_spots(model, data.spots, batch_size=64)
    np.testing.assert_allclose(embed_spots(model, data.spots, batch_size=3), spots, atol=1e-6)
    assert whole.shape == spots.shape == (40, 16)
