"""The rows of a study as one frame in the order that a reader wants them: what tables and pictures are made from."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from repeng.results import CAPABILITY, FITTED, ResultRow, results_frame

LABEL_ORDER = {"extreme": 0, "probing": 1}


def shift_frame(rows: Iterable[ResultRow]) -> pd.DataFrame:
    """`results_frame` in reading order: by label (extreme, probing, others), category and shift as they first come.

    Without the rows of target-tuned capability, which are no method to compare.

    Returns:
        The frame, with `shift` (`source → target`), `section` (label and category), and `name` (the method, and the
        model's last name where there are several).
    """
    frame = results_frame(row for row in rows if not row.method.startswith(CAPABILITY))
    frame = frame.fillna({"label": "", "category": ""})
    models = frame["model"].str.split("/").str[-1]
    if models.nunique() < frame["model"].nunique():
        models = frame["model"]
    frame = frame.assign(
        shift=frame["source"] + " → " + frame["target"],
        section=[" · ".join(filter(None, pair)) or "shifts" for pair in frame[["label", "category"]].to_numpy()],
        name=frame["method"] + " · " + models if models.nunique() > 1 else frame["method"],
    )
    places = pd.DataFrame(
        {
            "rank": frame["label"].map(LABEL_ORDER).fillna(2),
            "label": frame["label"],
            "section": frame.groupby("section", sort=False).ngroup(),
            "shift": frame.groupby(["section", "shift"], sort=False).ngroup(),
        }
    )
    return frame.loc[places.sort_values(list(places.columns)).index].reset_index(drop=True)


def once_each(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame in which each section has a shift once, also where a benchmark lists it twice."""
    return frame.drop_duplicates(["section", "shift", "model", "method"], keep="last")


def fitted(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of methods that are fitted on a source: probes, tuned models, plug-ins and published ones."""
    return frame[frame["kind"].isin(FITTED)]


def in_order(values: Iterable[str]) -> list[str]:
    """Each value once, as it first comes."""
    return list(dict.fromkeys(values))
