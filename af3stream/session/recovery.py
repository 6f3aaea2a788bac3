"""A session comes back from the journal: the same utterances, windows and words, and nothing is told or asked twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import inf

from af3stream.engine.contract import Hypothesis
from af3stream.engine.jobs import CaptionJob, EncodeJob, Job, VoiceJob
from af3stream.journal.records import AudioInput, AudioRecord, GapRecord
from af3stream.protocol.messages import Caption, CaptionUpdate, SpeakerNamed, SpeakerUpdate
from af3stream.session.audio_pipeline import AudioPipeline
from af3stream.session.event_log import Cut, Divided, KeptMessage, Revised


def replay(
    hearing: AudioPipeline, audio: Iterable[AudioInput], kept: Sequence[KeptMessage], *, ended: bool = False
) -> None:
    """Take in what the journal has, cutting where it was cut.

    Final captions that are not kept are asked of the captioner; windows are encoded when a question wants them.

    Args:
        hearing: of a session just made.
        audio: from frame 0 on.
        kept: the events, by number.
        ended: whether the session ended where its audio does, which closed what was open.

    Raises:
        DataLoss: where something that was acknowledged is damaged or missing.
    """
    finals = {event.utterance: event.text for event in kept if isinstance(event, Caption | CaptionUpdate)}
    said = [event for event in kept if isinstance(event, Caption | SpeakerUpdate)]
    speakers = {event.utterance: event.speaker for event in said if event.speaker is not None}
    divided = deque(event for event in kept if isinstance(event, Divided))
    revised = (event.window for event in kept if isinstance(event, Revised))
    revised_to = inf if ended else max(revised, default=-1)
    cuts = deque(event.offset for event in kept if isinstance(event, Cut))
    for record in audio:
        for piece in split(record, list(cuts), hearing.intake.format.bytes_per_frame):
            while cuts and cuts[0] <= hearing.intake.received:
                cuts.popleft()
                hearing.cut()
            hearing.replay(piece)
            _divide(hearing, divided, speakers)
            _remember(hearing, finals, revised_to)
    for _ in cuts:
        hearing.cut()
    if ended:
        hearing.cut()
    _divide(hearing, divided, speakers)
    _remember(hearing, finals, revised_to)
    for event in kept:
        if isinstance(event, SpeakerNamed) and hearing.speakers:
            hearing.speakers.restore_name(event.speaker, event.name)


def split(record: AudioInput, cuts: Sequence[int], frame_bytes: int) -> Iterator[AudioInput]:
    """A record in pieces that end where cuts fell inside it; a journal may have joined what came apart.

    No piece is empty, however many cuts fell at one offset.
    """
    bounds = {record.offset, record.end, *(cut for cut in cuts if record.offset < cut < record.end)}
    for start, end in pairwise(sorted(bounds)):
        if isinstance(record, AudioRecord):
            pcm = record.pcm[(start - record.offset) * frame_bytes : (end - record.offset) * frame_bytes]
            yield AudioRecord(start, pcm, end - start)
        else:
            yield GapRecord(start, end - start)


def _divide(hearing: AudioPipeline, divided: deque[Divided], speakers: Mapping[int, int]) -> None:
    """Divide closed utterances as they were divided; the voices of the others are still to be heard."""
    for job in _take(hearing):
        if isinstance(job, VoiceJob) and divided:
            hearing.restore_voices(job, divided.popleft(), speakers)
        else:
            hearing.jobs.append(job)


def _remember(hearing: AudioPipeline, finals: dict[int, str], revised_to: float) -> None:
    """Take from the journal what the engine would be asked for; jobs for the rest stay.

    Finals are told in order: an utterance before the newest kept one that has none said nothing.
    """
    told_to = max(finals, default=-1)
    hearing.cancelled.clear()
    for job in _take(hearing):
        if isinstance(job, CaptionJob) and job.utterance <= told_to:
            hearing.done(job)
            hearing.captions.heard_final(job, Hypothesis(finals.get(job.utterance, "")))
        else:
            hearing.jobs.append(job)
    hearing.revision.skip(revised_to)
    hearing.settle()
    for job in _take(hearing):
        if isinstance(job, EncodeJob):
            hearing.done(job)
            hearing.horizon.restore(job)
            job.sound.samples = None  # read again then
        else:
            hearing.jobs.append(job)
    hearing.horizon.trim()


def _take(hearing: AudioPipeline) -> list[Job]:
    jobs, hearing.jobs = hearing.jobs, list[Job]()
    return jobs
