"""Stimuli: how a prompt and a response become the text that a model reads."""

from __future__ import annotations

import hashlib
import json
import operator
import re
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from repeng.distributions.chat import RenderChat
from repeng.distributions.chat_form import chat_prompt, continued
from repeng.distributions.follow_ups import FOLLOW_UPS, chat_question, plain_question
from repeng.distributions.schema import Example, Message, Prompt
from repeng.errors import BadInput, UnknownName

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}

LAT2_BEFORE = "Consider the extent to which the responder follows the instruction below.\n"
LAT2_AFTER = "\n\nThe probability that the responder followed the instruction"
CONTRAST = "\n\n### Does the responder successfully follow the instruction?\n"
CONTRAST_TIGHT = "\n\n###Does the responder successfully follow the instruction?\n"
TRUTHFULNESS = plain_question(
    "Is it true that the response above successfully follows the instruction? Answer Yes or No."
)
ASKED = re.compile(r"\n\n### (?:Question:\n)?(?P<question>[^\n]+)(?:\n\n### Answer:)?\n(?P<answer>[^\n]*)")
"""A question under a heading after a response, and what its answer begins with: a turn each in chat form."""
OWN = ("NAME={prompt}...{response}...", "NAME?=QUESTION", "NAME?VERDICT=QUESTION")
"""How a stimulus of one's own is written."""
CHAT = "chat"
"""The name of `plain` in chat form; before the names of others it names theirs."""
Form = Literal["plain", "chat"]
FORMS: tuple[Form, ...] = ("plain", "chat")
"""How texts are written: as they are, or as chats by the tokenizer's chat template."""


@dataclass(frozen=True)
class StimulusText:
    """The text of one response in three pieces. Log-probabilities are taken of `response`, given `prefix`."""

    prefix: str
    response: str
    suffix: str = ""

    @property
    def text(self) -> str:
        """The whole text."""
        return self.prefix + self.response + self.suffix


