"""Write a caption file while captions arrive."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from af3stream.errors import SourceError
from af3stream.protocol.final_captions import FinalCaptions
from af3stream.protocol.messages import Caption
from af3stream.subtitles import (
    VTT_HEADER,
    Cue,
    Piece,
    cues,
    milliseconds,
    pieces_of,
    speaker_number,
    srt_block,
    timed,
    to_srt,
    to_vtt,
    vtt_block,
)


class CaptionWriter:
    """Write final captions to a ``.vtt``, ``.srt`` or ``.jsonl`` file as they arrive. The file is always valid.

    The end of the newest caption's last cue depends on the start of the next caption. So the cues of the newest caption
    are written again with the next caption. Their text, and so their length in bytes, does not change. `finish` writes
    the file again as it is to stay: with corrections and with the names of speakers.

    Raises:
        SourceError: if the suffix is unknown, or the file cannot be written; from any method, if the disk fails.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kind = path.suffix.lower()
        if self._kind not in (".vtt", ".srt", ".jsonl"):
            raise SourceError(f"captions are written as .vtt, .srt or .jsonl, and {path} is none of these")
        self._newest: list[Piece] = []
        self._newest_at = 0  # byte position of the newest caption's first cue
        self._cues_before = 0
        self._floor_ms = 0  # end of the cues before the newest caption
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise self._unwritable(error) from None
        if self._kind == ".vtt":
            self._newest_at = self._write(0, VTT_HEADER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def add(self, final: Caption) -> None:
        """Write one final caption, or a sound. Cues are in order, so a sound before the newest caption makes none."""
        if self._kind == ".jsonl":
            self._newest_at = self._write(self._newest_at, _json_line(final))
        elif (pieces := pieces_of(final, speaker_number(final))) and not (
            final.utterance < 0 and self._is_late(pieces)
        ):
            self._add_pieces(pieces)

    def finish(self, finals: FinalCaptions) -> None:
        """Write the file again, and close it: all captions and sounds with their corrections and speakers' names."""
        captions = [caption for caption in finals.with_sounds if caption.text]
        if self._kind == ".jsonl":
            text = "".join(_json_line(caption, finals.names.get(caption.speaker or 0, "")) for caption in captions)
        else:
            text = (to_vtt if self._kind == ".vtt" else to_srt)(cues(captions, finals.speaker))
        try:
            self._file.truncate(self._write(0, text))
        except OSError as error:
            raise self._unwritable(error) from None
        self.close()

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as error:
            raise self._unwritable(error) from None

    def _is_late(self, pieces: list[Piece]) -> bool:
        return bool(self._newest) and pieces[0].start_ms < self._newest[-1].end_ms

    def _add_pieces(self, pieces: list[Piece]) -> None:
        settled = timed(self._newest, floor_ms=self._floor_ms, until_ms=pieces[0].start_ms)
        self._newest_at = self._write(self._newest_at, self._spelled(settled))
        self._cues_before += len(settled)
        self._floor_ms = milliseconds(settled[-1].end) if settled else 0
        self._newest = pieces
        self._write(self._newest_at, self._spelled(timed(pieces, floor_ms=self._floor_ms, until_ms=None)))

    def _spelled(self, cues: list[Cue]) -> str:
        if self._kind == ".vtt":
            return "".join(map(vtt_block, cues))
        return "".join(srt_block(cue, number) for number, cue in enumerate(cues, start=self._cues_before + 1))

    def _write(self, position: int, text: str) -> int:
        """Write ``text`` at a byte position, and return the position after it."""
        try:
            self._file.seek(position)
            self._file.write(text.encode())
            self._file.flush()
            return self._file.tell()
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> SourceError:
        return SourceError(f"cannot write captions to {self.path}: {error.strerror}")


def _json_line(final: Caption, name: str = "") -> str:
    fields = {"utterance": final.utterance, "start": final.start, "end": final.end, "text": final.text}
    if final.speaker is not None:
        fields["speaker"] = final.speaker
    more = {"name": name, "language": final.language, "translation": final.translation, "words": final.words}
    fields |= {name: value for name, value in more.items() if value}
    return msgspec.json.encode(fields).decode() + "\n"
