"""Probes from a store alone, on planted activations whose answers are known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import made_up
from planted_store import PAIRS, planted, two_worlds, write_store
from small_world import world, write_world

from repeng.activations.store import cached_split as cached
from repeng.activations.store.store import Store
from repeng.distributions.schema import Distribution, Split
from repeng.errors import BadInput, CaptureMismatch, RepengError, StoreError, UnknownName
from repeng.methods.probes import CachedSource
from repeng.metrics import Evaluation, accuracy_interval
from repeng.probes.fitted import FittedProbe
from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.io import load, save
from repeng.probes.registry import get_probe
from repeng.probes.source import BLOCK_BYTES, layer_blocks, split_source
from repeng.study.cached_data import CachedData, open_data, open_for, open_store
from repeng.study.cached_sweep import sweep, transfer_matrix
from repeng.study.steps import capture as capture_data
from repeng.study.steps import evaluate, fit

ONE_LAYER = 1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_worlds(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def capture(store: Path) -> CachedData:
    return open_store(store)


def cached_source(capture: CachedData, spec: ProbeSpec) -> CachedSource:
    return CachedSource.of(spec, capture.n_layers, capture.split("near"), capture.labels("near"))


def probabilities(fitted: FittedProbe, capture: CachedData) -> np.ndarray:
    found = evaluate(fitted, capture, "like").probabilities
    assert found is not None
    return found


def test_a_direction_that_is_useless_on_the_target_is_at_chance_there(capture: CachedData) -> None:
    fitted = fit(capture, "near", "mms", layers="top-k:1")
    assert fitted.layers == (2,)
    assert evaluate(fitted, capture, "near").accuracy > 0.95
    # 60 pairs: three standard errors of a fair coin are 0.19.
    assert abs(evaluate(fitted, capture, "far").accuracy - 0.5) < 0.19


def test_scoring_says_which_examples_its_pairs_are_of(capture: CachedData) -> None:
    evaluation = evaluate(fit(capture, "near", "mms"), capture, "like")
    assert evaluation.n_pairs == evaluation.n_prompts == PAIRS
    assert evaluation.example is not None and evaluation.example.tolist() == list(range(PAIRS))


def test_a_sweep_marks_the_sources_layer_and_the_targets_own_best(capture: CachedData) -> None:
    rows = sweep(capture, "near", ["near", "like"], ["mms", "logistic"])
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
def test_fits_in_blocks_are_the_fit_of_all_layers_at_once(capture: CachedData, probe: str, site: str) -> None:
    made = get_probe(probe, **({"k": 3} if probe.endswith("genies") else {}))
    spec = ProbeSpec(made, site=site)
    source = cached_source(capture, spec)
    assert len(list(layer_blocks(source))) == 1
    assert len(list(layer_blocks(source, ONE_LAYER))) == len(source.readings) == 4
    whole, parts = fit_probe(spec, source), fit_probe(spec, source, block_bytes=ONE_LAYER)
    assert parts.units == whole.units
    assert parts.fitted_layers == whole.fitted_layers
    np.testing.assert_array_equal(parts.held_out_accuracy, whole.held_out_accuracy)
    assert parts.layer_units == whole.layer_units
    one, other = (fitted.probe.state()["direction_"] for fitted in (parts, whole))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_sweep_is_the_same_whatever_its_blocks(capture: CachedData) -> None:
    arguments = (capture, "near", ["like"], ["mms", "lat"])
    assert sweep(*arguments) == sweep(*arguments, block_bytes=ONE_LAYER)


def test_blocks_keep_to_their_bound_and_hold_one_layer_at_the_least(capture: CachedData) -> None:
    source = cached_source(capture, ProbeSpec(get_probe("mms")))
    layer_bytes = 2 * PAIRS * 16 * 4
    for limit, sizes in ((1, [1, 1, 1, 1]), (2 * layer_bytes, [2, 2]), (3 * layer_bytes, [3, 1])):
        assert [len(block.layers) for block in layer_blocks(source, limit)] == sizes


def test_a_large_source_is_read_in_blocks_and_scores_the_same(capture: CachedData) -> None:
    whole, parts = fit(capture, "near", "mms"), fit(capture, "near", "mms", block_bytes=ONE_LAYER)
    assert parts.layers == whole.layers
    assert parts.temperature == pytest.approx(whole.temperature)
    np.testing.assert_allclose(probabilities(whole, capture), probabilities(parts, capture), rtol=1e-5)


@pytest.mark.parametrize(
    ("probe", "site", "layers"),
    [
        ("mms", None, "top-k:2"),
        ("mms", "hook_z", "top-k:3"),
        ("lat", None, "all"),
        ("mms", "hook_z", "1-2"),
        ("mms-genies(k=2)", None, "auto"),
    ],
)
def test_an_ensemble_of_a_large_source_scores_the_same(
    capture: CachedData, probe: str, site: str | None, layers: str
) -> None:
    whole = fit(capture, "near", probe, layers=layers, site=site)
    parts = fit(capture, "near", probe, layers=layers, site=site, block_bytes=ONE_LAYER)
    assert len(whole.units) > 1
    assert parts.units == whole.units
    assert parts.fitted_layers == whole.fitted_layers
    np.testing.assert_allclose(probabilities(whole, capture), probabilities(parts, capture), rtol=1e-4)


def test_layers_that_are_asked_for_are_the_only_ones_fitted(capture: CachedData) -> None:
    assert fit(capture, "near", "mms", layers=(0, 3)).fitted_layers == (0, 3)
    with pytest.raises(BadInput, match="mms has no layer 7"):
        fit(capture, "near", "mms", layers=(7,))


def test_what_stays_in_memory_of_a_split_is_bounded(capture: CachedData, monkeypatch: pytest.MonkeyPatch) -> None:
    source = capture.split("near")
    layer_bytes = 2 * PAIRS * 16 * 4
    monkeypatch.setattr(cached, "READ_BYTES", 2 * layer_bytes)
    source.stack(("plain",), [("resid_post", layer) for layer in range(4)], "last")
    assert source._kept.nbytes == 2 * layer_bytes
    source.forget()
    assert not source._kept.layers


def test_heads_are_chosen_and_told(capture: CachedData) -> None:
    fitted = fit(capture, "near", "mms", site="hook_z")
    assert fitted.units == ((2, 1),)
    rows = sweep(capture, "near", "near", "mms", site="hook_z")
    assert [(row.layer, row.head) for row in rows] == [(layer, head) for layer in range(4) for head in range(3)]
    assert {(row.layer, row.head) for row in rows if row.chosen} == set(fitted.units)


@pytest.mark.parametrize("block_bytes", [BLOCK_BYTES, ONE_LAYER])
def test_a_sweep_over_heads_is_a_plain_loop_over_them(capture: CachedData, block_bytes: int) -> None:
    rows = sweep(capture, "near", ["like"], ["mms"], site="hook_z", block_bytes=block_bytes)
    found = {(row.layer, row.head): row for row in rows}
    source, target, known = capture.split("near"), capture.split("like", "test"), capture.labels("near")
    pairs = split_source(known.labels, known.rivals, known.groups, seed=0)
    accuracies = {}
    for layer, head in found:
        learned, asked = (
            split.tensor("plain", ("hook_z", layer), "last")[:, head].double().numpy() for split in (source, target)
        )
        direction = np.mean([learned[best] - learned[worse] for best, worse in pairs.train], axis=0)
        held_out = [(learned[best] - learned[worse]) @ direction > 0 for best, worse in pairs.held_out]
        wins = [(asked[2 * pair] - asked[2 * pair + 1]) @ direction > 0 for pair in range(PAIRS)]
        accuracies[layer, head] = np.mean(wins)
        row = found[layer, head]
        assert row.accuracy == pytest.approx(np.mean(wins))
        assert row.held_out_accuracy == pytest.approx(np.mean(held_out))
        evaluation = Evaluation(np.array(wins, dtype=float), group=capture.labels("like", "test").groups[::2])
        assert (row.accuracy_low, row.accuracy_high) == pytest.approx(accuracy_interval(evaluation))
    assert len(found) == 4 * 3
    assert [unit for unit, row in found.items() if row.oracle] == [max(accuracies, key=accuracies.__getitem__)]


def test_a_preset_marks_every_head_that_its_source_chose(capture: CachedData) -> None:
    assert len(fit(capture, "near", get_probe("mms-genies", k=3)).units) == 3
    fitted = fit(capture, "near", "mms-genies(k=5)")
    rows = sweep(capture, "near", ["near"], ["mms-genies(k=5)"])
    assert len(fitted.units) == 5
    assert {(row.layer, row.head) for row in rows if row.chosen} == set(fitted.units)


def test_directions_of_distributions_alike_point_alike_and_others_do_not(capture: CachedData) -> None:
    found = transfer_matrix(capture, ("near", "far", "like"), "mms")
    assert found.cosine_layer == 2
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
    found = transfer_matrix(write_store(tmp_path, parts), ("a", "b"), "ccs")
    assert found.cosine_layer == 2
    assert found.cosine is not None and found.cosine[0][1] > 0.5


def test_several_captures_ask_which_and_an_id_answers(tmp_path: Path) -> None:
    signal = planted({2: (0, 4.0)}, seed=0)
    parts = {("near", split, "plain", "resid_post"): signal for split in ("train", "test")}
    write_store(tmp_path, parts, capture="toy-aaaa")
    write_store(tmp_path, parts, capture="toy-bbbb")
    write_store(tmp_path, parts, capture="other-cccc", model="other")
    with pytest.raises(BadInput, match=r"holds several captures: .*toy-aaaa .*choose one with --model"):
        open_store(tmp_path)
    with pytest.raises(BadInput, match="toy-aaaa .*toy-bbbb"):
        open_store(tmp_path, "toy")
    assert open_store(tmp_path, "other").id == "other-cccc"
    assert open_store(tmp_path, "toy-bbbb").id == "toy-bbbb"
    fitted = fit(open_store(tmp_path, "toy-bbbb"), "near", "mms")
    assert open_for(fitted, tmp_path).id == "toy-bbbb"
    assert evaluate(fitted, tmp_path, "near").accuracy > 0.9
    with pytest.raises(CaptureMismatch, match="toy-bbbb"):
        open_for(fitted, tmp_path, "toy-aaaa")
    with pytest.raises(CaptureMismatch, match="toy-bbbb"):
        evaluate(fitted, open_store(tmp_path, "toy-aaaa"), "near")
    Store(tmp_path).remove("toy-bbbb")
    with pytest.raises(CaptureMismatch, match="is not in"):
        open_for(fitted, tmp_path)


def test_an_empty_store_and_unknown_names_say_what_to_do(capture: CachedData, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="repeng cache --store"):
        open_store(tmp_path)
    with pytest.raises(UnknownName, match="'mine'; choose from far, like, near"):
        fit(capture, "mine", "mms")
    with pytest.raises(UnknownName, match="probe 'msm'"):
        fit(capture, "near", "msm")
    with pytest.raises(BadInput, match="has layers 0 to 3"):
        fit(capture, "near", "mms", layers="9")
    with pytest.raises(StoreError, match="contrast_yes"):
        fit(capture, "near", "cra")
    with pytest.raises(BadInput, match="needs 2 distributions or more; given near"):
        transfer_matrix(capture, ("near",), "mms")


def test_of_two_versions_of_the_data_none_is_taken_until_one_is_meant(tmp_path: Path) -> None:
    small = planted({2: (0, 4.0)}, seed=0, pairs=8)
    write_store(tmp_path, {("near", "train", "plain", "resid_post"): small}, data_hash="ffffffffffff")
    write_store(tmp_path, {("near", "train", "plain", "resid_post"): planted({}, seed=1)})
    found = open_store(tmp_path)
    for ask in (lambda: fit(found, "near", "mms"), lambda: found.labels("near"), lambda: sweep(found, "near", "near")):
        with pytest.raises((BadInput, UnknownName), match="2 versions of near/train|near/test"):
            ask()
    for data_hash, pairs in (("ffffffffffff", 8), ("0123456789ab", PAIRS)):
        named = CachedData(found.folder, {("near", "train"): data_hash})
        assert len(named.labels("near").labels) == 2 * pairs
        chosen = open_data(found, hashes=[data_hash])
        assert fit(chosen, "near", "mms").provenance["data_hash"] == data_hash
    with pytest.raises(UnknownName, match="'0000'; choose from 0123456789ab, ffffffffffff"):
        open_data(found, hashes=["0000"])
    with pytest.raises(BadInput, match="of other data than is meant"):
        CachedData(found.folder, {("near", "train"): "0000"}).labels("near")


@pytest.mark.parametrize(
    ("gone", "complaint"),
    [
        ("terse", "the benchmark names terse, and its data .* lacks it"),
        ("hard", "terse/train of other data than is meant"),
    ],
)
def test_of_data_that_is_meant_and_lacks_a_distribution_no_other_version_is_taken(
    gone: str, complaint: str, tmp_path: Path
) -> None:
    """Also where the data holds it, and lacks another distribution of its only shift."""
    folder = write_world(tmp_path / "world", world(6))
    shutil.rmtree(folder / "data" / gone)
    write_store(tmp_path, {("terse", "train", "plain", "resid_post"): planted({2: (0, 4.0)}, seed=0)})
    found = open_store(tmp_path)
    data, benchmark = str(folder / "data"), str(folder / "shifts.json")
    meant = open_data(found, data=data, benchmark=benchmark)
    for ask in (lambda: fit(meant, "terse", "mms"), lambda: meant.activations("terse")):
        with pytest.raises(BadInput, match=complaint):
            ask()
    by_hash = open_data(found, data=data, benchmark=benchmark, hashes=["0123456789ab"])
    assert fit(by_hash, "terse", "mms").provenance["data_hash"] == "0123456789ab"


@pytest.fixture
def two_versions(tmp_path: Path) -> tuple[Path, Distribution, Distribution]:
    """A store with two versions of one distribution that divide the same examples otherwise, and these versions."""
    examples = made_up(40).examples
    found = []
    for number, order in enumerate((examples, examples[20:] + examples[:20])):
        splits = {"train": Split("mine", "train", order[:24]), "test": Split("mine", "test", order[24:])}
        found.append(Distribution.read_from(f"/data/{number}", "mine", splits))
        capture_data("mini", found[-1], store=tmp_path, stimuli=("plain",), logprob=False)
    return tmp_path, found[0], found[1]


def test_train_and_test_of_one_score_are_of_one_version(
    two_versions: tuple[Path, Distribution, Distribution], caplog: pytest.LogCaptureFixture
) -> None:
    store, first, second = two_versions
    with pytest.raises(BadInput, match="2 versions of mine/train: .*/data/[01].*/data/[01]"):
        fit(open_store(store), "mine", "mms")
    fitted = fit(open_data(open_store(store), hashes=[first.train.data_hash]), "mine", "mms")
    # Nothing else is said: the test split is the one that was read with the train split.
    own = evaluate(fitted, open_store(store), "mine")
    assert own.n_pairs == len(first.test.pairs)
    other = open_data(open_store(store), hashes=[second.test.data_hash])
    with pytest.raises(BadInput, match=f"another version of it; score the one.*{first.test.data_hash}"):
        evaluate(fitted, other, "mine")
    twice = replace(fitted, provenance={**fitted.provenance, "source": "elsewhere"})
    with pytest.raises(BadInput, match="was fitted on 16 of the 16 prompts of mine/test"):
        evaluate(twice, other, "mine")
    evaluate(twice, other, "mine", allow_shared=True)
    assert "no measure of how it generalises" in caplog.text


def test_a_saved_probe_knows_its_prompts(two_versions: tuple[Path, Distribution, Distribution], tmp_path: Path) -> None:
    store, first, _ = two_versions
    fitted = fit(open_data(open_store(store), hashes=[first.train.data_hash]), "mine", "mms")
    save(fitted, tmp_path / "probe")
    loaded = load(tmp_path / "probe")
    assert loaded.provenance["prompts"] == list(first.train.prompt_hashes)
    assert loaded.provenance["place"] == "/data/0"
    with pytest.raises(BadInput, match="prompts of mine/train"):
        evaluate(loaded, open_store(store), "mine", split="train")


def test_of_data_that_was_captured_before_prompts_were_noted_whole_texts_are_compared(
    two_versions: tuple[Path, Distribution, Distribution],
) -> None:
    store, first, second = two_versions
    for record in store.glob("*/*/*/split.json"):
        record.unlink()
    fitted = fit(open_data(open_store(store), hashes=[first.train.data_hash]), "mine", "mms")
    assert "prompts" not in fitted.provenance
    with pytest.raises(BadInput, match="was fitted on 16 of the 16 prompts of mine/test"):
        evaluate(fitted, open_data(open_store(store), hashes=[second.test.data_hash]), "mine")


def test_texts_are_compared_under_the_stimulus_that_the_probe_reads(
    two_versions: tuple[Path, Distribution, Distribution],
) -> None:
    store, first, second = two_versions
    capture_data("mini", second.test, store=store, stimuli=("contrast_no",), logprob=False)
    for record in store.glob("*/*/*/split.json"):
        record.unlink()
    fitted = fit(open_data(open_store(store), hashes=[first.train.data_hash]), "mine", "mms")
    with pytest.raises(BadInput, match="was fitted on 16 of the 16 prompts of mine/test"):
        evaluate(fitted, open_data(open_store(store), hashes=[second.test.data_hash]), "mine")


def test_where_nothing_tells_which_prompts_a_probe_was_fitted_on_it_is_said(
    two_versions: tuple[Path, Distribution, Distribution], caplog: pytest.LogCaptureFixture
) -> None:
    store, first, _ = two_versions
    fitted = fit(open_data(open_store(store), hashes=[first.train.data_hash]), "mine", "mms")
    unknown = {"capture_id": fitted.provenance["capture_id"], "source": "elsewhere", "data_hash": "ffffffffffff"}
    data = open_data(open_store(store), hashes=[first.test.data_hash])
    evaluate(fitted, data, "mine")
    assert not caplog.text
    evaluate(replace(fitted, provenance=unknown), data, "mine")
    assert "which prompts mms was fitted on is not known, so it may have seen those of mine/test" in caplog.text


def test_a_split_whose_every_text_was_skipped_has_no_pair_to_score(tmp_path: Path) -> None:
    parts = {("near", split, "plain", "resid_post"): planted({2: (0, 4.0)}, seed=1) for split in ("train", "test")}
    write_store(tmp_path, parts)
    index = next(tmp_path.glob("*/near/test.*/*/index.json"))
    index.write_text(index.read_text().replace('"skipped": []', f'"skipped": {list(range(2 * PAIRS))}'))
    capture = open_store(tmp_path)
    with pytest.raises(RepengError, match="near/test: no pair is left"):
        evaluate(fit(capture, "near", "mms"), capture, "near")