@dataclass(frozen=True)
class Stimulus:
    """How a prompt and a response become text: preamble + prompt + before + response + after + verdict.

    Attributes:
        name: letters, digits, `-` and `_`: a store keeps activations under it.
        before_response: between the prompt and the response.
        after_response: after the response.
        join: `joint` tokenizes the text as a whole; `apart` the prefix and the rest on their own, one after the other.
        bos: whether the tokenizer adds its special tokens.
        eos: whether the end-of-sequence token follows.
        preamble: before the prompt, such as the worked examples of a few-shot prompt.
        verdict: the end of the text, whose log-probability is kept instead of the response's: `Yes` after a question.
        question: asked after the response, in the place of `after_response`: of a prompt that is text as
            `plain_question` has it, of a chat as the user's next turn. The text ends where the answer would begin.
        form: `chat` makes a chat of a prompt that is text (`chat_prompt`); a chat is a chat in either form.
        answer: what the answer to the question begins with, and the text ends with.
        shots: in chat form, turns before the prompt's own: worked examples.

    Raises:
        BadInput: a name that a store cannot use, an unknown join or form, something before or after the response and a
            question too, an answer without a question, or shots in plain form.
    """

    name: str
    before_response: str = ""
    after_response: str = ""
    join: Literal["joint", "apart"] = "joint"
    bos: bool = True
    eos: bool = False
    preamble: str = ""
    verdict: str = ""
    # Files written before there were these, and those of stimuli without them, do not hold their keys.
    question: Annotated[str, Field(exclude_if=operator.not_)] = ""
    form: Annotated[Form, Field(exclude_if=lambda form: form == "plain")] = "plain"
    answer: Annotated[str, Field(exclude_if=operator.not_)] = ""
    shots: Annotated[tuple[Message, ...], Field(exclude_if=operator.not_)] = ()

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise BadInput(f"a stimulus named {self.name!r}: a name has letters, digits, '-' and '_'")
        if self.join not in ("joint", "apart"):
            raise UnknownName("join of a stimulus", self.join, ("joint", "apart"))
        if self.form not in FORMS:
            raise UnknownName("form of a stimulus", self.form, FORMS)
        if self.question and (self.before_response or self.after_response):
            raise BadInput(f"the stimulus {self.name!r} has a question and text around the response; give one of them")
        if self.answer and not self.question:
            raise BadInput(f"the stimulus {self.name!r} has an answer and no question; give both")
        if self.shots and self.form == "plain":
            raise BadInput(f"the stimulus {self.name!r} has turns before the prompt, which a plain text has none of")

    @property
    def fingerprint(self) -> str:
        """Six hex digits over everything but the name: two stimuli that differ anywhere differ here."""
        new = {"question": self.question, "form": self.form != "plain", "answer": self.answer, "shots": self.shots}
        content = {key: value for key, value in asdict(self).items() if key != "name" and new.get(key, True)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]

    def parts(self, example: Example, render_chat: RenderChat | None = None) -> list[StimulusText]:
        """The text of each response of an example, in order.

        Args:
            example: prompt and responses.
            render_chat: turns a prompt that is a chat into text: `chat_renderer(tokenizer)`.

        Raises:
            BadInput: the prompt is a chat, or the form is, and there is nothing to render it.
        """
        before, after = self._around(self.prompt_of(example), render_chat)
        if self.verdict:
            return [StimulusText(before + text + after, self.verdict) for text in example.responses]
        return [StimulusText(before, text, after) for text in example.responses]

    def prompt_of(self, example: Example) -> Prompt:
        """The example's prompt as it is put to the model: in chat form a chat, whatever it is in the data.

        Raises:
            BadInput: there are shots, and no user speaks in it before the assistant, as in an empty one.
        """
        if self.form == "plain":
            return example.prompt
        chat = chat_prompt(example.prompt)
        return continued(self.shots, chat) if self.shots else chat

    def _around(self, prompt: Prompt, render_chat: RenderChat | None) -> tuple[str, str]:
        """What stands before a response, and what after it."""
        after = plain_question(self.question) + self.answer if self.question else self.after_response
        if isinstance(prompt, str):
            return self.preamble + prompt + self.before_response, after
        if render_chat is None:
            raise BadInput("the prompt is a chat; it needs a tokenizer that has a chat template to become text")
        if self.question:
            before, after = chat_question(prompt, self.question, render_chat)
            return self.preamble + before, after + self.answer
        return self.preamble + render_chat(prompt) + self.before_response, after


def _asked(name: str, question: str) -> tuple[Stimulus, ...]:
    """A follow-up question, read where its answer begins; and with each verdict, for its log-probability."""
    verdicts = (Stimulus(f"{name}_{word.lower()}", verdict=word, question=question) for word in ("Yes", "No"))
    return Stimulus(name, question=question), *verdicts


def in_form(name: str, form: Form) -> str:
    """What a stimulus is named in a form, by its name in plain form. Not every stimulus has a chat form."""
    if form == "plain":
        return name
    return CHAT if name == "plain" else f"{CHAT}_{name}"


def _in_chat_form(stimulus: Stimulus) -> Stimulus:
    """The same in chat form: a question after the response is the user's next turn, and what follows it the answer."""
    chat = replace(stimulus, name=in_form(stimulus.name, "chat"), form="chat")
    asked = ASKED.fullmatch(stimulus.after_response)
    if asked is None:
        return chat
    return replace(chat, after_response="", question=asked["question"], answer=asked["answer"])


def _by_name(*stimuli: Stimulus) -> dict[str, Stimulus]:
    """The stimuli and their chat forms; those that tokenize as GENIES' code does have none."""
    chats = (_in_chat_form(one) for one in stimuli if one.join == "joint" and not one.eos)
    return {stimulus.name: stimulus for stimulus in (*stimuli, *chats)}


