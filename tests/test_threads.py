from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from repeng.threads import SMALL_LAYER, few_threads, n_beside


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_what_is_small_is_fitted_on_one_thread_and_all_come_back_whatever_happens() -> None:
    with few_threads(SMALL_LAYER, SMALL_LAYER):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with few_threads(SMALL_LAYER + 1, SMALL_LAYER):
        assert torch.get_num_threads() == 3
    with pytest.raises(ValueError, match="fit"), few_threads(1, SMALL_LAYER):
        raise ValueError("fit")
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_processes_beside_are_as_many_as_there_is_work_and_threads_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [n_beside(work, 10) for work in (0, 9, 10, 20, 1000)] == [0, 0, 1, 2, 2]
    torch.set_num_threads(1)
    assert n_beside(1000, 10) == 0
    torch.set_num_threads(3)

    def refuse() -> None:
        raise OSError("no semaphores here")

    monkeypatch.setattr("multiprocessing.Lock", refuse)
    assert n_beside(1000, 10) == 0
