"""The rows of a study as one frame in the order that a reader wants them: what tables and pictures are made from."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePath

import pandas as pd

from repeng.distributions.stimuli import CHAT
from repeng.results import (
    AUROC,
    CAPABILITY,
    FITTED,
    PAIR_ACCURACY,
    ResultRow,
    figure_name,
    figure_names,
    results_frame,
)
from repeng.study.text_forms import form_pairs

LABEL_ORDER = {"extreme": 0, "probing": 1}


def shift_frame(rows: Iterable[ResultRow]) -> pd.DataFrame:
    """`results_frame` in reading order: by label (extreme, probing, others), category and shift as they first come.

    Without the rows of target-tuned capability, which are no method to compare.

    Returns:
        The frame, with `shift` (`source → target`); `name` (the method as `shown_methods` has it, and the model's last
        name where there are several); `figure` filled in where a row does not say it; `kind_of_shift`, which no mean
        goes across: the label, and of a study of pairs and of texts what the accuracies are; and `section`, that and
        the category.
    """
    return _shift_frame(tuple(rows)).copy()


# Each table of a study asks for it anew.
@lru_cache(maxsize=1)
def _shift_frame(rows: tuple[ResultRow, ...]) -> pd.DataFrame:
    frame = results_frame(row for row in rows if not row.method.startswith(CAPABILITY))
    frame = frame.fillna({"label": "", "category": ""})
    frame = with_figures(frame)
    named = frame["figure"].map(figure_name) if frame["figure"].nunique() > 1 else ""
    titles = frame[["label", "category"]].assign(figure=named)
    models = frame["model"].str.split("/").str[-1]
    if models.nunique() < frame["model"].nunique():
        models = frame["model"]
    methods = frame["method"].replace(shown_methods(frame["method"]))
    frame = frame.assign(
        shift=frame["source"] + " → " + frame["target"],
        kind_of_shift=_joined(titles[["label", "figure"]]),
        section=[title or "shifts" for title in _joined(titles)],
        name=methods + " · " + models if models.nunique() > 1 else methods,
    )
    places = pd.DataFrame(
        {
            "rank": frame["label"].map(LABEL_ORDER).fillna(2),
            "label": frame["label"],
            "figure": frame["figure"].ne(PAIR_ACCURACY),
            "section": frame.groupby("section", sort=False).ngroup(),
            "shift": frame.groupby(["section", "shift"], sort=False).ngroup(),
        }
    )
    return frame.loc[places.sort_values(list(places.columns)).index].reset_index(drop=True)


def shown_methods(methods: Iterable[str]) -> dict[str, str]:
    """How the methods are shown that are another's chat form: `cra (chat)` next to `cra`. Others go by their names."""
    names = in_order(methods)
    return {chat: f"{plain} ({CHAT})" for plain, chat in form_pairs(names)}


def accuracy_name(frame: pd.DataFrame, *, pairs: str = "accuracy") -> str:
    """What the accuracies of a frame are, in words.

    Args:
        frame: as `shift_frame` gives it.
        pairs: how that of pairs is called where there is no other.
    """
    figures = in_order(frame["figure"])
    return pairs if figures in ([], [PAIR_ACCURACY]) else figure_names(figures)


def items_of(figures: Iterable[str]) -> str:
    """What is scored where accuracies are these: `pairs`, `texts`, or `pairs or texts`."""
    known = set(figures)
    found = [name for figure, name in ((PAIR_ACCURACY, "pairs"), (AUROC, "texts")) if figure in known]
    return " or ".join(found) or "pairs"


def units_of(figures: Iterable[str]) -> str:
    """What intervals resample where accuracies are these: `groups` where some are of texts, else `prompts`."""
    return "groups" if AUROC in set(figures) else "prompts"


def with_figures(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that all say what their accuracy is: as they did; else as others of their target say; else pair accuracy."""
    stated = frame["figure"].where(frame["figure"].fillna("") != "")
    known = stated.fillna(stated.groupby(frame["target"]).transform("first"))
    return frame.assign(figure=known.fillna(PAIR_ACCURACY))


def _joined(titles: pd.DataFrame) -> list[str]:
    return [" · ".join(filter(None, own)) for own in titles.to_numpy()]


def once_each(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame in which each section has a shift once, also where a benchmark lists it twice."""
    return frame.drop_duplicates(["section", "shift", "model", "method"], keep="last")


def same_figure_at_home(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose accuracy on the source's own test split is of the same kind as that on the target."""
    at_home = frame["source_id_figure"].fillna("")
    return frame[(at_home == "") | (at_home == frame["figure"])]


def fitted(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of methods that are fitted on a source: probes, tuned models, plug-ins and published ones."""
    return frame[frame["kind"].isin(FITTED)]


def model_name(model: str) -> str:
    """A model's name as a reader wants it: the last part of a path, anything else, as a hub id, as it is."""
    is_path = model.startswith(("/", ".", "~")) or model.count("/") > 1
    return PurePath(model).name or model if is_path else model


def in_order(values: Iterable[str]) -> list[str]:
    """Each value once, as it first comes."""
    return list(dict.fromkeys(values))
