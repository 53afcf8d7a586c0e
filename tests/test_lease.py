"""Leases: one holder at a time, whatever dies between any two steps."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from dying_store import Died, client

from repeng import lease
from repeng.atomic import write_atomically
from repeng.errors import RemoteError
from repeng.lease import Lease, LeaseLost, leased
from repeng.locks import locked
from repeng.places import Remote, place

TERM = 0.2


@pytest.fixture(autouse=True)
def _short_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "TERM", TERM)
    monkeypatch.setattr(lease, "MARGIN", 0.0)
    monkeypatch.setattr(lease, "LOOK", 0.02)


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Any:
    return place(f"memory://{request.node.name.replace('[', '-').replace(']', '')}/split")


def numbers(folder: Any) -> list[str]:
    return [name for name in folder.children() if name != lease.CLOCK]


def test_a_folder_is_held_by_one_and_free_again(folder: Any) -> None:
    with locked(folder, wait=False) as held:
        assert held
        with locked(folder, wait=False) as other:
            assert not other
    with locked(folder, wait=False) as held:
        assert held and numbers(folder) == [".lease-2"]


def test_a_lease_that_is_renewed_outlives_its_term(folder: Any) -> None:
    with leased(folder, wait=False):
        time.sleep(3 * TERM)
        with leased(folder, wait=False) as other:
            assert not other
        write_atomically(folder / "x", "still mine")


def test_who_waits_takes_a_dead_holders_folder_after_its_term(folder: Any) -> None:
    dead = Lease(folder)
    with client() as process:
        assert dead.take(wait=False)
        process.gone = True
        # Its thread ends when it next asks for anything.
        assert dead._thread is not None
        dead._thread.join()
    began = time.monotonic()
    with leased(folder, wait=False) as held:
        assert not held
    with leased(folder, wait=True) as held:
        assert held and time.monotonic() - began > TERM / 2


def test_a_holder_that_was_taken_over_stops_loudly_and_writes_nothing_more(folder: Any) -> None:
    """As after a machine that slept: its thread has renewed nothing for a term, and another took the folder."""
    slept = Lease(folder)
    with client() as process:
        assert slept.take(wait=False)
        process.gone = True
        time.sleep(2 * TERM)
        assert slept._thread is not None
        slept._thread.join()
    slept.lost = ""
    lease._held.append(slept)
    try:
        with leased(folder, wait=True) as held:
            assert held
            # Two of this process now: what is written here is asked of both, and the one that slept finds out.
            with pytest.raises(LeaseLost, match="could not renew its lease.*another took over"):
                write_atomically(folder / "x", "not mine")
            assert not (folder / "x").is_file()
            lease._held.remove(slept)
            write_atomically(folder / "x", "mine")
            slept.free()
            with leased(folder, wait=False) as other:
                assert not other
    finally:
        if slept in lease._held:
            lease._held.remove(slept)


def test_a_holder_that_was_late_goes_on_where_nobody_took_over(folder: Any) -> None:
    slept = Lease(folder)
    with client() as process:
        assert slept.take(wait=False)
        process.gone = True
        time.sleep(2 * TERM)
        assert slept._thread is not None
        slept._thread.join()
    slept.lost = ""
    slept.check()
    assert numbers(folder) == [".lease-1", ".lease-2"]
    slept.check()
    slept.free()
    with leased(folder, wait=False) as held:
        assert held and numbers(folder) == [".lease-3"]


@pytest.mark.parametrize("after", [False, True])
def test_whatever_dies_between_two_steps_the_folder_is_taken_again(after: bool, folder: Any) -> None:
    with client() as process, leased(folder, wait=False) as held:
        assert held
    writes = len(process.writes)
    assert writes >= 2
    for at in range(writes):
        with pytest.raises(Died), client(at, after=after), leased(folder, wait=True):
            pass
        with leased(folder, wait=True) as held:
            assert held
    assert len(numbers(folder)) == 1


def test_of_many_takers_one_holds_at_a_time(folder: Any) -> None:
    """Some die holding it, some sleep through their term; what each does while it holds it is never interleaved."""
    inside: list[int] = []
    seen: list[int] = []
    faults: list[str] = []

    def work(number: int) -> None:
        try:
            with leased(folder, wait=True):
                inside.append(number)
                if inside != [number]:
                    faults.append(f"{inside} at once")
                time.sleep(0.01)
                inside.remove(number)
                seen.append(number)
        except Exception as error:
            faults.append(repr(error))

    dead = Lease(folder)
    assert dead.take(wait=False)
    dead._done.set()
    lease._held.remove(dead)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == [] and sorted(seen) == list(range(8))


def test_a_taker_that_slept_before_it_made_its_number_has_nothing(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It saw that 1 is free and is about to make 2: meanwhile 2 and 3 were made, and 2 removed again."""
    with leased(folder, wait=False):
        pass
    late = Lease(folder)
    for _ in range(2):
        with leased(folder, wait=False):
            pass
    holder = Lease(folder)
    assert holder.take(wait=False) and numbers(folder) == [".lease-4"]
    assert not late._make(2) and numbers(folder) == [".lease-4"]
    holder.check()
    holder.free()


def test_an_object_store_that_overwrites_what_it_was_to_make_is_refused(
    folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_tested", set())
    monkeypatch.setattr(Remote, "create", lambda self, data: bool(self.write_bytes(data)))
    refused = pytest.raises(RemoteError, match="does not refuse to make an object where there is one")
    with refused, leased(folder, wait=False):
        pass
