"""Probes over all tokens, and the network: each against plain loops, each layer alone, and what was planted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import fit_probe, planted
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from repeng.errors import BadArray
from repeng.probes import MLP, Attention, MaxOfMeans, MeanOfScores, Probe, Ragged, SoftmaxPooling, load, save
from repeng.probes.fitting import ProbeSpec
from repeng.probes.members import Members
from repeng.probes.repeats import fit_repeatedly
from repeng.probes.source import SourceData
from repeng.probes.trained import TrainedProbe
from repeng.probes.training import HELD_OUT_SHARE, Batch, Schedule, batched, held_out_texts, train

OVER_TOKENS = [Attention(epochs=30), SoftmaxPooling(epochs=30), MaxOfMeans(window=3, epochs=30), MeanOfScores()]
IDS = [probe.name for probe in OVER_TOKENS]
TRAINED = [probe for probe in OVER_TOKENS if isinstance(probe, TrainedProbe)]


def texts_of(
    *,
    pairs: int = 60,
    layers: int = 2,
    d: int = 6,
    seed: int = 0,
    strength: float = 3.0,
    tokens: int = 12,
    marked: int = 3,
) -> tuple[Ragged, Tensor, Tensor]:
    """Pairs of texts of unequal length; in a best one a few tokens in a row lie further along the first axis."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(marked, tokens, (2 * pairs,), generator=generator).numpy()
    offsets = np.r_[0, np.cumsum(lengths)]
    values = 5 + torch.randn(layers, 1, int(offsets[-1]), d, generator=generator) * torch.linspace(0.5, 4, d)
    labels = torch.tensor([1.0, 0.0]).repeat(pairs)
    for text in range(0, 2 * pairs, 2):
        first = offsets[text] + int(torch.randint(0, int(lengths[text]) - marked + 1, (1,), generator=generator))
        values[:, 0, first : first + marked, 0] += strength
    return Ragged(values, offsets), labels, torch.arange(pairs).repeat_interleave(2)


def source_of(**settings: int | float) -> SourceData:
    ragged, labels, groups = texts_of(**settings)  # type: ignore[arg-type]
    return SourceData(ragged, labels.double().numpy(), groups.numpy(), groups.numpy(), tuple(range(len(ragged))))


def by_loops(probe: Probe, tokens: np.ndarray, state: dict[str, np.ndarray]) -> float:
    """One text's score, from `[token, d]` and one batch element's state, in words of one token at a time."""
    if isinstance(probe, Attention):
        heads = []
        for query, value in zip(state["query_"], state["value_"], strict=True):
            weights = [np.exp(token @ query / np.sqrt(len(query))) for token in tokens]
            heads.append(sum(w * (token @ value) for w, token in zip(weights, tokens, strict=True)) / sum(weights))
        return float(np.mean(heads) - state["offset_"])
    scores = [float(token @ state["direction_"] - state["offset_"]) for token in tokens]
    if isinstance(probe, MeanOfScores):
        return float(np.mean(scores))
    if isinstance(probe, SoftmaxPooling):
        weights = [np.exp(score / probe.temperature) for score in scores]
        return float(np.dot(weights, scores) / np.sum(weights))
    assert isinstance(probe, MaxOfMeans)
    window = min(probe.window, len(scores))
    return max(float(np.mean(scores[i : i + window])) for i in range(len(scores) - window + 1))


