"""From prompts and responses to token ids, with the places that are captured.

Which tokens are the response's. The pieces of a text are known by their characters, so in a text tokenized as a whole
the tokenizer's offsets decide: a token belongs to the response if any of its characters does. So a token that
straddles the border of prompt and response is the response's first (with it the model first says something of the
response), and one that straddles its end is its last. A tokenizer without offsets decides by the longest common
prefix with the prompt tokenized alone, and likewise at the end. An end-of-sequence token that follows the response
directly is part of it; one after a suffix is not. The turns of a chat (`models.turns`) are found by the same offsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Stimulus, StimulusText
from repeng.distributions.turns import TurnCharacters, example_texts, text_turns, turn_close
from repeng.errors import BadInput, UnknownName
from repeng.models.turns import Turn, closing_ids, turns_of_text

if TYPE_CHECKING:
    from repeng.models.load import LanguageModel

TOO_LONG = ("skip", "cut", "refuse")
"""What to do with a text of more tokens than the model takes."""


@dataclass(frozen=True)
class TokenizedText:
    """One response's text as token ids, and the positions of what is captured.

    Attributes:
        ids: token ids, special tokens included.
        response_start: position of the response's first token. Where the response is empty, of what would follow it.
        response_end: one past the response's last token; equal to `response_start` where the response is empty.
        turns: the turns of prompt and response, where they were asked for.
        n_closing: tokens at the end that close the response's turn, and are not the text's own.
    """

    ids: list[int]
    response_start: int
    response_end: int
    turns: tuple[Turn, ...] = ()
    n_closing: int = 0

    @property
    def length(self) -> int:
        """Tokens of the text, without those that close it."""
        return len(self.ids) - self.n_closing

    @property
    def last(self) -> int:
        """Position of the last token of the whole text."""
        return self.length - 1

    @property
    def prompt_last(self) -> int:
        """Position of the token before the response; -1 where there is none."""
        return self.response_start - 1


def tokenize(
    split: Split,
    stimulus: Stimulus,
    lm: LanguageModel,
    max_length: int | None = None,
    too_long: str = "skip",
    *,
    examples: Sequence[int] | None = None,
    turns: bool = False,
    closed: bool = False,
) -> list[TokenizedText | None]:
    """Tokenize every response of a split under a stimulus.

    Args:
        split: examples in order, each one's responses in order, give the order of the result.
        stimulus: how prompt and response become text.
        lm: for its tokenizer.
        max_length: longest text in tokens; None takes the model's own limit.
        too_long: "skip" leaves a longer text out (None stands in its place), "cut" drops tokens at its left but for
            special tokens at the very beginning, "refuse" raises.
        examples: only these, by their numbers; None for all.
        turns: also find the tokens of each turn.
        closed: also close the response's turn as the chat template does; not where the text is then too long.

    Raises:
        UnknownName: `too_long` is none of these.
        BadInput: a longer text is to be refused; a text has no token at all; the stimulus ends with an end-of-sequence
            token and the tokenizer has none; a prompt is a chat and the tokenizer has no template; the turns are asked
            for and cannot be told.
    """
    if too_long not in TOO_LONG:
        raise UnknownName("way with too long texts", too_long, TOO_LONG)
    if stimulus.eos and lm.tokenizer.eos_token_id is None:
        raise BadInput(
            f"the stimulus {stimulus.name!r} ends with an end-of-sequence token, and {lm.name}'s tokenizer has none"
        )
    limit = lm.max_length if max_length is None else max_length
    numbers = range(len(split.examples)) if examples is None else examples
    texts = stimulus_texts(split, numbers, stimulus, lm.tokenizer)
    owners = [number for number in numbers for _ in split.examples[number].responses]
    # A text that is far too long is not tokenized to be told so; one that is cut has to be.
    endless = [limit is not None and too_long != "cut" and lm.fewest_tokens.exceed(text.text, limit) for text in texts]
    wanted = [text for text, is_endless in zip(texts, endless, strict=True) if not is_endless]
    whole = iter((_joint if stimulus.join == "joint" else _apart)(wanted, stimulus, lm.tokenizer))
    marks = [mark for number in numbers for mark in _turns_of(split, number, stimulus, lm)] if turns else None
    close = {number: _close_of(split, number, stimulus, lm) for number in numbers} if closed else None
    result: list[TokenizedText | None] = []
    for row, (owner, text, is_endless) in enumerate(zip(owners, texts, endless, strict=True)):
        if is_endless and too_long == "skip":
            result.append(None)
            continue
        if is_endless:
            raise _refused(split, owner, f"{len(text.text):,} characters", stimulus, lm, limit)
        tokens = next(whole)
        if marks is not None:
            with _naming(split, owner):
                found = turns_of_text(text.text, tokens.ids, marks[row], stimulus, lm.tokenizer)
            tokens = replace(tokens, turns=found)
        if stimulus.eos:
            tokens = _with_eos(tokens, lm.tokenizer.eos_token_id, follows_response=not text.suffix)
        if not tokens.ids:
            raise BadInput(f"{_place(split, owner)}: its text under {stimulus.name!r} has no token at all")
        if limit is None or len(tokens.ids) <= limit:
            if close is not None:
                with _naming(split, owner):
                    closing = closing_ids(text.text, tokens.ids, close[owner], stimulus, lm.tokenizer)
                if limit is None or len(tokens.ids) + len(closing) <= limit:
                    tokens = replace(tokens, ids=[*tokens.ids, *closing], n_closing=len(closing))
            result.append(tokens)
        elif too_long == "refuse":
            raise _refused(split, owner, f"{len(tokens.ids)} tokens", stimulus, lm, limit)
        else:
            result.append(_cut(tokens, limit, lm.tokenizer) if too_long == "cut" else None)
    return result


def stimulus_texts(split: Split, numbers: Sequence[int], stimulus: Stimulus, tokenizer: Any) -> list[StimulusText]:
    """The text of every response of some examples, in order.

    Raises:
        BadInput: a prompt is a chat, or the stimulus writes chats, and the tokenizer has no chat template.
    """
    return [text for number in numbers for text in example_texts(split.examples[number], stimulus, tokenizer)]


@contextmanager
def _naming(split: Split, example: int) -> Iterator[None]:
    """What is wrong with an example's turns is said with its name."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{_place(split, example)}: {error}") from error