STIMULI = _by_name(
    Stimulus("plain"),
    Stimulus("lat2", before_response=LAT2_BEFORE, after_response=LAT2_AFTER),
    Stimulus("contrast_yes", after_response=CONTRAST + "Yes"),
    Stimulus("contrast_no", after_response=CONTRAST + "No"),
    Stimulus("contrast_yes_eos", after_response=CONTRAST + "Yes", eos=True),
    Stimulus("contrast_no_genies", after_response=CONTRAST_TIGHT + "No", eos=True),
    Stimulus("truthfulness", after_response=TRUTHFULNESS),
    Stimulus("truthfulness_yes", after_response=TRUTHFULNESS, verdict="Yes"),
    Stimulus("truthfulness_no", after_response=TRUTHFULNESS, verdict="No"),
    Stimulus("zero_shot_genies", join="apart", bos=False, eos=True),
    *(stimulus for name, asked in FOLLOW_UPS.items() for stimulus in _asked(name, asked.text)),
)
"""Stimuli by name: those of the literature, the follow-up questions, and the chat form of each that can have one."""


def get_stimulus(name_or_text: str) -> Stimulus:
    r"""The stimulus of a name, or one of the user's own: a template or a follow-up question.

    - `judge={prompt}{response}\n\nGood? Yes` is a template.
    - `ask?=Did you mean that?` is a question after the response, read where its answer would begin;
      `ask?Yes=Did you mean that?` keeps the log-probability of the answer Yes.

    In both `\n`, `\t` and `\\` are a line break, a tab and a backslash. The stimulus is named by what stands before the
    `=` or `?` and the fingerprint of the text (`judge-1a2b3c`), so that activations of another wording are never
    mistaken for its own.

    Raises:
        UnknownName: no stimulus has the name.
        BadInput: the template does not hold {prompt} and then {response}, each once, the question is empty, or the
            name is invalid or taken.
    """
    name, is_own, text = name_or_text.partition("=")
    if not is_own:
        if name not in STIMULI:
            verdicts = {f"{asked}_{word}" for asked in FOLLOW_UPS for word in ("yes", "no")}
            plain = {each for each, stimulus in STIMULI.items() if stimulus.form == "plain"} - verdicts
            raise UnknownName("stimulus", name, (*sorted(plain), CHAT, in_form("NAME", "chat"), *OWN))
        return STIMULI[name]
    name, asks, verdict = name.partition("?")
    if name in STIMULI:
        raise BadInput(f"the stimulus {name!r} is there already; give your own another name")
    text = re.sub(r"\\[nt\\]", lambda match: ESCAPES[match[0]], text)
    if not asks:
        return _named(_template(name, text))
    if not text.strip():
        raise BadInput(f"the follow-up question {name!r} is empty; write it after the '=', as in {name}?=Are you sure?")
    return _named(Stimulus(name, question=text, verdict=verdict))


def stimulus_text(stimulus: Stimulus) -> str:
    """The stimulus as `get_stimulus` takes it; its name where it is one that no text leads to."""
    if STIMULI.get(stimulus.name) == stimulus:
        return stimulus.name
    name = stimulus.name.removesuffix(f"-{stimulus.fingerprint}")
    if stimulus.question:
        text = f"{name}?{stimulus.verdict}={_escaped(stimulus.question)}"
    else:
        between = _escaped(stimulus.before_response)
        text = f"{name}={_escaped(stimulus.preamble)}{{prompt}}{between}{{response}}{_escaped(stimulus.after_response)}"
    try:
        return text if get_stimulus(text) == stimulus else stimulus.name
    except BadInput:
        return stimulus.name


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _template(name: str, template: str) -> Stimulus:
    pieces = re.split(r"(\{prompt\}|\{response\})", template)
    if pieces[1::2] != ["{prompt}", "{response}"]:
        raise BadInput(f"the template of {name!r} needs {{prompt}} and after it {{response}}, each once")
    preamble, _, before, _, after = pieces
    return Stimulus(name, before_response=before, after_response=after, preamble=preamble)


def _named(stimulus: Stimulus) -> Stimulus:
    """The same, with the fingerprint of its text in its name."""
    return replace(stimulus, name=f"{stimulus.name}-{stimulus.fingerprint}")
