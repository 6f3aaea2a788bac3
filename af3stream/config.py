"""Every setting, frozen, in sections; read from defaults, then a TOML file, then ``--set section.key=value``.

An unknown key fails and names the nearest known one; a value of the wrong type or outside its range fails and names
its place.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from af3stream.errors import ConfigError, quoted

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the sections."""


class ServerConfig(Section, frozen=True):
    """Where the service listens, whom it admits, and what bounds a connection."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8765  # 0: any free port
    tokens: tuple[str, ...] = ()  # empty: no token asked for, so listen on loopback only
    origins: tuple[str, ...] = ()  # browser origins admitted besides the service's own page
    max_sessions: Count = 4
    max_sessions_per_user: Annotated[int, Meta(ge=0)] = 0  # a token's connections; 0: as many as there are
    max_connections_per_address: Annotated[int, Meta(ge=0)] = 0  # 0: as many as there are, as behind a proxy
    max_handshakes: Count = 128  # connections without a complete request; one more, and the oldest is cut off
    max_http_connections: Count = 64  # of plain requests, after their first one
    memory_mb: Annotated[int, Meta(ge=0)] = 0  # of the process: above it no session is admitted; 0: without a bound
    admit_busy: Annotated[float, Meta(ge=0)] = 0.9  # of the device, in real time, with one session more; 0: not asked
    admit_lag_s: Positive = 30.0  # where every session is behind by more, none is admitted
    tls_certificate: str = ""  # a PEM file, the chain included; empty: no TLS
    tls_key: str = ""  # a PEM file; empty: the key is in the certificate's file
    max_frame_bytes: Annotated[int, Meta(ge=1_024)] = 1 << 20
    max_head_bytes: Annotated[int, Meta(ge=1_024)] = 16_384  # request line and headers
    max_body_bytes: Annotated[int, Meta(ge=0)] = 1 << 20  # of a plain request
    open_timeout_s: Positive = 10.0
    request_timeout_s: Positive = 30.0  # from a plain request to the beginning of its answer, and for each piece of it
    keep_alive_s: Count = 5  # between plain requests on one connection
    ping_interval_s: Positive = 15.0
    ping_timeout_s: Positive = 20.0
    idle_timeout_s: Positive = 300.0
    credit_s: Annotated[float, Meta(ge=70)] = 120.0  # more than a window and an utterance, which stay open that long
    outgoing_messages: Count = 1_024  # waiting for a slow reader, before interims are dropped and then the peer
    resume_s: Positive = 120.0  # a session without a connection stays in memory so long
    drain_s: Positive = 20.0  # how long a shutdown waits for pending finals


class JournalConfig(Section, frozen=True):
    """Where sessions are kept, for how long, and how much of the disk they may take."""

    folder: str = "auto"  # auto: in the user's state folder; empty: nothing is kept
    segment_s: Positive = 60.0  # a raw file is closed after so much audio, and becomes FLAC
    commit_every_ms: Annotated[int, Meta(ge=0)] = 20  # at least this long from one commit's begin to the next
    retention_h: Positive = 24.0 * 7  # a session nobody came for in this time is deleted
    quota_mb: Count = 2_048  # everything in the folder
    reserve_mb: Annotated[int, Meta(ge=0)] = 256  # left free on the disk for others
    waiting_mb: Count = 64  # audio in memory that is not durable yet


class UploadsConfig(Section, frozen=True):
    """What bounds the files that the REST endpoints take."""

    at_once: Count = 2  # requests with a file; one more is told to come later
    max_mb: Count = 512  # of a request
    max_s: Positive = 4 * 3600.0  # of audio
    arrive_s: Positive = 600.0  # from the request to the end of its body
    answer_s: Positive = 3600.0  # from the end of the body to the end of the answer


class AudioConfig(Section, frozen=True):
    """How audio is cut."""

    mode: Literal["speech", "everything"] = "speech"
    vad_level: Annotated[int, Meta(ge=0, le=3)] = 2  # webrtcvad's aggressiveness
    min_speech_ms: Count = 120  # voiced time within 300 ms that begins an utterance
    speech_pad_ms: Annotated[int, Meta(ge=0, le=1_000)] = 240  # kept before the first and after the last voiced frame
    pause_ms: Count = 600  # unvoiced time that ends an utterance
    utterance_max_s: Positive = 30.0
    window_min_s: Positive = 15.0  # a window this long closes at the next pause
    gap_max_s: Positive = 3.0  # a longer stretch without activity closes the window, and is left out
    silence_dbfs: float = -55.0  # quieter frames are silence, whatever the voice detector says


class CaptionsConfig(Section, frozen=True):
    """How captions are made."""

    captioner: str = "auto"  # auto: the model's own choice; af3; or a folder or hub id of a faster-whisper checkpoint
    language: str = "en"
    interims: bool = True
    interim_every_s: Positive = 1.0
    max_tokens: Count = 224  # a final caption of one utterance
    beam: Count = 5  # beams of the search for Whisper's final caption; 1: greedy
    second_pass: bool = True  # hear a closed window once more, all its utterances at once, if the captioner gains by it


class QuestionsConfig(Section, frozen=True):
    """How questions are answered."""

    notes: Literal["auto", "off", "forgotten", "all"] = "auto"  # auto: the model's own choice
    notes_max_tokens: Annotated[int, Meta(ge=0)] = 1_536
    frames: Literal["auto", "all", "uncaptioned"] = "auto"  # windows that stand as audio; auto: the model's own choice
    read_tokens: Count = 400  # that a question reads of what is not in the kept prefix; two seconds on two cores
    captions_wait_s: Annotated[float, Meta(ge=0)] = 2.0  # for the final captions of what was said before
    earlier_max_tokens: Annotated[int, Meta(ge=0)] = 256  # of the questions and answers that a question follows up
    max_tokens: Count = 192
    max_chars: Count = 2_000
    max_waiting: Count = 4  # a session's questions, asked and not yet answered
    max_watches: Annotated[int, Meta(ge=0)] = 8
    per_s: Positive = 10.0  # a session's questions, watches, flushes and cancels; ten seconds' worth may come at once


class ModelConfig(Section, frozen=True):
    """Which checkpoint, and how it runs."""

    name: str = "mini"  # mini, a folder in the transformers layout, or a hub id
    device: str = "cpu"  # any torch device
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    weights: Literal["full", "int8"] = "full"  # of the language model's layers; int8: eight bits each, on a CPU
    compile: bool = False  # decode by compiled code, exact; on a CPU it needs a C++ compiler, and halves the weights
    attention: Literal["eager", "sdpa", "flash_attention_2"] = "sdpa"
    embeddings: Literal["device", "host"] = "device"  # where a session keeps its projected windows
    encode_together: Count = 1  # waiting windows in one encoder pass; a CPU is full with one
    prefill_chunk: Count = 128  # positions read in one pass; a final caption waits for one pass at most
    threads: Annotated[int, Meta(ge=0)] = 0  # CPU threads; 0: torch's own choice
    max_windows: Annotated[int, Meta(ge=0)] = 20  # the horizon, where the model's positions hold as many
    step_timeout_s: Positive = 120.0  # what takes longer is given up, one job at a time
    kv_budget_mb: Annotated[float, Meta(ge=0)] = 0.0  # keys and values of all sessions, in MiB; 0: without a bound
    cool_after_s: Positive = 120.0  # a session without work for so long gives up its keys and values
    embeddings_budget_mb: Annotated[float, Meta(ge=0)] = 0.0  # projected windows of all sessions, in MiB; 0: no bound
    drop_after_s: Positive = 900.0  # a session in the journal without work for so long gives up its embeddings too


class Config(Section, frozen=True):
    """All sections."""

    server: ServerConfig = ServerConfig()
    audio: AudioConfig = AudioConfig()
    captions: CaptionsConfig = CaptionsConfig()
    questions: QuestionsConfig = QuestionsConfig()
    model: ModelConfig = ModelConfig()
    journal: JournalConfig = JournalConfig()
    uploads: UploadsConfig = UploadsConfig()


def load(path: Path | None = None, overrides: tuple[str, ...] = ()) -> Config:
    """Read the configuration.

    Args:
        path: a TOML file with the sections above, or ``None``.
        overrides: ``section.key=value`` each, the value in TOML, or a bare word for a string.

    Raises:
        ConfigError: for an unreadable file, an unknown key, or a value that does not fit.
    """
    tree: dict[str, Any] = _read(path) if path else {}
    if tokens := os.environ.get("AF3STREAM_TOKEN"):
        _put(tree, "server", "tokens", tokens.split(","))
    for override in overrides:
        _set(tree, override)
    _refuse_unknown(tree)
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_explained(error)) from None


def cache_dir() -> Path:
    """Where assembled models live: ``$AF3STREAM_CACHE``, else the user's cache folder."""
    if explicit := os.environ.get("AF3STREAM_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "af3stream"


def state_dir() -> Path:
    """Where sessions are kept by default: ``$AF3STREAM_STATE``, else the user's state folder."""
    if explicit := os.environ.get("AF3STREAM_STATE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "af3stream"


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def _set(tree: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise ConfigError(f"--set takes section.key=value, not {quoted(override)}")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    _put(tree, section, key, parsed)


def _put(tree: dict[str, Any], section: str, key: str, value: object) -> None:
    values = tree.setdefault(section, {})
    if isinstance(values, dict):  # else it is refused with what does not fit
        values[key] = value


def _refuse_unknown(tree: dict[str, Any]) -> None:
    sections = {field.name: field.type for field in msgspec.structs.fields(Config)}
    for section, values in tree.items():
        if section not in sections:
            raise ConfigError(f"unknown section {quoted(section)}{_nearest(section, list(sections))}")
        if not isinstance(values, dict):
            raise ConfigError(f"{quoted(section)} is a section and takes keys, not {quoted(values)}")
        keys = [field.name for field in msgspec.structs.fields(sections[section])]
        for key in values:
            if key not in keys:
                full = [f"{section}.{name}" for name in keys]
                raise ConfigError(f"unknown key {section}.{key}{_nearest(f'{section}.{key}', full)}")


def _explained(error: msgspec.ValidationError) -> str:
    """A refusal of msgspec's as people read it: the setting, what is wrong with it, and the values that it takes."""
    said, _, place = str(error).replace("`", "").partition(" - at $.")
    section, _, key = place.partition(".")
    values: tuple[object, ...] = ()
    for field in msgspec.structs.fields(Config):
        if field.name == section:
            types = {inner.name: inner.type for inner in msgspec.structs.fields(field.type)}
            values = get_args(types.get(key)) if get_origin(types.get(key)) is Literal else ()
    known = f"; known: {', '.join(map(str, values))}" if values else ""
    return f"{place}: {said[:1].lower()}{said[1:]}{known}"


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"; did you mean {quoted(close[0])}?" if close else f"; known: {', '.join(known)}"
