"""Evaluate a checkpoint by rows, with intervals and its worst examples: ``python -m training.evaluate``.

It prints a table, writes all answers to ``answers.jsonl`` and the worst ones to ``worst.md``, and ends with one JSON
line. Decoding is greedy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import soundfile

from af3stream import offline
from af3stream.audio import SAMPLE_RATE
from af3stream.config import Config, load
from af3stream.engine.captioning import VoiceEncoder
from af3stream.engine.contract import Completion, PromptPart
from af3stream.engine.encoded_audio import EncodedAudio
from af3stream.engine.factory import Loaded, load_engine
from af3stream.engine.prompt_parts import caption_line, note
from af3stream.engine.voices import CampplusVoices
from af3stream.models import voices
from af3stream.models.registry import resolve
from training import corpus, exams, languages, score, sound_captions, speakers, vocabulary, word_times
from training.exams import Conversation, Recording
from training.free import Free, Given
from training.voices import Samples, read

QUESTIONS = Path("../shared/questions")
SPOKEN = "spoken-captions"
ROWS = (
    "captions",
    "noisy-captions",
    "af3-captions",
    SPOKEN,
    "invented",
    "notes",
    "ear",
    "own",
    "transcript",
    "sounds",
    "other-sounds",
)
FREE = ("free", "free-file", "follow-ups")
SPEAKERS = "speakers"
CONVERSATIONS, CONVERSATION_S = 3, 240.0  # of each number of voices, and their length
VOICES = (2, 4, 6)
NEURAL_SENTENCES = 20  # that every neural voice says
WORD_TIMES = "word-times"
LANGUAGES, ACCENTED = "languages", "accented-languages"  # of people, held out; in a neural voice, for development
VOCABULARY = "vocabulary"
SOUND_CAPTIONS, DEV_SOUND_CAPTIONS = "sound-captions", "dev-sound-captions"  # held out; to choose the card's threshold
SEED = 2_026
CLIPS, CLIPS_SEED = 400, 4_321  # seed of the conversations
ANSWER_TOKENS = 48
DEV_SEED = 77
SOUND_TAKES = 96
SPOKEN_S = 600  # seconds of speech of each kind that are asked for sounds
SPLICES = 20  # of each kind, for word times
LENGTHS_S = (3, 5, 8)  # bounds of the length groups
RIGHT = 0.6  # an answer is right from this F1 of its words on


@dataclass(frozen=True)
class Result:
    """One measured example.

    Attributes:
        groups: voice, noise, length, kind of question or sound, for figures by group.
        wrong: word errors out of ``words``; for an answer 0 or 1, out of 1.
    """

    row: str
    groups: tuple[str, ...]
    about: str
    expected: str
    got: str
    wrong: float
    words: int = 1

    @property
    def share(self) -> float:
        """Share of errors."""
        return self.wrong / max(1, self.words)


class Evaluation:
    """Measures one checkpoint.

    Args:
        model: name or folder of the checkpoint.
        clips: folder of spoken validation clips.
        size: share of each row; 1 for all.
        settings: ``NAME=VALUE`` settings that override the service's defaults.
        questions: folder of the free questions.
        readers: folder of people's recordings, a folder for each, for the row ``speakers``.
    """

    def __init__(
        self,
        model: str,
        clips: Path,
        size: float,
        settings: Sequence[str] = (),
        questions: Path = QUESTIONS,
        readers: Path | None = None,
    ) -> None:
        self._readers = readers
        self._clips, self._size, self._questions = clips, size, questions
        self._settings = (f"model.name={model}", *settings)
        self._loaded: dict[str, tuple[Config, Loaded]] = {}
        self._transcripts: dict[tuple[str, ...], list[list[str]]] = {}  # by captioner and sentences
        self.figures: dict[str, Any] = {}

    def row(self, name: str) -> Iterator[Result]:
        """Yield the results of one row."""
        rows: dict[str, Callable[[], Iterator[Result]]] = {
            "captions": lambda: self._captions("captions", "auto", self._people()),
            "noisy-captions": self._noisy,
            "af3-captions": lambda: self._captions("af3-captions", "af3", self._people()),
            SPOKEN: self._spoken,
            "invented": self._invented,
            WORD_TIMES: self._word_times,
            "notes": lambda: self._answers("notes", notes="auto", frames=True),
            "ear": lambda: self._answers("ear", notes="", frames=True),
            "own": lambda: self._answers("own", notes="af3", frames=True),
            "transcript": lambda: self._answers("transcript", notes="auto", frames=False),
            "sounds": self._sounds,
            "other-sounds": lambda: self._by_ear("other-sounds", exams.other_sounds()),
            SPEAKERS: self._speakers,
            **{row: partial(self._free, row) for row in FREE},
            **{row: partial(self._languages, row) for row in (LANGUAGES, ACCENTED)},
            VOCABULARY: self._vocabulary,
            SOUND_CAPTIONS: self._sound_captions,
            DEV_SOUND_CAPTIONS: self._dev_sound_captions,
        }
        yield from rows[name]()

    def _engine(self, captioner: str = "auto") -> tuple[Config, Loaded]:
        if captioner not in self._loaded:
            config = load(overrides=(*self._settings, f"captions.captioner={captioner}"))
            self._loaded[captioner] = config, load_engine(config)
        return self._loaded[captioner]

    def _speakers(self) -> Iterator[Result]:
        """Measure who spoke, utterance by utterance from the second minute on, in conversations of each set of voices.

        The constants were chosen on the prompts.
        """
        encoder = speakers.Timed(CampplusVoices(voices.assemble(print)))
        sets = {"prompts": speakers.prompts}
        if self._readers:
            sets["readers"] = partial(speakers.readers, self._readers)
        sets["neural"] = self._neural_voices
        seconds = 0.0
        for name, make in sets.items():
            people = make()
            for count in (count for count in VOICES if count <= len(people)):
                for number in range(max(1, round(CONVERSATIONS * self._size))):
                    seed = SEED + number
                    chosen = Random(seed).sample(sorted(people), count)
                    spliced = speakers.splice(people, chosen, CONVERSATION_S, seed)
                    seconds += len(spliced.samples) / SAMPLE_RATE
                    yield from _spoken_by(spliced, encoder, (name, f"{name}, {count} voices"))
        self.figures["voices_s_per_s"] = round(encoder.seconds / seconds, 4)

    def _neural_voices(self) -> speakers.Recordings:
        return speakers.neural([prompt.text for prompt in exams.prompts()[:NEURAL_SENTENCES]], SEED)

    def _people(self) -> list[Recording]:
        return [*exams.librivox(), *exams.prompts()[:: max(1, round(1 / self._size))]]

    def _noisy(self) -> Iterator[Result]:
        """Return every third recording, with noise."""
        with tempfile.TemporaryDirectory() as folder:
            noisy = list(exams.noisy(self._people()[::3], Path(folder), SEED))
            yield from self._captions("noisy-captions", "auto", noisy)

    def _captions(self, row: str, captioner: str, recordings: Sequence[Recording]) -> Iterator[Result]:
        """Measure word errors of captions, including voice detection and segmentation."""
        config, loaded = self._engine(captioner)
        audio_s, began, used = 0.0, time.monotonic(), time.process_time()
        for recording in recordings:
            heard = offline.transcribe(recording.path, config, loaded)
            audio_s += heard.seconds
            yield _words(row, recording, heard.seconds, heard.text)
        self.figures[f"{row}_seconds_a_second"] = (time.monotonic() - began) / audio_s
        self.figures[f"{row}_cpu_seconds_a_second"] = (time.process_time() - used) / audio_s

    def _spoken(self) -> Iterator[Result]:
        """Measure word errors over the spoken conversations: with and without second pass, and faster-whisper alone."""
        from faster_whisper import WhisperModel

        config, loaded = self._engine()
        alone = msgspec.structs.replace(config, captions=msgspec.structs.replace(config.captions, second_pass=False))
        whisper = WhisperModel(str(resolve(config.model.name).captioner), device="cpu", compute_type="int8")
        told, beam = config.captions.language, config.captions.beam
        language = None if told == "auto" else told
        ways: dict[str, Callable[[Path], str]] = {
            "second pass": lambda path: offline.transcribe(path, config, loaded).text,
            "one pass": lambda path: offline.transcribe(path, alone, loaded).text,
            "faster-whisper on the file": lambda path: " ".join(
                segment.text for segment in whisper.transcribe(str(path), language=language, beam_size=beam)[0]
            ),
        }
        free = Free(self._questions, self._clips / "free")
        for way, transcribe in ways.items():
            began, audio_s = time.monotonic(), 0.0
            for conversation in free.conversations:
                path = free.recording(conversation)
                audio_s += soundfile.info(path).duration
                heard = transcribe(path)
                said = score.bare(conversation.text)
                wrong = score.edits(said, score.bare(heard))
                yield Result(SPOKEN, (way,), conversation.name, conversation.text, heard, wrong, len(said))
            self.figures[f"{way}: seconds a second"] = (time.monotonic() - began) / audio_s

    def _languages(self, row: str) -> Iterator[Result]:
        """Measure word errors in several languages: nobody tells the language, or the captioner is told it.

        Each recording is a session of its own, and with others of its language, and with others of another one.
        """
        config, loaded = self._engine()
        if row == LANGUAGES:
            spoken = {code: languages.people(code, self._size) for code in languages.SPEAKERS}
        else:
            spoken = {code: languages.accented(code, self._clips / "accented") for code in languages.ACCENTED}
        with tempfile.TemporaryDirectory() as folder:
            kinds = {
                "alone": [*chain(*spoken.values())],
                "session": [joined for each in spoken.values() for joined in languages.sessions(each, Path(folder))],
                "changing": languages.changing([*spoken.values()], Path(folder)),
            }
            for kind, recordings in kinds.items():
                for recording in recordings:
                    for way, language in (("auto", "auto"), ("told", recording.source)):
                        if way == "told" and kind == "changing":
                            continue  # there is no one language to tell
                        captions = msgspec.structs.replace(config.captions, language=language)
                        heard = offline.transcribe(
                            recording.path, msgspec.structs.replace(config, captions=captions), loaded
                        ).text
                        said = languages.bare(recording.text)
                        wrong = score.edits(said, languages.bare(heard))
                        groups = (f"{kind} {recording.source} {way}", f"{kind} {way}")
                        yield Result(row, groups, recording.path.stem, recording.text, heard, wrong, len(said))

    def _vocabulary(self) -> Iterator[Result]:
        """Measure names and product words that are wrong, and the words beside them, with and without a vocabulary."""
        config, loaded = self._engine()
        clips = vocabulary.spoken(self._clips / "vocabulary")
        terms = tuple(term for clip in clips for term in clip.terms)
        for way, told in (("without", ()), ("with", tuple(dict.fromkeys(terms)))):
            captions = msgspec.structs.replace(config.captions, vocabulary=told)
            for clip in clips:
                heard = offline.transcribe(clip.path, msgspec.structs.replace(config, captions=captions), loaded).text
                wrong, others, words = vocabulary.compare(clip, heard)
                name = clip.path.stem
                yield Result(VOCABULARY, (f"terms {way}",), name, clip.text, heard, wrong, len(clip.terms))
                yield Result(VOCABULARY, (f"other words {way}",), name, clip.text, heard, others, words)

    def _word_times(self) -> Iterator[Result]:
        """Measure how far the beginnings of words are off in recordings that are spliced at known times."""
        config, loaded = self._engine()
        captioner: Any = loaded.engine.captioner
        aligned, known, audio_s, aligning_s = captioner._aligner.align, 0, 0.0, 0.0

        def timed(*arguments: Any) -> Any:
            nonlocal aligning_s
            began = time.process_time()
            try:
                return aligned(*arguments)
            finally:
                aligning_s += time.process_time() - began

        captioner._aligner.align = timed
        try:
            for kind in word_times.KINDS:
                for splice in word_times.splices(kind, max(1, round(SPLICES * self._size)), SEED):
                    with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
                        word_times.write(splice, Path(wav.name))
                        heard = offline.transcribe(Path(wav.name), config, loaded, words=True)
                    audio_s += heard.seconds
                    known += len(splice.starts)
                    words = [word for caption in heard.captions for word in caption.words]
                    for found in word_times.found(splice, words):
                        late = f"{found.late_s:+.3f} s"
                        yield Result(WORD_TIMES, (kind,), found.text, "", late, abs(found.late_s))
        finally:
            captioner._aligner.align = aligned
        self.figures["word-times: known words"] = known
        self.figures["word-times: CPU seconds of alignment a second"] = aligning_s / audio_s

    def _invented(self) -> Iterator[Result]:
        """Count caption words over ten minutes without speech."""
        config, loaded = self._engine()
        for name, samples in exams.nothing(120 * self._size, SEED):
            with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
                soundfile.write(wav.name, samples.clip(-1, 1), SAMPLE_RATE)
                text = offline.transcribe(Path(wav.name), config, loaded).text
            yield Result("invented", (name,), name, "", text, len(text.split()))

    def _conversations(self) -> Iterator[Conversation]:
        corpus.build(self._clips, 1, CLIPS, seed=CLIPS_SEED, held_out=True)
        return exams.conversations(corpus.spoken(self._clips), max(1, round(10 * self._size)), 120, SEED)

    def _answers(self, row: str, *, notes: str, frames: bool) -> Iterator[Result]:
        """Measure answers about two minutes of speech.

        Args:
            notes: captioner whose captions are in the prompt; empty for none.
            frames: whether the audio is in the prompt.
        """
        engine = self._engine()[1].engine
        for conversation in self._conversations():
            nothing: list[tuple[PromptPart, ...]] = [()] * len(conversation.windows)
            audio = EncodedAudio()
            encoded = audio.encode(engine, conversation.windows) if frames else []
            heard: list[tuple[PromptPart, ...]] = [(segment,) for segment in encoded] or nothing
            read = [(note(captions),) for captions in self._transcripts_of(conversation, notes)] if notes else nothing
            parts: list[PromptPart] = [part for pair in zip(heard, read, strict=True) for part in chain(*pair)]
            context = engine.context(audio.embeddings)
            for _ in context.extend(parts):
                pass
            for asked in conversation.asked:
                got = _said(context.answer(parts, asked.question, ANSWER_TOKENS))
                groups = (asked.kind, conversation.noise, *conversation.voices_of(asked.answer))
                yield Result(row, groups, asked.question, asked.answer, got, not right(asked.answer, got))

    def _transcripts_of(self, conversation: Conversation, captioner: str = "auto") -> list[list[str]]:
        """Return the captions of each window of a conversation, by a captioner of the service."""
        key = captioner, *conversation.sentences
        if key not in self._transcripts:
            config, loaded = self._engine(captioner)
            self._transcripts[key], began_s = [], 0.0
            for window in conversation.windows:
                with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
                    soundfile.write(wav.name, window.clip(-1, 1), SAMPLE_RATE)
                    captions = offline.transcribe(Path(wav.name), config, loaded).captions
                self._transcripts[key].append([caption_line(c.text, began_s + c.start) for c in captions])
                began_s += len(window) / SAMPLE_RATE
        return self._transcripts[key]

    def _sounds(self) -> Iterator[Result]:
        """Measure answers about new takes of the trained instruments and sounds, and about speech."""
        takes = [*exams.heard(max(1, round(3 * self._size)), SEED)]
        free = Free(self._questions, self._clips / "free")
        speech = [read(free.recording(conversation))[: 5 * SAMPLE_RATE] for conversation in free.conversations]
        takes += [("speech", samples, exams.asked_of("speech")) for samples in speech]
        yield from self._by_ear("sounds", takes)

    def _sound_captions(self) -> Iterator[Result]:
        """Measure captions of sounds: held-out takes and recordings, people, and conversations in natural voices."""
        count, seconds = max(1, round(SOUND_TAKES * self._size)), SPOKEN_S * self._size
        free = Free(self._questions, self._clips / "free")
        conversations = free.conversations
        natural = [free.recording(each) for each in conversations[: max(1, round(len(conversations) * self._size))]]
        people = [recording.path for recording in self._people()]
        spoken = (sound_captions.speech(recordings, seconds, SEED) for recordings in (people, natural))
        others = islice(sound_captions.others(), max(1, round(len(exams.OTHER_SOUNDS) * self._size)))
        pieces = chain(sound_captions.takes(count, SEED), others, *spoken)
        yield from self._bracketed(SOUND_CAPTIONS, pieces)

    def _dev_sound_captions(self) -> Iterator[Result]:
        """Measure captions of sounds over takes for the choice of a threshold; prints the figures of each threshold."""
        yield from self._bracketed(
            DEV_SOUND_CAPTIONS, sound_captions.takes(max(1, round(SOUND_TAKES * self._size)), DEV_SEED)
        )

    def _bracketed(self, row: str, pieces: Iterable[sound_captions.Piece]) -> Iterator[Result]:
        _, loaded = self._engine()
        assert loaded.engine.sounds is not None, "captions.sounds is off"
        sure, results = loaded.engine.sounds.sure, list[sound_captions.Named]()
        for each in sound_captions.named(loaded.engine, pieces):
            results.append(each)
            got = f"{each.caption(sure)}: {each.heard.text} ({each.heard.confidence:.2f})"
            wrong = not each.right(sure) if each.piece.any_of else each.false(sure)
            yield Result(
                row, (each.piece.group, each.piece.name), each.piece.name, "|".join(each.piece.any_of), got, wrong
            )
        thresholds = sound_captions.THRESHOLDS if row == DEV_SOUND_CAPTIONS else (sure,)
        self.figures[f"{row}, figures"] = [sound_captions.figures(results, threshold) for threshold in thresholds]

    def _by_ear(self, row: str, takes: Iterable[tuple[str, Samples, Sequence[exams.Listened]]]) -> Iterator[Result]:
        engine = self._engine()[1].engine
        for name, samples, asked in takes:
            audio = EncodedAudio()
            parts = audio.encode(engine, [samples])
            for question in asked:
                got = _said(engine.context(audio.embeddings).answer(parts, question.question, 16))
                about = f"{name}: {question.question}"
                yield Result(row, (question.kind, name), about, "|".join(question.any_of), got, not question.right(got))

    def _free(self, row: str) -> Iterator[Result]:
        """Measure free questions over the socket, with follow-ups, or about files."""
        free = Free(self._questions, self._clips / "free")
        if row == "free-file":
            given = self._of_files(free)
        else:
            ask = free.over_the_socket if row == "free" else free.follow_ups
            given = asyncio.run(ask(self._settings))
        for one in given:
            yield Result(row, (one.name,), one.question, "", one.answer, not one.right)

    def _of_files(self, free: Free) -> list[Given]:
        config, loaded = self._engine()
        given = []
        for conversation in free.conversations:
            heard = offline.HeardFile(free.recording(conversation), config, loaded)
            for asked in conversation.questions:
                answer = heard.ask(asked.question)
                right = free.right(answer.text, asked.any_of, asked.question)
                given.append(Given(conversation.name, asked.question, answer.text, right))
        return given


def right(expected: str, got: str) -> bool:
    """Return whether an answer is right: yes, no and names must match exactly, sentences by most of their words.

    Digits are compared as the words that they are spoken as.
    """
    said, heard = score.bare(expected), score.bare(exams.spelled(got))
    if len(said) <= 2:
        return heard[: len(said)] == said
    common = len(said) + len(heard) - len(_left(said, heard)) - len(_left(heard, said))
    return common / (len(said) + len(heard)) >= RIGHT


def _left(words: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the words that are not among the others, as multisets."""
    rest, left = list(others), []
    for word in words:
        if word in rest:
            rest.remove(word)
        else:
            left.append(word)
    return left


