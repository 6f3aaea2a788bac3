"""Older audio of a session whose gateway is on another machine, for the engine's thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import Final

from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSegment
from af3stream.errors import DataLoss

MOST: Final = 16  # segments that are on their way or wait to be read, besides those of the last `fetch`


class RemoteAudio:
    """Implements `af3stream.engine.contract.AudioSource` by requests to the gateway.

    `fetch`, `read` and `forget` are called from the engine's threads, one at a time; `arrive` from another one.

    Args:
        rereads: whether the gateway can read its audio again.
        ask: sends a request, from any thread.
        timeout_s: how long a read waits.
    """

    def __init__(self, ask: Callable[[AudioSegment], None], timeout_s: float, *, rereads: bool) -> None:
        self.rereads = rereads
        self._ask = ask
        self._timeout_s = timeout_s
        self._asked: dict[AudioSegment, Future[Samples]] = {}

    def fetch(self, segments: Sequence[AudioSegment]) -> int:
        """Ask for segments; returns how many of the first are here, or lost."""
        futures = [self._future(segment) for segment in segments]
        others = [segment for segment in self._asked if segment not in segments]
        for oldest in others[: max(0, len(others) - MOST)]:
            del self._asked[oldest]
        return next((count for count, future in enumerate(futures) if not future.done()), len(futures))

    def read(self, segment: AudioSegment) -> Samples:
        """Return the samples of a closed window, float32 (end - start,). It waits for them if `fetch` did not.

        Raises:
            DataLoss: if they are gone, or did not come in time.
        """
        future = self._future(segment)
        try:
            return future.result(self._timeout_s)
        except TimeoutError:
            raise lost(segment) from None
        finally:
            self._asked.pop(segment, None)

    def forget(self, segments: Collection[AudioSegment]) -> None:
        """Drop the samples of segments that are encoded by now."""
        for segment in self._asked.keys() & set(segments):
            del self._asked[segment]

    def arrive(self, segment: AudioSegment, samples: Samples | None) -> None:
        """Take the samples of a segment; ``None``: they are gone, or do not come in time."""
        future = self._asked.get(segment)
        if future is None or future.done():
            return
        if samples is None:
            future.set_exception(lost(segment))
        else:
            future.set_result(samples)

    def _future(self, segment: AudioSegment) -> Future[Samples]:
        if segment not in self._asked:
            self._asked[segment] = Future()
            self._ask(segment)
        return self._asked[segment]


def lost(segment: AudioSegment) -> DataLoss:
    """Return the error of a segment that cannot be read."""
    return DataLoss("samples", segment.start, segment.end)
