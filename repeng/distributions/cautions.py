"""What is allowed, and yet makes a figure say less than it seems to: one function a caution, and their sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from repeng.distributions.label_cautions import contradictions, mixed_forms, one_label
from repeng.distributions.overlap import Kind, Overlap, find_overlaps, named_groups, said, shared_groups
from repeng.distributions.schema import Distribution, Example, Shift, Split
from repeng.errors import RepengError
from repeng.maths import FEWEST_GROUPS

MOST_NAMED = 3
FEWEST_NEGATIVES = 100
"""With fewer texts than this no share of 1 % of them can be told."""
LONGEST_QUOTE = 40
LONGEST_SAID = 90

OVERLAPS: Mapping[Kind, str] = {"exact": "shared_prompts", "near": "near_prompts", "inside": "prompts_inside"}
"""The caution of each kind of overlap of texts."""

KINDS: Mapping[str, tuple[str, str]] = {
    "left_out": (
        "shifts that are left out, since data of theirs are not there (--partial)",
        "means are over the others, and are no figures of the whole benchmark",
    ),
    "shared_prompts": (
        "test prompts that a method is also fitted on",
        "it may remember them, so accuracy there says less about generalising: take them out of train or test, or "
        "score without them (--drop-overlap)",
    ),
    "near_prompts": (
        "test prompts that are nearly one that a method is also fitted on",
        "the same but for template, case and punctuation, or a long text with little changed: see which with repeng "
        "data check, or score without them (--drop-overlap)",
    ),
    "prompts_inside": (
        "test prompts that stand inside a text that a method is also fitted on",
        "in a longer prompt, or in one with its response: see which with repeng data check, or score without them "
        "(--drop-overlap)",
    ),
    "shared_groups": (
        "test examples of a named group that is in their own train split too",
        "a group is never parted, and here the files part it: take the group out of train or test, or score without "
        "it (--drop-overlap)",
    ),
    "own_source": (
        "targets that are their own source",
        "that is accuracy without any shift, and it counts in the means: leave these shifts out of the benchmark",
    ),
    "same_data": (
        "splits with the same data under two names",
        "their results are one result counted twice: keep one of the two",
    ),
    "few_prompts": (
        f"targets of fewer than {FEWEST_GROUPS} test prompts",
        "an interval over so few says little, and a small difference between methods nothing: take more prompts",
    ),
    "one_prompt": (
        "targets of one test prompt or group",
        "of one no interval can be had, however many examples it has: take more",
    ),
    "common_prompt": (
        "splits in which every example has the same prompt",
        "examples are then divided, held out and resampled one by one, which makes intervals too narrow where some "
        "belong together: name a column of what does with --group",
    ),
    "empty_prompts": (
        "splits in which some prompts are empty and others are not",
        "nothing stands before those responses: see whether the data lack a prompt there",
    ),
    "few_negatives": (
        f"thresholds for labelled texts that are set on under {FEWEST_NEGATIVES} texts of label 0",
        "there 1 % false positives is the highest score of them all, and what it flags elsewhere may be far from 1 %: "
        "read the realised false positives, or name a larger set with --benign",
    ),
    "benign_shared": (
        "texts of the benign distribution that a target has too",
        "thresholds are not set on what is asked about, so these are left out",
    ),
    "unequal_texts": (
        "targets about which methods were asked with different texts",
        "some texts have no such token or are too long for a method, so figures of one row are not of the same texts",
    ),
    "constant_response": (
        "splits in which one response text tells which response is best",
        "that text is all a method can learn or be asked there: let the best response differ between examples",
    ),
    "same_responses": (
        "splits in which every example has the same responses",
        "the prompt alone decides which is best, and what looks at responses alone (length) is at chance",
    ),
    "one_label": (
        "splits of labelled texts that are all of one label",
        "a method fitted on them has nothing to tell apart, and of a test split of one label AUROC is not known: right "
        "for benign texts (--benign), else see how labels are read (--columns, --positive)",
    ),
    "contradictions": (
        "texts that are labelled both 1 and 0",
        "no method can be right about both: keep one label of each text",
    ),
    "mixed_forms": (
        "splits in which some examples have several responses and some are one labelled text",
        "every response is then asked about as a text of its own: keep the two in distributions of their own",
    ),
    "nothing_left": (
        "evaluations of which --drop-overlap leaves nothing to score",
        "every prompt stands in the source's train split, or the method does not say which pair is of which example",
    ),
    "versions": (
        "a capture that was begun with other library versions",
        "activations and log-probabilities captured now may differ in their last digits from those that are there, and "
        "so may accuracies: give a new --store to have all from one version",
    ),
    "unread_layers": (
        "targets with values that are infinite or not a number at layers that were not chosen",
        "accuracies are unharmed, figures by layer are missing: the dtype may be too narrow, or the store damaged "
        "(repeng store verify)",
    ),
    "text_solved": (
        "sources that a text-only baseline solves",
        "no fitted method beats it on the source's own test split, so what was learned there may be the words alone",
    ),
    "no_better_than_null": (
        "probes that do no better than their own null on their source's own test split",
        "with labels shuffled the same search does as well, so what they learned cannot be told from luck: do not read "
        "their shifts",
    ),
    "loses_to_text": (
        "methods that a text-only baseline beats on their source's own test split",
        "they have learned less than the words give away: do not read their shifts as what the model knows",
    ),
}
"""Of each kind what it is, and why it matters and what to do."""


@dataclass(frozen=True)
class Caution:
    """Something that a reader of the figures should know.

    Attributes:
        kind: one of `KINDS`, or `failed`.
        where: the distribution, split, source and target, or whatever it is about.
        text: how many, or which.
    """

    kind: str
    where: str
    text: str = ""

    @property
    def place(self) -> str:
        """Where, and how many."""
        return f"{self.where} ({self.text})" if self.text else self.where


def sentences(cautions: Iterable[Caution]) -> list[str]:
    """One sentence a kind, in the order of `KINDS`: what, where (the first few by name, and how many more), why.

    Failures, which have causes of their own, have a sentence each.
    """
    return ["; ".join(filter(None, both)) for both in with_reasons(cautions)]


def with_reasons(cautions: Iterable[Caution]) -> list[tuple[str, str]]:
    """The same as `sentences`, each in two: what and where; and why it matters and what to do, empty of a failure."""
    by_kind: dict[str, list[Caution]] = {kind: [] for kind in KINDS}
    for caution in cautions:
        by_kind.setdefault(caution.kind, []).append(caution)
    failed = by_kind.pop("failed", [])
    found = [_sentence(kind, own) for kind, own in by_kind.items() if own]
    return found + [(f"failed: {caution.where}: {caution.text}", "") for caution in failed]


def refuse(cautions: Sequence[Caution], error: type[RepengError]) -> None:
    """What `--strict` does: nothing where there is no caution.

    Raises:
        RepengError: of the given type, with every sentence.
    """
    if cautions:
        lines = "".join(f"\n  {line}" for line in sentences(cautions))
        raise error(f"--strict takes cautions for errors; mend these, or leave out --strict:{lines}")


def overlap_cautions(overlaps: Sequence[Overlap]) -> list[Caution]:
    """How many test examples stand in a train split, and how many with a response too. Of each kind the worst first."""
    found = []
    for kind, caution in OVERLAPS.items():
        for one in _with_most(kind, overlaps):
            here, test, train = one.of_kind(kind), one.test.distribution, one.train.distribution
            whose = "its own" if train == test else f"{train}'s"
            answered = sum(match.response for match in here)
            also = f", {answered} with a response" if answered else ""
            found.append(
                Caution(caution, test, f"{len(here)} of {len(one.test.examples)} in {whose} train split{also}")
            )
    return found


def overlap_examples(overlaps: Sequence[Overlap]) -> list[str]:
    """Of each kind two matches where it is worst: what both prompts say besides their templates, cut short."""
    lines = []
    for kind in OVERLAPS:
        matches = [(one, match) for one in _with_most(kind, overlaps)[:2] for match in one.of_kind(kind)[:2]]
        for one, match in matches[:2]:
            asked = said(one.test, match.test, by_prompt=one.by_prompt)
            known = said(one.train, match.train, by_prompt=one.by_prompt)
            if kind == "exact":
                # One text, of which the splits' templates, which may differ, leave more or less.
                asked = known = max(asked, known, key=len)
            test, train = _said(one.test, match.test, asked), _said(one.train, match.train, known)
            lines.append(f"{kind}, {match.similarity:.2f} alike: {test} and {train}")
    return lines


def group_cautions(trains: Iterable[Split], tests: Sequence[Split]) -> list[Caution]:
    """Test splits of which named groups are in the train split of the same distribution."""
    found = []
    for train, test in product(dict.fromkeys(trains), dict.fromkeys(tests)):
        shared = shared_groups(train, test)
        if shared:
            count = sum(group in shared for group in named_groups(test))
            groups = f"{len(shared)} group{'s' * (len(shared) > 1)}"
            found.append(Caution("shared_groups", test.distribution, f"{count} of {len(test.examples)}, of {groups}"))
    return list(dict.fromkeys(found))


def label_cautions(trains: Iterable[Split], tests: Sequence[Split]) -> list[Caution]:
    """What the labels of texts show: splits of one label, contradictions, examples of two forms."""
    trains = list(dict.fromkeys(trains))
    splits = list(dict.fromkeys([*trains, *tests]))
    own = [
        ((train, test), f"{train.distribution}, between train and test")
        for train, test in product(trains, dict.fromkeys(tests))
        if train.distribution == test.distribution
    ]
    within = [((split,), _name(split)) for split in splits]
    found = [Caution("one_label", _name(split), text) for split in splits if (text := one_label(split))]
    found += [
        Caution("contradictions", name, text) for some, name in [*within, *own] if (text := contradictions(*some))
    ]
    return found + [Caution("mixed_forms", _name(split), text) for split in splits if (text := mixed_forms(split))]


def own_sources(shifts: Iterable[Shift], distributions: Mapping[str, Distribution]) -> list[Caution]:
    """Shifts that do not shift, and those whose source is a union that the target is a member of."""
    own = (s for s in shifts if s.target in distributions[s.source].train.owners)
    names = dict.fromkeys(s.target if s.source == s.target else f"{s.target} of {s.source}" for s in own)
    return [Caution("own_source", name) for name in names]


def same_data(splits: Iterable[Split]) -> list[Caution]:
    """Splits of the same texts and labels."""
    first: dict[str, Split] = {}
    pairs = [(first.setdefault(split.data_hash, split), split) for split in dict.fromkeys(splits)]
    return [Caution("same_data", f"{_name(one)} and {_name(other)}") for one, other in pairs if one is not other]


def few_prompts(tests: Iterable[Split]) -> list[Caution]:
    """Test splits of too few prompts for an interval to say much, or of one, which has none."""
    found = []
    for split in dict.fromkeys(tests):
        count, examples = len(split.prompt_hashes), len(split.examples)
        count = examples if _is_ungrouped(split) else count
        if count == 1:
            found.append(Caution("one_prompt", split.distribution, f"{examples} example{'s' * (examples > 1)}"))
        elif count < FEWEST_GROUPS:
            text = str(count) if count == examples else f"{count} in {examples} examples"
            found.append(Caution("few_prompts", split.distribution, text))
    return found


def common_prompts(splits: Iterable[Split]) -> list[Caution]:
    """Splits whose prompt does not tell what belongs together, since all have the same, or where some lack one."""
    found = []
    for split in dict.fromkeys(splits):
        empty = sum(not example.prompt for example in split.examples)
        if _is_ungrouped(split):
            found.append(Caution("common_prompt", _name(split), f"{len(split.examples)} examples"))
        elif 0 < empty < len(split.examples) and not split.as_texts:
            found.append(Caution("empty_prompts", _name(split), f"{empty} of {len(split.examples)}"))
    return found


def _is_ungrouped(split: Split) -> bool:
    """Whether all examples have one prompt, and the data name no groups."""
    return split.has_one_prompt and all(example.group is None for example in split.examples)


def constant_responses(splits: Iterable[Split]) -> list[Caution]:
    """Splits in which a text is in every example and always best or never: the labels are of one class for it."""
    found = []
    for split in dict.fromkeys(splits):
        for text in sorted(_everywhere(split)):
            times = sum(text in _right(example) for example in split.examples)
            if times in (0, len(split.examples)):
                found.append(
                    Caution("constant_response", _name(split), f"{_quote(text)} {'always' if times else 'never'}")
                )
                break
    return found


def same_responses(splits: Iterable[Split]) -> list[Caution]:
    """Splits in which every example offers the same responses, and now one is best and now another."""
    found = []
    for split in dict.fromkeys(splits):
        alike = not split.as_texts and len({frozenset(example.responses) for example in split.examples}) == 1
        if alike and len({_right(example) for example in split.examples}) > 1:
            offered = " / ".join(map(_quote, sorted(split.examples[0].responses)[:MOST_NAMED]))
            found.append(Caution("same_responses", _name(split), offered))
    return found


def data_cautions(trains: Iterable[Split], tests: Sequence[Split], overlaps: Sequence[Overlap]) -> list[Caution]:
    """Every caution about data.

    Args:
        trains: every split that a method is fitted on.
        tests: every split that is asked about.
        overlaps: what of the tests stands in a train split.
    """
    trains = list(trains)
    splits = list(dict.fromkeys([*trains, *tests]))
    return [
        *overlap_cautions(overlaps),
        *group_cautions(trains, tests),
        *label_cautions(trains, tests),
        *same_data(splits),
        *few_prompts(tests),
        *common_prompts(splits),
        *constant_responses(splits),
        *same_responses(splits),
    ]


def all_overlaps(distributions: Iterable[Distribution]) -> list[Overlap]:
    """What of every test split stands in any train split."""
    listed = list(distributions)
    return find_overlaps(product(_splits(listed, "train"), _splits(listed, "test")))


def all_cautions(distributions: Iterable[Distribution], overlaps: Sequence[Overlap] | None = None) -> list[Caution]:
    """Every caution about distributions, each of which may be fitted on and tested against every one.

    Args:
        distributions: what is looked at.
        overlaps: theirs, where they are known already.
    """
    listed = list(distributions)
    known = all_overlaps(listed) if overlaps is None else overlaps
    return data_cautions(_splits(listed, "train"), _splits(listed, "test"), known)


def _splits(distributions: Iterable[Distribution], name: str) -> list[Split]:
    """The splits of a name, of the distributions that have one."""
    return [one.splits[name] for one in distributions if name in one.splits]


def _with_most(kind: Kind, overlaps: Sequence[Overlap]) -> list[Overlap]:
    """Those that have matches of a kind, the largest share of the test split first."""
    share = {id(one): len(one.of_kind(kind)) / len(one.test.examples) for one in overlaps}
    return sorted((one for one in overlaps if share[id(one)]), key=lambda one: -share[id(one)])


def _said(split: Split, number: int, text: str) -> str:
    return f"{_name(split)} {number} {_quote(text, LONGEST_SAID)}"


def _sentence(kind: str, cautions: Sequence[Caution]) -> tuple[str, str]:
    what, why = KINDS.get(kind, (kind.replace("_", " "), ""))
    named = [caution.place for caution in cautions[:MOST_NAMED]]
    rest = len(cautions) - len(named)
    where = ", ".join(named) + (f" and {rest} more" if rest else "")
    return f"{what}: {where}", why


def _everywhere(split: Split) -> set[str]:
    """The texts that every example has among its responses; none of a single example, or of labelled texts."""
    if len(split.examples) < 2 or split.as_texts:
        return set()
    return set.intersection(*(set(example.responses) for example in split.examples))


def _right(example: Example) -> tuple[str, ...]:
    return tuple(example.responses[number] for number in example.right)


def _name(split: Split) -> str:
    return f"{split.distribution}/{split.name}"


def _quote(text: str, longest: int = LONGEST_QUOTE) -> str:
    return repr(text if len(text) <= longest else f"{text[:longest]}...")
