"""The page in real Chromium, against the running service: microphone, file, question, ledger, downloads.

``AF3STREAM_PAGE_PNG=docs/page.png pytest tests/e2e/test_page.py -k picture`` makes the pictures that the docs show.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import jiwer
import msgspec
import numpy as np
import pytest
import soundfile
from playwright.async_api import Browser, Page, WebSocket, WebSocketRoute, async_playwright, expect

from af3stream.engine.scripted import ScriptedEngine
from af3stream.protocol.messages import Caption
from af3stream.subtitles import cues, to_srt, to_vtt
from tests.server.peers import serving

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
RECORDINGS = Path(__file__).parents[1] / "recordings"
SOUNDS = Path("/usr/share/asterisk/sounds")  # Debian's asterisk-prompt-it-menardi-wav, asterisk-core-sounds-it-wav
ITALIAN = [
    SOUNDS / "it_IT_f_Menardi/vm-newuser.wav",
    SOUNDS / "it_IT_m_Carlo/demo-nogo.wav",
    SOUNDS / "it_IT_f_Menardi/agent-alreadyon.wav",
    SOUNDS / "it_IT_m_Carlo/vm-rec-unv.wav",
    SOUNDS / "it_IT_f_Menardi/tt-weasels.wav",
]
CUES = Path(__file__).parents[1] / "golden" / "cues.json"
REACHES = CUES.with_name("reach.json")
RATE = 16_000
SENTENCES = {  # the shortest one first: tests that need one final caption wait for it
    "0880": "he was not an ill disposed young man",
    "0930": "he might even have been made amiable himself",
    "0890": "unless to be rather cold hearted and rather selfish is to be ill disposed",
    "0920": "had he married a more amiable woman he might have been made still more respectable than he was",
    "0870": "and mister john dashwood had then leisure to consider how much there might be prudently in his power "
    "to do for them",
}
MAX_WER = 0.15
PATIENCE_MS = 120_000  # a loaded machine with two cores
expect.set_options(timeout=30_000)  # what the page does by itself

RECORD_CAPTIONS = """() => {
    window.seen = [];
    const note = () => {
        for (const row of document.querySelectorAll("#captions li")) {
            const now = [row.dataset.utterance, row.dataset.state, row.querySelector("p").textContent];
            if (!window.seen.some((old) => String(old) === String(now))) window.seen.push(now);
        }
    };
    new MutationObserver(note).observe(document.querySelector("#captions"),
        { subtree: true, childList: true, characterData: true, attributes: true });
}"""

RECORD_ANSWERS = """() => {
    window.answerStates = [];
    new MutationObserver((changes) => {
        for (const { target } of changes) window.answerStates.push(target.dataset.state);
    }).observe(document.querySelector("#answers"), { subtree: true, attributeFilter: ["data-state"] });
}"""

DROP = """([name, data]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type: "audio/wav" }));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""

CUT = """async (told) => {
    const { toVtt, toSrt } = await import("/page/subtitles.js");
    return told.map((captions) => [toVtt(captions), toSrt(captions)]);
}"""

SOUNDS = """async () => {
    const { CaptionList } = await import("/page/captions.js");
    const [list, scroll, spoken, latest] = ["ol", "div", "div", "button"].map((tag) => document.createElement(tag));
    const speakers = { label: () => document.createElement("span"), show() {}, forget() {} };
    const captions = new CaptionList({ list, scroll, spoken, latest, onPick() {}, onWord() {}, speakers });
    captions.update({ utterance: 0, text: "One.", start: 0, end: 2, final: true });
    captions.update({ utterance: 1, text: "Two.", start: 6, end: 8, final: true });
    for (const end of [5, 5.5]) captions.addSound({ type: "sound", text: "[bell]", start: 2, end });
    captions.update({ utterance: 2, text: "Three.", start: 9, end: 10, final: true });
    const shown = [...list.children].map((row) => [row.querySelector("p").textContent, row.className === "sound"]);
    return [shown, captions.finals().map(({ text }) => text)];
}"""

REACH = """async (answers) => {
    const { reach } = await import("/page/words.js");
    return answers.map(reach);
}"""

MUTED = """() => {
    navigator.mediaDevices.getUserMedia = async () => new AudioContext().createMediaStreamDestination().stream;
}"""


