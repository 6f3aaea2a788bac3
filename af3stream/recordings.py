"""The commands `transcribe` and `ask`: caption files and ask about them, without a server."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO

import msgspec

import af3stream.engine  # noqa: F401 - it sets how threads wait, before NumPy and torch read that
from af3stream import offline
from af3stream.audio.files import length
from af3stream.caption_writer import CaptionWriter
from af3stream.config import Config
from af3stream.engine.factory import Loaded, load_engine
from af3stream.errors import SourceError
from af3stream.listen.options import Question, question
from af3stream.listen.screen import clock
from af3stream.protocol.messages import Answer, Caption
from af3stream.subtitles import speaker_number

REWRITE_S: Final = 0.1  # between updates of the progress line on a terminal
REPEAT_S: Final = 10.0  # between lines of progress elsewhere
JSON: Final = ".json"

Say = Callable[[str], None]


def transcribe(arguments: argparse.Namespace, config: Config, formats: Sequence[str], say: Say) -> None:
    """Caption files, to standard output or to a file for each format.

    Raises:
        SourceError: if a file cannot be read or written, or two would be written to the same name.
    """
    paths: list[Path] = arguments.files
    lengths = [length(path) for path in paths]
    chosen = arguments.format or (formats if arguments.to else ())
    outputs = _outputs(paths, arguments.to or Path(), chosen)
    config = _telling_speakers(config, arguments.speakers)
    loaded = load_engine(config, say)
    for path, seconds in zip(paths, lengths, strict=True):
        began = time.perf_counter()
        heard = _captioned(
            path,
            seconds,
            config,
            loaded,
            outputs[path],
            shown=not (arguments.json or chosen),
            named=len(paths) > 1,
            speakers=arguments.speakers,
        )
        record = _record(path, heard, time.perf_counter() - began)
        for out in outputs[path]:
            if out.suffix == JSON:
                _write(out, json.dumps(record, ensure_ascii=False, indent=2) + "\n")
            if not arguments.json:
                print(out, flush=True)
        if arguments.json:
            _print_json(record)


def _captioned(
    path: Path,
    seconds: float | None,
    config: Config,
    loaded: Loaded,
    outputs: Sequence[Path],
    *,
    shown: bool,
    named: bool,
    speakers: bool | int,
) -> offline.Transcript:
    """Caption a file. Captions go to caption files at once, or to standard output.

    Words have their times unless captions are only shown.
    """
    with ExitStack() as stack:
        writers = [stack.enter_context(CaptionWriter(out)) for out in outputs if out.suffix != JSON]
        line = stack.enter_context(ProgressLine(f"captioning {path}", seconds))
        if shown and named:
            line.print(f"==> {path} <==")

        def tell(caption: Caption) -> None:
            for writer in writers:
                writer.add(caption)
            if shown:
                name = f"{speaker}: " if (speaker := speaker_number(caption)) else ""
                line.print(f"[{caption.start:8.2f} - {caption.end:8.2f}]  {name}{caption.text}")
                if caption.translation:
                    line.print(f"{'':21}  {caption.translation}")

        return offline.transcribe(path, config, loaded, tell, line.at, speakers=speakers, words=not shown)


def _telling_speakers(config: Config, wanted: bool | int) -> Config:
    """Return the configuration with the voice encoder if speakers are wanted; nothing is fetched for it otherwise."""
    return msgspec.structs.replace(config, captions=msgspec.structs.replace(config.captions, speakers=bool(wanted)))


def ask(arguments: argparse.Namespace, config: Config, say: Say) -> None:
    """Answer questions about a file, which is processed once.

    Raises:
        SourceError: if the file cannot be read, or a question cannot be parsed.
        Refusal: if a question is too long.
    """
    path: Path = arguments.file
    questions = [_about_a_file(spelled, config) for spelled in arguments.question]
    seconds = length(path)
    config = _telling_speakers(config, False)
    loaded = load_engine(config, say)
    began = time.perf_counter()
    doing = "hearing" if arguments.by_ear else "captioning"
    with ProgressLine(f"{doing} {path}", seconds) as line:
        heard = offline.HeardFile(
            path,
            config,
            loaded,
            by_ear=arguments.by_ear,
            normalised=arguments.normalise,
            instructions=arguments.instructions,
            progress=line.at,
        )
    rtf = _rtf(time.perf_counter() - began, heard.seconds)
    if not heard.windows and config.audio.mode == "speech":
        say(f"nobody speaks in {path}; with --set audio.mode=everything, music and sounds are heard, too")
    told = ""
    for asked in questions:
        if arguments.json:
            answer = heard.ask(asked.text, follows_up=asked.follows_up)
            _print_json(_answer_record(path, asked, answer, rtf))
        else:
            answer = _print_answer(heard, asked, several=len(questions) > 1)
        reach = _reach(heard, answer)
        if reach and reach != told:
            say(f"{path} is longer than the context window: {reach}")
        told = reach


class ProgressLine:
    """Show the progress on standard error: a line that a terminal rewrites, or else a new line now and then.

    Args:
        what: the action to show.
        total_s: length of the file, if it is known.
    """

    def __init__(self, what: str, total_s: float | None, out: TextIO | None = None) -> None:
        self._what = what
        self._of = f" of {clock(total_s)}" if total_s else ""
        self._out = out or sys.stderr
        self._rewrites = self._out.isatty()
        self._due = 0.0  # clock seconds

    def __enter__(self) -> Self:
        self.at(0.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._clear()

    def at(self, seconds: float) -> None:
        """Show how many seconds of audio are done, if an update is due."""
        now = time.monotonic()
        if now < self._due:
            return
        line = f"af3stream: {self._what}: {clock(seconds)}{self._of}"
        if self._rewrites:
            columns = shutil.get_terminal_size().columns
            self._out.write(f"\r\x1b[K{line[: columns - 1]}")
        else:
            self._out.write(f"{line}\n")
        self._out.flush()
        self._due = now + (REWRITE_S if self._rewrites else REPEAT_S)

    def print(self, line: str) -> None:
        """Print a line on standard output, in place of this one if both are on a terminal."""
        self._clear()
        print(line, flush=True)

    def _clear(self) -> None:
        if self._rewrites:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._due = 0.0


def _outputs(paths: Sequence[Path], folder: Path, formats: Sequence[str]) -> dict[Path, list[Path]]:
    """Return the caption files of each audio file."""
    outputs = {path: [folder / f"{path.stem}.{kind}" for kind in dict.fromkeys(formats)] for path in paths}
    owners: dict[Path, Path] = {}
    for path, names in outputs.items():
        for name in names:
            if owners.setdefault(name, path) != path:
                raise SourceError(f"the captions of {owners[name]} and {path} would both be written to {name}")
            if name.resolve() == path.resolve():
                raise SourceError(f"the captions of {path} would be written over it")
    if formats:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from None
    return outputs


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"cannot write captions to {path}: {error.strerror}")


def _record(path: Path, heard: offline.Transcript, took_s: float) -> dict[str, Any]:
    """Return the JSON record of the captions of a file."""
    return {
        "file": str(path),
        "text": heard.text,
        "seconds": round(heard.seconds, 3),
        "rtf": _rtf(took_s, heard.seconds),
        "captions": [_caption_record(caption) for caption in heard.captions],
    }


def _caption_record(caption: Caption) -> dict[str, Any]:
    """A caption as JSON has it; without what nobody knows or asked for."""
    record = {"start": caption.start, "end": caption.end, "text": caption.text}
    words = [msgspec.to_builtins(word) for word in caption.words]
    more = {
        "language": caption.language,
        "translation": caption.translation,
        "words": words,
        "speaker": caption.speaker,
    }
    return record | {name: value for name, value in more.items() if value}


def _answer_record(path: Path, asked: Question, answer: Answer, rtf: float | None) -> dict[str, Any]:
    """Return the JSON record of an answer."""
    return {
        "file": str(path),
        "question": asked.text,
        "text": answer.text,
        "range": [answer.start, answer.end],
        "heard_until": answer.heard_until,
        "captions_from": answer.captions_from,
        "captioned_until": answer.captioned_until,
        "ttft_s": None if answer.ttft_ms is None else round(answer.ttft_ms / 1_000, 3),
        "rtf": rtf,
    }


def _print_answer(heard: offline.HeardFile, asked: Question, *, several: bool) -> Answer:
    """Print an answer as it arrives, after its question if there are several."""
    if several:
        print(f"? {asked.text}\n -> ", end="", flush=True)
    answer = heard.ask(asked.text, follows_up=asked.follows_up, piece=lambda text: print(text, end="", flush=True))
    print(flush=True)
    return answer


def _about_a_file(spelled: str, config: Config) -> Question:
    """Parse one `--question`: ``text``, or ``> text``, which follows up the one before it.

    Raises:
        SourceError: if there is no text, or a time, which has no meaning here.
        Refusal: if the question is too long.
    """
    asked = question(spelled)
    if asked.at is not None:
        raise SourceError(f"a question about a file is asked when all of it was heard, not at {asked.at:g} s")
    offline.check_question(asked.text, config)
    return asked


def _reach(heard: offline.HeardFile, answer: Answer) -> str:
    """Return a sentence about what an answer did not use; empty if it used everything."""
    left_out, captions_until = heard.left_out_until(answer), heard.captions_alone_until(answer)
    told = []
    if captions_until is not None:
        told.append(f"what came before {clock(captions_until)} is read as captions")
    if left_out is not None:
        told.append(f"what came before {clock(left_out)} is left out")
    return ", and ".join(told)


def _rtf(took_s: float, seconds: float) -> float | None:
    """Return seconds of computing per second of audio."""
    return round(took_s / seconds, 4) if seconds else None


def _print_json(fields: dict[str, Any]) -> None:
    print(json.dumps(fields, ensure_ascii=False), flush=True)
