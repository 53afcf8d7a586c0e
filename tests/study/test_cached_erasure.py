"""Erasing from a store, on planted activations whose answers are known."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_store import planted, two_worlds, write_store

import repeng
from repeng.errors import BadInput, UnknownName
from repeng.maths import pair_accuracy
from repeng.steering.eraser import Eraser
from repeng.steering.vector import SteeringVector
from repeng.study.cached_data import CachedData, open_store
from repeng.study.cached_erasure import erase
from repeng.study.erasure import Erasure, ErasureRow
from repeng.study.steps import fit

QUICK = {"refits": ("logistic", "mms"), "draws": 5, "fits": 2}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_worlds(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def capture(store: Path) -> CachedData:
    return open_store(store)


@pytest.fixture(scope="module")
def found(capture: CachedData) -> Erasure:
    return erase(capture, "near", targets=["like"], **QUICK)


def the(found: Erasure, **wanted: object) -> ErasureRow:
    (row,) = (row for row in found.rows if all(getattr(row, name) == value for name, value in wanted.items()))
    return row


def test_the_concept_goes_from_its_source_and_from_who_shares_its_direction(found: Erasure) -> None:
    assert found.layer == 2 and found.eraser.layers == (0, 1, 2, 3)
    own = the(found, layer=2, rows="same", probe="logistic", target="near")
    assert own.before > 0.95 and own.after == 0.5
    fresh = the(found, layer=2, rows="fresh", probe="logistic", target="near")
    assert fresh.before > 0.95 and fresh.after < 0.75
    assert fresh.change_high is not None and fresh.change_high < 0
    # At layer 2 `like` lies along the axis of `near`, and `far` along another.
    like, far = (the(found, layer=2, rows="own", target=name) for name in ("like", "far"))
    assert like.before > 0.7 and like.after < 0.6 and like.went
    assert far.before > 0.95 and far.after > 0.95 and not far.went


def test_before_is_what_a_plain_fit_on_all_training_responses_gives(found: Erasure, capture: CachedData) -> None:
    rows = {split: torch.from_numpy(capture.activations("near", split, layer=2)) for split in ("train", "test")}
    direction = rows["train"][0::2].mean(dim=0) - rows["train"][1::2].mean(dim=0)
    scores = (rows["test"] @ direction).numpy()
    plain = float(pair_accuracy(scores[0::2] - scores[1::2]))
    assert the(found, layer=2, rows="same", probe="mms", target="near").before == plain
    like = torch.from_numpy(capture.activations("like", "test", layer=2))
    after = found.eraser(2, like.double()).numpy()
    row = the(found, layer=2, rows="same", probe="mms", target="like")
    traces = [np.trace(np.cov(each.T)) for each in (like.double().numpy(), after)]
    assert row.variance_removed == pytest.approx(1 - traces[1] / traces[0])


def test_random_directions_take_less_than_the_concepts(found: Erasure) -> None:
    own = the(found, layer=2, rows="same", probe="mms", target="near")
    assert own.random is not None and own.random_low is not None and own.random_high is not None
    assert own.after < own.random_low <= own.random <= own.random_high
    assert own.variance_random is not None and 0 < own.variance_random < 1


def test_the_eraser_sees_the_sources_train_split_alone(tmp_path: Path, found: Erasure) -> None:
    known = two_worlds(tmp_path / "known")
    strange = {
        (name, split, "plain", "resid_post"): planted({0: (5, 9.0)}, seed=77)
        for name, split in (("near", "test"), ("like", "train"), ("like", "test"), ("far", "train"), ("far", "test"))
    }
    root = write_store(tmp_path / "other", strange)
    kept = Path("toy-000000000000", "near", "train.0123456789ab")
    shutil.copytree(known / kept, root / kept)
    again = erase(open_store(root), "near", targets=["like"], **QUICK)
    assert torch.equal(again.eraser.proj_right, found.eraser.proj_right)
    assert torch.equal(again.eraser.bias, found.eraser.bias)
    assert again.rows != found.rows and again.layer == found.layer


def test_layers_alone_are_those_layers_of_all(found: Erasure, capture: CachedData) -> None:
    alone = erase(capture, "near", targets="like", layers="1-2", **QUICK)
    # A minimisation stops a little elsewhere in other company.
    mms = [row for row in alone.rows if row.probe != "logistic"]
    assert mms == [row for row in found.rows if row.layer in (1, 2) and row.probe != "logistic"]
    assert {row.layer for row in alone.rows} == {1, 2} and alone.layer == 2


def test_the_direction_of_a_probe_is_that_of_its_steering_vector(capture: CachedData, tmp_path: Path) -> None:
    found = erase(capture, "near", by="lat", layers="2", others=[], **QUICK)
    fitted = fit(capture, "near", "lat", layers=(2,))
    expected = Eraser.along(SteeringVector.of(fitted, (2,)))
    assert torch.equal(found.eraser.proj_left, expected.proj_left) and found.eraser.by == "lat"
    found.eraser.save(tmp_path)
    assert Eraser.load(tmp_path).provenance["source"] == "near"
    assert the(found, rows="same", probe="logistic").after < 0.75


def test_heads_are_units_of_their_own(capture: CachedData) -> None:
    found = erase(capture, "near", site="hook_z", others=["far"], **QUICK)
    assert (found.layer, found.head) == (2, 1)
    assert len(found.eraser.units) == 4 * 3
    assert the(found, layer=2, head=1, rows="same", probe="mms").before > 0.9
    assert the(found, layer=2, head=0, rows="same", probe="mms").before < 0.75
    assert len(found.at(2, 1)) == 2 * 2 + 1


def test_the_table_is_a_frame_of_every_figure(found: Erasure) -> None:
    frame = found.frame
    assert len(frame) == 4 * (2 * 2 * 2 + 2)
    assert {"before", "after", "change_low", "random", "variance_removed", "after_sd"} <= {*frame.columns}
    assert frame["head"].isna().all()


def test_the_door_is_open(capture: CachedData) -> None:
    assert repeng.erase is erase


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": "leece"}, "unknown probe 'leece'"),
        ({"by": "mlp"}, "reads along no direction|no direction"),
        ({"by": "ccs"}, "cannot be erased along"),
        ({"refits": ("cra",)}, "cannot be fitted again"),
        ({"layers": "auto"}, "chooses among layers"),
        ({"layers": "9"}, "has layers 0 to 3"),
        ({"others": ["near"]}, "is the source itself"),
        ({"others": ["elsewhere"]}, "unknown distribution"),
        ({"targets": ["elsewhere"]}, "unknown distribution"),
        ({"fits": 1}, "2 fits or more"),
        ({"draws": -1}, "0 draws or more"),
    ],
)
def test_what_cannot_be_erased_is_refused(capture: CachedData, options: dict[str, object], said: str) -> None:
    with pytest.raises((BadInput, UnknownName), match=said):
        erase(capture, "near", **{**QUICK, **options})  # type: ignore[arg-type]


def test_without_draws_there_is_no_null(capture: CachedData) -> None:
    found = erase(capture, "near", layers="2", **{**QUICK, "draws": 0})
    assert {row.random for row in found.rows} == {None} == {row.variance_random for row in found.rows}
