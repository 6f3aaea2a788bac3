"""Run one instance at a time; later calls of the command line send it commands over a local socket."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QObject, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

COMMANDS: Final = ("show", "pause", "ask", "save", "history", "quit")
TIMEOUT_MS: Final = 2_000


class CommandServer(QObject):
    """Receives commands on a local socket.

    Signals:
        command_received: one of ``COMMANDS``.
    """

    command_received = Signal(str)

    def __init__(self, name: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._server = QLocalServer(self)
        self._server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        self._server.newConnection.connect(self._on_connection)
        QLocalServer.removeServer(name)  # the socket of an instance that was killed
        self._server.listen(name)

    def close(self) -> None:
        """Stop receiving commands."""
        self._server.close()

    def _on_connection(self) -> None:
        socket = self._server.nextPendingConnection()
        socket.readyRead.connect(lambda: self._on_words(socket))
        socket.disconnected.connect(socket.deleteLater)

    def _on_words(self, socket: QLocalSocket) -> None:
        if socket.canReadLine():
            command = bytes(socket.readLine().data()).decode(errors="replace").strip()
            if command in COMMANDS:
                self.command_received.emit(command)
            socket.disconnectFromServer()


def send_command(name: str, command: str) -> bool:
    """Send a command to the running instance, and return whether there is one."""
    socket = QLocalSocket()
    socket.connectToServer(name)
    if not socket.waitForConnected(TIMEOUT_MS):
        return False
    socket.write(f"{command}\n".encode())
    socket.flush()
    if socket.state() != QLocalSocket.LocalSocketState.UnconnectedState:
        socket.waitForDisconnected(TIMEOUT_MS)
    return True
