from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models gain nothing by threads, and processes inherit this."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
