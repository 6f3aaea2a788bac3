"""Read the settings: the defaults, then a TOML file, then ``--set section.key=value``.

An unknown key raises an error that names the nearest known key. A value of the wrong type or outside its range raises
an error that names the key.
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
Vocabulary = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...], Meta(max_length=200)]


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the sections, which are frozen."""


class ServerConfig(Section, frozen=True):
    """Settings of addresses, admission, and limits of a connection."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8765  # 0: any free port
    tokens: tuple[str, ...] = ()  # empty: everybody may connect, so listen on loopback only
    origins: tuple[str, ...] = ()  # browser origins that may connect, besides the service's own page
    max_sessions: Count = 4
    max_sessions_per_user: Annotated[int, Meta(ge=0)] = 0  # connections of one token; 0: no limit of its own
    max_connections_per_address: Annotated[int, Meta(ge=0)] = 0  # 0: no limit of its own; use 0 behind a proxy
    max_handshakes: Count = 128  # connections without a complete request; beyond it, the oldest is closed
    max_http_connections: Count = 64  # connections of plain HTTP requests, after their first request
    memory_mb: Annotated[int, Meta(ge=0)] = 0  # MiB of the process; above it, no session is admitted; 0: no limit
    admit_busy: Annotated[float, Meta(ge=0)] = (
        0.9  # share of the device's time in use with one more session; 0: not checked
    )
    admit_lag_s: Positive = 30.0  # if all sessions are behind by more, none is admitted
    tls_certificate: str = ""  # a PEM file with the chain; empty: no TLS
    tls_key: str = ""  # a PEM file; empty: the key is in the certificate's file
    max_frame_bytes: Annotated[int, Meta(ge=1_024)] = 1 << 20
    max_head_bytes: Annotated[int, Meta(ge=1_024)] = 16_384  # request line and headers
    max_body_bytes: Annotated[int, Meta(ge=0)] = 1 << 20  # of a plain HTTP request
    open_timeout_s: Positive = 10.0
    request_timeout_s: Positive = 30.0  # from a plain request to the start of its response, and for each piece of it
    keep_alive_s: Count = 5  # between plain requests on one connection
    ping_interval_s: Positive = 15.0
    ping_timeout_s: Positive = 20.0
    idle_timeout_s: Positive = 300.0
    credit_s: Annotated[float, Meta(ge=70)] = 120.0  # seconds; more than an open window and an open utterance
    outgoing_messages: Count = (
        1_024  # messages queued for a slow reader; beyond it, interims are dropped, then the peer
    )
    resume_s: Positive = 120.0  # how long a session without a connection stays in memory
    drain_s: Positive = 20.0  # how long a shutdown waits for pending final captions


class JournalConfig(Section, frozen=True):
    """Settings of the journal: where sessions are kept, for how long, and how much disk space they may take."""

    folder: str = "auto"  # auto: in the user's state folder, one for each port; empty: nothing is kept
    segment_s: Positive = 60.0  # seconds of audio in a raw file; a full file is closed and becomes FLAC
    commit_every_ms: Annotated[int, Meta(ge=0)] = 20  # the least time between the starts of two commits
    retention_h: Positive = 24.0 * 7  # a session that nobody resumes for this time is deleted
    quota_mb: Count = 2_048  # the most disk space of the folder
    reserve_mb: Annotated[int, Meta(ge=0)] = 256  # disk space left free for others
    waiting_mb: Count = 64  # the most audio in memory that is not durable yet
    shared: bool = False  # whether several servers use the folder; each session then has a lease
    owner: str = ""  # name of this server in leases; empty: the name of the host


class UploadsConfig(Section, frozen=True):
    """What bounds the files that the REST endpoints take."""

    at_once: Count = 2  # requests with a file; one more is told to come later
    max_mb: Count = 512  # of a request
    max_s: Positive = 4 * 3600.0  # of audio
    arrive_s: Positive = 600.0  # from the request to the end of its body
    answer_s: Positive = 3600.0  # from the end of the body to the end of the answer


class AudioConfig(Section, frozen=True):
    """Settings of the segmenter."""

    mode: Literal["speech", "everything"] = "speech"
    vad_level: Annotated[int, Meta(ge=0, le=3)] = 2  # webrtcvad's aggressiveness
    min_speech_ms: Count = 120  # voiced time within 300 ms that begins an utterance
    speech_pad_ms: Annotated[int, Meta(ge=0, le=1_000)] = 240  # kept before the first and after the last voiced frame
    pause_ms: Count = 600  # unvoiced time that ends an utterance
    utterance_max_s: Positive = 30.0
    window_min_s: Positive = 15.0  # a window this long closes at the next pause
    gap_max_s: Positive = 3.0  # a longer gap without activity closes the window, and is left out
    silence_dbfs: float = -55.0  # quieter frames are silence, whatever the voice detector finds


class CaptionsConfig(Section, frozen=True):
    """Settings of captions."""

    captioner: str = "auto"  # auto: the checkpoint's default; af3; or a folder or hub id of a faster-whisper checkpoint
    language: str = "auto"  # a code; auto: the first seconds of speech decide, and a lasting change is followed
    languages: tuple[str, ...] = ()  # that may occur; empty: all that the captioner knows
    task: Literal["transcribe", "translate"] = "transcribe"  # translate: English beside the original
    vocabulary: Vocabulary = ()  # names and terms that are likely to be said; or the name of a file, a term a line
    interims: bool = True
    interim_every_s: Positive = 1.0  # of new audio; half of it while the engine has room, more under load
    max_tokens: Count = 224  # of the final caption of one utterance
    beam: Count = 5  # beams of Whisper's search for a final caption; 1: greedy
    speakers: bool = True  # whether a session may ask who speaks; the voice encoder is fetched once, 81 MB
    early_final_ms: Annotated[int, Meta(ge=0)] = 250  # of a pause, after which the final decode begins; 0: when it ends
    sounds: Literal["auto"] | bool = "auto"  # name sounds in mode everything; auto: if the checkpoint has learned to
    second_pass: bool = True  # caption the utterances of a closed window again, together, if that improves them


class QuestionsConfig(Section, frozen=True):
    """Settings of questions."""

    notes: Literal["auto", "off", "forgotten", "all"] = "auto"  # captions in the prompt; auto: the checkpoint's default
    notes_max_tokens: Annotated[int, Meta(ge=0)] = 1_536
    frames: Literal["auto", "all", "uncaptioned"] = (
        "auto"  # windows in the prompt as audio; auto: the checkpoint's default
    )
    read_tokens: Count = 400  # tokens that a question may read beyond the KV prefix; two seconds on two cores
    captions_wait_s: Annotated[float, Meta(ge=0)] = 2.0  # for the final captions of earlier utterances
    earlier_max_tokens: Annotated[int, Meta(ge=0)] = (
        256  # tokens of the questions and answers that a question follows up
    )
    max_tokens: Count = 192
    max_chars: Count = 2_000
    max_instructions_chars: Annotated[int, Meta(ge=0)] = 8_000  # of a session's instructions, the system turn
    max_waiting: Count = 4  # questions of a session without an answer
    max_watches: Annotated[int, Meta(ge=0)] = 8
    per_s: Positive = 10.0  # questions, watches, flushes and cancels of a session; bursts of 10 s' worth are allowed


class ModelConfig(Section, frozen=True):
    """Settings of the checkpoint: its name, and how it runs."""

    name: str = "mini"  # mini, a folder in the transformers layout, or a hub id
    device: str = "cpu"  # any torch device
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    weights: Literal["full", "int8"] = "full"  # of the language model's layers; int8: eight bits, on a CPU; not exact
    compile: bool = False  # decode with compiled code, exact; on a CPU it needs a C++ compiler, and halves the weights
    attention: Literal["eager", "sdpa", "flash_attention_2"] = "sdpa"
    embeddings: Literal["device", "host"] = "device"  # where the embeddings of windows are kept
    encode_together: Count = 1  # windows in one encoder pass; on a CPU, one is fastest
    prefill_chunk: Count = 128  # positions per prefill pass; a final caption waits for at most one pass
    threads: Annotated[int, Meta(ge=0)] = 0  # CPU threads; 0: torch's own choice
    max_windows: Annotated[int, Meta(ge=0)] = 20  # of the context window, if the model has positions for as many
    step_timeout_s: Positive = 120.0  # a step that takes longer fails its job
    kv_budget_mb: Annotated[float, Meta(ge=0)] = 0.0  # MiB of KV cache of all sessions; 0: no limit
    cool_after_s: Positive = 120.0  # after this time without work, the KV cache of a session is evicted
    embeddings_budget_mb: Annotated[float, Meta(ge=0)] = 0.0  # MiB of embeddings of all sessions; 0: no limit
    drop_after_s: Positive = 900.0  # after this time without work, embeddings are dropped too, if there is a journal


class EngineConfig(Section, frozen=True):
    """Settings of where the engine runs: in the server's process, or as processes of a Ray cluster."""

    kind: Literal["embedded", "ray"] = "embedded"
    cluster: str = "auto"  # host:port of the cluster's head; auto: the cluster that this machine belongs to
    cpus: Positive = 2.0  # CPUs of the cluster that an engine takes; on a GPU, it takes one GPU
    wait_s: Positive = 60.0  # how long a question waits for an engine if there is none
    rebuild_wait_s: Annotated[float, Meta(ge=0)] = 2.0  # and for its KV prefix at a new engine; then captions stand in
    coalesce_ms: Annotated[int, Meta(ge=0)] = 50  # how long messages wait to be sent together; urgent ones do not
    credit_mb: Count = 16  # the most data between a gateway and an engine that is not processed, each way
    queue_mb: Count = 64  # the most data that waits to be sent; a link that is so far behind is given up
    lost_after_s: Positive = 10.0  # a gateway or an engine that does not answer for this time is lost
    keep_s: Positive = 120.0  # how long an engine keeps the caches of a session whose gateway is lost
    read_timeout_s: Positive = 10.0  # how long a job waits for older audio of its session


