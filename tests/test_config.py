"""Settings: defaults, then a file, then overrides; whatever does not fit is refused with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from af3stream.config import Config, cache_dir, load
from af3stream.errors import ConfigError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AF3STREAM_TOKEN", "AF3STREAM_TOKEN_FILE", "AF3STREAM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def toml(folder: Path, text: str) -> Path:
    path = folder / "service.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_has_a_default() -> None:
    assert load() == Config()
    assert load().server.host == "127.0.0.1"


def test_overrides_go_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = toml(tmp_path, '[server]\nport = 1\nhost = "::1"\n[questions]\nnotes = "all"\n')
    config = load(path, ("server.port=2", "audio.mode=everything", "captions.interims=false"))
    assert (config.server.host, config.server.port) == ("::1", 2)
    assert (config.questions.notes, config.audio.mode, config.captions.interims) == ("all", "everything", False)
    assert config.model == Config().model


@pytest.mark.parametrize(
    ("override", "value"),
    [("model.name=/models/af3", "/models/af3"), ('model.name="mini"', "mini"), ("model.name=a=b", "a=b")],
)
def test_a_bare_word_is_a_string(override: str, value: str) -> None:
    assert load(None, (override,)).model.name == value


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("server.prt=1", "unknown key server.prt; did you mean 'server.port'?"),
        ("sever.port=1", "unknown section 'sever'; did you mean 'server'?"),
        ("zzz.qqq=1", "unknown section 'zzz'; known: server, audio"),
        ("server.port=many", "server.port: expected int, got str"),
        ("server.port=70000", "server.port: expected int <= 65535"),
        ("server.credit_s=10", "server.credit_s"),
        ("audio.mode=song", "audio.mode: invalid enum value 'song'; known: speech, everything"),
        ("audio.pause_ms=0", "audio.pause_ms"),
        ("questions.max_waiting=-1", "questions.max_waiting"),
        ("port=1", "--set takes section.key=value"),
        ("server.port", "--set takes section.key=value"),
        (".port=1", "--set takes section.key=value"),
    ],
)
def test_what_does_not_fit_is_named(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(None, (override,))
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[server\n", "is not valid TOML"),
        ("server = 5\n", "'server' is a section"),
        ("[server]\nport = 1.5\n", "server.port: expected int, got float"),
        ("[model]\nnam = 'mini'\n", "did you mean 'model.name'?"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(toml(tmp_path, text))
    assert complaint in str(refused.value)


def test_an_override_into_what_is_no_section(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'server' is a section"):
        load(toml(tmp_path, "server = 5\n"), ("server.port=1",))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load(tmp_path / "none.toml")


def test_tokens_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AF3STREAM_TOKEN", "a,b")
    assert load().server.tokens == ("a", "b")


def test_tokens_come_from_a_file_of_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AF3STREAM_TOKEN_FILE", str(tmp_path / "tokens"))
    (tmp_path / "tokens").write_text("a\n\nb\n")
    assert load().server.tokens == ("a", "b")


@pytest.mark.parametrize(("text", "reason"), [(None, "cannot read the tokens"), ("\n", "holds no token")])
def test_a_file_without_tokens_opens_the_server_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, reason: str
) -> None:
    monkeypatch.setenv("AF3STREAM_TOKEN_FILE", str(tmp_path / "tokens"))
    if text is not None:
        (tmp_path / "tokens").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        load()


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        load().server.port = 1  # type: ignore[misc]


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_the_configurations_that_come_with_it_load(path: Path) -> None:
    assert isinstance(load(path), Config)


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == Path.home() / ".cache" / "af3stream"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_dir() == Path("/x/af3stream")
    monkeypatch.setenv("AF3STREAM_CACHE", "/y")
    assert cache_dir() == Path("/y")


def test_a_vocabulary_is_a_list_or_a_file_of_at_most_200_terms(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("Ugarte\nOkonkwo\n", encoding="utf-8")
    assert load(overrides=(f"captions.vocabulary={names}",)).captions.vocabulary == ("Ugarte", "Okonkwo")
    assert load(overrides=('captions.vocabulary=["Ugarte"]',)).captions.vocabulary == ("Ugarte",)
    names.write_text("\n".join(f"term {number}" for number in range(10_000)), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"captions\.vocabulary: expected array of length <= 200"):
        load(overrides=(f"captions.vocabulary={names}",))
    names.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        load(overrides=(f"captions.vocabulary={names}",))
