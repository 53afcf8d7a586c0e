from __future__ import annotations

import torch

from repeng.activations.transfer import Parcel


def test_tensors_of_any_dtype_and_shape_arrive_as_they_were_sent() -> None:
    generator = torch.Generator().manual_seed(0)
    sent = [
        torch.randn(3, 5, generator=generator).bfloat16(),
        torch.randn(1, generator=generator).double(),
        torch.zeros(0, 4, dtype=torch.float16),
        torch.randn(7, 2, 3, generator=generator).transpose(0, 1),
        torch.tensor(2.5),
        torch.randn(1, 1, generator=generator).bfloat16(),
    ]
    found = Parcel(sent).open()
    assert [(one.dtype, one.shape) for one in found] == [(one.dtype, one.shape) for one in sent]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, sent, strict=True))
    assert len({one.untyped_storage().data_ptr() for one in found if one.numel()}) == 1


def test_what_is_sent_is_what_it_was_when_it_was_sent() -> None:
    values = torch.ones(4)
    parcel = Parcel([values])
    values.zero_()
    assert parcel.open()[0].tolist() == [1.0] * 4


def test_nothing_is_a_parcel_too() -> None:
    assert Parcel([]).open() == []
