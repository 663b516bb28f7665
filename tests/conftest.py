"""Fixtures that every part of the tests shares."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real slides and sections for developers; they lie beside the project and never inside it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data for developers is not at hand")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what tests cache out of the user's cache folder."""
    monkeypatch.setenv("SPOTSCOPE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
