"""Restore a session from the journal: the same utterances, windows and captions; nothing is told or asked twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from af3stream.journal.records import AudioInput, AudioRecord, GapRecord
from af3stream.protocol.messages import SpeakerNamed
from af3stream.session.audio_pipeline import AudioPipeline
from af3stream.session.event_log import Cut, KeptMessage
from af3stream.session.stored_results import StoredResults


def replay(
    pipeline: AudioPipeline, audio: Iterable[AudioInput], kept: Sequence[KeptMessage], *, ended: bool = False
) -> None:
    """Feed the journal's audio to a new pipeline, cut where it was cut before.

    Final captions that the journal does not have are jobs for the captioner. Windows are encoded when a question reads
    them.

    Args:
        audio: from frame 0 on.
        kept: the journal's messages, in order.
        ended: whether the session ended where its audio does, so that nothing is open.

    Raises:
        DataLoss: if something that was acknowledged is damaged or missing.
    """
    stored = StoredResults.of(kept, ended=ended)
    pipeline.begin_replay(stored)
    cuts = deque(event.offset for event in kept if isinstance(event, Cut))
    receiver = pipeline.receiver
    for record in audio:
        for piece in split(record, list(cuts), receiver.format.bytes_per_frame):
            while cuts and cuts[0] <= receiver.received:
                cuts.popleft()
                pipeline.cut()
            pipeline.replay(piece)
            pipeline.restore_results(stored)
    if cuts or ended:
        pipeline.cut()
    pipeline.end_replay()
    pipeline.restore_results(stored)
    for event in kept:
        if isinstance(event, SpeakerNamed) and pipeline.speakers:
            pipeline.speakers.restore_name(event.speaker, event.name)


def split(record: AudioInput, cuts: Sequence[int], frame_bytes: int) -> Iterator[AudioInput]:
    """Split a record where cuts fall inside it; the journal may have joined what was received apart.

    No piece is empty, even if several cuts fall at one offset.
    """
    bounds = {record.offset, record.end, *(cut for cut in cuts if record.offset < cut < record.end)}
    for start, end in pairwise(sorted(bounds)):
        if isinstance(record, AudioRecord):
            pcm = record.pcm[(start - record.offset) * frame_bytes : (end - record.offset) * frame_bytes]
            yield AudioRecord(start, pcm, end - start)
        else:
            yield GapRecord(start, end - start)
