"""What is allowed, and yet makes a figure say less than it seems to: one function a caution, and their sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from repeng.distributions.schema import Distribution, Example, Shift, Split
from repeng.errors import RepengError
from repeng.maths import FEWEST_GROUPS

MOST_NAMED = 3
LONGEST_QUOTE = 40

KINDS: Mapping[str, tuple[str, str]] = {
    "shared_prompts": (
        "test prompts that a method is also fitted on",
        "it may remember them, so accuracy there says less about generalising: take them out of train or test",
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
        "targets of one test prompt",
        "of one prompt no interval over prompts can be had, however many examples it has: take more prompts",
    ),
    "constant_response": (
        "splits in which one response text tells which response is best",
        "that text is all a method can learn or be asked there: let the best response differ between examples",
    ),
    "same_responses": (
        "splits in which every example has the same responses",
        "the prompt alone decides which is best, and what looks at responses alone (length) is at chance",
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
    by_kind: dict[str, list[Caution]] = {kind: [] for kind in KINDS}
    for caution in cautions:
        by_kind.setdefault(caution.kind, []).append(caution)
    failed = by_kind.pop("failed", [])
    found = [_sentence(kind, own) for kind, own in by_kind.items() if own]
    return found + [f"failed: {caution.where}: {caution.text}" for caution in failed]


def refuse(cautions: Sequence[Caution], error: type[RepengError]) -> None:
    """What `--strict` does: nothing where there is no caution.

    Raises:
        RepengError: of the given type, with every sentence.
    """
    if cautions:
        lines = "".join(f"\n  {line}" for line in sentences(cautions))
        raise error(f"--strict takes cautions for errors; mend these, or leave out --strict:{lines}")


def shared_prompts(fitted: Iterable[tuple[Split, Split]]) -> list[Caution]:
    """Of (train, test): how many test examples have a prompt, to the letter, of the train split. The worst first."""
    found = []
    for train, test in dict.fromkeys(fitted):
        known = set(train.prompt_hashes)
        here = [one in known for one in test.prompt_hashes]
        count = sum(here[group] for group in test.groups)
        if count:
            whose = "its own" if train.distribution == test.distribution else f"{train.distribution}'s"
            text = f"{count} of {len(test.examples)} in {whose} train split"
            found.append((count / len(test.examples), Caution("shared_prompts", test.distribution, text)))
    return [caution for _, caution in sorted(found, key=lambda pair: -pair[0])]


def own_sources(shifts: Iterable[Shift]) -> list[Caution]:
    """Shifts that do not shift."""
    return [Caution("own_source", name) for name in dict.fromkeys(s.source for s in shifts if s.source == s.target)]


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
        if count == 1:
            found.append(Caution("one_prompt", split.distribution, f"{examples} example{'s' * (examples > 1)}"))
        elif count < FEWEST_GROUPS:
            text = str(count) if count == examples else f"{count} in {examples} examples"
            found.append(Caution("few_prompts", split.distribution, text))
    return found


def constant_responses(splits: Iterable[Split]) -> list[Caution]:
    """Splits in which a text is in every example and always best or never: the labels are of one class for it."""
    found = []
    for split in dict.fromkeys(splits):
        for text in sorted(_everywhere(split)):
            times = sum(_best(example) == text for example in split.examples)
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
        alike = len({frozenset(example.responses) for example in split.examples}) == 1
        if alike and len({_best(example) for example in split.examples}) > 1:
            offered = " / ".join(map(_quote, sorted(split.examples[0].responses)[:MOST_NAMED]))
            found.append(Caution("same_responses", _name(split), offered))
    return found


def data_cautions(fitted: Sequence[tuple[Split, Split]], tests: Sequence[Split]) -> list[Caution]:
    """Every caution about data.

    Args:
        fitted: train and test splits of which a method is fitted on the one and asked about the other.
        tests: every split that is asked about.
    """
    splits = list(dict.fromkeys([*(train for train, _ in fitted), *tests]))
    return [
        *shared_prompts(fitted),
        *same_data(splits),
        *few_prompts(tests),
        *constant_responses(splits),
        *same_responses(splits),
    ]


def all_cautions(distributions: Iterable[Distribution]) -> list[Caution]:
    """Every caution about distributions, each of which may be fitted on and tested against every one."""
    listed = list(distributions)
    tests = [one.test for one in listed]
    return data_cautions([(one.train, test) for one, test in product(listed, tests)], tests)


def _sentence(kind: str, cautions: Sequence[Caution]) -> str:
    what, why = KINDS.get(kind, (kind.replace("_", " "), ""))
    named = [caution.place for caution in cautions[:MOST_NAMED]]
    rest = len(cautions) - len(named)
    where = ", ".join(named) + (f" and {rest} more" if rest else "")
    return f"{what}: {where}" + (f"; {why}" if why else "")


def _everywhere(split: Split) -> set[str]:
    """The texts that every example has among its responses; none of a single example."""
    if len(split.examples) < 2:
        return set()
    return set.intersection(*(set(example.responses) for example in split.examples))


def _best(example: Example) -> str:
    return example.responses[example.best]


def _name(split: Split) -> str:
    return f"{split.distribution}/{split.name}"


def _quote(text: str) -> str:
    return repr(text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}...")
