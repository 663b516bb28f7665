from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from spotscope.data.places import Places
from spotscope.data.prediction import Prediction, made_with, protocol_of
from spotscope.errors import SpotScopeError

SECTION = SimpleNamespace(name="S1", patient="P1")
PLACES = Places(SECTION, np.zeros((3, 2)))


def test_columns_come_in_the_order_asked():
    prediction = Prediction(["A", "B"], np.arange(6).reshape(3, 2), None, PLACES)
    assert prediction.expression.dtype == np.float32
    assert prediction.columns(["B", "A"]).tolist() == [[1, 0], [3, 2], [5, 4]]
    with pytest.raises(SpotScopeError, match="does not predict C"):
        prediction.columns(["A", "C"])


def test_shapes_that_do_not_match_the_places_are_refused():
    with pytest.raises(ValueError, match="expression"):
        Prediction(["A"], np.zeros((3, 2)), None, PLACES)
    with pytest.raises(ValueError, match="uncertainty"):
        Prediction(["A", "B"], np.zeros((3, 2)), np.zeros(3), PLACES)
    Prediction(["A", "B"], np.zeros((3, 2)), np.zeros((3, 1)), PLACES)


@pytest.mark.parametrize(
    ("sections", "patients", "said"),
    [
        (["S1", "S2"], ["P1"], "trained on this section"),
        (["S2"], ["P1"], "held-out section"),
        (["S3"], ["P2"], "held-out patient"),
    ],
)
def test_the_protocol_tells_new_patients_from_known_ones(sections, patients, said):
    provenance = {"training_sections": sections, "training_patients": patients}
    assert protocol_of(provenance, SECTION) == said


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ("stain", "Ridge on stain"),
        ("timm:resnet18", "Ridge on timm:resnet18"),
        ("local:/a/b/mobilenet_v2.safetensors#torchvision:mobilenet_v2", "Ridge on mobilenet_v2"),
        (None, "Ridge"),
    ],
)
def test_of_an_encoder_in_a_file_the_name_is_said_and_not_the_path(encoder, said):
    assert made_with({"title": "Ridge", "method": "ridge", "encoder": encoder}) == said
