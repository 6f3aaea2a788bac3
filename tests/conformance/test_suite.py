"""The WebSocket is spoken as RFC 6455 says, under our settings."""

from __future__ import annotations

import pytest

from tests.conformance.suite import COMPRESSED, QUICK, wrong


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO name='.*/kosoku/")  # which leaves its files open
async def test_the_conformance_suite_passes() -> None:
    cases, found = await wrong((*QUICK, *COMPRESSED))
    assert found == []
    assert cases > 400
