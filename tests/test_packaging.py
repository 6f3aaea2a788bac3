"""The package as others install it: what the wheel holds, and what each command does without the extras."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution, distributions, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from af3stream import extras
from af3stream.errors import SetupError

ROOT = Path(__file__).parent.parent
SOURCES = ("af3stream", "af3stream_clients", "pyproject.toml", "README.md", "LICENSE")
TIMEOUT_S = 600  # at low priority on a loaded machine
PROGRAMS = {"af3stream-captions": "desktop", "af3stream-mic": "mic", "af3stream-bot": "bot"}
DATA = (
    "af3stream/py.typed",
    "af3stream/server/page/index.html",
    "af3stream/models/mini/trained.safetensors",
    "af3stream_clients/captions/icons/check.svg",
    "af3stream_clients/meeting_bot/example.toml",
    "af3stream_clients/recordings/conversation.ogg",
    "af3stream-0.1.0.dist-info/licenses/LICENSE",
)
WITHOUT_TORCH = """
import sys

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "faster_whisper", "starlette", "uvicorn"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse)
import af3stream.cli, af3stream.client, af3stream.client.sync, af3stream.listen
print(af3stream.client.connect.__name__)
"""


# ---- extras ----------------------------------------------------------------------------------------------------------


def declare(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(extras, "requires", lambda name: list(lines))


def test_a_missing_extra_is_a_sentence_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(
        monkeypatch,
        "no-such-base",
        'pytest>=9; extra == "server"',
        'no-such-a>=2; extra == "server"',
        'no-such-b<1; python_version > "3" and extra == "server"',
        'no-such-c; extra == "mic"',
    )
    with pytest.raises(SetupError) as refused:
        extras.require("server")
    assert str(refused.value) == 'no-such-a, no-such-b not installed: pip install "af3stream[server]"'


def test_an_installed_extra_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def requires(name: str) -> list[str]:
        asked.append(name)
        return ['pytest>=9; extra == "server"']

    monkeypatch.setattr(extras, "requires", requires)
    extras.require("server")
    assert asked == ["af3stream"]


def test_an_extra_needs_the_packages_of_the_extras_that_it_includes(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, 'no-such-a; extra == "gateway"', 'af3stream[gateway]; extra == "server"')
    with pytest.raises(SetupError, match=r"^no-such-a not installed: "):
        extras.require("server")


def test_a_gateway_installs_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chosen = dependencies([*project["dependencies"], *project["optional-dependencies"]["gateway"]], [], set())
    assert {canonicalize_name(each.metadata["Name"]) for each in chosen}.isdisjoint({"torch", "transformers"})


def test_the_client_is_imported_where_torch_is_absent() -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert (done.stdout, done.stderr) == ("connect\n", "")


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = ("gateway", "server", "cluster", "tracing", *PROGRAMS.values())
    lines = [*project["dependencies"], *(line for part in parts for line in project["optional-dependencies"][part])]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    origins = packages_distributions()
    foreign = imported("af3stream", "af3stream_clients") - sys.stdlib_module_names - set(SOURCES)
    assert [name for name in foreign if declared.isdisjoint(map(canonicalize_name, origins.get(name, [])))] == []


def imported(*folders: str) -> set[str]:
    """The packages that the sources in folders import."""
    found = set()
    for file in [file for folder in folders for file in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found


# ---- the wheel -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy so that nothing is left in it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / "source" / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "source"))
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and its dependencies; the folder of its programs."""
    return environment(wheel, tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def with_clients(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and the clients' extras; the folder of its programs."""
    return environment(wheel, tmp_path_factory.mktemp("full"), *PROGRAMS.values())


def environment(wheel: Path, folder: Path, *chosen: str) -> Path:
    """Install the wheel in a new environment, with links to what it depends on, so that nothing is fetched."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=TIMEOUT_S)
    pip("--python", str(folder / "bin/python"), "install", "--no-index", "--no-deps", str(wheel))
    [site] = folder.glob("lib/python*/site-packages")
    [ours] = distributions(name="af3stream", path=[str(site)])
    for package in dependencies(ours.requires or [], chosen, set()):
        for top in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(package.locate_file(top))))
    return folder / "bin"


def dependencies(lines: Iterable[str], chosen: Iterable[str], seen: set[str]) -> Iterator[Distribution]:
    """The distributions that requirements with these extras need, and what those need."""
    for need in map(Requirement, lines):
        wanted = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *chosen))
        if wanted and need.name not in seen:
            seen.add(need.name)
            yield (found := distribution(need.name))
            yield from dependencies(found.requires or [], need.extras, seen)


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, timeout=TIMEOUT_S)


def run(program: Path, *arguments: str) -> tuple[int, str, str]:
    """Run an installed program outside of the checkout: exit code, output, errors."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [program, *arguments],
        cwd=program.parent,
        env=variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.packaging
def test_the_wheel_holds_the_files_that_its_programs_read(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert [name for name in DATA if name not in names] == []
    assert {name.partition("/")[0] for name in names} == {"af3stream", "af3stream_clients", "af3stream-0.1.0.dist-info"}


@pytest.mark.packaging
def test_the_command_line_and_the_client_need_no_extra(bare: Path) -> None:
    assert "transcribe" in run(bare / "af3stream", "--help")[1]
    code, _, errors = run(bare / "af3stream", "listen", "mic", "--server", "http://127.0.0.1:1")
    assert (code, errors.count("\n"), "af3stream[mic]" in errors) == (2, 1, True)
    imports = "import af3stream.client, importlib.util; print(importlib.util.find_spec('torch'))"
    assert run(bare / "python", "-c", imports) == (0, "None\n", "")


@pytest.mark.packaging
@pytest.mark.parametrize("command", ["serve", "transcribe talk.wav", "ask talk.wav --question Who?", "pull mini"])
def test_a_command_that_runs_a_model_names_the_extra_that_it_needs(bare: Path, command: str) -> None:
    code, _, errors = run(bare / "af3stream", *command.split())
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.endswith('not installed: pip install "af3stream[server]"\n')


@pytest.mark.packaging
@pytest.mark.parametrize(("program", "extra"), PROGRAMS.items())
def test_a_client_without_its_extra_names_it(bare: Path, program: str, extra: str) -> None:
    code, _, errors = run(bare / program, "--help")
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.endswith(f'not installed: pip install "af3stream[{extra}]"\n')


@pytest.mark.packaging
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_client_with_its_extra_prints_its_help(with_clients: Path, program: str) -> None:
    code, output, errors = run(with_clients / program, "--help")
    assert (code, output.partition("\n")[0].split()[:2], errors) == (0, ["usage:", program], "")
