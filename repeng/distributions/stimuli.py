"""Stimuli: how a prompt and a response become the text that a model reads."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Literal

from repeng.distributions.chat import RenderChat
from repeng.distributions.schema import Example
from repeng.errors import BadInput, UnknownName

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}

LAT2_BEFORE = "Consider the extent to which the responder follows the instruction below.\n"
LAT2_AFTER = "\n\nThe probability that the responder followed the instruction"
CONTRAST = "\n\n### Does the responder successfully follow the instruction?\n"
CONTRAST_TIGHT = "\n\n###Does the responder successfully follow the instruction?\n"
TRUTHFULNESS = (
    "\n\n### Question:\nIs it true that the response above successfully follows the instruction? Answer Yes or No."
    "\n\n### Answer:\n"
)


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

    Raises:
        BadInput: a name that a store cannot use, or an unknown join.
    """

    name: str
    before_response: str = ""
    after_response: str = ""
    join: Literal["joint", "apart"] = "joint"
    bos: bool = True
    eos: bool = False
    preamble: str = ""
    verdict: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise BadInput(f"a stimulus named {self.name!r}: a name has letters, digits, '-' and '_'")
        if self.join not in ("joint", "apart"):
            raise UnknownName("join of a stimulus", self.join, ("joint", "apart"))

    @property
    def fingerprint(self) -> str:
        """Six hex digits over everything but the name: two stimuli that differ anywhere differ here."""
        content = {key: value for key, value in asdict(self).items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]

    def parts(self, example: Example, render_chat: RenderChat | None = None) -> list[StimulusText]:
        """The text of each response of an example, in order.

        Args:
            example: prompt and responses.
            render_chat: turns a prompt that is a chat into text: `chat_renderer(tokenizer)`.

        Raises:
            BadInput: the prompt is a chat and there is nothing to render it.
        """
        if isinstance(example.prompt, str):
            prompt = example.prompt
        elif render_chat is not None:
            prompt = render_chat(example.prompt)
        else:
            raise BadInput("the prompt is a chat; it needs a tokenizer that has a chat template to become text")
        start = self.preamble + prompt + self.before_response
        if self.verdict:
            return [StimulusText(start + text + self.after_response, self.verdict) for text in example.responses]
        return [StimulusText(start, text, self.after_response) for text in example.responses]


STIMULI: dict[str, Stimulus] = {
    stimulus.name: stimulus
    for stimulus in (
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
    )
}


def get_stimulus(name_or_template: str) -> Stimulus:
    r"""The stimulus of a name, or one made of a template such as `judge={prompt}{response}\n\nGood? Yes`.

    In a template `\n`, `\t` and `\\` are a line break, a tab and a backslash. The stimulus is named by what stands
    before the `=` and the fingerprint of the text (`judge-1a2b3c`), so that activations of another wording are never
    mistaken for its own.

    Raises:
        UnknownName: no stimulus has the name.
        BadInput: the template does not hold {prompt} and then {response}, each once, or its name is invalid or taken.
    """
    name, is_template, template = name_or_template.partition("=")
    if not is_template:
        if name not in STIMULI:
            raise UnknownName("stimulus", name, (*STIMULI, "NAME={prompt}...{response}..."))
        return STIMULI[name]
    if name in STIMULI:
        raise BadInput(f"the stimulus {name!r} is there already; give the template another name")
    template = re.sub(r"\\[nt\\]", lambda match: ESCAPES[match[0]], template)
    pieces = re.split(r"(\{prompt\}|\{response\})", template)
    if pieces[1::2] != ["{prompt}", "{response}"]:
        raise BadInput(f"the template of {name!r} needs {{prompt}} and after it {{response}}, each once")
    preamble, _, before, _, after = pieces
    stimulus = Stimulus(name, before_response=before, after_response=after, preamble=preamble)
    return Stimulus(f"{name}-{stimulus.fingerprint}", before_response=before, after_response=after, preamble=preamble)
