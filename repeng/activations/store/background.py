"""Jobs on a thread of their own, so that the model goes on while the disk is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class Background:
    """Runs jobs in the order given, on one thread, as a context.

    After a job that failed no later one is run, so what a job builds on is always there. Its error is raised here: by
    the next `submit` that has to wait, by `wait`, or on leaving the context. Whoever leaves by an error of their own
    has the jobs that were submitted done first.

    Args:
        ahead: jobs that may be waiting or running; `submit` of one more waits for the oldest.
    """

    def __init__(self, ahead: int = 2) -> None:
        self._ahead = ahead
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="repeng-writing")
        self._jobs: deque[Future[None]] = deque()
        self._failed = False

    def __enter__(self) -> Background:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()

    def submit(self, job: Callable[[], None]) -> None:
        """Have a job done.

        Raises:
            Exception: what an earlier job raised; this one is not done then.
        """
        while len(self._jobs) >= self._ahead:
            self._jobs.popleft().result()
        self._jobs.append(self._thread.submit(self._run, job))

    def at_last(self, job: Callable[[], None]) -> None:
        """Have a job done after those submitted so far, whether they fail or not; never waits."""
        self._jobs.append(self._thread.submit(job))

    def wait(self) -> None:
        """Wait until every job is done.

        Raises:
            Exception: what a job raised.
        """
        while self._jobs:
            self._jobs.popleft().result()

    def _run(self, job: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            job()
        except BaseException:
            self._failed = True
            raise
