"""The released `openai` package against the embedded model: live, files, and questions about both."""

from __future__ import annotations

from af3stream.config import load
from af3stream.engine.factory import Loaded
from af3stream.server.service import Service
from tests.openai_wire.conftest import RunClient


async def test_the_embedded_model_answers_over_both_apis(run_client: RunClient, mini: Loaded) -> None:
    config = load(overrides=("server.port=0", "journal.folder="))
    async with Service(config, mini).listening() as service:
        told = await run_client(service, "openai_realtime", "transcribe")
        assert "young man" in told[-1][2]
        assert "young man" in await run_client(service, "openai_realtime", "commit")
        answered = await run_client(service, "openai_realtime", "converse")
        assert answered["deltas"] == answered["text"] != ""
        transcribed = await run_client(service, "openai_files", "transcribe")
        assert "young man" in transcribed["json"][1]
        whole, streamed, _ = await run_client(service, "openai_files", "chat")
        assert whole == streamed != ""
