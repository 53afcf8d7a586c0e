"""Activations of texts of one's own, as tensors: what `repeng.capture` gives for a list of texts or chats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from repeng.activations.capture import capture
from repeng.activations.store.cached_split import CachedSplit
from repeng.activations.store.files import split_key
from repeng.activations.store.request import Request
from repeng.activations.store.store import Store
from repeng.distributions.chat import check_text, kind, messages_from
from repeng.distributions.schema import Distribution, Example, Message, Split
from repeng.distributions.stimuli import Stimulus, get_stimulus
from repeng.errors import BadInput, UnknownName
from repeng.maths import offsets_of
from repeng.places import Place
from repeng.progress import Told, capture_bar
from repeng.study.model_settings import ModelSettings

if TYPE_CHECKING:
    from repeng.models.load import LanguageModel

Chat = Sequence[Message | Mapping[str, Any]]
Texts = Iterable[str | Chat]
"""Texts, or chats as lists of `{"role": ..., "content": ...}`."""


class UnknownLayer(UnknownName, KeyError):
    """A layer that was not captured. A KeyError too, so that `get` and whatever else takes a mapping works."""

    def __init__(self, layer: object, known: Iterable[int]) -> None:
        super().__init__("captured layer", str(layer), map(str, known))

    # A KeyError quotes its message.
    __str__ = Exception.__str__


class TextActivations(Mapping[int, Tensor]):
    """Activations of some texts by layer: `acts[12]` is a float32 tensor `[text, d_model]`, one row a text.

        acts = repeng.capture("mini", texts, layers=[2, 4])
        X = acts[4]                      # X.numpy() is an array of the same memory
        train, test = acts.rows(slice(0, 80)), acts.rows(slice(80, None))

    At the token `all`, or `all:ROLE`, it is `[token, d_model]`, the texts' tokens one after the other: those of text i
    are `acts[4][acts.offsets[i] : acts.offsets[i + 1]]`; probes take `repeng.probes.Ragged(acts[4], acts.offsets)`.

    Attributes:
        token: where in a text they were taken.
        site: the hook site.
        stimulus: how each text was put to the model.
        capture_id: of the model, its tokenizer and how it was run: what a store keeps them under.
        n_texts: number of texts.
        offsets: where each text's tokens begin, and how many there are; None where each text has one row.
    """

    def __init__(
        self,
        layers: Mapping[int, Tensor],
        *,
        token: str,
        site: str,
        stimulus: str,
        capture_id: str,
        n_texts: int,
        offsets: Int[np.ndarray, " text_1"] | None = None,
    ) -> None:
        self._layers, self.offsets = dict(layers), offsets
        self.token, self.site, self.stimulus = token, site, stimulus
        self.capture_id, self.n_texts = capture_id, n_texts

    def __getitem__(self, layer: int) -> Tensor:
        if layer not in self._layers:
            raise UnknownLayer(layer, self._layers)
        return self._layers[layer]

    def __iter__(self) -> Iterator[int]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __contains__(self, layer: object) -> bool:
        return layer in self._layers

    def __repr__(self) -> str:
        layers = ", ".join(map(str, self._layers))
        shape = list(next(iter(self._layers.values())).shape)
        return f"TextActivations(layers {layers}: {shape} each, {self.site} at {self.token}, {self.capture_id})"

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were captured, lowest first."""
        return tuple(self._layers)

    def rows(self, chosen: Any) -> TextActivations:
        """Those of some texts: a slice, numbers, or a mask, as an array is indexed; one number gives one text."""
        chosen = [chosen] if np.ndim(chosen) == 0 and not isinstance(chosen, slice) else chosen
        texts, offsets, rows = np.arange(self.n_texts)[chosen], None, chosen
        if self.offsets is not None:
            counts = np.diff(self.offsets)[texts]
            offsets = offsets_of(counts)
            rows = np.arange(offsets[-1]) + np.repeat(self.offsets[texts] - offsets[:-1], counts)
        return TextActivations(
            {layer: values[rows] for layer, values in self._layers.items()},
            token=self.token,
            site=self.site,
            stimulus=self.stimulus,
            capture_id=self.capture_id,
            n_texts=len(texts),
            offsets=offsets,
        )


