"""Which model a probe was fitted on is told by hashes; its name tells nothing."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from tiny_models import make_model
from watched_samples import World, make_world

from repeng.activations.matching import Match, match
from repeng.errors import BadInput, CaptureMismatch
from repeng.models.load import load_model
from repeng.watching.watch import watch


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model("llama", tmp_path_factory.mktemp("home") / "model", seed=1)


@pytest.fixture(scope="module")
def world(home: Path) -> World:
    return make_world(
        load_model(str(home), device="cpu"), home.parent, "bfloat16", sites=("resid_post",), tokens=("last",)
    )


def test_the_same_files_in_another_folder_are_the_same_model(world: World, home: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(home, tmp_path / "another-name")
    lm = load_model(str(moved), device="cpu")
    found = match(world.probe("mms").provenance, lm, what="the probe mms")
    assert (found.storage_dtype, found.cautions) == ("bfloat16", ())


def test_other_weights_of_the_same_name_are_refused(world: World, tmp_path: Path) -> None:
    other = load_model(str(make_model("llama", tmp_path / "model", seed=2)), device="cpu")
    fitted = world.probe("mms")
    assert other.identity.slug == str(fitted.provenance["capture_id"]).rpartition("-")[0]
    with pytest.raises(CaptureMismatch, match="is another model"):
        watch(other, fitted, "Some text.")
    found = match(fitted.provenance, other, what="the probe mms", any_model=True)
    assert found.storage_dtype is None and "only if the weights are the same" in found.cautions[0]
    assert len(list(watch(other, fitted, "Some text.", any_model=True))) > 2


def test_a_model_of_another_width_is_refused_even_where_any_is_taken(world: World, tmp_path: Path) -> None:
    wide = load_model(str(make_model("llama", tmp_path / "wide", config={"hidden_size": 64})), device="cpu")
    with pytest.raises(BadInput, match="other vectors than the 64 dimensions"):
        watch(wide, world.probe("mms"), "Some text.", any_model=True)


def test_another_dtype_to_compute_in_is_a_caution(world: World, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    fitted = world.probe("mms")
    lm = load_model(str(home), device="cpu", dtype="bfloat16")
    exact = [token.score for token in watch(world.lm, fitted, "Some text of a few words.")]
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="repeng"):
        near = [token.score for token in watch(lm, fitted, "Some text of a few words.")]
    assert "computed in float32" in caplog.text and "--dtype float32" in caplog.text
    spread = max(exact) - min(exact)
    assert near != exact and max(abs(a - b) for a, b in zip(near, exact, strict=True)) < 0.2 * spread


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_how_activations_were_kept_is_found_out(world: World, tmp_path: Path, storage: str) -> None:
    other = make_world(world.lm, tmp_path, storage, sites=("resid_post",), tokens=("last",))
    assert match(other.probe("mms").provenance, world.lm, what="the probe mms").storage_dtype == storage


def test_a_probe_that_names_no_capture_is_taken_with_a_caution(world: World) -> None:
    assert "does not say which model" in match({}, world.lm, what="the probe mms").cautions[0]


def test_weights_alone_tell_too(world: World) -> None:
    weights = world.lm.identity.weights
    assert match({"weights": weights}, world.lm, what="the probe mms") == Match(None)
    with pytest.raises(CaptureMismatch, match="mms was fitted on tiny, and"):
        match({"weights": "sha256:0", "model": "tiny"}, world.lm, what="the probe mms")
