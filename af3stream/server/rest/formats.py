"""A file's captions in the formats of the transcription endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from af3stream.protocol import messages as m
from af3stream.server.logprobs import word_logprobs
from af3stream.subtitles import cues, to_srt, to_vtt

ResponseFormat = Literal["json", "text", "srt", "vtt", "verbose_json", "diarized_json"]
Fields = dict[str, Any]

TYPES: Final = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}
SPEAKERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NO_SPEAKER: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Transcript:
    """A file's final captions, with their translations in place of their words if the task is to translate.

    Attributes:
        seconds: length of the audio.
        language: a code; empty if the captioner does not say.
    """

    task: m.Task
    captions: Sequence[m.Caption]
    seconds: float
    language: str

    @property
    def text(self) -> str:
        """The text of all captions."""
        return " ".join(caption.text for caption in self.captions)

    @property
    def logprobs(self) -> list[Fields]:
        """Log probabilities of all words."""
        return [each for i, caption in enumerate(self.captions) for each in word_logprobs(caption, " " * bool(i))]

    @property
    def usage(self) -> Fields:
        """The usage: seconds of audio."""
        return {"type": "duration", "seconds": round(self.seconds)}


def as_text(transcript: Transcript, response_format: ResponseFormat) -> str:
    """Return plain text, or a caption file."""
    match response_format:
        case "srt":
            return to_srt(cues(transcript.captions))
        case "vtt":
            return to_vtt(cues(transcript.captions))
    return transcript.text + "\n"


def as_object(
    transcript: Transcript, response_format: ResponseFormat, *, words: bool, segments: bool, logprobs: bool = False
) -> Fields:
    """Return the JSON object.

    Args:
        words, segments: what `verbose_json` has.
        logprobs: whether `json` has log probabilities.
    """
    match response_format:
        case "verbose_json":
            return _verbose(transcript, words=words, segments=segments)
        case "diarized_json":
            numbered = enumerate(transcript.captions)
            return {
                "task": transcript.task,
                "duration": transcript.seconds,
                "text": transcript.text,
                "segments": [spoken_segment(number, caption) for number, caption in numbered],
                "usage": transcript.usage,
            }
    probable = {"logprobs": transcript.logprobs} if logprobs else {}
    return {"text": transcript.text, **probable, "usage": transcript.usage}


def spoken_segment(number: int, caption: m.Caption) -> Fields:
    """Return a segment with its speaker, as `diarized_json` has it and as it is streamed."""
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{number}",
        "start": caption.start,
        "end": caption.end,
        "text": caption.text,
        "speaker": speaker_label(caption.speaker),
    }


def speaker_label(speaker: int | None) -> str:
    """Return a speaker's letter, or number beyond the alphabet."""
    if speaker is None:
        return NO_SPEAKER
    return SPEAKERS[speaker - 1] if speaker <= len(SPEAKERS) else str(speaker)


def _verbose(transcript: Transcript, *, words: bool, segments: bool) -> Fields:
    fields: Fields = {
        "task": transcript.task,
        "language": transcript.language,
        "duration": transcript.seconds,
        "text": transcript.text,
    }
    if segments:
        fields["segments"] = [_segment(number, caption) for number, caption in enumerate(transcript.captions)]
    if words:
        timed = (word for caption in transcript.captions for word in caption.words)
        fields["words"] = [{"word": word.text.strip(), "start": word.start, "end": word.end} for word in timed]
    return {**fields, "usage": transcript.usage}


def _segment(number: int, caption: m.Caption) -> Fields:
    """Return a segment. Fields that only Whisper's own decoder knows have neutral values."""
    return {
        "id": number,
        "seek": round(caption.start * 100),  # hundredths of a second, Whisper's frames
        "start": caption.start,
        "end": caption.end,
        "text": caption.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": 0.0,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }
