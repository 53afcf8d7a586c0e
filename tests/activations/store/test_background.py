from __future__ import annotations

import threading

import pytest

from repeng.activations.store.background import Background


def test_jobs_are_done_in_order_and_all_before_the_end() -> None:
    done: list[int] = []
    with Background() as background:
        for number in range(20):
            background.submit(lambda number=number: done.append(number))
    assert done == list(range(20))


def test_who_submits_goes_on_while_a_job_runs_and_waits_where_too_many_do() -> None:
    go, submitted = threading.Event(), threading.Event()
    done: list[str] = []

    def third() -> None:
        background.submit(lambda: done.append("third"))
        submitted.set()

    with Background(ahead=2) as background:
        background.submit(lambda: bool(go.wait(10)) and done.append("first"))
        background.submit(lambda: done.append("second"))
        assert done == []
        thread = threading.Thread(target=third)
        thread.start()
        assert not submitted.wait(0.2)
        go.set()
        assert submitted.wait(10)
        thread.join()
    assert done == ["first", "second", "third"]


def test_after_a_job_that_failed_no_later_one_is_run_and_its_error_is_raised_once() -> None:
    done: list[str] = []

    def fail() -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"), Background(ahead=3) as background:
        background.submit(fail)
        background.submit(lambda: done.append("builds on it"))
        background.at_last(lambda: done.append("at last"))
    with pytest.raises(OSError, match="no space left"), Background(ahead=1) as background:
        background.submit(fail)
        background.submit(lambda: done.append("another"))
    assert done == ["at last"]
    with Background() as background:
        background.submit(fail)
        with pytest.raises(OSError, match="no space left"):
            background.wait()


def test_an_error_of_the_caller_keeps_jobs_and_is_not_replaced_by_theirs() -> None:
    done: list[str] = []

    def fail() -> None:
        raise OSError("no space left")

    with pytest.raises(ValueError, match="mine"), Background() as background:
        background.submit(lambda: done.append("first"))
        background.submit(fail)
        raise ValueError("mine")
    assert done == ["first"]
