"""What the tests of the report share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of made-up scores."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import made_up

    return made_up