class Service(Protocol):
    """What the fixture of ``conftest.py`` offers."""

    http: str
    ws: str


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five recordings in one file, a second of silence after each."""
    parts: list[np.ndarray] = []
    for number in SENTENCES:
        (path,) = RECORDINGS.glob(f"*{number}.wav")
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == RATE
        parts += [samples, np.zeros(RATE, np.int16)]
    joined = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(joined, np.concatenate(parts), RATE)
    return joined


@pytest.fixture
async def browser(speech: Path) -> AsyncIterator[Browser]:
    """Chromium with the recordings as its microphone, over and over."""
    async with chromium(str(speech)) as browser:
        yield browser


@asynccontextmanager
async def chromium(microphone: str) -> AsyncIterator[Browser]:
    """Chromium with a file as its microphone; once only, where the path ends with ``%noloop``."""
    switches = (
        "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --use-fake-ui-for-media-stream --use-fake-device-for-media-stream"
    )
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*switches.split(), f"--use-file-for-fake-audio-capture={microphone}"]
        )
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser, service: Service) -> AsyncIterator[Page]:
    """The page of the service with the real model."""
    async with opened(browser, service.http) as page:
        yield page


@pytest.fixture
async def scripted_page(browser: Browser, tmp_path: Path) -> AsyncIterator[Page]:
    """The page of a service whose words are scripted, and which keeps sessions."""
    async with serving(journal=tmp_path) as service, opened(browser, service.address) as page:
        yield page


@asynccontextmanager
async def opened(browser: Browser, address: str) -> AsyncIterator[Page]:
    """The open page; whatever it complains of (a blocked asset, an uncaught error) fails the test."""
    page = await browser.new_page(viewport={"width": 1280, "height": 860})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    await page.goto(address)
    await page.evaluate(RECORD_CAPTIONS)
    await page.evaluate(RECORD_ANSWERS)
    yield page
    assert complaints == []


async def test_the_microphone_is_captioned_questioned_and_accounted_for(page: Page) -> None:
    """Streams at the pace of speech, because Chromium's microphone plays a file in real time."""
    await page.get_by_role("button", name="Start microphone").click()
    await expect(page.locator("#connection dd")).to_have_text("Listening", timeout=PATIENCE_MS)
    finals = await captions_until(page, seconds=22)  # a whole turn of the recordings: at most one sentence is cut

    seen: list[tuple[str, str, str]] = await page.evaluate("window.seen")
    first_final = next(at for at, (_, state, _) in enumerate(seen) if state == "final")
    assert any(state == "open" and text for _, state, text in seen[:first_final])
    assert wer_of_best_four(finals) <= MAX_WER

    await ask(page, "Who is this about?")
    received_s, parts_s = await stop(page)
    assert received_s > 22
    assert sum(parts_s) == pytest.approx(received_s, abs=0.3)
    assert parts_s[2] == 0  # nothing was lost on the way

    finals = await final_texts(page)
    vtt = await download(page, "VTT")
    assert vtt.startswith("WEBVTT\n\n")
    check_cues(vtt, finals)


async def test_a_reload_in_the_middle_goes_on_with_the_session(scripted_page: Page) -> None:
    """Streams at the pace of speech, because only a microphone goes on while the page is away."""
    page = scripted_page
    await page.get_by_role("button", name="Start microphone").click()
    await captions_until(page, seconds=7)
    await ask(page, "Who is this about?")
    await page.get_by_label("Standing question").fill("Is a young man described?")
    await page.get_by_role("button", name="Watch", exact=True).click()
    before = await final_texts(page)

    await page.reload()
    await expect(page.locator("#connection dd")).to_have_text("Listening", timeout=PATIENCE_MS)
    await expect(page.locator("#notice p")).to_contain_text("went by unheard")
    await page.evaluate(RECORD_ANSWERS)
    await expect(page.locator("#captions li[data-state=final]").nth(len(before) - 1)).to_be_visible(timeout=PATIENCE_MS)
    assert (await final_texts(page))[: len(before)] == before
    await expect(page.locator("#answers .asked")).to_have_text(["Who is this about?"])
    await expect(page.locator("#answers .range")).to_have_count(1)
    await expect(page.locator("#watches .asked")).to_have_text(["Is a young man described?"])
    await expect(page.locator("#timeline")).to_have_attribute("aria-label", re.compile(r"\d+ seconds? lost"))

    resumed_at = await page.evaluate("document.querySelectorAll('#captions li').length")
    await expect(page.locator("#captions li[data-state=final]").nth(resumed_at)).to_be_visible(timeout=PATIENCE_MS)
    await ask(page, "And what was said after the reload?")
    received_s, parts_s = await stop(page)
    assert sum(parts_s[:2]) == pytest.approx(received_s, abs=0.3)
    assert 0 < parts_s[2] < received_s / 2  # the time without a page, and no more
    finals = await final_texts(page)
    for kind in ("VTT", "SRT"):
        check_cues(await download(page, kind), finals)
    saved = json.loads(await download(page, "JSON"))
    assert [caption["text"] for caption in saved["captions"]] == finals
    assert len(saved["answers"]) == 2
    assert (
        await page.evaluate("sessionStorage.length") == 0
    )  # the session is over, and nothing of it stays in the browser


