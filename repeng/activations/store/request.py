"""What a capture is asked for, what its id stands for, and what of it is missing from a store."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from repeng.activations.store.files import (
    FORMAT,
    INDEX,
    LOGPROB,
    ActivationKey,
    SplitKey,
    read_json,
    split_folder,
    split_key,
)
from repeng.activations.store.store import Store
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Stimulus
from repeng.errors import BadInput, UnknownName
from repeng.models.fingerprint import Identity, identify, short_hash
from repeng.models.sites import Layers, canonical_site, site_layers
from repeng.models.tokens import TOO_LONG

TOKENS = ("last", "response_mean", "prompt_last")
"""Where a vector is taken: the last token of the whole text, the mean over the response, the last token before it."""
STORAGE = ("bfloat16", "float32", "float16")
JOINING = 1
"""Version of the rules by which texts become tokens and tokens become a response's (`tokens`)."""


@dataclass(frozen=True)
class Request:
    """What is wanted of every response of some splits.

    Attributes:
        stimuli: how prompt and response become text.
        sites: hook sites: `resid_post`, `hook_z`, `mlp_out`, `resid_pre`, `ln_final`, or any of TransformerLens'.
        tokens: any of "last", "response_mean", "prompt_last".
        layers: None for all, the same for every site, or a map from site to layers (all of a site not named).
        logprob: also each response's total log-probability and token count, for every stimulus.
        only: of the parts that the above name, keep these alone; None for all of them.

    Raises:
        BadInput: two different stimuli of one name.
        UnknownName: an unknown token.
    """

    stimuli: tuple[Stimulus, ...]
    sites: tuple[str, ...] = ("resid_post",)
    tokens: tuple[str, ...] = ("last",)
    layers: Layers = None
    logprob: bool = True
    only: frozenset[ActivationKey] | None = None

    def __post_init__(self) -> None:
        for token in self.tokens:
            if token not in TOKENS:
                raise UnknownName("token", token, TOKENS)
        if len({stimulus.name for stimulus in self.stimuli}) < len(set(self.stimuli)):
            raise BadInput("two different stimuli have one name; rename one, a store keeps activations under it")

    def parts(self, n_layers: int) -> dict[ActivationKey, tuple[int, ...]]:
        """Every part that this asks for and its layers (none of log-probabilities).

        Raises:
            BadInput: a layer that the model does not have.
        """
        wanted: dict[ActivationKey, tuple[int, ...]] = {}
        for stimulus in self.stimuli:
            for site in dict.fromkeys(canonical_site(site) for site in self.sites):
                for token in self.tokens:
                    wanted[ActivationKey(stimulus.name, site, token)] = site_layers(site, self.layers, n_layers)
            if self.logprob:
                wanted[ActivationKey(stimulus.name, LOGPROB)] = ()
        return {name: found for name, found in wanted.items() if self.only is None or name in self.only}


@dataclass(frozen=True)
class MissingActivations:
    """A part that is not in the store, or lacks layers.

    Attributes:
        split: distribution, split, data hash.
        part: stimulus, site, token.
        layers: those that are missing.
    """

    split: SplitKey
    part: ActivationKey
    layers: tuple[int, ...]


def capture_record(
    identity: Identity, *, storage_dtype: str = "bfloat16", max_length: int | None = None, too_long: str = "skip"
) -> dict[str, Any]:
    """What determines the numbers of a capture, and library versions: the content of capture.json.

    Raises:
        UnknownName: an unknown storage dtype or way with too long texts.
    """
    if storage_dtype not in STORAGE:
        raise UnknownName("storage dtype", storage_dtype, STORAGE)
    if too_long not in TOO_LONG:
        raise UnknownName("way with too long texts", too_long, TOO_LONG)
    determines = {
        "format": FORMAT,
        "weights": identity.weights,
        "config": identity.config,
        "tokenizer": identity.tokenizer,
        "dtype": identity.dtype,
        "storage_dtype": storage_dtype,
        "joining": JOINING,
        "max_length": identity.max_length if max_length is None else max_length,
        "too_long": too_long,
    }
    return {
        "format": FORMAT,
        "id": f"{identity.slug}-{short_hash(determines)}",
        "model": identity.as_dict(),
        "storage_dtype": storage_dtype,
        "joining": JOINING,
        "max_length": determines["max_length"],
        "too_long": too_long,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("repeng-toolkit", "torch", "transformers")},
        },
    }


def capture_id(
    name: str,
    *,
    dtype: str = "auto",
    storage_dtype: str = "bfloat16",
    max_length: int | None = None,
    too_long: str = "skip",
    device: str = "auto",
) -> str:
    """The id under which a model's activations are stored, from its files alone: no weights are loaded.

    Args:
        name: hub id, folder, or `mini`.
        dtype: computed in; `auto` as `load_model` takes it on `device`.
        storage_dtype: stored in.
        max_length: longest text; None for the model's own limit.
        too_long: what is done with a longer text.
        device: only says what a dtype of `auto` means.
    """
    identity = identify(name, dtype=dtype, device=device)
    record = capture_record(identity, storage_dtype=storage_dtype, max_length=max_length, too_long=too_long)
    return str(record["id"])


def needed(
    capture: str, n_layers: int, splits: Sequence[Split], request: Request, store: Store
) -> list[MissingActivations]:
    """What a capture of some splits would have to compute: the parts, or layers of parts, that are not in the store.

    Args:
        capture: a capture's id, as `capture_id` gives it; the store need not hold it.
        n_layers: blocks of the model.
        splits: wanted splits.
        request: wanted parts.
        store: where to look.

    Raises:
        BadInput: a part is there under the name of a stimulus that meant another text.
    """
    definitions = {stimulus.name: asdict(stimulus) for stimulus in request.stimuli}
    found = []
    for split in dict.fromkeys(splits):
        folder = split_folder(store.root / capture, split_key(split))
        for name, layers in request.parts(n_layers).items():
            index_file = folder / str(name) / INDEX
            missing, whole = layers, False
            if index_file.is_file():
                index = read_json(index_file)
                if index["stimulus"] != definitions[name.stimulus]:
                    raise BadInput(
                        f"{folder / str(name)} was captured when the stimulus {name.stimulus!r} meant another text; "
                        "give the new one another name, or remove the old activations"
                    )
                missing, whole = tuple(sorted(set(layers) - set(index["layers"]))), True
            if missing or not whole:
                found.append(MissingActivations(split_key(split), name, missing))
    return found
