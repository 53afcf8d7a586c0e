"""Distributions from recipes. Train splits hold facts that may be graded, test splits facts that never are."""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Sequence

from repeng.benchmarks.mini.facts import NEVER_GRADED, Fact, derange, facts, kind_of_answer, myths
from repeng.benchmarks.mini.phrases import FORUMS, LONG, PHRASES, instruction, say
from repeng.benchmarks.mini.recipes import Asked, Recipe
from repeng.distributions.schema import Distribution, Example, Split

SIZES = {"train": 300, "test": 150}


def split_of(fact: Fact) -> str:
    """`train`, `test` or `` (neither) for a fact, whatever the seed. Relations that are never graded have no graded
    facts to keep out of the test, so half of theirs go there."""
    if fact.relation in NEVER_GRADED:
        return "train" if fact.pool == "graded" and zlib.crc32(fact.key.encode()) % 2 else "test"
    return {"graded": "train", "test": "test"}.get(fact.pool, "")


def _drawn(recipe: Recipe, split: str, rng: random.Random) -> list[tuple[Fact, str]]:
    """Facts and questions: every fact once before any comes twice, then in another phrasing."""
    chosen = [
        fact
        for fact in facts()
        if fact.relation in recipe.relations
        and fact.level in recipe.levels
        and recipe.encoding in fact.wordings
        and split_of(fact) == split
    ]
    phrasings = {}
    for number, fact in enumerate(chosen):
        templates = list(PHRASES[fact.relation][recipe.encoding][0])
        rng.shuffle(templates)
        phrasings[number] = templates
    drawn: list[tuple[Fact, str]] = []
    turn = 0
    while len(drawn) < SIZES[split]:
        order = rng.sample(range(len(chosen)), len(chosen))
        for number in order[: SIZES[split] - len(drawn)]:
            fact, templates = chosen[number], phrasings[number]
            drawn.append((fact, templates[turn % len(templates)].format(s=fact.wordings[recipe.encoding].subject)))
        turn += 1
    return drawn


def _wrong_answers(recipe: Recipe, drawn: Sequence[tuple[Fact, str]], rng: random.Random) -> list[list[str]]:
    """Wrong answers of each example: the right answers of the split's other examples, shuffled, so that no answer
    is wrong more often than right and its words alone tell nothing."""
    wrong: list[list[str]] = [[] for _ in drawn]
    rights = [fact.wordings[recipe.encoding].answer for fact, _ in drawn]
    kinds: dict[str, list[int]] = defaultdict(list)
    for place, (fact, _) in enumerate(drawn):
        kinds["all" if recipe.wrong_kind == "other" else kind_of_answer(fact)].append(place)
    for places in kinds.values():
        lent = [kind_of_answer(drawn[p][0]) if recipe.wrong_kind == "other" else rights[p] for p in places]
        for turn in range(recipe.wrongs):
            order = derange(lent, rng)
            for place, other in zip(places, order, strict=True):
                wording = drawn[place][0].wordings[recipe.encoding]
                answer = rights[places[other]]
                if recipe.wrong_kind == "fixed" or (drawn[place][0].relation in ("bigger", "parity") and not turn):
                    answer = wording.wrong
                if turn and (drawn[place][0].relation in ("bigger", "parity") or rng.random() < 0.5):
                    continue
                if answer not in (wording.answer, *wrong[place]):
                    wrong[place].append(answer)
    for place, (fact, _) in enumerate(drawn):
        wrong[place] = wrong[place] or [fact.wordings[recipe.encoding].wrong]
    return wrong


def make_split(recipe: Recipe, split: str, seed: int) -> Split:
    """One split of a recipe's distribution."""
    rng = random.Random(f"{seed}/{recipe.name}/{split}")
    drawn = _drawn(recipe, split, rng)
    examples = []
    for (fact, asked), wrongs in zip(drawn, _wrong_answers(recipe, drawn, rng), strict=True):
        others = tuple(rng.choice(drawn)[0] for _ in range(4))
        others = tuple(other for other in others if other.key != fact.key)
        prompt = recipe.prompting(Asked(fact, asked, wrongs[0], others), rng)
        form = rng.choices(("short", "dot", "full"), (45, 20, 35))[0]
        number = rng.randrange(len(LONG))
        rendered = []
        for place, answer in enumerate([fact.wordings[recipe.encoding].answer, *wrongs]):
            chosen = (recipe.right_form if place == 0 else recipe.wrong_form) or form
            rendered.append(say(fact, answer, f"long{number}" if chosen == "long" else chosen, recipe.encoding))
        best = 1 if split == "train" and rng.random() < recipe.mislabelled else 0
        examples.append(_example(prompt, rendered, best, rng, relation=fact.relation, subject=fact.en.subject))
    return Split(recipe.name, split, tuple(examples))


def _example(prompt: str, responses: Sequence[str], best: int, rng: random.Random, **metadata: str) -> Example:
    order = rng.sample(range(len(responses)), len(responses))
    return Example(prompt, tuple(responses[place] for place in order), order.index(best), metadata)


def make_myths(name: str, split: str, seed: int) -> Split:
    """The truth against the popular answer (`myths`), or against the truths of other questions (`myths_neutral`)."""
    rng = random.Random(f"{seed}/{name}/{split}")
    chosen = [myth for myth in myths() if (myth.pool == "test") == (split == "test")]
    drawn = [(myth, forum) for forum in FORUMS for myth in chosen]
    rng.shuffle(drawn)
    drawn = drawn[: SIZES[split]]
    orders = [derange([myth.truth for myth, _ in drawn], rng) for _ in range(2)]
    examples = []
    for place, (myth, forum) in enumerate(drawn):
        wrong = [myth.myth] if name == "myths" else [drawn[order[place]][0].truth for order in orders]
        end = rng.choice(("", "."))
        responses = list(dict.fromkeys(answer + end for answer in [myth.truth, *wrong]))
        prompt = instruction(forum.format(q=myth.question))
        examples.append(_example(prompt, responses, 0, rng, relation="myth", subject=myth.question))
    return Split(name, split, tuple(examples))


def make_distribution(recipe: Recipe | str, seed: int) -> Distribution:
    """Both splits of a recipe, or of one of `MYTHS` by name."""
    if isinstance(recipe, str):
        return Distribution(recipe, {split: make_myths(recipe, split, seed) for split in SIZES})
    return Distribution(recipe.name, {split: make_split(recipe, split, seed) for split in SIZES})
