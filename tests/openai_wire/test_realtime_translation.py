"""Translation sessions of the Realtime API, over the scripted engine."""

from __future__ import annotations

import base64

import msgspec

from af3stream.engine.captioning import CaptionRequest, Hypothesis
from af3stream.engine.scripted import ScriptedEngine
from tests.openai_wire.conftest import RunClient
from tests.openai_wire.realtime_peer import RealtimePeer, realtime, spoken
from tests.server.peers import serving

PATH = "/translations?model=gpt-realtime-translate"
APPEND = "session.input_audio_buffer.append"


class Translating(ScriptedEngine):
    """Hears Spanish, and says the same in capitals for English."""

    def __init__(self) -> None:
        super().__init__()
        self.captioner.translates = True
        self.captioner.languages = ("en", "es")
        hear = self.captioner.hear

        def in_spanish(request: CaptionRequest) -> Hypothesis:
            said = hear(request)
            asked = request.options.translate and request.final
            return msgspec.structs.replace(said, language="es", translation=said.text.upper() if asked else "")

        self.captioner.hear = in_spanish  # type: ignore[method-assign]


async def send(peer: RealtimePeer, pcm: bytes) -> None:
    for at in range(0, len(pcm), 9_600):
        await peer.say(APPEND, audio=base64.b64encode(pcm[at : at + 9_600]).decode())


async def test_speech_is_told_in_english_and_the_session_closed_at_the_end() -> None:
    async with serving(Translating()) as service, realtime(service, PATH) as peer:
        created = peer.told[0]["session"]
        assert (created["type"], created["model"]) == ("translation", "gpt-realtime-translate")
        assert created["audio"]["output"] == {"language": "en"}
        await send(peer, spoken() + spoken(pause_s=0))
        await peer.say("session.close")
        assert await peer.until_closed() == 1000
        kinds = peer.kinds[1:]
        assert set(kinds[:-1]) == {"session.output_transcript.delta"} and kinds[-1] == "session.closed"
        deltas = peer.of("output_transcript.delta")
        text = "".join(event["delta"] for event in deltas)
        assert text.startswith("WORD1 WORD2") and ". WORD1" in text  # two captions, with white space between them
        assert [event["elapsed_ms"] for event in deltas] == sorted(event["elapsed_ms"] for event in deltas)


async def test_the_words_of_the_source_are_told_where_they_are_asked_for() -> None:
    async with serving(Translating()) as service, realtime(service, PATH) as peer:
        audio = {"input": {"transcription": {"model": "any"}}, "output": {"language": "en"}}
        updated = await peer.update(audio=audio)
        assert updated["audio"]["input"]["transcription"] == {"model": "any"}
        await send(peer, spoken())
        source = (await peer.until("input_transcript.delta"))["delta"]
        assert source.startswith("word1") and (await peer.until("output_transcript.delta"))["delta"] == source.upper()


async def test_a_session_without_audio_is_closed_at_once() -> None:
    async with serving(Translating()) as service, realtime(service, PATH) as peer:
        await peer.say("session.close")
        assert await peer.until_closed() == 1000 and peer.kinds[-1] == "session.closed"


async def test_another_language_is_refused_by_name_and_the_session_goes_on() -> None:
    async with serving(Translating()) as service, realtime(service, PATH) as peer:
        await peer.say("session.update", event_id="mine", session={"audio": {"output": {"language": "fr"}}})
        error = (await peer.until("error"))["error"]
        assert (error["code"], error["param"]) == ("unsupported_value", "session.audio.output.language")
        assert error["event_id"] == "mine"
        assert (await peer.update(audio={"output": {"language": "en"}}))["type"] == "translation"


async def test_events_of_other_sessions_are_refused() -> None:
    async with serving(Translating()) as service, realtime(service, PATH) as peer:
        await peer.say("response.create")
        assert (await peer.until("error"))["error"]["code"] == "invalid_value"
        await peer.update(audio={})


async def test_a_captioner_that_does_not_translate_refuses_the_session() -> None:
    async with serving() as service, realtime(service, PATH, welcome="error") as peer:
        assert peer.told[0]["error"]["code"] == "unsupported_value"
        assert await peer.until_closed() == 1000


async def test_the_openai_package_translates(run_client: RunClient) -> None:
    async with serving(Translating()) as service:
        assert (await run_client(service, "openai_realtime", "translate")).startswith("WORD1 WORD2")