async def test_a_lost_connection_is_replaced_and_nothing_is_lost(scripted_page: Page) -> None:
    """Streams at the pace of speech, because a microphone goes on while the connection is lost."""
    page = scripted_page
    routes: list[WebSocketRoute] = []

    def route(opened: WebSocketRoute) -> None:
        opened.connect_to_server()
        routes.append(opened)

    await page.route_web_socket(re.compile("/v1/stream$"), route)
    await page.get_by_role("button", name="Start microphone").click()
    await captions_until(page, seconds=0)
    await page.get_by_label("Your question").fill("Who is this about?")
    await page.get_by_role("button", name="Ask", exact=True).click()
    await routes[0].close(code=1012)
    await expect(page.locator("#connection dd")).to_have_text("Reconnecting")
    await expect(page.locator("#connection dd")).to_have_text("Listening", timeout=PATIENCE_MS)
    assert len(routes) == 2
    await expect(page.locator("#answers .range")).to_have_count(1, timeout=PATIENCE_MS)
    await expect(page.locator("#answers .answer")).not_to_be_empty()
    received_s, parts_s = await stop(page)
    assert received_s > 3
    assert parts_s[2] == 0
    numbers = [await row.get_attribute("data-utterance") for row in await page.locator("#captions li").all()]
    assert numbers == [str(number) for number in range(len(numbers))]  # each is told, once


async def test_a_sound_has_one_row_between_the_captions_around_it(scripted_page: Page) -> None:
    texts = ["One.", "[bell]", "Two.", "Three."]
    assert await scripted_page.evaluate(SOUNDS) == [[[text, text == "[bell]"] for text in texts], texts]


async def test_the_timeline_is_read_and_walked_with_keys(scripted_page: Page, speech: Path) -> None:
    page = scripted_page
    await heard_fast(page, speech)
    finals = await final_texts(page)
    timeline = page.get_by_role("slider", name=re.compile(r"^Timeline: 0:20 of audio, 5 utterances"))
    await timeline.focus()
    for text in finals[:2]:
        await page.keyboard.press("ArrowRight")
        await expect(timeline).to_have_attribute("aria-valuetext", re.compile(re.escape(text)))
        await expect(page.locator("#captions li.heard p")).to_have_text([text])
    await page.keyboard.press("End")
    await expect(page.locator("#captions li.heard p")).to_have_text([finals[-1]])


async def test_a_dropped_file_is_heard_fast(page: Page, speech: Path) -> None:
    await heard_fast(page, speech)

    await expect(page.locator("#timeline")).to_have_attribute("aria-label", re.compile("0:20 of audio"))

    await ask(page, "What kind of young man is he?")
    received_s, parts_s = await stop(page)
    finals = await final_texts(page)  # corrected by the second pass
    assert jiwer.wer(" ".join(SENTENCES.values()), plain(" ".join(finals))) <= MAX_WER
    assert received_s == pytest.approx(soundfile.info(speech).duration, abs=0.1)
    assert sum(parts_s) == pytest.approx(received_s, abs=0.3)

    check_cues(await download(page, "SRT"), finals)
    saved = json.loads(await download(page, "JSON"))
    assert [caption["text"] for caption in saved["captions"]] == finals
    assert saved["answers"][0]["question"] == "What kind of young man is he?"
    assert saved["ledger"]["received_s"] == pytest.approx(received_s, abs=0.1)