def _turns_of(split: Split, number: int, stimulus: Stimulus, lm: LanguageModel) -> list[tuple[TurnCharacters, ...]]:
    with _naming(split, number):
        return text_turns(split.examples[number], stimulus, lm.tokenizer)


def _close_of(split: Split, number: int, stimulus: Stimulus, lm: LanguageModel) -> str:
    prompt = stimulus.prompt_of(split.examples[number])
    with _naming(split, number):
        if isinstance(prompt, str):
            raise BadInput(
                "its prompt is a text and no chat, so nothing closes its response's turn; take last, or chat"
            )
        return turn_close(prompt, lm.tokenizer)


def _refused(
    split: Split, example: int, length: str, stimulus: Stimulus, lm: LanguageModel, limit: int | None
) -> BadInput:
    """The error of a text that is too long."""
    return BadInput(
        f"{_place(split, example)}: {length} under {stimulus.name!r}, and {lm.name} takes {limit} tokens; leave such "
        "texts out with --too-long skip, or cut them with --too-long cut (of texts in Python, too_long='cut')"
    )


def _place(split: Split, example: int) -> str:
    return f"{split.distribution}/{split.name}, example {example}"


def _joint(texts: Sequence[StimulusText], stimulus: Stimulus, tokenizer: Any) -> list[TokenizedText]:
    """Each text tokenized as a whole."""
    if not texts:
        return []
    wholes = [text.text for text in texts]
    if not getattr(tokenizer, "is_fast", False):
        return [_by_common_prefix(text, stimulus, tokenizer) for text in texts]
    encoded = tokenizer(
        wholes,
        add_special_tokens=stimulus.bos,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
    )
    rows = zip(texts, encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    return [_by_offsets(text, ids, offsets, special) for text, ids, offsets, special in rows]


def _by_offsets(
    text: StimulusText, ids: list[int], offsets: Sequence[tuple[int, int]], special: Sequence[int]
) -> TokenizedText:
    """Positions from the characters that each token stands for."""
    begin = len(text.prefix)
    end = begin + len(text.response)
    # Special tokens and markers of no width belong to nobody: they are passed over at either border.
    real = [place for place, (first, past) in enumerate(offsets) if past > first and not special[place]]
    inside = [place for place in real if offsets[place][1] > begin and offsets[place][0] < end] if text.response else []
    if inside:
        return TokenizedText(list(ids), inside[0], inside[-1] + 1)
    # The response is empty, or nothing but characters that the tokenizer drops.
    start = next((place for place in real if offsets[place][0] >= end), real[-1] + 1 if real else len(ids))
    return TokenizedText(list(ids), start, start)


def _by_common_prefix(text: StimulusText, stimulus: Stimulus, tokenizer: Any) -> TokenizedText:
    """Positions for a tokenizer without offsets: where the text diverges from its prompt tokenized alone."""
    ids = list(tokenizer(text.text, add_special_tokens=stimulus.bos)["input_ids"])
    start = common_prefix(ids, tokenizer(text.prefix, add_special_tokens=stimulus.bos)["input_ids"])
    if not text.response:
        end = start
    elif text.suffix:
        # The token at which text and suffix diverge holds something of the response unless it was whole before.
        whole = tokenizer(text.prefix + text.response, add_special_tokens=stimulus.bos)["input_ids"]
        until = common_prefix(ids, whole)
        end = max(until if until == len(whole) else until + 1, start + 1)
    else:
        end = len(ids)
    return TokenizedText(ids, start, min(end, len(ids)))


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many first tokens two texts share."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))


def _apart(texts: Sequence[StimulusText], stimulus: Stimulus, tokenizer: Any) -> list[TokenizedText]:
    """Prefix, and response with suffix, tokenized on their own, one after the other."""
    rests = _joint(
        [StimulusText("", text.response, text.suffix) for text in texts], replace(stimulus, bos=False), tokenizer
    )
    prefixes = [text.prefix for text in texts]
    starts = tokenizer(prefixes, add_special_tokens=stimulus.bos)["input_ids"] if prefixes else []
    return [
        TokenizedText([*start, *rest.ids], len(start) + rest.response_start, len(start) + rest.response_end)
        for start, rest in zip(starts, rests, strict=True)
    ]


def _with_eos(tokens: TokenizedText, eos: int, *, follows_response: bool) -> TokenizedText:
    """The text with the end-of-sequence token, if it does not stand there already."""
    ids = tokens.ids if tokens.ids and tokens.ids[-1] == eos else [*tokens.ids, eos]
    end = len(ids) if follows_response else tokens.response_end
    return replace(tokens, ids=ids, response_end=end)


def _cut(tokens: TokenizedText, limit: int, tokenizer: Any) -> TokenizedText:
    """The last tokens of a text, after the special tokens that it begins with."""
    special = set(tokenizer.all_special_ids)
    head = next((place for place, number in enumerate(tokens.ids) if number not in special), 0)
    head = min(head, limit - 1)
    dropped = len(tokens.ids) - limit
    ids = tokens.ids[:head] + tokens.ids[head + dropped :]

    def moved(position: int) -> int:
        return position if position < head else max(position - dropped, head)

    start = moved(tokens.response_start)
    turns = (Turn(turn.role, moved(turn.start), moved(turn.end)) for turn in tokens.turns)
    return TokenizedText(
        ids, start, max(moved(tokens.response_end), start), tuple(turn for turn in turns if turn.start < turn.end)
    )
