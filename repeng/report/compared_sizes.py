"""Does elicitation grow with the model? Methods on models of known sizes, over the shifts that these share."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from repeng.metrics import mean_elicitation_interval
from repeng.report.answer import Row
from repeng.report.compared_studies import ComparedMethod
from repeng.report.comparisons import billions_of
from repeng.results import figure_name


def elicitation_on_shared_shifts(methods: Sequence[ComparedMethod]) -> list[Row]:
    """Mean elicitation by method, label and model size, over the shifts that the models of the method share.

    Of a model that several studies hold, the first counts. A method with a single model is left out, and a model that
    shares no shift with the others.
    """
    rows = []
    many = len({one.figure for one in methods}) > 1
    for method, figure in dict.fromkeys((one.method, one.figure) for one in methods):
        of_size, shared = _that_share([one for one in methods if (one.method, one.figure) == (method, figure)])
        for one in of_size if len({billions_of(one.model) for one in of_size}) > 1 else ():
            own = one.measured.loc[[place for place in one.measured.index if place in shared]]
            for label, chosen in own.groupby(own["label"].replace("", "all"), sort=False):
                kind = f"{label}, {figure_name(figure)}" if many else label
                names = {"model": one.model, "billions": billions_of(one.model), "method": method, "label": kind}
                low, high = _interval(one, chosen)
                mean = float(chosen["elicitation"].mean())
                rows.append({**names, "shifts": len(chosen), "elicitation": mean, "low": low, "high": high})
    return rows


def _that_share(methods: Sequence[ComparedMethod]) -> tuple[list[ComparedMethod], set[tuple[str, str]]]:
    """One method on models of known sizes that share shifts with elicitation, by size, and these shifts."""
    elicited = {one: set(one.measured["elicitation"].dropna().index) for one in methods if billions_of(one.model)}
    chosen: dict[str, ComparedMethod] = {}
    shared: set[tuple[str, str]] = set()
    for one in sorted(elicited, key=lambda one: -len(elicited[one])):
        both = shared & elicited[one] if chosen else elicited[one]
        if both and one.model not in chosen:
            chosen[one.model], shared = one, both
    return sorted(chosen.values(), key=lambda one: billions_of(one.model) or 0.0), shared


def _interval(method: ComparedMethod, rows: pd.DataFrame) -> tuple[float | None, float | None]:
    found = [method.prediction(source, target) for source, target in rows.index]
    evaluations = [one.evaluation for one in found if one is not None]
    if len(evaluations) < len(found):
        return None, None
    targets = [target for _, target in rows.index]
    return mean_elicitation_interval(evaluations, targets, list(rows["target_tuned_capability"])) or (None, None)


def no_sizes(methods: Sequence[ComparedMethod]) -> str:
    """What is missing where elicitation cannot be shown by size, and how to get it."""
    if all(one.rows["elicitation"].isna().all() for one in methods):
        return "needs elicitation, but no capability is known here: run the studies without --no-capability."
    models = list(dict.fromkeys(one.model for one in methods))
    unsized = [model for model in models if billions_of(model) is None]
    needs = "needs one method on two models of known sizes, as their names tell (llama-7b, pythia-160m)"
    if len(models) - len(unsized) < 2:
        sizes = f"the size of {', '.join(unsized)} is not known" if unsized else f"there is {models[0]} alone"
        return f"{needs}; {sizes}. Give results of another model too, and models a name that says their size."
    return f"{needs}; no method has elicitation on a shift that two of {', '.join(models)} share."