async def test_a_stopped_session_answers_until_it_is_left_and_starting_anew_asks_first(
    scripted_page: Page, speech: Path
) -> None:
    """Streams a sentence at the pace of speech, because only a microphone can be stopped by hand."""
    page = scripted_page
    await page.get_by_role("button", name="Start microphone").click()
    await captions_until(page, seconds=0)
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#connection dd")).to_have_text("Stopped", timeout=PATIENCE_MS)
    await expect(page.locator("#ask-hint")).to_contain_text("until you end the session")
    await expect(page.get_by_role("button", name="Finalising")).to_be_hidden(timeout=PATIENCE_MS)
    finals = await final_texts(page)
    await ask(page, "What was said before the stop?")
    check_cues(await download(page, "VTT"), finals)

    dialog = page.get_by_role("dialog", name="Start anew?")
    await page.get_by_role("button", name="Start microphone").click()
    await expect(page.get_by_role("button", name="Keep this session")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await ask(page, "And once more?")
    assert await final_texts(page) == finals

    await page.get_by_label("Fast").check()
    await page.evaluate(DROP, ["speech.wav", encoded(speech)])
    await dialog.get_by_role("button", name="Start anew").click()
    await expect(page.locator("#answers li")).to_have_count(0)
    await expect(page.locator("#connection dd")).to_have_text("File heard", timeout=PATIENCE_MS)
    received_s, parts_s = await stop(page)
    assert received_s == pytest.approx(soundfile.info(speech).duration, abs=0.1)
    assert sum(parts_s) == pytest.approx(received_s, abs=0.3)
    await page.get_by_role("button", name="Start microphone").click()  # a session that is over is asked about, too
    await dialog.get_by_role("button", name="Keep this session").click()
    await expect(page.locator("#ledger")).to_be_visible()


async def test_a_session_that_is_left_has_ended(browser: Browser, speech: Path) -> None:
    async with serving(max_sessions=1) as service, opened(browser, service.address) as page:
        for _ in range(2):
            await page.get_by_label("Fast").check()
            await page.evaluate(DROP, ["speech.wav", encoded(speech)])
            if await page.get_by_role("dialog").is_visible():
                await page.get_by_role("button", name="Start anew").click()
            await expect(page.locator("#connection dd")).to_have_text("File heard", timeout=PATIENCE_MS)
        await expect(page.locator("#notice")).to_be_hidden()  # the one place was free again


async def test_a_source_that_cannot_be_opened_leaves_the_stopped_session(scripted_page: Page, speech: Path) -> None:
    page = scripted_page
    await heard_fast(page, speech)
    await page.evaluate(DROP, ["notes.wav", base64.b64encode(b"no sound in here").decode()])
    await page.get_by_role("button", name="Start anew").click()
    await expect(page.locator("#notice p")).to_contain_text("is not an audio file")
    await ask(page, "Is it still there?")


async def test_a_stopped_session_answers_after_the_service_closed_its_idle_connection(
    browser: Browser, speech: Path, tmp_path: Path
) -> None:
    async with (
        serving(journal=tmp_path, idle_timeout_s=0.5) as service,
        opened(browser, service.address) as page,
    ):
        sockets: list[WebSocket] = []

        def note(socket: WebSocket) -> None:  # playwright takes no method of a built-in type
            sockets.append(socket)

        page.on("websocket", note)
        await heard_fast(page, speech)
        async with asyncio.timeout(PATIENCE_MS / 1000):
            while not sockets[0].is_closed():
                await page.wait_for_timeout(50)
        await expect(page.locator("#connection dd")).to_have_text("File heard")
        await ask(page, "Who is this about?")
        assert len(sockets) == 2
        await expect(page.locator("#notice")).to_be_hidden()


async def test_a_reload_keeps_a_stopped_session(scripted_page: Page) -> None:
    """Streams a sentence at the pace of speech, because only a microphone can be stopped by hand."""
    page = scripted_page
    await page.get_by_role("button", name="Start microphone").click()
    await captions_until(page, seconds=0)
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("button", name="End session")).to_be_enabled(timeout=PATIENCE_MS)
    finals = await final_texts(page)
    await page.reload()
    await page.evaluate(RECORD_ANSWERS)
    await expect(page.locator("#connection dd")).to_have_text("Stopped", timeout=PATIENCE_MS)
    await expect(page.locator("#captions li[data-state=final]")).to_have_count(len(finals), timeout=PATIENCE_MS)
    await expect(page.locator("#notice")).to_be_hidden()
    await ask(page, "What was said before the reload?")
    _, parts_s = await stop(page)
    assert parts_s[2] == 0  # nobody listened meanwhile, so nothing was lost


async def test_subtitles_are_cut_as_the_command_line_cuts_them(scripted_page: Page) -> None:
    generator = random.Random(21)
    told = [case["captions"] for case in json.loads(CUES.read_text(encoding="utf-8"))]
    told += [random_captions(generator) for _ in range(500)]
    expected = []
    for captions in told:
        made = cues(msgspec.convert({"type": "caption", "final": True, **caption}, Caption) for caption in captions)
        expected.append([to_vtt(made), to_srt(made)])
    assert await scripted_page.evaluate(CUT, told) == expected