@pytest.mark.parametrize("probe", OVER_TOKENS, ids=IDS)
def test_a_texts_score_is_what_plain_loops_over_its_tokens_give(probe: Probe) -> None:
    ragged, labels, groups = texts_of(pairs=20)
    fitted = clone(probe).fit(ragged, labels, groups)
    scores = fitted.decision_function(ragged)
    assert scores.shape == (2, 40)
    for layer in range(2):
        state = {name: value[layer].double().numpy() for name, value in fitted.state().items()}
        expected = [by_loops(fitted, text.double().numpy(), state) for text in ragged[layer, 0]]
        np.testing.assert_allclose(scores[layer].numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("probe", OVER_TOKENS, ids=IDS)
def test_all_layers_together_are_each_layer_alone(probe: Probe) -> None:
    ragged, labels, groups = texts_of(layers=3)
    together = clone(probe).fit(ragged, labels, groups).decision_function(ragged)
    for layer in range(3):
        alone = clone(probe).fit(ragged[layer], labels, groups).decision_function(ragged[layer])
        torch.testing.assert_close(together[layer], alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("probe", OVER_TOKENS, ids=IDS)
def test_a_few_planted_tokens_are_found_in_other_texts(probe: Probe) -> None:
    ragged, labels, groups = texts_of(pairs=150)
    other, own, _ = texts_of(pairs=150, seed=1)
    scores = clone(probe).fit(ragged, labels, groups).decision_function(other)
    assert min(roc_auc_score(own, layer) for layer in scores) > 0.9


def test_attention_and_rolling_means_find_what_the_mean_of_long_texts_buries() -> None:
    setting = {"pairs": 200, "tokens": 60, "layers": 1, "strength": 1.5}
    (ragged, labels, groups), (other, own, _) = texts_of(**setting), texts_of(seed=1, **setting)  # type: ignore[arg-type]

    def auroc(probe: Probe) -> float:
        return float(roc_auc_score(own, probe.fit(ragged, labels, groups).decision_function(other)[0]))

    mean = auroc(MeanOfScores())
    assert auroc(MaxOfMeans(window=3)) > mean + 0.05
    assert auroc(Attention()) > mean + 0.05


def test_the_mean_of_scores_is_scikit_learns_regression_on_mean_activations() -> None:
    ragged, labels, _ = texts_of(strength=1.0)
    scores = MeanOfScores().fit(ragged, labels).decision_function(ragged)
    for layer in range(2):
        means = np.stack([text.double().mean(dim=0).numpy() for text in ragged[layer, 0]])
        model = LogisticRegression(tol=1e-9, max_iter=10_000)
        expected = model.fit(StandardScaler().fit_transform(means), labels).decision_function(
            StandardScaler().fit_transform(means)
        )
        np.testing.assert_allclose(scores[layer].numpy(), expected, atol=2e-2 * np.abs(expected).max())


@pytest.mark.parametrize("probe", TRAINED, ids=[probe.name for probe in TRAINED])
def test_nulls_side_by_side_are_the_plain_loop_over_them(probe: TrainedProbe) -> None:
    ragged, labels, groups = texts_of(pairs=30)
    fitted = clone(probe).fit(ragged, labels, groups)
    swaps = torch.rand(3, 30, generator=torch.Generator().manual_seed(0)) < 0.5
    quick = fitted.fit_swapped(ragged, swaps)
    assert quick.scores_of_each(ragged).shape == (3, 2, 60)
    for null, swap in enumerate(swaps):
        flipped = torch.where(swap.repeat_interleave(2), 1 - labels, labels)
        expected = clone(probe).fit(ragged, flipped, groups).decision_function(ragged)
        torch.testing.assert_close(quick.scores_of_each(ragged)[null], expected, rtol=1e-3, atol=1e-4)


def plain_training(
    probe: TrainedProbe, texts: list[Tensor], labels: Tensor, groups: np.ndarray
) -> tuple[list[float], int]:
    """One text at a time through torch's own AdamW: held-out loss by pass, and the pass that is kept."""
    how = Schedule(**{name: getattr(probe, name) for name in Schedule.__dataclass_fields__})
    ragged = Ragged.of_texts(texts)
    out = held_out_texts(labels[None], groups, how.generator(0))
    batches = batched(Ragged(ragged.values[None], ragged.offsets), labels[None], np.flatnonzero(~out), groups, how)
    order = [
        [next(row for row, text in enumerate(texts) if torch.equal(own, text)) for own in _apart(batch)]
        for batch in batches
    ]
    start = probe.start(texts[0].shape[1], torch.Generator().manual_seed(probe.seed))
    weights = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimiser = torch.optim.AdamW(
        [
            {"params": [weights["columns"]]},
            {"params": [weights["bias"]], "weight_decay": 0.0},
        ],
        lr=how.learning_rate,
        weight_decay=how.weight_decay,
    )

    def loss_of(row: int) -> Tensor:
        products = texts[row] @ weights["columns"].T
        logit = probe.pool(products[None], torch.ones(1, len(products), dtype=torch.bool), weights)[0]
        return torch.nn.functional.binary_cross_entropy_with_logits(logit, labels[row])

    rng, losses, best = how.generator(1), [], 0
    for epoch in range(how.epochs):
        for place in rng.permutation(len(order)):
            optimiser.zero_grad()
            torch.stack([loss_of(row) for row in order[place]]).mean().backward()
            optimiser.step()
        losses.append(torch.stack([loss_of(row) for row in np.flatnonzero(out)]).mean().item())
        if epoch == 0 or losses[-1] < losses[best] - 1e-3:
            best = epoch
        if epoch - best >= how.patience:
            break
    return losses, best + 1


def _apart(batch: Batch) -> list[Tensor]:
    return [batch.values[0, row[own]] for row, own in zip(batch.tokens, batch.there, strict=True)]


@pytest.mark.parametrize("probe", TRAINED, ids=[probe.name for probe in TRAINED])
def test_training_is_adamw_on_one_text_at_a_time_stopped_by_held_out_groups(probe: TrainedProbe) -> None:
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randn(int(n), 4, generator=generator) for n in torch.randint(1, 6, (40,), generator=generator)]
    labels, groups = torch.tensor([1.0, 0.0]).repeat(20), np.arange(40) // 2
    for text in texts[::2]:
        text[0, 0] += 2.0
    quick = clone(probe).set_params(epochs=12, patience=3, batch_size=7)
    _, kept = plain_training(quick, texts, labels, groups)
    ragged = Ragged.of_texts(texts)
    start = quick.start(4, torch.Generator().manual_seed(quick.seed))
    how = Schedule(**{name: getattr(quick, name) for name in Schedule.__dataclass_fields__})
    one = {name: value[None, None] for name, value in start.items()}
    found = train(Ragged(ragged.values[None], ragged.offsets), labels[None], groups, one, quick.pool, how)
    assert found.epochs.tolist() == [[kept]]


def test_held_out_groups_are_whole_a_fifth_and_of_both_classes() -> None:
    labels, groups = torch.tensor([1.0, 0.0]).repeat(50), np.arange(100) // 4
    out = held_out_texts(labels[None], groups, np.random.default_rng(0))
    assert out.sum() == HELD_OUT_SHARE * 100
    assert set(groups[out]).isdisjoint(groups[~out])
    one_class = held_out_texts((torch.arange(10) == 0).float()[None], np.arange(10), np.random.default_rng(0))
    assert not one_class.any()


def test_batches_hold_whole_groups_and_every_text_once() -> None:
    ragged, labels, _ = texts_of(pairs=30, layers=1)
    groups = np.random.default_rng(0).integers(0, 12, 60)
    how = Schedule(epochs=1, batch_size=16, learning_rate=1.0, weight_decay=0.0, patience=1, seed=0)
    marked = Ragged(torch.from_numpy(np.repeat(np.arange(60.0), ragged.lengths))[None, :, None].float(), ragged.offsets)
    batches = batched(marked, labels[None], np.arange(60), groups, how)
    rows = [batch.values[0, batch.tokens[:, 0], 0].long().numpy() for batch in batches]
    assert sorted(np.concatenate(rows)) == list(range(60))
    seen = [set(groups[own]) for own in rows]
    assert sum(map(len, seen)) == len(set(groups)) and len(rows) > 1
    for batch, own in zip(batches, rows, strict=True):
        assert torch.equal(batch.targets[0], labels[torch.from_numpy(own)])


def test_a_layer_that_is_done_does_not_move_while_another_goes_on() -> None:
    """Layer 0 is noise, which stops at once; its weights are those that it has alone."""
    ragged, labels, groups = texts_of(pairs=60)
    values = ragged.values.clone()
    values[0] = torch.randn(values[0].shape, generator=torch.Generator().manual_seed(1))
    both = SoftmaxPooling().fit(Ragged(values, ragged.offsets), labels, groups)
    alone = SoftmaxPooling().fit(Ragged(values[:1], ragged.offsets), labels, groups)
    assert both.epochs_[0] < both.epochs_[1] and both.epochs_[0] == alone.epochs_[0]
    torch.testing.assert_close(both.direction_[0], alone.direction_[0], rtol=1e-3, atol=1e-5)


def test_the_network_learns_what_no_direction_can() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 600, 4, generator=generator)
    y = (x[0, :, 0] * x[0, :, 1] > 0).float()
    assert MLP(learning_rate=1e-2).fit(x[:, :400], y[:400]).score(x[:, 400:], y[400:]) > 0.85
    assert LogisticRegression().fit(x[0, :400], y[:400]).score(x[0, 400:], y[400:]) < 0.65


