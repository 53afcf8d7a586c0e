from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from repeng.probes.threads import SMALL_BYTES, few_threads


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_what_is_small_is_fitted_on_one_thread_and_all_come_back_whatever_happens() -> None:
    with few_threads(SMALL_BYTES):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with few_threads(SMALL_BYTES + 1):
        assert torch.get_num_threads() == 3
    with pytest.raises(ValueError, match="fit"), few_threads(1):
        raise ValueError("fit")
    assert torch.get_num_threads() == 3