async def test_a_file_that_was_heard_is_played_from_a_word_which_is_marked(scripted_page: Page, speech: Path) -> None:
    page, recording = scripted_page, scripted_page.locator("#recording")
    await expect(recording).to_be_hidden()
    await heard_fast(page, speech)
    await expect(recording).to_be_visible()
    word = page.locator("#captions .word").nth(4)
    start = float(await word.get_attribute("data-start") or "")
    await word.click()
    await expect(page.locator(".word.now")).to_have_count(1, timeout=PATIENCE_MS)
    await recording.evaluate("audio => audio.pause()")
    assert await recording.evaluate("audio => audio.currentTime") >= start
    for at in (start + 0.1, start + 0.6):
        await recording.evaluate("(audio, at) => { audio.currentTime = at; }", at)
        marked = page.locator(".word.now")
        await expect(marked).to_have_attribute(
            "data-start", re.compile(f"^{start if at < start + 0.5 else start + 0.5:g}$")
        )
    time = page.locator("#captions .time").nth(1)
    await time.click()
    shown = await page.locator("#captions li").nth(1).locator(".word").first.get_attribute("data-start")
    assert await recording.evaluate("audio => audio.currentTime") == pytest.approx(float(shown or ""), abs=0.01)

    saved = json.loads(await download(page, "JSON"))
    for caption in saved["captions"]:
        assert " ".join(word["text"] for word in caption["words"]) == caption["text"]


async def test_captions_have_no_words_to_play_where_the_captioner_has_no_times(browser: Browser, speech: Path) -> None:
    engine = ScriptedEngine()
    engine.captioner.times_words = False
    async with serving(engine) as service, opened(browser, service.address) as page:
        await heard_fast(page, speech)
        assert await final_texts(page)
        await expect(page.locator("#captions .word")).to_have_count(0)
        await expect(page.locator("#notice")).to_be_hidden()


async def test_a_turn_is_labelled_with_its_speaker_who_can_be_named(scripted_page: Page, speech: Path) -> None:
    page = scripted_page
    await page.get_by_label("Tell speakers apart").check()
    await heard_fast(page, speech)
    labels = page.locator("#captions button.speaker:visible")
    await expect(labels.first).to_have_text("Speaker 1")
    await labels.first.click()
    await page.keyboard.type("Anna")
    await page.keyboard.press("Enter")
    await expect(labels.first).to_have_text("Anna")
    shown = await labels.all_inner_texts()
    assert all(first != second for first, second in pairwise(shown))
    assert "<v Anna>" in await download(page, "VTT")
    assert json.loads(await download(page, "JSON"))["captions"][0]["name"] == "Anna"


async def test_the_chosen_language_and_translation_are_asked_for_and_remembered(browser: Browser, speech: Path) -> None:
    engine, sent = ScriptedEngine(), list[str]()
    engine.captioner.languages, engine.captioner.translates = ("en", "fr"), True
    async with serving(engine) as service, opened(browser, service.address) as page:
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(str(frame))))
        await page.get_by_label("Language").select_option("fr")
        await page.get_by_label("Translate to English").check()
        await heard_fast(page, speech)
        start = json.loads(next(frame for frame in sent if '"type":"start"' in frame))
        assert (start["language"], start["task"]) == ("fr", "translate")
        await page.reload()
        assert await page.get_by_label("Language").input_value() == "fr"


async def test_an_answer_says_how_far_it_reaches_as_the_other_clients_say_it(scripted_page: Page) -> None:
    cases = json.loads(REACHES.read_text(encoding="utf-8"))
    said = await scripted_page.evaluate(REACH, [case["answer"] for case in cases])
    assert [words.replace(" – ", " to ") for words in said] == [case["words"] for case in cases]


async def test_a_reply_follows_up_its_answer_and_stands_under_it(scripted_page: Page, speech: Path) -> None:
    page = scripted_page
    asked, events = [], {}
    async with page.expect_websocket() as opening:
        await heard_fast(page, speech)
    socket = await opening.value
    socket.on("framesent", lambda frame: asked.append(json.loads(frame)))
    socket.on("framereceived", lambda frame: events.update({(said := json.loads(frame)).get("id"): said.get("event")}))
    await ask(page, "Who is this about?")
    await ask(page, "When was it?")
    field, box = page.get_by_label("Your question"), page.locator(".replying")

    await page.get_by_role("button", name="Reply to the answer to: Who is this about?").press("Enter")
    await expect(field).to_be_focused()
    await expect(field).to_have_accessible_description(re.compile("^Replying to Who is this about?"))
    await expect(box).to_be_visible()
    await field.press_sequentially("And why")
    await field.press("Escape")
    await expect(box).to_be_hidden()
    await expect(field).to_have_value("And why")
    await page.get_by_role("button", name="Reply to the answer to: Who is this about?").click()
    await page.get_by_role("button", name="Do not reply").click()
    await expect(field).to_be_focused()

    await page.get_by_role("button", name="Reply to the answer to: Who is this about?").click()
    await field.press_sequentially("?")
    await page.get_by_role("button", name="Reply", exact=True).click()
    thread = (
        page.locator("#answers > li").nth(1).get_by_role("list", name="Replies to the answer to: Who is this about?")
    )
    await expect(thread.locator(".answer")).to_contain_text("And why?", timeout=PATIENCE_MS)
    await expect(thread.locator(".range")).to_have_count(1, timeout=PATIENCE_MS)
    await expect(box).to_be_hidden()

    await field.press_sequentially(">Since when?")  # to the newest answer
    await expect(field).to_have_value("Since when?")
    await field.press("Enter")
    await expect(thread.locator(".thread .range")).to_have_count(1, timeout=PATIENCE_MS)
    assert [message.get("after") for message in asked] == [None, None, events["q1"], events["q3"]]

    await page.reload()
    await expect(page.locator("#connection dd")).to_have_text("File heard", timeout=PATIENCE_MS)
    await expect(page.locator("#answers > li > .asked")).to_have_text(["When was it?", "Who is this about?"])
    await expect(thread.locator(".asked")).to_have_text(["And why?", "Since when?"])
    await stop(page)
    await expect(page.locator("#answers .reply").first).to_be_disabled()


