"""A model's answers about a target as it is, and steered: for `repeng steer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from repeng.distributions.schema import ResponseLabels, Split
from repeng.distributions.stimuli import Form
from repeng.errors import BadInput
from repeng.metrics import Estimate, mean_interval
from repeng.results import ACCURACY, PREFERENCE, VERDICT, VERDICT_GAP
from repeng.steering.hooks import Edits
from repeng.steering.steered_model import SteeredModel
from repeng.study.causal_figures import Answers, Costs

MEASURES = (ACCURACY, PREFERENCE, VERDICT, VERDICT_GAP)


@dataclass(frozen=True)
class SteeredRow:
    """A model's answers about the pairs of one target under one edit.

    Attributes:
        edit: in words: `as it is`, `alpha 2`, `projected out`, ...
        accuracy: share of pairs whose best response has the higher log-probability.
        preference: log-probability of the best response less that of the worse, in nats.
        verdict: log-odds in nats that a response is right, by the model's own answer to a question.
        verdict_gap: of the best response less that of the worse.
        perplexity: of the target's prompts, over that of the model as it is; None where they have no two tokens.
    """

    target: str
    edit: str
    accuracy: Estimate
    preference: Estimate
    verdict: Estimate
    verdict_gap: Estimate
    perplexity: Estimate | None
    n_pairs: int
    n_prompts: int | None


def steered_rows(
    model: SteeredModel,
    split: Split,
    site: str,
    edits: Mapping[str, Edits],
    *,
    form: Form = "plain",
    tokens: str = "all",
) -> list[SteeredRow]:
    """The answers under each edit, those of the model as it is first.

    Args:
        model: the model.
        split: of pairs.
        site: that is edited.
        edits: by what a row calls them.
        form: how the texts are written.
        tokens: which are edited, as of `SteeredModel.scores`.

    Raises:
        BadInput: the split holds labelled texts, or as `SteeredModel.scores`.
        RepengError: no pair is left whose texts the model takes.
    """
    if split.as_texts:
        raise BadInput(
            f"{split.distribution}/{split.name} holds labelled texts, and a preference is between responses; give pairs"
        )
    named = {"as it is": {}, **edits}
    scores = model.scores(split, site, list(named.values()), form=form, tokens=tokens)
    answers, costs = Answers.about(scores, ResponseLabels.of(split)), Costs.over(scores, split)
    rows = []
    for place, edit in enumerate(named):
        found = {name: mean_interval(answers.values[name][place], answers.of) for name in MEASURES}
        found[ACCURACY] = answers.accuracy(place)
        rows.append(
            SteeredRow(
                split.distribution,
                edit,
                **found,
                perplexity=costs.ratio([place]) if place else None,
                n_pairs=answers.of.n_pairs or 0,
                n_prompts=answers.of.n_prompts,
            )
        )
    return rows
