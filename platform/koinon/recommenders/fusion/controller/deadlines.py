"""Running a pipeline with a limit on how long it is waited for."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

__all__ = ["Late", "Runner"]

Result = TypeVar("Result")


class Late(Exception):
    """There is no result yet."""


class Runner(Generic[Result]):
    """Runs things aside; what is late goes on, unheard, and until it ends nothing else is begun."""

    def __init__(self) -> None:
        self._late: list[Thread] = []

    @property
    def busy(self) -> bool:
        """Whether something that was late is still at work."""
        self._late = [thread for thread in self._late if thread.is_alive()]
        return bool(self._late)

    def run(self, work: Callable[[], Result], seconds: float) -> Result:
        """Return what ``work`` returns, or raise what it raises.

        Raises
        ------
        Late
            It has not ended in time, or what was late before has not ended yet.
        """
        if self.busy:
            raise Late
        results: list[Result] = []
        errors: list[Exception] = []

        def at_work() -> None:
            try:
                results.append(work())
            except Exception as error:
                errors.append(error)

        # a daemon: a pipeline that hangs must not keep the process from ending
        thread = Thread(target=at_work, daemon=True)
        thread.start()
        thread.join(max(seconds, 0.0))
        if thread.is_alive():
            self._late.append(thread)
            raise Late
        if errors:
            raise errors[0]
        return results[0]