async def test_a_phone_shows_captions_and_the_ask_box_first(scripted_page: Page) -> None:
    """Streams at the pace of speech, because the page looks so only while it listens to a microphone."""
    page = scripted_page
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.get_by_role("button", name="Start microphone").click()
    await captions_until(page, seconds=0)
    bottoms = [await bottom(page, part) for part in ("#captions li", "#ask", "#ask [type=submit]")]
    assert max(bottoms) <= 844
    await expect(page.locator("main + .timeline")).to_be_attached()  # and so Tab goes
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    await page.set_viewport_size({"width": 844, "height": 390})
    await captions_until(page, seconds=14)  # four captions: more than the window shows
    await page.set_viewport_size({"width": 390, "height": 700})  # turned: the newest caption stays in sight
    await expect(page.locator("#captions li").last).to_be_in_viewport()
    await page.set_viewport_size({"width": 1280, "height": 860})
    await expect(page.locator(".timeline + main")).to_be_attached()


async def test_caption_times_are_one_tab_stop(scripted_page: Page, speech: Path) -> None:
    page = scripted_page
    await heard_fast(page, speech)
    times = page.locator("#captions .time")
    assert await times.count() == 5
    await page.locator("#scroll").focus()
    await page.keyboard.press("Tab")
    await expect(times.nth(4)).to_be_focused()  # the newest
    await page.keyboard.press("ArrowUp")
    await expect(times.nth(3)).to_be_focused()
    await page.keyboard.press("Home")
    await page.keyboard.press("ArrowUp")
    await expect(times.nth(0)).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.locator("#captions li.heard .time")).to_have_text([await times.nth(1).inner_text()])
    await page.keyboard.press("Tab")
    await expect(page.locator("#question")).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    await expect(times.nth(1)).to_be_focused()  # where it was left


async def test_a_file_that_is_no_audio_is_refused_in_plain_words(scripted_page: Page) -> None:
    page = scripted_page
    await page.evaluate(DROP, ["notes.wav", base64.b64encode(b"no sound in here").decode()])
    await expect(page.locator("#notice p")).to_contain_text("“notes.wav” is not an audio file this browser can read")
    await expect(page.get_by_role("button", name="Start microphone")).to_be_visible()


async def test_a_page_that_is_not_let_in_is_told_why(browser: Browser) -> None:
    async with serving(tokens=("s3cret",), max_sessions=1) as service:
        page = await browser.new_page()
        await page.goto(service.address)
        await page.get_by_role("button", name="Start microphone").click()
        await expect(page.locator("#notice p")).to_have_text("This service asks for an access token.")
        await page.get_by_label("Access token").fill("guess")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator("#notice p")).to_have_text("The token is missing, wrong, or has expired.")
        await page.get_by_label("Access token").fill("s3cret")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator("#connection dd")).to_have_text("Listening", timeout=PATIENCE_MS)

        other = await browser.new_page()
        await other.goto(f"{service.address}?token=s3cret")
        await other.get_by_role("button", name="Start microphone").click()
        await expect(other.locator("#notice p")).to_have_text(
            re.compile("^All 1 sessions are taken. Try again in .* seconds.$"), timeout=PATIENCE_MS
        )
        await expect(other.get_by_label("Access token")).to_be_hidden()


