"""What was elicited: do a probe's directions, and its mistakes, stay the same under another stimulus?"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from repeng.errors import BadInput
from repeng.places import Place
from repeng.report.answer import Answer, AnswerTable, Row, interval_text
from repeng.report.compared_studies import ComparedMethod, ComparedStudy
from repeng.report.cosine_chart import cosine_chart
from repeng.report.elicited_tables import HIGHER, LOWER, AskedPair, direction_rows, layer_rows, mean_row
from repeng.report.page import Picture, grid_of
from repeng.report.shared_failures import failure_rows, failures_by_shift

TITLE = "What was elicited: instruction-following or truth?"
INTRODUCTION = (
    "One direction of each method is read from the response itself, which stands for instruction-following here; the "
    "other where the model is about to answer whether it is true that the response follows the instruction, which "
    "stands for truth."
)
MEANS_HOW = (
    "Means over sources, at the layers that both choose; difference: cosine less that of shuffled labels, its interval "
    "taking sources as independent draws. higher, lower: on how many sources alone that can be told."
)
DIRECTIONS_HOW = (
    "cosine: of the method's directions under its two stimuli, the mean over fits and layers, with its standard "
    "deviation over fits. fits alike: cosine of two fits under one stimulus, which is as high as noise leaves it. "
    "shuffled: the same cosine where both learn from the same shuffled labels, with what 95 % of such cosines lie "
    "between; p is of a cosine that these would give, p holm corrected for the method's sources. random: root mean "
    "square of random directions, next to what is expected. like activations: the mean of random directions that are "
    "distributed as the activations, with what 95 % lie between."
)
SIGN_ALONE = " Labels set only the sign of these directions: shuffled ones leave the angle as it is."
LAYERS_HOW = "The same at every layer, the mean over heads where there are any."
FAILURES_HOW = (
    "kappa: Cohen's, of what a fit under the one stimulus and a fit under the other get right and wrong: 1 where they "
    "fail on the same pairs, 0 where no oftener than by chance. kappa possible: the most that their accuracies allow. "
    "fits kappa: of two fits under one stimulus, which is as high as noise leaves it. Intervals are over prompts; "
)
POOLED_HOW = (
    FAILURES_HOW + "that of within shifts, the mean of the shifts' own kappas, is over shifts: a kappa over all shifts "
    "also rises where both fail on the same shifts."
)
BY_SHIFT_HOW = FAILURES_HOW + "blank where one is always right, or always wrong."


def elicited_answer(
    studies: Sequence[ComparedStudy], methods: Sequence[ComparedMethod], paths: Sequence[Place]
) -> Answer:
    """Cosines between the directions of every probe that a study holds under two stimuli, and whether they fail alike.

    Args:
        studies: results folders of `repeng run`, whose stores are still there.
        methods: of them.
        paths: of them, in the same order.

    Raises:
        BadInput: a folder holds no study, or no probe under two stimuli.
        StoreError: a study's store lacks what a probe reads.
    """
    asked: list[AskedPair] = []
    alone: list[str] = []
    for study, path in zip(studies, paths, strict=True):
        own = [one for one in methods if one.study == study.name]
        found, note = _of_study(study.name if len(studies) > 1 else "", own, path)
        asked += found
        alone += note
    directions = [row for one in asked for row in direction_rows(one)]
    means = [row for one in asked if (row := mean_row(one, one.own(directions))) is not None]
    layers = [row for one in asked for row in layer_rows(one)]
    by_shift = [row for one in asked for both in one.methods for row in failures_by_shift(one.names, *both)]
    failures = [
        row for one in asked for both in one.methods for row in failure_rows(one.names, *both, one.own(by_shift))
    ]
    tables = (
        AnswerTable("means", "Directions under two stimuli, over sources", MEANS_HOW, means),
        AnswerTable("failures", "Do they fail on the same pairs?", POOLED_HOW, failures),
        AnswerTable("directions", "Directions under two stimuli, by source", DIRECTIONS_HOW, directions),
        AnswerTable("layers", "Directions under two stimuli, by source and layer", LAYERS_HOW, layers),
        AnswerTable("shifts", "Do they fail on the same pairs, by shift?", BY_SHIFT_HOW, by_shift),
    )
    sentences = [INTRODUCTION] if any("truthfulness" in one.pair.stimuli for one in asked) else []
    for one in asked:
        sentences += [_of_directions(one, one.own(means)), *(_of_failures(one, row) for row in one.own(failures))]
    pictures = tuple(picture for one in asked if (picture := _picture(one)) is not None)
    return Answer("elicited", TITLE, (*sentences, *alone), tables, pictures)


def _of_study(name: str, methods: Sequence[ComparedMethod], path: Place) -> tuple[list[AskedPair], list[str]]:
    """What is asked of one study; and of which of its probes nothing is."""
    from repeng.study.finished_study import FinishedStudy
    from repeng.study.stimulus_cosines import stimulus_pairs, truthfulness_of

    study = FinishedStudy(path.parent if path.is_file() else path)
    probes = list(dict.fromkeys(one.method for one in methods if one.kind == "probe"))
    pairs = stimulus_pairs(probes)
    lacking = truthfulness_of(probes)
    if not pairs:
        mend = study.command(*(lacking or ("mms", "mms(stimulus='truthfulness')")))
        raise BadInput(
            f"{study.results}: no probe is there under two stimuli, whose directions and mistakes this question "
            f"compares; add them with: {mend}"
        )
    sources = list(dict.fromkeys(source for one in methods if one.method in probes for source in one.rows["source"]))
    cosines = list(study.cosines(pairs, sources))
    asked = []
    for pair in pairs:
        one, other = ([each for each in methods if each.method == named.name] for named in pair.both)
        both = tuple((a, b) for a in one for b in other if a.figure == b.figure)
        asked.append(AskedPair(name, pair, tuple(each for each in cosines if each.pair == pair), both))
    if not lacking:
        return asked, []
    count = "one more of its probes is" if len(lacking) == 1 else f"{len(lacking)} more of its probes are"
    return asked, [
        f"{study.results}: {count} there under one stimulus alone; to ask of it too: {study.command(*lacking)}"
    ]


def _of_directions(one: AskedPair, means: Sequence[Row]) -> str:
    """Whether the two directions share more than shuffled labels explain, over sources and on each alone."""
    begin = f"Directions of {one.title}, {one.pair.stimuli[0]} and {one.pair.stimuli[1]}"
    if not means:
        reasons = "; ".join(dict.fromkeys(found.missing for found in one.cosines if found.missing))
        nowhere = "no source has evaluations of both that say what they were fitted on"
        return f"{begin}: nothing can be said ({reasons or nowhere})."
    (row,) = means
    low, high, count = row["difference_low"], row["difference_high"], row["sources"]
    if low is None or low <= 0 <= high:
        said = "whether their cosine is higher or lower than shuffled labels explain cannot be told"
    elif low > 0:
        said = "they share more than shuffled labels explain"
    else:
        said = "their cosine is lower than shuffled labels explain"
    ends = "" if low is None else f", difference {row['difference']:.2f}, {low:.2f} to {high:.2f}"
    untold = count - row[HIGHER] - row[LOWER]
    sign_alone = all(found.chosen.sign_alone for found in one.cosines if found.chosen is not None)
    return (
        f"{begin}: over {_count(count, 'source')} {said} (mean cosine {row['cosine']:.2f}, with shuffled labels "
        f"{row['shuffled']:.2f}{ends}). By source it is higher on {row[HIGHER]}, lower on {row[LOWER]}, and cannot be "
        f"told on {untold}.{SIGN_ALONE if sign_alone else ''}"
    )


def _of_failures(one: AskedPair, row: Row) -> str:
    """Whether their mistakes are the same, and as much so as those of two fits."""
    accuracies = f"{row['accuracy']:.2f} and {row['other_accuracy']:.2f}"
    begin = f"Mistakes of {one.title} (accuracy {accuracies} over {_count(row['shifts'], 'shift')})"
    if row["kappa"] is None:
        return f"{begin}: nothing can be said, as one of the two is always right, or always wrong."
    ceilings = [row[name] for name in ("fits_kappa", "other_fits_kappa") if row[name] is not None]
    figures = [
        f"Kappa {interval_text(row, 'kappa')}",
        f"{row['kappa_possible']:.2f} is possible at these accuracies",
        *([f"two fits of one reach {' and '.join(f'{value:.2f}' for value in ceilings)}"] if ceilings else []),
        *([f"within shifts {interval_text(row, 'within_shifts')}"] if row["within_shifts"] is not None else []),
    ]
    return f"{begin}: {_agreement(row)}. {'; '.join(figures)}."


def _agreement(row: Row) -> str:
    low, high = row["kappa_low"], row["kappa_high"]
    if low is None or low <= 0 <= high:
        return "whether the two fail on the same pairs cannot be told"
    if high < 0:
        return "each fails where the other does not"
    ceilings = [row[f"{name}_low"] for name in ("fits_kappa", "other_fits_kappa") if row[f"{name}_low"] is not None]
    said = "the two fail on the same pairs oftener than by chance"
    if not ceilings:
        return said
    less = "less often than two fits of one do"
    return f"{said}, {less}" if high < min(ceilings) else f"{said}; whether {less} cannot be told"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _picture(one: AskedPair) -> Picture | None:
    """Cosines by layer; None where there are none."""
    rows = [{name: value for name, value in row.items() if name not in one.names} for row in layer_rows(one)]
    if not rows:
        return None
    name = re.sub(r"\W+", "-", " ".join(("elicited", one.study, one.pair.title, *one.pair.stimuli))).strip("-")
    title = f"{one.title}: cosine of its {' and '.join(one.pair.stimuli)} directions"
    caption = (
        "A panel a source. Line: cosine, with discs at the layers that both choose; about it its standard deviation "
        "over fits. Grey: where 95 % of cosines lie with shuffled labels; dashes: of random directions."
    )
    return Picture(name, title, caption, cosine_chart(pd.DataFrame(rows), title=title), grid_of(rows))