def _words(row: str, recording: Recording, seconds: float, text: str) -> Result:
    said, heard = score.bare(recording.text), score.bare(exams.spelled(text))
    length = next((f"under {bound} s" for bound in LENGTHS_S if seconds < bound), f"{LENGTHS_S[-1]} s and more")
    groups = (recording.source, length)
    return Result(row, groups, recording.path.stem, recording.text, text, score.edits(said, heard), len(said))


def _said(pieces: Iterator[str | Completion]) -> str:
    return "".join(piece for piece in pieces if not isinstance(piece, Completion)).strip()


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """Summarise one row and each of its groups, with 95 % intervals."""
    groups = sorted({group for result in results for group in result.groups})
    by_group = {group: _figures([result for result in results if group in result.groups]) for group in groups}
    return {**_figures(results), "groups": by_group}


def _figures(results: Sequence[Result]) -> dict[str, Any]:
    wrong, count = sum(result.wrong for result in results), sum(result.words for result in results)
    match results[0].row:
        case "invented":
            return {"words": wrong}
        case "captions" | "noisy-captions" | "af3-captions" | "languages" | "accented-languages" | "vocabulary":
            return {"wrong": wrong / count, "interval": _resampled(results), "clips": len(results)}
        case "word-times":
            median, p95 = np.quantile([result.wrong for result in results], [0.5, 0.95])
            return {"median_s": float(median), "p95_s": float(p95), "words": len(results)}
    return {
        "right": 1 - wrong / count,
        "interval": score.wilson(int(count - wrong), count),
        "answers": count,
    }


