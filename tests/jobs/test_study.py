from __future__ import annotations

import pytest

from spotscope.data.simulate import StudySettings
from spotscope.data.store import open_section
from spotscope.errors import SpotScopeError
from spotscope.jobs.study import make_study


def test_a_study_is_made_whole_in_a_new_folder(tmp_path):
    settings = StudySettings(shape_px=(420, 480))
    stores = make_study(
        tmp_path / "study", 3, n_patients=1, sections_per_patient=2, settings=settings
    )
    assert [store.name for store in stores] == ["P1A.zarr", "P1B.zarr"]
    assert open_section(stores[1]).patient == "P1"
    with pytest.raises(SpotScopeError, match="not empty"):
        make_study(tmp_path / "study")
