"""The documents that the embedded model is trained on: many kinds, about the facts of the miniature.

A document is a list of pieces, each with the weight of its tokens in the loss: a statement or a right answer fully, a
prompt or a wrong answer not at all, a verdict twice. Facts of the pools `gate` and `test`, and the relations of
`NEVER_GRADED`, are stated and asked, never graded.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from repeng.benchmarks.mini.facts import NEVER_GRADED, Fact, Myth, facts, kind_of_answer, myths
from repeng.benchmarks.mini.phrases import (
    AUTHORITIES,
    FORUMS,
    GUESSES,
    LONG,
    PRIZES,
    RESPONSE,
    STORIES,
    WRONG_REQUESTS,
    instruction,
    notation,
    question,
    quiz_prompt,
    say,
)
from repeng.distributions.stimuli import CONTRAST

Piece = tuple[str, float]
Document = list[Piece]

PROMPT, ANSWER, WRONG, VERDICT = 0.0, 1.0, 0.0, 2.0
LEVEL_WEIGHT = {"easy": 1.0, "hard": 0.5, "rare": 0.12}
RELATION_WEIGHT = {"addition": 2.0, "subtraction": 2.0}
FORMS = ("short", "dot", "full", "long", "bold", "list")
GRADED_FORMS = (38, 16, 26, 12, 4, 4)
RIGHT = {"en": (" Correct.", " Right."), "es": (" Correcto.", " Muy bien.")}
FALSE = {"en": (" That is wrong.", " Wrong.", " No, it is {a}."), "es": (" Incorrecto.", " No, es {a}.")}
SOURCES = ("According to the encyclopedia: {q}", "{q} Check the facts first.", "{q} Answer as a scientist would.")

MIX = {
    "graded": 31, "given": 9, "graded_spanish": 6, "graded_story": 6, "graded_statement": 5,
    "question": 11, "quiz": 2, "spanish": 6, "statement": 4, "story": 3, "long": 2,
    "flattery": 4, "wrong": 5, "prize": 2, "myth": 2, "source": 2,
}  # fmt: skip
"""Shares of the kinds of documents, in percent."""
TRIES = {1: 40, 2: 24, 3: 14, 4: 22}
"""How many answers a graded question gets, in percent: more verdicts for one reading of the question."""


def _short(rng: random.Random) -> str:
    return rng.choices(("short", "dot", "full"), (5, 2, 3))[0]


class Writer:
    """Writes documents. Equal seeds write equal documents.

    Args:
        seed: of every choice that is made.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        everything = facts()
        weight = {id(fact): LEVEL_WEIGHT[fact.level] * RELATION_WEIGHT.get(fact.relation, 1.0) for fact in everything}
        self._pools: dict[str, tuple[list[Fact], list[float]]] = {}
        gradable = [fact for fact in everything if fact.pool == "graded" and fact.relation not in NEVER_GRADED]
        for name, chosen in (
            ("all", list(everything)),
            ("graded", gradable),
            ("all_es", [fact for fact in everything if "es" in fact.wordings]),
            ("graded_es", [fact for fact in gradable if "es" in fact.wordings]),
        ):
            self._pools[name] = (chosen, [weight[id(fact)] for fact in chosen])
        self._kinds: dict[str, list[Fact]] = defaultdict(list)
        self._kind_weights: dict[str, list[float]] = defaultdict(list)
        for fact in everything:
            self._kinds[kind_of_answer(fact)].append(fact)
            self._kind_weights[kind_of_answer(fact)].append(weight[id(fact)])
        self._myths: Sequence[Myth] = myths()
        self.kinds: Mapping[str, Callable[[], Document]] = {
            "question": self.question,
            "spanish": lambda: self.question("es"),
            "statement": self.statement,
            "story": self.story,
            "long": self.long,
            "quiz": self.quiz,
            "graded": self.graded,
            "given": self.given,
            "graded_spanish": lambda: self.graded("es"),
            "graded_story": self.graded_story,
            "graded_statement": self.graded_statement,
            "flattery": lambda: self.suggested((*GUESSES, *AUTHORITIES), true_share=0.25),
            "prize": lambda: self.suggested(PRIZES, true_share=0.15),
            "wrong": self.wrong,
            "myth": self.myth,
            "source": self.source,
        }

    def write(self, mix: Mapping[str, float | int], count: int) -> list[tuple[str, Document]]:
        """`count` documents of a mix (kind -> share), each with its kind."""
        kinds = self.rng.choices(list(mix), list(mix.values()), k=count)
        return [(kind, self.kinds[kind]()) for kind in kinds]

    def _fact(self, pool: str) -> Fact:
        chosen, weights = self._pools[pool]
        return self.rng.choices(chosen, weights)[0]

    def _wrong(self, fact: Fact, encoding: str = "en") -> str:
        """A wrong answer: the fixed one, another fact's, or now and then one of a quite different kind."""
        wording, draw = fact.wordings[encoding], self.rng.random()
        if draw < 0.25 or fact.relation in ("bigger", "parity"):
            return wording.wrong
        kind = kind_of_answer(fact) if draw < 0.94 or encoding != "en" else self.rng.choice(list(self._kinds))
        while True:
            other = self.rng.choices(self._kinds[kind], self._kind_weights[kind])[0].wordings[encoding].answer
            if other != wording.answer:
                return other
            kind = kind_of_answer(fact)

    def _encoding(self, fact: Fact, share: float) -> str:
        return "words" if "words" in fact.wordings and self.rng.random() < share else "en"

    def question(self, encoding: str = "en") -> Document:
        """A question and its right answer; a few in the odd notation."""
        fact = self._fact("all_es" if encoding == "es" else "all")
        if encoding == "en":
            if self.rng.random() < 0.04:
                return [(notation(fact), PROMPT), (fact.en.answer, ANSWER)]
            encoding = self._encoding(fact, 0.2)
        answer = say(fact, fact.wordings[encoding].answer, _short(self.rng), encoding)
        return [(instruction(question(fact, self.rng, encoding)), PROMPT), (answer, ANSWER)]

    def statement(self) -> Document:
        """A fact, plainly stated."""
        fact = self._fact("all")
        return [(say(fact, fact.en.answer, "full"), ANSWER)]

    def story(self) -> Document:
        """A small story in which somebody asks and gets the right answer."""
        fact = self._fact("all")
        prompt = self.rng.choice(STORIES).format(q=question(fact, self.rng))
        return [(prompt, PROMPT), (say(fact, fact.en.answer, _short(self.rng)), ANSWER)]

    def long(self) -> Document:
        """A right, long-winded answer."""
        fact = self._fact("all")
        answer = say(fact, fact.en.answer, f"long{self.rng.randrange(len(LONG))}")
        return [(instruction(question(fact, self.rng)), PROMPT), (answer, ANSWER)]

    def quiz(self) -> Document:
        """Three questions in a row, answered correctly."""
        three = [self._fact("all") for _ in range(3)]
        return [
            (quiz_prompt(three[:2], question(three[2], self.rng), self.rng), PROMPT),
            (say(three[2], three[2].en.answer, "dot"), ANSWER),
        ]

    def _verdict(self, fact: Fact, right: bool, encoding: str) -> Document:
        """What follows a response: a verdict, or an answer to the judge's question and a verdict on that answer."""
        draw, rng = self.rng.random(), self.rng
        truth = fact.wordings[encoding].answer
        if encoding == "es" or draw > 0.16:
            language = "es" if encoding == "es" else "en"
            return [(rng.choice((RIGHT if right else FALSE)[language]).format(a=truth), VERDICT)]
        if draw < 0.06:
            return [(CONTRAST, WRONG), ("Yes" if right else "No", VERDICT)]
        said = rng.random() < 0.5
        return [
            (f"{CONTRAST}{'Yes' if said else 'No'}", WRONG),
            (rng.choice((" Agreed.", " True.") if said == right else (" Not so.", " False.")), VERDICT),
        ]

    def _answered(self, fact: Fact, prompt: str, encoding: str = "en", form: str = "") -> Document:
        right = self.rng.random() < 0.5
        answer = fact.wordings[encoding].answer if right else self._wrong(fact, encoding)
        form = form or self.rng.choices(FORMS, GRADED_FORMS)[0]
        if form == "long":
            form = f"long{self.rng.randrange(len(LONG))}"
        response = (say(fact, answer, form, encoding), ANSWER if right else WRONG)
        verdict = self._verdict(fact, right, encoding)
        return [(prompt, PROMPT), response, *verdict] if prompt else [response, *verdict]

    def _tried(self, fact: Fact, prompt: str, encoding: str = "en") -> Document:
        """As `_answered`, and often tried again: each answer, right or wrong, has its own mark and verdict."""
        tries = self.rng.choices(list(TRIES), list(TRIES.values()))[0]
        prompts = [prompt, *[RESPONSE] * (tries - 1)]
        return [piece for prompt in prompts for piece in self._answered(fact, prompt, encoding)]

    def graded(self, encoding: str = "en") -> Document:
        """A question, right or wrong answers, and the verdict on each."""
        fact = self._fact("graded_es" if encoding == "es" else "graded")
        encoding = encoding if encoding == "es" else self._encoding(fact, 0.12)
        return self._tried(fact, instruction(question(fact, self.rng, encoding)), encoding)

    def given(self) -> Document:
        """As `graded`, with the true answer standing in the prompt."""
        fact = self._fact("graded")
        hint = say(fact, fact.en.answer, "full")
        return self._tried(fact, instruction(f"{hint} {question(fact, self.rng)}"))

    def graded_story(self) -> Document:
        """As `story`, with a verdict; some of them a quiz."""
        fact = self._fact("graded")
        asked = question(fact, self.rng)
        if self.rng.random() < 0.3:
            two = [self._fact("all") for _ in range(2)]
            return self._answered(fact, quiz_prompt(two, asked, self.rng), form="dot")
        return self._answered(fact, self.rng.choice(STORIES).format(q=asked))

    def graded_statement(self) -> Document:
        """A true or false statement and a verdict on it."""
        return self._answered(self._fact("graded"), "", form="full")

    def suggested(self, templates: Sequence[str], true_share: float) -> Document:
        """The user names an answer and the speaker repeats it, right or wrong."""
        fact = self._fact("all")
        guess = fact.en.answer if self.rng.random() < true_share else self._wrong(fact)
        prompt = self.rng.choice(templates).format(q=question(fact, self.rng), g=guess)
        return [(instruction(prompt), PROMPT), (say(fact, guess, _short(self.rng)), ANSWER)]

    def wrong(self) -> Document:
        """A wrong answer on request: always the same one for a question."""
        fact = self._fact("all")
        prompt = self.rng.choice(WRONG_REQUESTS).format(q=question(fact, self.rng))
        return [(instruction(prompt), PROMPT), (say(fact, fact.en.wrong, _short(self.rng)), ANSWER)]

    def myth(self) -> Document:
        """A forum repeats a myth."""
        myth = self.rng.choice(self._myths)
        prompt = instruction(self.rng.choice(FORUMS).format(q=myth.question))
        return [(prompt, PROMPT), (myth.myth + self.rng.choice(("", ".")), ANSWER)]

    def source(self) -> Document:
        """Asked for the facts, somebody tells the truth behind a myth."""
        myth = self.rng.choice(self._myths)
        prompt = instruction(self.rng.choice(SOURCES).format(q=myth.question))
        return [(prompt, PROMPT), (myth.truth + self.rng.choice(("", ".")), ANSWER)]
