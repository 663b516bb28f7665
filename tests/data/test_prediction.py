from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from spotscope.data.places import Places
from spotscope.data.prediction import Prediction, protocol_of
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