def _resampled(results: Sequence[Result]) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of the word error rate, resampled by recording."""
    rng = np.random.default_rng(SEED)
    wrong, words = np.array([[result.wrong, result.words] for result in results]).T
    draws = rng.integers(0, len(results), (2_000, len(results)))
    low, high = np.quantile(wrong[draws].sum(1) / words[draws].sum(1), [0.025, 0.975])
    return float(low), float(high)


def worst(results: Sequence[Result]) -> str:
    """Return a Markdown page of examples, the worst first."""
    lines = ["# Examples, worst first", ""]
    for row in dict.fromkeys(result.row for result in results):
        lines += [f"## {row}", "| about | expected | got | wrong |", "|---|---|---|---|"]
        ranked = sorted((result for result in results if result.row == row), key=lambda result: -result.share)
        lines += [f"| {r.about} | {r.expected} | {r.got} | {r.share:.2f} |".replace("\n", " ") for r in ranked[:40]]
        lines.append("")
    return "\n".join(lines)


def _spoken_by(spliced: speakers.Spliced, encoder: VoiceEncoder, groups: tuple[str, ...]) -> Iterator[Result]:
    """The utterances of one conversation that count, each right or wrong."""
    told = [utterance for utterance in speakers.heard(spliced, encoder) if utterance.start >= speakers.COUNTED_FROM]
    told = [utterance for utterance in told if utterance.speaker]
    names = speakers.named(told)
    for utterance in told:
        got = names.get(utterance.told, "") if utterance.told is not None else ""
        about = f"{utterance.start / SAMPLE_RATE:.1f} to {utterance.end / SAMPLE_RATE:.1f} s"
        yield Result(SPEAKERS, groups, about, utterance.speaker, got, float(got != utterance.speaker))


def main() -> None:
    """Measure the chosen rows."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    more = (LANGUAGES, ACCENTED, VOCABULARY, WORD_TIMES, SOUND_CAPTIONS, DEV_SOUND_CAPTIONS)
    known = ", ".join((*ROWS, SPEAKERS, *FREE, *more))
    parser.add_argument("rows", nargs="*", help=f"some of {known}; the first {len(ROWS)} if none is named")
    parser.add_argument("--model", default="mini", help="a name or a folder")
    parser.add_argument("--clips", type=Path, required=True, help="folder of held-out clips, synthesised if missing")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the answers and the worst of them")
    parser.add_argument("--size", type=float, default=1.0, help="how much of each row")
    parser.add_argument("--free", action="store_true", help=f"the rows {', '.join(FREE)} alone")
    parser.add_argument("--questions", type=Path, default=QUESTIONS, help="the folder of the free questions")
    parser.add_argument("--readers", type=Path, help=f"people's recordings for {SPEAKERS}, a folder for each person")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the service")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    evaluation = Evaluation(
        arguments.model,
        arguments.clips,
        arguments.size,
        arguments.set,
        arguments.questions,
        arguments.readers,
    )
    results: list[Result] = []
    figures: dict[str, Any] = {}
    with (arguments.out / "answers.jsonl").open("a", encoding="utf-8") as answers:
        for row in arguments.rows or (FREE if arguments.free else ROWS):
            found = []
            for result in evaluation.row(row):
                found.append(result)
                print(json.dumps(asdict(result)), file=answers, flush=True)
            results += found
            figures[row] = summary(found)
            print(row, json.dumps(figures[row]), flush=True)
    (arguments.out / "worst.md").write_text(worst(results), encoding="utf-8")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"model": arguments.model, **figures, **evaluation.figures, "resident_bytes": resident}))


if __name__ == "__main__":
    main()
