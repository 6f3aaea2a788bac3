"""Languages in a session: which one an utterance is written down in, who may ask for what, what a restart keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from af3stream.config import CaptionsConfig, Config
from af3stream.engine.captioning import CaptionOptions, CaptionRequest, Hypothesis
from af3stream.engine.facts import facts_of
from af3stream.engine.jobs import CaptionJob, ReviseJob
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.errors import BadFormat, BadText
from af3stream.journal.records import EventRecord, Record
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.event_log import decode_event
from af3stream.session.session import Session
from tests.session.conversation import SILENCE, VOICE, Conversation, pcm, scene_vad
from tests.session.test_restore import recovered, run

SAYS = VOICE * 6 + SILENCE  # an utterance long enough to say much about its language
SHORT = VOICE + SILENCE
PROBABLE = {
    "en": (("en", 0.98), ("es", 0.004)),
    "es": (("es", 0.98), ("en", 0.004)),
    "doubtful es": (("en", 0.5), ("es", 0.4)),
    "": (),
}


class Interpreter(ScriptedEngine):
    """Hears utterances in these languages, one after another, and writes each in the language that it is told.

    Attributes:
        asked: the options of each final caption.
    """

    def __init__(self, *spoken: str) -> None:
        super().__init__()
        self._spoken = spoken
        self._heard = dict[bytes, str]()
        self.asked: list[CaptionOptions] = []
        self.captioner.languages = ("en", "es", "fr")
        self.captioner.translates = True
        self.captioner.hear = self._hear  # type: ignore[method-assign]

    def _hear(self, request: CaptionRequest) -> Hypothesis:
        samples, options = request.samples, request.options
        if not request.final:
            spoken = self._spoken[len(self._heard)]
        else:
            self.asked.append(options)
            index = len(self._heard)
            spoken = self._heard.setdefault(samples.tobytes(), self._spoken[min(index, len(self._spoken) - 1)])
        probable = PROBABLE[spoken] if options.detect or not options.language else ()
        language = options.language or (probable[0][0] if probable else "en")
        if options.compare:
            probable, language = PROBABLE["es"], "es"
        english = f"in English, {len(samples)}" if options.translate and language != "en" else ""
        return Hypothesis(f"{language} {len(samples)}", language=language, languages=probable, translation=english)


def talking(*spoken: str, captions: CaptionsConfig | None = None, **start: Any) -> Conversation:
    return Conversation(m.Start(interims=False, **start), engine=Interpreter(*spoken), captions=captions)


def languages(talk: Conversation) -> list[str | None]:
    return [caption.language for caption in talk.finals]


def say(talk: Conversation, *scenes: str) -> Conversation:
    """Speak scenes of which no two are the same samples."""
    for number, scene in enumerate(scenes):
        talk.hear(scene.replace(SILENCE, VOICE[: number + 1] + SILENCE, 1))
    return talk


# ---- which language --------------------------------------------------------------------------------------------------


def test_captions_name_the_language_that_was_heard() -> None:
    assert languages(say(talking("es", "es"), SAYS, SAYS)) == ["es", "es"]


def test_a_held_language_is_told_to_the_captioner() -> None:
    talk = say(talking("es", "es"), SAYS, SAYS)
    assert [(asked.language, asked.detect) for asked in talk.engine.asked] == [(None, True), ("es", True)]  # type: ignore[attr-defined]


def test_a_short_utterance_is_written_in_the_held_language() -> None:
    assert languages(say(talking("en", "es", "en"), SAYS, SHORT, SAYS)) == ["en", "en", "en"]


def test_a_lasting_change_is_followed_and_its_utterance_is_heard_again() -> None:
    talk = say(talking("en", "es", "es", "es"), *[SAYS] * 4)
    assert languages(talk)[0] == "en" and languages(talk)[2:] == ["es", "es"]
    flipped = next(caption for caption in talk.finals if caption.language == "es")
    assert flipped.text.startswith("es ")
    finals = [job for job in talk.asked_of_engine(CaptionJob) if job.utterance == flipped.utterance]
    assert [job.options.language for job in finals] == ["en", "es"]


def test_the_languages_do_not_depend_on_when_the_captioner_works() -> None:
    spoken = ("en", "es", "es", "en", "en")
    live, late = talking(*spoken), talking(*spoken)
    late.working = False
    say(live, *[SAYS] * 5)
    say(late, *[SAYS] * 5)
    late.work()
    assert live.finals == late.finals


def test_finals_stay_in_order_while_one_is_heard_again() -> None:
    talk = talking("en", "es", "es", "es")
    talk.working = False
    say(talk, *[SAYS] * 4)
    talk.work()
    assert [caption.utterance for caption in talk.finals] == [0, 1, 2, 3]


def test_a_first_utterance_in_doubt_is_heard_in_the_languages_that_may_be_meant() -> None:
    talk = say(talking("doubtful es", "es", "doubtful es"), *[SAYS] * 3)
    assert languages(talk) == ["es"] * 3
    assert [asked.compare for asked in talk.engine.asked] == [(), ("en", "es"), (), ()]  # type: ignore[attr-defined]


def test_a_caption_before_a_change_was_followed_is_corrected() -> None:
    talk = say(talking("en", "es", "es", "es"), SAYS, *[VOICE * 3 + SILENCE] * 3)
    (update,) = talk.of(m.CaptionUpdate)
    wrong = talk.finals[1]
    assert (wrong.utterance, wrong.language, update.utterance, update.language) == (1, "en", 1, "es")
    assert update.text.startswith("es ") and (update.start, update.end) == (wrong.start, wrong.end)


def test_questions_read_the_caption_in_the_right_language() -> None:
    talk = Conversation(m.Start(interims=False), engine=Interpreter("en", "es", "es", "es"), notes="all")
    say(talk, VOICE * 4 + SILENCE, *[VOICE * 3 + SILENCE] * 3)
    talk.tell(m.Flush("f"))
    (update,) = talk.of(m.CaptionUpdate)
    said = talk.ask().text
    assert update.text in said and talk.finals[update.utterance].text not in said


def test_a_correction_that_finds_no_words_leaves_the_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = talking("en", "es", "es", "es")
    hear = talk.engine.captioner.hear

    def no_spanish(request: CaptionRequest) -> Hypothesis:
        return Hypothesis("") if request.options.language == "es" else hear(request)

    monkeypatch.setattr(talk.engine.captioner, "hear", no_spanish)
    say(talk, SAYS, *[VOICE * 3 + SILENCE] * 3)
    assert talk.of(m.CaptionUpdate) == []
    assert talk.finals[1].text.startswith("en ")


def test_an_end_waits_for_corrections() -> None:
    talk = say(talking("en", "es", "es"), SAYS, *[VOICE * 3 + SILENCE] * 2)
    talk.working = False
    talk.hear(VOICE * 5)
    talk.end()
    talk.work_once()  # the newest, which shows that the one before it was wrong
    assert not talk.of(m.Ended) or talk.of(m.CaptionUpdate)
    talk.work()
    assert talk.of(m.CaptionUpdate) and isinstance(talk.said[-1], m.Ended)


def test_noise_says_nothing_about_the_language() -> None:
    assert languages(say(talking("", "es", "", "es"), *[SAYS] * 4)) == ["en", "es", "es", "es"]


def test_a_told_language_is_neither_detected_nor_changed() -> None:
    talk = say(talking("en", "en", language="es"), SAYS, SAYS)
    assert languages(talk) == ["es", "es"]
    assert not any(asked.detect for asked in talk.engine.asked)  # type: ignore[attr-defined]


def test_a_client_says_auto_to_a_service_that_is_told_a_language() -> None:
    assert languages(say(talking("es", language="auto", captions=CaptionsConfig(language="en")), SAYS)) == ["es"]


def test_a_captioner_without_languages_names_none() -> None:
    talk = Conversation(m.Start(interims=False))
    talk.hear(SAYS)
    assert languages(talk) == [None]


def test_a_second_pass_is_in_the_language_of_its_captions_and_leaves_mixed_windows_alone() -> None:
    one, mixed = Interpreter("es", "es", "es"), Interpreter("en", "es", "es")
    for engine, told in ((one, ["es"]), (mixed, [])):
        engine.captioner.revises = True
        talk = Conversation(m.Start(interims=False), engine=engine)
        say(talk, *[SAYS] * 3)
        talk.tell(m.Flush("f"))
        assert [job.options.language for job in talk.asked_of_engine(ReviseJob)] == told


# ---- who asks for what -----------------------------------------------------------------------------------------------


def test_ready_says_what_is_in_force() -> None:
    (ready,) = talking("es", language="es", task="translate").of(m.Ready)
    assert (ready.language, ready.languages, ready.task) == ("es", ("en", "es", "fr"), "translate")
    (ready,) = talking("es", languages=("es", "fr")).of(m.Ready)
    assert (ready.language, ready.languages, ready.task) == ("auto", ("es", "fr"), "transcribe")


@pytest.mark.parametrize("start", [{"language": "xx"}, {"languages": ("en", "xx")}])
def test_an_unknown_language_is_refused_by_name(start: dict[str, Any]) -> None:
    with pytest.raises(BadFormat, match="'xx'"):
        talking("en", **start)


def test_a_captioner_that_does_not_translate_says_so() -> None:
    with pytest.raises(BadFormat, match="scripted does not translate"):
        Conversation(m.Start(task="translate"))


def test_a_translation_stands_beside_the_original() -> None:
    talk = say(talking("es", "en", "en", task="translate"), SAYS, *[VOICE * 12 + SILENCE] * 2)
    assert talk.finals[0].text.startswith("es ") and talk.finals[0].translation.startswith("in English")
    assert talk.finals[1].language == "en" and talk.finals[1].translation == ""


def test_terms_of_the_client_stand_before_those_of_the_service() -> None:
    captions = CaptionsConfig(vocabulary=("Anna", "Ugarte"))
    talk = say(talking("en", vocabulary=("Zeta  Corp", "Anna"), captions=captions), SAYS)
    assert talk.engine.asked[0].vocabulary == ("Zeta Corp", "Anna", "Ugarte")  # type: ignore[attr-defined]


def test_a_term_without_words_is_refused() -> None:
    with pytest.raises(BadText):
        talking("en", vocabulary=("\x07",))


# ---- a restart -------------------------------------------------------------------------------------------------------


def session(engine: ScriptedEngine, **start: Any) -> Session:
    with scene_vad():
        return Session(
            "s",
            m.Start(interims=False, **start),
            config=Config(),
            facts=facts_of(engine, "all"),
            metrics=Metrics(),
            recorded=lambda frame: iter(()),
        )


def hear(live: Session, scenes: Sequence[str], at: int = 0) -> int:
    """Speak scenes from a frame on; returns where they end."""
    for scene in scenes:
        speech = pcm(scene)
        live.receive(m.Audio(at, speech), 0.0)
        at += len(speech) // 2
    return at


def test_a_restart_keeps_the_language_and_the_translations() -> None:
    records: list[Record] = []
    engine = Interpreter("es", "es")
    before = session(engine, task="translate")
    at = hear(before, [SAYS, VOICE + SAYS])
    run(before, Worker(engine), records)
    kept = [decode_event(record) for record in records if isinstance(record, EventRecord)]
    captions = [event for event in kept if isinstance(event, m.Caption)]
    assert [caption.language for caption in captions] == ["es", "es"]

    engine = Interpreter("en")  # what one short utterance sounds like after the restart
    after = session(engine, task="translate")
    after.restore(recovered(records, joined=False))
    assert [caption for caption in after.greet(last_event=0) if isinstance(caption, m.Caption)] == captions
    hear(after, [SHORT], at)
    (said,) = [message for message in run(after, Worker(engine), records) if isinstance(message, m.Caption)]
    assert said.language == "es"
