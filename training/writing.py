"""Writing: checkpoints go to disk behind the training, from copies in the host's memory that later steps do not change.

One is written at a time; who has the next one waits. A run that ends, however it ends, waits for what is being written,
and a disk that is full ends the run at the next checkpoint, with the one before intact.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Writer:
    """Does one piece of work at a time in a thread of its own; leaving its ``with`` block waits for the last."""

    def __init__(self) -> None:
        self.is_given_up = threading.Event()  # an error ends the run: who waits for other processes need not
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self, work: Callable[[], object]) -> None:
        """Start some work, once the one before has ended.

        Raises:
            BaseException: whatever the one before raised.
        """
        self.wait()
        self._thread = threading.Thread(target=self._do, args=(work,), name="checkpoints")
        self._thread.start()

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            BaseException: whatever the work raised.
        """
        self._join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (travels to whoever waits)
            self._error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.is_given_up.set()
        self._join()
        if error is None:
            self.wait()
