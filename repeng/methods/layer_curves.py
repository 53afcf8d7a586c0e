"""How a probe does on a target at every layer that was fitted, each alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from repeng.activations.store.cached_split import CachedSplit
from repeng.methods.probe_fitting import LayerFits
from repeng.metrics import accuracy_intervals
from repeng.results import LayerFigure


def layer_curve(fits: LayerFits, target: CachedSplit) -> list[LayerFigure]:
    """Every fitted layer (its best head on the source, where the site has heads) on a target.

    Raises:
        NonFinite: an activation of one of the pairs is infinite or not a number.
        RepengError: every pair has a text that was skipped.
    """
    found = []
    for block in fits.blocks:
        readings = block.reads(target.capture.n_layers, chosen=False)
        pairs = target.pairs(block.probe, readings, block.token)
        activations = target.activations(block.probe, readings, block.token)
        scores = block.pair_probabilities_by_layer(activations, pairs) - 0.5
        units = [(layer, fits.head(layer)) for layer in block.fitted_layers]
        found += figures_of(scores, target, pairs, units, block.held_out_accuracy)
    return found


def figures_of(
    scores: Float[np.ndarray, "unit pair"],
    target: CachedSplit,
    pairs: Int[np.ndarray, "pair 2"],
    units: Sequence[tuple[int, int | None]],
    held_out: Float[np.ndarray, " unit"],
    *,
    seed: int = 0,
) -> list[LayerFigure]:
    """Accuracy and interval of each (layer, head), from the scores that it gave a target's pairs.

    Args:
        scores: positive where a pair's best response is preferred.
        target: whose prompts the intervals draw.
        pairs: rows (best, worse) of the target.
        units: the layer and head of each row of scores.
        held_out: the same units' accuracy on held-out pairs of the source.
        seed: of the intervals.
    """
    wins = (scores > 0) + 0.5 * (scores == 0)
    intervals = accuracy_intervals(wins, target.rows.evaluation(pairs, wins[0]), seed=seed)
    found = []
    for (layer, head), row, interval, held in zip(units, wins, intervals, held_out, strict=True):
        low, high = interval or (None, None)
        found.append(LayerFigure(layer, head, float(row.mean()), low, high, float(held)))
    return found