async def test_a_microphone_that_gives_nothing_is_told(scripted_page: Page) -> None:
    page = scripted_page
    await page.evaluate(MUTED)
    await page.get_by_role("button", name="Start microphone").click()
    await expect(page.locator("#voice dd")).to_have_text("No sound: is it muted?", timeout=PATIENCE_MS)


@pytest.mark.skipif("AF3STREAM_PAGE_PNG" not in os.environ, reason="AF3STREAM_PAGE_PNG names no file for the picture")
async def test_picture_for_the_docs(service: Service, speech: Path) -> None:
    picture = Path(os.environ["AF3STREAM_PAGE_PNG"])
    async with chromium(f"{speech}%noloop") as browser, opened(browser, service.http) as page:
        await page.set_viewport_size({"width": 1280, "height": 960})
        await page.get_by_role("button", name="Start microphone").click()
        await captions_until(page, seconds=0)
        await page.get_by_label("Standing question").fill("Is a young man described?")
        await page.get_by_role("button", name="Watch", exact=True).click()
        await captions_until(page, seconds=11)
        await ask(page, "Who is this about?")
        await page.evaluate("document.activeElement.blur()")
        await page.screenshot(path=picture)
        await page.emulate_media(color_scheme="dark")
        await page.wait_for_timeout(300)
        await page.screenshot(path=picture.with_stem(picture.stem + "-dark"))
        await page.set_viewport_size({"width": 390, "height": 844})
        await page.wait_for_timeout(300)
        await page.screenshot(path=picture.with_stem(picture.stem + "-phone"))


@pytest.mark.skipif("AF3STREAM_PAGE_PNG" not in os.environ, reason="AF3STREAM_PAGE_PNG names no file for the picture")
async def test_picture_of_speakers_and_languages_for_the_docs(service: Service, tmp_path: Path) -> None:
    picture = Path(os.environ["AF3STREAM_PAGE_PNG"])
    parts: list[np.ndarray] = []
    for recording in ITALIAN:
        samples, rate = soundfile.read(recording, dtype="int16")
        parts += [samples, np.zeros(rate, np.int16)]
    soundfile.write(tmp_path / "italian.wav", np.concatenate(parts), rate)
    async with chromium(str(tmp_path / "italian.wav")) as browser, opened(browser, service.http) as page:
        await page.set_viewport_size({"width": 1280, "height": 960})
        await page.get_by_label("Translate to English").check()
        await page.get_by_label("Tell speakers apart").check()
        await heard_fast(page, tmp_path / "italian.wav")
        await expect(page.locator("#lag")).to_have_text("0.0 s", timeout=PATIENCE_MS)
        await page.locator("#captions button.speaker:visible").first.click()
        await page.keyboard.type("Silvia")
        await page.keyboard.press("Enter")
        word = page.locator("#captions li").nth(1).locator(".word").nth(5)
        await word.click()
        await expect(page.locator(".word.now")).to_have_count(1, timeout=PATIENCE_MS)
        await page.locator("#recording").evaluate(
            "(audio, at) => { audio.pause(); audio.currentTime = at; }",
            float(await word.get_attribute("data-start") or "") + 0.01,
        )
        await page.evaluate("document.activeElement.blur(); document.querySelector('#scroll').scrollTop = 0")
        await page.wait_for_timeout(300)
        await page.screenshot(path=picture.with_stem(picture.stem + "-speakers"))


async def heard_fast(page: Page, speech: Path) -> None:
    """Drop the recordings; returns once they have been heard."""
    await page.get_by_label("Fast").check()
    await page.evaluate(DROP, ["speech.wav", encoded(speech)])
    await expect(page.locator("#connection dd")).to_have_text("File heard", timeout=PATIENCE_MS)
    await expect(page.get_by_role("button", name="Finalising")).to_be_hidden(timeout=PATIENCE_MS)


async def bottom(page: Page, selector: str) -> float:
    """Where a part ends, in pixels from the top of the window."""
    box = await page.locator(selector).first.bounding_box()
    assert box
    return box["y"] + box["height"]


