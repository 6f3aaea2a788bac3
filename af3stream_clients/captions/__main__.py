"""Command line of ``af3stream-captions``: captions over the desktop."""

from __future__ import annotations

import argparse
import getpass
import os
import signal
import sys
from pathlib import Path

from PySide6.QtCore import QSettings, QStandardPaths, QTimer

from af3stream_clients.captions.single_instance import COMMANDS, send_command

POLL_MS = 200


def main(argv: list[str] | None = None) -> int:
    """Run the program, or send a command to the running one, and return the exit code."""
    arguments = _parser().parse_args(argv)
    name = arguments.name or _name()
    if send_command(name, arguments.do or "history"):  # before the slow imports
        return 0
    if arguments.do:
        print("the captions are not running", file=sys.stderr)
        return 1
    return _run(arguments, name)


def _run(arguments: argparse.Namespace, name: str) -> int:
    from PySide6.QtWidgets import QApplication, QStyleFactory

    from af3stream_clients.captions.app import Captions
    from af3stream_clients.captions.options import Options

    if (
        "WAYLAND_DISPLAY" in os.environ and "DISPLAY" in os.environ
    ):  # Wayland does not let a window choose its place or stay on top
        os.environ.setdefault("QT_QPA_PLATFORM", "xcb")
    application = QApplication(sys.argv[:1])
    application.setApplicationName("af3stream captions")
    application.setApplicationDisplayName("Captions")
    application.setStyle(QStyleFactory.create("Fusion"))
    options = Options(
        url=arguments.url,
        token=arguments.token or os.environ.get("AF3STREAM_TOKEN"),
        source=arguments.source,
        name=name,
        server_options=tuple(part for setting in arguments.set for part in ("--set", setting)),
    )
    captions = Captions(application, _settings(arguments.settings), options)

    def leave(*_: object) -> None:
        captions.close()
        application.quit()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    waking = QTimer(interval=POLL_MS)  # lets Python handle signals while Qt runs
    waking.timeout.connect(lambda: None)
    waking.start()
    return application.exec()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("af3stream-captions", description="Live captions over the desktop.")
    parser.add_argument("--url", help="address of the service; by default that of the settings, or a local server")
    parser.add_argument("--token", help="token of the service; by default $AF3STREAM_TOKEN")
    parser.add_argument("--source", help="mic, system (what the computer plays), or a file; by default the last one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the local server")
    parser.add_argument("--do", choices=COMMANDS, help="send a command to the running program, and exit")
    parser.add_argument("--settings", type=Path, help="file of the settings")
    parser.add_argument("--name", default="", help="name of this instance, to run several")
    return parser


def _settings(path: Path | None) -> QSettings:
    if path:
        return QSettings(str(path), QSettings.Format.IniFormat)
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "af3stream", "captions")


def _name() -> str:
    """Return the name of the command socket, which only this user can reach."""
    folder = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.RuntimeLocation)
    name = f"af3stream-captions-{getpass.getuser()}"
    return str(Path(folder) / name) if folder and sys.platform != "win32" else name


if __name__ == "__main__":
    sys.exit(main())