class TracingConfig(Section, frozen=True):
    """Settings of OpenTelemetry traces."""

    endpoint: str = ""  # of OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; empty: nothing is traced
    ratio: Annotated[float, Meta(gt=0, le=1)] = 1.0  # of utterances and questions that are traced


class Config(Section, frozen=True):
    """The settings of the service, by section."""

    server: ServerConfig = ServerConfig()
    audio: AudioConfig = AudioConfig()
    captions: CaptionsConfig = CaptionsConfig()
    questions: QuestionsConfig = QuestionsConfig()
    model: ModelConfig = ModelConfig()
    journal: JournalConfig = JournalConfig()
    uploads: UploadsConfig = UploadsConfig()
    engine: EngineConfig = EngineConfig()
    tracing: TracingConfig = TracingConfig()


def load(path: Path | None = None, overrides: tuple[str, ...] = ()) -> Config:
    """Read the settings.

    Args:
        path: a TOML file, or ``None``.
        overrides: items ``section.key=value``; the value is TOML, or a bare word for a string.

    The tokens may also be in ``$AF3STREAM_TOKEN``, with commas between them, or in the file that
    ``$AF3STREAM_TOKEN_FILE`` names, one a line.

    Raises:
        ConfigError: if the file cannot be read, a key is unknown, or a value is invalid.
    """
    tree: dict[str, Any] = _read(path) if path else {}
    if tokens := os.environ.get("AF3STREAM_TOKEN"):
        _put(tree, "server", "tokens", tokens.split(","))
    if secret := os.environ.get("AF3STREAM_TOKEN_FILE"):
        _put(tree, "server", "tokens", read_tokens(Path(secret)))
    for override in overrides:
        _set(tree, override)
    _refuse_unknown(tree)
    captions = tree.get("captions", {})
    if isinstance(name := captions.get("vocabulary"), str):
        captions["vocabulary"] = read_vocabulary(Path(name))
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_explained(error)) from None


def cache_dir() -> Path:
    """Return the folder of assembled models: ``$AF3STREAM_CACHE``, else one in the user's cache folder."""
    if explicit := os.environ.get("AF3STREAM_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "af3stream"


def state_dir() -> Path:
    """Return the default folder of sessions: ``$AF3STREAM_STATE``, else one in the user's state folder."""
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


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """Read names and terms from a file, one a line; empty lines are left out.

    Raises:
        ConfigError: if it cannot be read.
    """
    return tuple(_lines(path, "vocabulary"))


def read_tokens(path: Path) -> list[str]:
    """Read tokens from a file, one a line.

    Raises:
        ConfigError: if it cannot be read, or has none: everybody could connect then.
    """
    if not (tokens := _lines(path, "tokens")):
        raise ConfigError(f"{quoted(path)} holds no token")
    return tokens


def _lines(path: Path, what: str) -> list[str]:
    """Return the lines of a file that are not empty."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the {what} {quoted(path)}: {reason}") from None
    return [line.strip() for line in lines if line.strip()]


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
    if isinstance(values, dict):  # else a later check reports it
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
    """Return msgspec's error as a sentence: the setting, what is wrong, and the valid values."""
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
