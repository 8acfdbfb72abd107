"""The engine: one thread in which all that was asked for is written, whatever waits together in one batch."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.continuation import Continuation, Ranks
from training.decoding import Decoder
from training.generate import Generator
from training.serving.metrics import Metrics

FAILED = "error"  # finish reason of a continuation that the decoder could not go on with


class BusyError(RuntimeError):
    """More waits than is allowed to."""


class StoppingError(RuntimeError):
    """The server ends: nothing new is begun."""


@dataclass(frozen=True)
class Piece:
    """What has become of a continuation since the last piece."""

    row: Continuation
    text: str
    tokens: Sequence[int]
    ranks: Sequence[Ranks]
    finish_reason: str  # of the last one; empty before it


@dataclass
class _Listener:
    tell: Callable[[Piece], None]
    num_tokens: int = 0  # that it has been told of
    num_chars: int = 0


class Engine:
    """Continuations wait until there is room beside those that are being written, then join them.

    Args:
        max_rows: are written at a time.
        max_waiting: more are refused.
    """

    def __init__(self, generator: Generator, *, max_rows: int = 16, max_waiting: int = 64) -> None:
        self.generator, self.max_rows, self.max_waiting = generator, max_rows, max_waiting
        self.metrics = Metrics()
        self._waiting: deque[Continuation] = deque()
        self._listeners: dict[Continuation, _Listener] = {}
        self._num_running = 0
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="stemma-decoder", daemon=True)
        self._thread.start()

    def submit(self, rows: Sequence[Continuation], tell: Callable[[Piece], None]) -> None:
        """Write them; ``tell`` is called in the engine's thread with every piece of each.

        Raises:
            BusyError: if they are too many beside those that wait.
            StoppingError: if the server ends.
        """
        with self._changed:
            if self._stopping:
                raise StoppingError("the server is being stopped; ask again when it is back.")
            if len(self._waiting) + len(rows) > self.max_waiting + self.max_rows - self._num_running:
                raise BusyError(
                    f"{self._num_running} continuations are being written and {len(self._waiting)} wait; at most "
                    f"{self.max_waiting} may wait. Ask again in a moment."
                )
            self._waiting.extend(rows)
            self._listeners.update((row, _Listener(tell)) for row in rows)
            self._changed.notify_all()

    def cancel(self, rows: Sequence[Continuation]) -> None:
        """Nobody waits for these any more. They leave before the next step."""
        with self._changed:
            for row in rows:
                row.cancelled = True
                self._listeners.pop(row, None)
            self._waiting = deque(row for row in self._waiting if not row.cancelled)

    def stop(self) -> None:
        """What is being written is completed, what waits is refused, nothing new begins."""
        with self._changed:
            self._stopping = True
            refused, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        for row in refused:
            self._end(row, StoppingError.__name__)

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def gauges(self) -> dict[str, int]:
        return {"rows_running": self._num_running, "rows_waiting": len(self._waiting)}

    # -- in the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        decoder = self.generator.decoder()
        while (fresh := self._next(decoder)) is not None:
            try:
                decoder.join(fresh)
                stepped = decoder.step()
            except Exception:  # out of memory, for instance: those who wait must hear of it
                logging.getLogger(__name__).exception("%d continuations were given up", len(decoder.rows))
                for row in {*decoder.rows, *fresh}:
                    self._end(row, FAILED)
                decoder = self.generator.decoder()
                continue
            self.metrics.count("prompt_tokens_total", sum(len(row.prompt) for row in fresh))
            self.metrics.count("generated_tokens_total", len(stepped))
            self.metrics.count("steps_total")
            for row in dict.fromkeys([*stepped, *fresh]):
                self._tell(row)

    def _next(self, decoder: Decoder) -> list[Continuation] | None:
        """Those that join now; waits where there is nothing to do. None: it is over."""
        with self._changed:
            self._num_running = len(decoder.rows)
            self._changed.wait_for(lambda: self._waiting or decoder.rows or self._stopping)
            if self._stopping and not decoder.rows:
                return None
            room = min(len(self._waiting), self.max_rows - len(decoder.rows))
            fresh = [self._waiting.popleft() for _ in range(room)]
            self._num_running += len(fresh)
            return fresh

    def _tell(self, row: Continuation) -> None:
        listener = self._listeners.get(row)
        if listener is None:
            return
        done, told = listener.num_tokens, listener.num_chars
        piece = Piece(row, row.text[told:], row.tokens[done:], row.ranks[done:], row.finish_reason)
        listener.num_tokens, listener.num_chars = len(row.tokens), max(told, len(row.text))
        if row.ended:
            self._forget(row)
        listener.tell(piece)

    def _end(self, row: Continuation, reason: str) -> None:
        row.finish_reason = reason
        self._tell(row)

    def _forget(self, row: Continuation) -> None:
        with self._changed:
            self._listeners.pop(row, None)