def capture_texts(
    model: str | LanguageModel,
    texts: Texts,
    *,
    layers: int | Sequence[int] | None = None,
    token: str = "last",
    site: str = "resid_post",
    stimulus: str | Stimulus = "plain",
    store: str | Place | Store | None = None,
    device: str = "auto",
    dtype: str = "auto",
    too_long: str = "refuse",
    storage_dtype: str = "float32",
    progress: bool | Told | None = None,
) -> TextActivations:
    """Run a model once over some texts, or chats, and give their activations at one token.

    A chat whose last message is the assistant's ends with that message, its turn not closed; any other ends with the
    template's opening of the assistant's turn.

    Args:
        model: hub id, folder, GGUF file, `mini` or `smollm2`; or what `load_model` gives.
        texts: the texts; or chats, each a list of `{"role": ..., "content": ...}`.
        layers: 0-based blocks, one or several; None for all.
        token: where in a text: `last`, `last:-2`, `response_mean`, `mean:user`, `all`, ...; the response is the whole
            text, of a chat the assistant's last message.
        site: hook site: `resid_post`, `hook_z`, `mlp_out`, ...
        stimulus: how a text is put to the model: `plain`, as it is; `did_you_lie`, a follow-up question; or a template.
        store: folder that keeps them, so that the same texts are not computed again; None keeps nothing.
        device: `auto`, `cpu`, `cuda`, ...; only where the model is a name.
        dtype: that the model computes in: `auto`, `float32`, `bfloat16` or `float16`; only where it is a name.
        too_long: `refuse` a text of more tokens than the model takes, or `cut` it at its left.
        storage_dtype: that a store keeps them in. What is given is float32.
        progress: a bar, once it has taken a second: True, False, None for one in a terminal and in a notebook alone, or
            a function that is told what is going on, how much is done, and of how much.

    Raises:
        BadInput: there is no text or no such model; a text is too long, or has nothing at the token; a chat, and the
            tokenizer has no template.
        BadData: a chat is not well formed.
        UnknownName: no such stimulus, site, token or layer.
        NonFinite: a value is infinite or not a number.
    """
    if too_long not in ("refuse", "cut"):
        raise UnknownName("way with too long texts", too_long, ("refuse", "cut"))
    split = Split("texts", "all", tuple(as_example(text, number) for number, text in enumerate(texts)))
    asked = get_stimulus(stimulus) if isinstance(stimulus, str) else stimulus
    wanted = (layers,) if isinstance(layers, int) else layers
    request = Request((asked,), (site,), (token,), None if wanted is None else tuple(wanted), logprob=False)
    how: dict[str, Any] = {"storage_dtype": storage_dtype, "too_long": too_long}
    lm: LanguageModel | Callable[[], LanguageModel]
    if isinstance(model, str):
        named = ModelSettings(model, device, dtype)
        how["identity"], lm = named.identity, named.load
    elif (device, dtype) != ("auto", "auto"):
        raise BadInput(f"{model!r} is loaded already; give device and dtype to load_model, or its name here")
    else:
        lm = model
    with TemporaryDirectory(prefix="repeng-") if store is None else nullcontext(store) as folder:
        kept = folder if isinstance(folder, Store) else Store(folder)
        with capture_bar(progress) as advance:
            done = capture(lm, [split], request, kept, progress=advance, **how)
        captured = kept.capture(done.capture_id)
        cached = CachedSplit(captured, *split_key(split))
        held = cached.stored(asked.name, site, token)
        if not held.is_ragged:
            _refuse_blank(held.kept, token)
        chosen = sorted(held.layers if wanted is None else set(wanted))
        found: dict[int, Tensor] = {}
        offsets = None
        for layer in chosen:
            if held.is_ragged:
                values, offsets = held.tokens(layer)
            else:
                values = held.layer(layer)
            # A copy, since a store's files are read by memory map and the temporary one is about to go.
            found[layer] = values.to(torch.float32, copy=True)
    return TextActivations(
        found,
        token=token,
        site=site,
        stimulus=asked.name,
        capture_id=done.capture_id,
        n_texts=len(split.examples),
        offsets=offsets,
    )


def are_texts(data: Any) -> bool:
    """Whether some data is a collection of texts or chats, rather than the name of data, or distributions and splits.

    Raises:
        BadInput: it is empty, a single chat, a mapping, or a table (a data frame).
    """
    if isinstance(data, Mapping):
        raise BadInput("the data to capture is a mapping; give its values: [*data.values()]")
    if isinstance(data, str | Place | Distribution | Split) or not isinstance(data, Iterable):
        return False
    if hasattr(data, "columns") and hasattr(data, "shape"):
        first = next(iter(data.columns), "text")
        raise BadInput(f"the data to capture is a table; give its column of texts, as in table[{first!r}]")
    first = next(iter(data), None)
    if first is None:
        raise BadInput("there is no text to capture; give one at least")
    if isinstance(first, Mapping | Message):
        raise BadInput("this is one chat; give a list of chats: [chat]")
    return not isinstance(first, Distribution | Split)


def as_example(text: Any, number: int) -> Example:
    """A text or a chat as an example without a prompt of its own; its label is not known, and never read.

    Raises:
        BadData: it is neither, or no text that a tokenizer takes.
    """
    if isinstance(text, str):
        return Example("", (check_text(text, f"text {number}"),), ())
    what = f"chat {number}"
    if not isinstance(text, Sequence):
        raise BadInput(f"text {number} is {kind(text)}; give texts, or chats as lists of messages")
    chat = messages_from(
        [{"role": each.role, "content": each.content} if isinstance(each, Message) else each for each in text], what
    )
    if chat[-1].role == "assistant":
        return Example(chat[:-1], (chat[-1].content,), ())
    return Example(chat, ("",), ())


def _refuse_blank(kept: Bool[np.ndarray, " text"], token: str) -> None:
    """Raise BadInput where some texts have nothing at a token: their rows would be zeros that no model gave."""
    blank = np.flatnonzero(~kept).tolist()
    if blank:
        listing = ", ".join(map(str, blank[:5])) + (f" and {len(blank) - 5} more" if len(blank) > 5 else "")
        raise BadInput(
            f"{len(blank)} of {len(kept)} texts have nothing at the token {token!r} (they are empty, or too short for "
            f"it, counted from 0: {listing}); leave them out, or choose another token, such as last"
        )
