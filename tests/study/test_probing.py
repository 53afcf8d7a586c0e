"""Probes from a store alone, on planted activations whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted_store import PAIRS, planted, two_worlds, write_store

from repeng.activations.store import cached_split as cached
from repeng.activations.store.store import Store, StoredCapture
from repeng.errors import BadInput, CaptureMismatch, RepengError, StoreError, UnknownName
from repeng.methods.probe_fitting import BLOCK_BYTES, fit_layers, fit_on_source, layer_blocks
from repeng.metrics import Evaluation, accuracy_interval
from repeng.probes.base import Reading
from repeng.probes.registry import get_probe
from repeng.probes.source import split_source
from repeng.study.probing import (
    capture_of,
    choose_capture,
    find_split,
    fit_from_store,
    layer_fits,
    score_from_store,
    sweep_probes,
    transfer_matrix,
)

ONE_LAYER = 1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_worlds(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def capture(store: Path) -> StoredCapture:
    return choose_capture(store)


def test_a_direction_that_is_useless_on_the_target_is_at_chance_there(capture: StoredCapture) -> None:
    fitted = fit_from_store(capture, "near", "mms").fitted
    assert fitted.layers == (2,)
    assert score_from_store(capture, fitted, "near")[1].accuracy > 0.95
    # 60 pairs: three standard errors of a fair coin are 0.19.
    assert abs(score_from_store(capture, fitted, "far")[1].accuracy - 0.5) < 0.19


def test_scoring_says_which_examples_its_pairs_are_of(capture: StoredCapture) -> None:
    _, evaluation = score_from_store(capture, fit_from_store(capture, "near", "mms").fitted, "like")
    assert evaluation.n_pairs == evaluation.n_prompts == PAIRS
    assert evaluation.example is not None and evaluation.example.tolist() == list(range(PAIRS))


def test_a_sweep_marks_the_sources_layer_and_the_targets_own_best(capture: StoredCapture) -> None:
    rows = list(sweep_probes(capture, "near", ["near", "like"], ["mms", "logistic"]))
    assert len(rows) == 2 * 2 * 4
    for row in rows:
        assert row.chosen == (row.layer == 2)
        assert row.head is None
        assert row.accuracy_low is not None and row.accuracy_high is not None
        assert row.accuracy_low <= row.accuracy <= row.accuracy_high
        if row.target == "like" and row.probe == "mms":
            assert row.oracle == (row.layer == 1)
    assert {row.held_out_accuracy for row in rows if row.layer == 2} == {1.0}


@pytest.mark.parametrize("probe", ["mms", "lat", "logistic", "mms-genies"])
@pytest.mark.parametrize("site", ["resid_post", "hook_z"])
def test_fits_in_blocks_are_the_fit_of_all_layers_at_once(capture: StoredCapture, probe: str, site: str) -> None:
    made = get_probe(probe, **({"k": 3} if probe.endswith("genies") else {}))
    source, readings = find_split(capture, "near", "train"), made.reads(capture.n_layers, site)
    whole = fit_layers(made, source, readings, site=site)
    parts = fit_layers(made, source, readings, site=site, block_bytes=ONE_LAYER)
    assert len(whole.blocks) == 1
    assert len(parts.blocks) == len(readings)
    assert parts.chosen == whole.chosen
    assert parts.layers == whole.layers
    np.testing.assert_array_equal(parts.held_out_accuracy, whole.held_out_accuracy)
    assert [parts.head(layer) for layer in parts.layers] == [whole.head(layer) for layer in whole.layers]
    for place, layer in enumerate(whole.layers):
        one = parts.of(layer).probe.state()["direction_"][0]
        np.testing.assert_allclose(one, whole.blocks[0].probe.state()["direction_"][place], rtol=1e-4, atol=1e-5)


def test_a_sweep_is_the_same_whatever_its_blocks(capture: StoredCapture) -> None:
    arguments = (capture, "near", ["like"], ["mms", "lat"])
    for one, other in zip(sweep_probes(*arguments), sweep_probes(*arguments, block_bytes=ONE_LAYER), strict=True):
        assert one == other


def test_blocks_keep_to_their_bound_and_hold_one_layer_at_the_least(capture: StoredCapture) -> None:
    probe, source = get_probe("mms"), find_split(capture, "near", "train")
    readings = probe.reads(capture.n_layers)
    layer_bytes = 2 * PAIRS * 16 * 4
    for limit, sizes in ((1, [1, 1, 1, 1]), (2 * layer_bytes, [2, 2]), (3 * layer_bytes, [3, 1])):
        assert [len(block) for block in layer_blocks(source, probe, readings, "last", limit)] == sizes


def test_a_large_source_is_fitted_on_its_chosen_layer_alone_and_scores_the_same(capture: StoredCapture) -> None:
    probe, source = get_probe("mms"), find_split(capture, "near", "train")
    readings = probe.reads(capture.n_layers)
    whole = fit_on_source(probe, source, readings).fitted
    parts = fit_on_source(probe, source, readings, block_bytes=ONE_LAYER).fitted
    assert parts.fitted_layers == parts.layers == whole.layers
    assert parts.temperature == pytest.approx(whole.temperature)
    one, other = (score_from_store(capture, fitted, "like")[1].probabilities for fitted in (whole, parts))
    assert one is not None and other is not None
    np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize(
    ("probe", "site", "layers"),
    [
        ("mms", None, "top-k:2"),
        ("mms", "hook_z", "top-k:3"),
        ("mms-genies", None, "auto"),
    ],
)
def test_an_ensemble_of_a_large_source_is_fitted_on_its_own_layers_alone_and_scores_the_same(
    capture: StoredCapture, monkeypatch: pytest.MonkeyPatch, probe: str, site: str | None, layers: str
) -> None:
    if probe.endswith("genies"):
        few = get_probe(probe, k=2)
        monkeypatch.setattr("repeng.study.probing.get_probe", lambda _name: few)
    whole = fit_from_store(capture, "near", probe, layers=layers, site=site)
    parts = fit_from_store(capture, "near", probe, layers=layers, site=site, block_bytes=ONE_LAYER)
    assert sorted(parts.fitted.units) == sorted(whole.fitted.units)
    assert set(parts.fitted.layers) <= set(parts.fitted.fitted_layers) < set(whole.fitted.fitted_layers)
    assert parts.by_layer.layers == whole.fitted.fitted_layers
    one, other = (score_from_store(capture, found.fitted, "like")[1].probabilities for found in (whole, parts))
    assert one is not None and other is not None
    np.testing.assert_allclose(one, other, rtol=1e-4)


def test_layers_that_are_asked_for_are_the_only_ones_fitted(capture: StoredCapture) -> None:
    probe, source = get_probe("mms"), find_split(capture, "near", "train")
    fitted = fit_on_source(probe, source, probe.reads(capture.n_layers), layers=(0, 3)).fitted
    assert fitted.fitted_layers == (0, 3)
    with pytest.raises(BadInput, match="mms has no layer 7"):
        fit_on_source(probe, source, probe.reads(capture.n_layers), layers=(7,))


def test_what_stays_in_memory_of_a_split_is_bounded(capture: StoredCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    source, probe = find_split(capture, "near", "train"), get_probe("mms")
    layer_bytes = 2 * PAIRS * 16 * 4
    monkeypatch.setattr(cached, "READ_BYTES", 2 * layer_bytes)
    source.activations(probe, probe.reads(capture.n_layers), "last")
    assert sum(tensor.nbytes for tensor in source._read.values()) == 2 * layer_bytes
    source.forget()
    assert not source._read


def test_heads_are_chosen_and_told(capture: StoredCapture) -> None:
    fitted = fit_from_store(capture, "near", "mms", site="hook_z").fitted
    assert fitted.units == ((2, 1),)
    rows = list(sweep_probes(capture, "near", ["near"], ["mms"], site="hook_z"))
    assert [(row.layer, row.head) for row in rows] == [(layer, head) for layer in range(4) for head in range(3)]
    assert [(row.layer, row.head) for row in rows if row.chosen] == [(2, 1)]


@pytest.mark.parametrize("block_bytes", [BLOCK_BYTES, ONE_LAYER])
def test_a_sweep_over_heads_is_a_plain_loop_over_them(capture: StoredCapture, block_bytes: int) -> None:
    rows = sweep_probes(capture, "near", ["like"], ["mms"], site="hook_z", block_bytes=block_bytes)
    found = {(row.layer, row.head): row for row in rows}
    source, target = find_split(capture, "near", "train"), find_split(capture, "like", "test")
    pairs = split_source(source.rows.labels, source.rows.examples, source.rows.groups, seed=0)
    accuracies = {}
    for layer, head in found:
        learned, asked = (
            split.tensor("plain", Reading("hook_z", layer, layer), "last")[:, head].double().numpy()
            for split in (source, target)
        )
        direction = np.mean([learned[best] - learned[worse] for best, worse in pairs.train], axis=0)
        held_out = [(learned[best] - learned[worse]) @ direction > 0 for best, worse in pairs.held_out]
        wins = [(asked[2 * pair] - asked[2 * pair + 1]) @ direction > 0 for pair in range(PAIRS)]
        accuracies[layer, head] = np.mean(wins)
        row = found[layer, head]
        assert row.accuracy == pytest.approx(np.mean(wins))
        assert row.held_out_accuracy == pytest.approx(np.mean(held_out))
        evaluation = Evaluation(np.array(wins, dtype=float), group=target.rows.groups[::2])
        assert (row.accuracy_low, row.accuracy_high) == pytest.approx(accuracy_interval(evaluation))
    assert len(found) == 4 * 3
    assert [unit for unit, row in found.items() if row.oracle] == [max(accuracies, key=accuracies.__getitem__)]


def test_a_preset_marks_every_head_that_its_source_chose(capture: StoredCapture) -> None:
    probe = get_probe("mms-genies", k=3)
    fits = layer_fits(capture, "near", probe, site=None, token=None, seed=0)
    fitted = fit_from_store(capture, "near", "mms-genies").fitted
    rows = list(sweep_probes(capture, "near", ["near"], ["mms-genies"]))
    assert len(fits.chosen) == 3
    assert {(row.layer, row.head) for row in rows if row.chosen} == set(fitted.units)


def test_directions_of_distributions_alike_point_alike_and_others_do_not(capture: StoredCapture) -> None:
    found = transfer_matrix(capture, ("near", "far", "like"), "mms")
    assert found.layer == 2
    cosine = np.array(found.cosine)
    assert np.diag(cosine) == pytest.approx(1)
    assert cosine[0, 2] > 0.7
    assert abs(cosine[0, 1]) < 0.4
    assert found.accuracy[0][0] > 0.95
    assert abs(found.accuracy[0][1] - 0.5) < 0.19


@pytest.mark.slow
def test_a_contrast_searchs_direction_has_the_sign_that_its_scores_have(tmp_path: Path) -> None:
    parts = {}
    for number, name in enumerate(("a", "b")):
        for place, split in enumerate(("train", "test")):
            for side, size in (("contrast_yes", 6.0), ("contrast_no", -6.0)):
                seed = 100 * number + 10 * place + len(side)
                parts[name, split, side, "resid_post"] = planted({2: (0, size)}, seed=seed, pairs=40)
    capture = choose_capture(write_store(tmp_path, parts))
    found = transfer_matrix(capture, ("a", "b"), "ccs")
    assert found.layer == 2
    assert found.cosine is not None and found.cosine[0][1] > 0.5


def test_several_captures_ask_which_and_an_id_answers(tmp_path: Path) -> None:
    signal = planted({2: (0, 4.0)}, seed=0)
    parts = {("near", split, "plain", "resid_post"): signal for split in ("train", "test")}
    write_store(tmp_path, parts, capture="toy-aaaa")
    write_store(tmp_path, parts, capture="toy-bbbb")
    write_store(tmp_path, parts, capture="other-cccc", model="other")
    with pytest.raises(BadInput, match=r"holds several captures: .*toy-aaaa .*choose one with --model"):
        choose_capture(tmp_path)
    with pytest.raises(BadInput, match="toy-aaaa .*toy-bbbb"):
        choose_capture(tmp_path, "toy")
    assert choose_capture(tmp_path, "other").id == "other-cccc"
    assert choose_capture(tmp_path, "toy-bbbb").id == "toy-bbbb"
    fitted = fit_from_store(choose_capture(tmp_path, "toy-bbbb"), "near", "mms").fitted
    assert capture_of(tmp_path, fitted).id == "toy-bbbb"
    with pytest.raises(CaptureMismatch, match="toy-bbbb"):
        capture_of(tmp_path, fitted, "toy-aaaa")
    Store(tmp_path).remove("toy-bbbb")
    with pytest.raises(CaptureMismatch, match="is not in"):
        capture_of(tmp_path, fitted)


def test_an_empty_store_and_unknown_names_say_what_to_do(capture: StoredCapture, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="repeng cache --store"):
        choose_capture(tmp_path)
    with pytest.raises(UnknownName, match="'mine'; choose from far, like, near"):
        fit_from_store(capture, "mine", "mms")
    with pytest.raises(UnknownName, match="probe 'msm'"):
        fit_from_store(capture, "near", "msm")
    with pytest.raises(BadInput, match="has layers 0 to 3"):
        fit_from_store(capture, "near", "mms", layers="9")
    with pytest.raises(StoreError, match="contrast_yes"):
        fit_from_store(capture, "near", "cra")
    with pytest.raises(BadInput, match="needs 2 distributions or more; given near"):
        transfer_matrix(capture, ("near",), "mms")


def test_of_two_versions_of_the_data_the_larger_is_taken(tmp_path: Path) -> None:
    small = planted({2: (0, 4.0)}, seed=0, pairs=8)
    write_store(tmp_path, {("near", "train", "plain", "resid_post"): small})
    first = next(tmp_path.glob("*/near/train.*"))
    first.rename(first.with_name("train.ffffffffffff"))
    write_store(tmp_path, {("near", "train", "plain", "resid_post"): planted({}, seed=1)})
    found = find_split(choose_capture(tmp_path), "near", "train")
    assert (found.data_hash, len(found.rows.labels)) == ("0123456789ab", 2 * PAIRS)


def test_a_split_whose_every_text_was_skipped_has_no_pair_to_score(tmp_path: Path) -> None:
    parts = {("near", split, "plain", "resid_post"): planted({2: (0, 4.0)}, seed=1) for split in ("train", "test")}
    write_store(tmp_path, parts)
    index = next(tmp_path.glob("*/near/test.*/*/index.json"))
    index.write_text(index.read_text().replace('"skipped": []', f'"skipped": {list(range(2 * PAIRS))}'))
    capture = choose_capture(tmp_path)
    with pytest.raises(RepengError, match="near/test: no pair is left"):
        score_from_store(capture, fit_from_store(capture, "near", "mms").fitted, "near")