def random_captions(generator: random.Random) -> list[dict[str, object]]:
    """Captions in order, some of them without a pause, a duration or words; fields as the page holds them."""
    words = ["a", "end.", "and,", "why?”", "字字。", "😀😀", "-->", "&", "<b>", "x" * 100, "considerable", ";", "\xa0"]
    captions: list[dict[str, object]] = []
    clock = 0.0
    for number in range(generator.randint(0, 5)):
        start = clock + generator.choice([0, generator.uniform(0, 3), generator.randint(0, 4_000) / 2_000])
        clock = start + generator.choice([0, generator.uniform(0, 40), generator.randint(0, 40_000) / 2_000])
        text = " ".join(generator.choices(words, k=generator.randint(0, 60)))
        captions.append({"utterance": number, "text": text, "start": start, "end": clock})
        if generator.random() < 0.5:
            captions[-1]["speaker"] = generator.randint(1, 3)
        if generator.random() < 0.5:
            captions[-1]["translation"] = " ".join(generator.choices(words, k=generator.randint(0, 40)))
        if generator.random() < 0.5:
            bounds = sorted(generator.uniform(start, clock) for _ in range(2 * len(text.split())))
            captions[-1]["words"] = [
                {"text": word, "start": bounds[2 * i], "end": bounds[2 * i + 1], "probability": 1.0}
                for i, word in enumerate(text.split())
            ]
    return captions


async def final_texts(page: Page) -> list[str]:
    return await page.locator("#captions li[data-state=final] p").all_inner_texts()


async def captions_until(page: Page, seconds: int) -> list[str]:
    """Final captions, once one of them begins at ``seconds`` of audio or later."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < deadline:
        stamps = await page.locator("#captions li[data-state=final] .time").all_inner_texts()
        if any(int(stamp.split(":")[0]) * 60 + int(stamp.split(":")[1]) >= seconds for stamp in stamps):
            return await final_texts(page)
        await page.wait_for_timeout(200)
    raise AssertionError(f"no final caption from {seconds} s on; so far: {await final_texts(page)}")


async def ask(page: Page, question: str) -> None:
    """Ask, and check that the answer streams in and names what it heard."""
    await page.get_by_label("Your question").fill(question)
    await page.get_by_role("button", name="Ask", exact=True).click()
    card = page.locator("#answers > li").first
    reach = re.compile(r"^(Heard|Captions) \d+:\d\d – \d+:\d\d$")
    await expect(card.locator(".range")).to_have_text(reach, timeout=PATIENCE_MS)
    await expect(card.locator(".answer")).not_to_be_empty()
    assert await page.evaluate("[...new Set(window.answerStates)]") == ["answering", "answered"]


async def stop(page: Page) -> tuple[float, list[float]]:
    """Stop, end the session, and read the ledger: seconds received, and those heard, skipped and lost."""
    if await page.get_by_role("button", name="Stop").is_visible():
        await page.get_by_role("button", name="Stop").click()
    await page.get_by_role("button", name="End session").click(timeout=PATIENCE_MS)
    await expect(page.locator("#ledger")).to_be_visible(timeout=PATIENCE_MS)
    await expect(page.locator("#connection dd")).to_have_text("Finished")
    values = await page.locator("#ledger dd").all_inner_texts()
    received_s, *parts_s = (float(value.removesuffix(" s")) for value in values[:4])
    return received_s, parts_s


async def download(page: Page, kind: str) -> str:
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name=kind).click()
    download = await waiting.value
    assert download.suggested_filename == f"captions.{kind.lower()}"
    return read_text(await download.path())


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def check_cues(text: str, finals: list[str]) -> None:
    """Cues are in order, have a length, and together say what the captions say."""
    stamp = r"(\d\d):(\d\d):(\d\d)[.,](\d{3})"
    times_ms: list[int] = []
    words: list[str] = []
    for block in text.removeprefix("WEBVTT").strip().split("\n\n"):
        cue = re.fullmatch(rf"(?:\d+\n)?{stamp} --> {stamp}\n(.+)", block, flags=re.DOTALL)
        assert cue, block
        *digits, lines = cue.groups()
        for at in (0, 4):
            h, m, s, ms = map(int, digits[at : at + 4])
            times_ms.append(((h * 60 + m) * 60 + s) * 1000 + ms)
        words += lines.split()
    assert times_ms == sorted(times_ms)
    assert words == " ".join(finals).split()


def plain(text: str) -> str:
    """Lower case, no punctuation, titles spelled out."""
    words = re.sub(r"[^a-z' ]+", " ", text.lower().replace("mr.", "mister")).split()
    return " ".join("mister" if word == "mr" else word for word in words)


def wer_of_best_four(finals: list[str]) -> float:
    """Word error rate over four of the five sentences, each where it fits best: the loop may begin inside one."""
    heard = plain(" ".join(finals)).split()
    errors: list[tuple[float, int]] = []
    for sentence in SENTENCES.values():
        count = len(sentence.split())
        pieces = (
            " ".join(heard[at : at + length])
            for at in range(len(heard))
            for length in range(max(1, count - 2), count + 3)
        )
        errors.append((min(jiwer.wer(sentence, piece) for piece in pieces), count))
    best = sorted(errors)[:4]
    return sum(rate * count for rate, count in best) / sum(count for _, count in best)