def test_the_networks_score_is_the_network_written_out() -> None:
    part = planted(d=5)
    probe = MLP(hidden=7, epochs=5).fit(part.activations, part.labels, part.groups)
    for layer in range(2):
        hidden, threshold, output, offset = (
            getattr(probe, name)[layer] for name in ("hidden_", "threshold_", "output_", "offset_")
        )
        expected = [torch.relu(hidden @ row - threshold) @ output - offset for row in part.activations[layer, 0]]
        torch.testing.assert_close(
            probe.decision_function(part.activations)[layer], torch.stack(expected), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("probe", OVER_TOKENS, ids=IDS)
def test_a_study_fits_several_times_with_nulls_and_scores_them_together(probe: Probe, tmp_path: Path) -> None:
    quick = clone(probe).set_params(epochs=8) if isinstance(probe, TrainedProbe) else probe
    data = source_of(pairs=60, strength=5.0)
    made = fit_repeatedly(ProbeSpec(quick), data, fits=2, nulls=3)
    assert [fitted.token for fitted in made.fits] == ["all", "all"]
    assert made.shuffled is not None and made.shuffled.n_owners == 3
    target = source_of(pairs=40, seed=3)
    pairs = np.arange(80).reshape(-1, 2)
    together = Members.chosen(made.fits).pair_scores(lambda layer: target.activations[layer], pairs)
    for own, fitted in zip(together, made.fits, strict=True):
        np.testing.assert_allclose(own, fitted.pair_scores(target.activations, pairs), rtol=1e-4, atol=1e-4)
    nulls = made.shuffled.pair_scores(lambda layer: target.activations[layer], pairs)
    assert nulls.shape == (3, 40)
    assert np.mean(together > 0) > np.mean(nulls > 0)
    save(made.fits[0], tmp_path)
    np.testing.assert_array_equal(
        load(tmp_path).pair_scores(target.activations, pairs), made.fits[0].pair_scores(target.activations, pairs)
    )


def statements_of(*, texts: int = 120, per_group: int = 3, **settings: int | float) -> SourceData:
    """Labelled texts without rivals, of groups that hold either label."""
    ragged, labels, _ = texts_of(pairs=texts // 2, **settings)  # type: ignore[arg-type]
    order = np.random.default_rng(0).permutation(texts)
    groups = np.arange(texts) // per_group
    shuffled = labels.double().numpy()[order]
    return SourceData(ragged.take(order), shuffled, np.arange(texts), groups, tuple(range(len(ragged))))


@pytest.mark.parametrize("probe", [*OVER_TOKENS, MLP(epochs=8)], ids=[*IDS, "mlp"])
def test_labelled_texts_are_fitted_with_nulls_side_by_side(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = clone(probe).set_params(epochs=8) if isinstance(probe, TrainedProbe) else probe
    data, target = statements_of(strength=5.0), statements_of(strength=5.0, seed=4)
    if not probe.ragged:
        data, target = (replace(own, activations=own.activations.means()) for own in (data, target))
    made = fit_repeatedly(ProbeSpec(quick), data, fits=2, nulls=3)
    scores = Members.chosen(made.fits).scores(lambda layer: target.activations[layer], np.arange(120))
    assert min(roc_auc_score(target.labels, own) for own in scores) > 0.85
    assert made.shuffled is not None
    together = made.shuffled.scores(lambda layer: target.activations[layer], np.arange(120))
    # The plain loop fits each null alone, with its texts in another order, which mean-of-scores does not see.
    monkeypatch.setattr(type(probe), "fit_relabelled", Probe.fit_relabelled)
    loop = fit_repeatedly(ProbeSpec(quick), data, fits=2, nulls=3).shuffled
    assert loop is not None and together.shape == (3, 120)
    if isinstance(probe, MeanOfScores):
        assert loop.units == made.shuffled.units
        alone = loop.scores(lambda layer: target.activations[layer], np.arange(120))
        np.testing.assert_allclose(together, alone, atol=2e-2 * np.abs(alone).max())


@pytest.mark.parametrize("probe", [Attention(epochs=3), MLP(epochs=3)], ids=["attention", "mlp"])
def test_a_study_never_parts_a_prompt_group(probe: TrainedProbe, monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = statements_of(), []
    data = data if probe.ragged else replace(data, activations=data.activations.means())
    solve = TrainedProbe.solve

    def noting(self: TrainedProbe, activations: Ragged, targets: Tensor, groups: np.ndarray) -> object:
        seen.append((len(targets), np.sort(np.unique(groups, return_counts=True)[1]).tolist()))
        return solve(self, activations, targets, groups)

    monkeypatch.setattr(type(probe), "solve", noting)
    fit_repeatedly(ProbeSpec(probe), data, fits=2, nulls=3)
    assert [count for count, _ in seen] == [1, 1, 3]
    assert all(sizes == [3] * 28 for _, sizes in seen)


def test_nulls_of_labelled_texts_side_by_side_are_one_fit_each() -> None:
    ragged, labels, groups = texts_of(pairs=30)
    given = np.stack([labels.double().numpy(), 1 - labels.double().numpy()])
    for probe in (*OVER_TOKENS, MLP(epochs=8)):
        x = ragged if probe.ragged else ragged.means()
        together = clone(probe).fit(x, labels, groups).fit_relabelled(x, given, groups.numpy())
        assert together is not None
        for null, own in enumerate(given):
            alone = clone(probe).fit(x, own, groups).decision_function(x)
            torch.testing.assert_close(together.scores_of_each(x)[null], alone, rtol=2e-2, atol=2e-2)


def test_a_fit_in_blocks_of_one_layer_is_the_fit_of_all() -> None:
    data = source_of(layers=3)
    whole = fit_probe(SoftmaxPooling(epochs=5), data)
    parts = fit_repeatedly(ProbeSpec(SoftmaxPooling(epochs=5)), data, fits=1, block_bytes=1).fits[0]
    torch.testing.assert_close(whole.probe.direction_, parts.probe.direction_)  # type: ignore[attr-defined]
    assert whole.units == parts.units


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (Attention(heads=0), "heads is 0"),
        (MLP(hidden=0), "hidden is 0"),
        (MaxOfMeans(window=0), "window is 0"),
        (SoftmaxPooling(temperature=0.0), "temperature is 0.0"),
        (Attention(epochs=0), "epochs is 0"),
        (MLP(learning_rate=0.0), "learning_rate is 0.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parameters_that_make_no_sense_are_refused(probe: Probe, message: str) -> None:
    part = planted()
    with pytest.raises(BadArray, match=message):
        probe.fit(part.activations, part.labels, part.groups)


def test_groups_of_another_length_are_refused_and_names_are_groups_too() -> None:
    rows, labels = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), np.tile([1.0, 0.0], 20)
    for wrong in (np.arange(10), np.zeros((40, 1))):
        with pytest.raises(BadArray, match=r"groups of shape .* are not one a response; there are 40 responses"):
            MLP(epochs=2).fit(rows.numpy(), labels, groups=wrong)
    numbers = np.arange(40) // 2
    names = [f"author {number:02}" for number in numbers]
    fitted = [MLP(epochs=2).fit(rows.numpy(), labels, groups=groups) for groups in (numbers, names)]
    assert torch.equal(*(probe.decision_function(rows) for probe in fitted))
