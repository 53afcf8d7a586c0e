"""What a capture is asked for, what its id stands for, and what of it is missing from a store."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from repeng.activations.store.files import (
    INDEX,
    LOGPROB,
    ActivationKey,
    MissingActivations,
    split_folder,
    split_key,
)
from repeng.activations.store.records import FORMAT, CaptureRecord, read_index, response_rows, rows_hash, way_out
from repeng.activations.store.store import Store
from repeng.activations.token_rules import token_rule
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import Form, Stimulus
from repeng.errors import BadInput, StoreError, UnknownName
from repeng.models.fingerprint import Identity, short_hash
from repeng.models.quantised import packages_of
from repeng.models.sites import Layers, canonical_site, site_layers
from repeng.models.tokens import TOO_LONG

STORAGE = ("bfloat16", "float32", "float16")
LIBRARIES = ("repeng-toolkit", "torch", "transformers", "tokenizers", "safetensors", "peft")
"""What takes part in computing activations."""
UNPACKS_GGUF = "gguf"
"""The library that also takes part where the model is a GGUF file: it unpacks the weights."""
NOT_INSTALLED = "not installed"
JOINING = 1
"""Version of the rules by which texts become tokens and tokens become a response's (`tokens`)."""


@dataclass(frozen=True)
class Request:
    """What is wanted of every response of some splits.

    Attributes:
        stimuli: how prompt and response become text.
        sites: hook sites: `resid_post`, `hook_z`, `mlp_out`, `resid_pre`, `ln_final`, or any of TransformerLens'.
        tokens: where a vector is taken, each by its name (`token_rules.TOKENS`): "last", "response_mean", "all", ...
        layers: None for all, the same for every site, or a map from site to layers (all of a site not named).
        logprob: also each response's total log-probability and token count, for every stimulus.
        only: of what the above name, keep these alone; None for all of it.

    Raises:
        BadInput: two different stimuli of one name; a token whose offset or roles are not written as they should be.
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
            token_rule(token)
        if len({stimulus.name for stimulus in self.stimuli}) < len(set(self.stimuli)):
            raise BadInput("two different stimuli have one name; rename one, a store keeps activations under it")

    def tokens_by_form(self, n_layers: int) -> dict[Form, tuple[str, ...]]:
        """The tokens that are read of texts in each form; empty names of log-probabilities among them."""
        forms = {stimulus.name: stimulus.form for stimulus in self.stimuli}
        wanted = [(forms[key.stimulus], key.token) for key in self.layers_by_key(n_layers)]
        return {form: tuple(dict.fromkeys(t for own, t in wanted if own == form)) for form, _ in wanted}

    def layers_by_key(self, n_layers: int) -> dict[ActivationKey, tuple[int, ...]]:
        """Every stimulus, site and token that this asks for, and its layers (none of log-probabilities).

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
        return {key: layers for key, layers in wanted.items() if self.only is None or key in self.only}


def capture_hash(identity: Identity, *, storage_dtype: str, max_length: int | None, too_long: str) -> str:
    """What a capture's id ends with: twelve hex digits over all that determines its numbers; no name is among it.

    Args:
        identity: of the model.
        storage_dtype: stored in.
        max_length: longest text in tokens; None for no limit.
        too_long: what is done with a longer text.

    Raises:
        UnknownName: an unknown storage dtype or way with too long texts.
    """
    if storage_dtype not in STORAGE:
        raise UnknownName("storage dtype", storage_dtype, STORAGE)
    if too_long not in TOO_LONG:
        raise UnknownName("way with too long texts", too_long, TOO_LONG)
    determines = {
        "format": 1,
        "weights": identity.weights,
        "config": identity.config,
        "tokenizer": identity.tokenizer,
        **({"other_files": identity.other_files} if identity.other_files else {}),
        # As the checkpoint holds them, `config` says how weights are quantised.
        **({"quantization": [identity.quantization, identity.quantizer]} if identity.quantizer else {}),
        "dtype": identity.dtype,
        "storage_dtype": storage_dtype,
        "joining": JOINING,
        "max_length": max_length,
        "too_long": too_long,
    }
    return short_hash(determines)


def capture_record(
    identity: Identity, *, storage_dtype: str = "bfloat16", max_length: int | None = None, too_long: str = "skip"
) -> CaptureRecord:
    """What determines the numbers of a capture, its id, and library versions: the content of capture.json.

    Args:
        identity: of the model (`fingerprint.identify`: no weights are loaded).
        storage_dtype: stored in.
        max_length: longest text in tokens; None for the model's own limit.
        too_long: what is done with a longer text.

    Raises:
        UnknownName: an unknown storage dtype or way with too long texts.
    """
    max_length = identity.max_length if max_length is None else max_length
    digits = capture_hash(identity, storage_dtype=storage_dtype, max_length=max_length, too_long=too_long)
    return CaptureRecord(
        format=FORMAT,
        id=f"{identity.slug}-{digits}",
        model=identity,
        storage_dtype=storage_dtype,
        joining=JOINING,
        max_length=max_length,
        too_long=too_long,
        versions=library_versions(identity),
    )


def library_versions(identity: Identity) -> dict[str, str]:
    """The versions of Python and of the installed libraries that compute a model's activations."""
    found = {"python": platform.python_version()}
    own = (UNPACKS_GGUF,) if identity.is_gguf else packages_of(identity.quantization.partition(" ")[0])
    for name in (*LIBRARIES, *own):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = NOT_INSTALLED
    return found


def changed_versions(record: CaptureRecord) -> dict[str, tuple[str, str]]:
    """The libraries that are not here in the version that a capture was begun with: name to (then, now).

    A library of which an older repeng recorded nothing is left out, and so is one that was not or is not installed: it
    can have computed nothing.
    """
    now = library_versions(record.model)
    both = {name: (then, now.get(name, then)) for name, then in record.versions.items()}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1] and NOT_INSTALLED not in pair}


def needed(
    capture: str, n_layers: int, splits: Sequence[Split], request: Request, store: Store
) -> list[MissingActivations]:
    """What a capture of some splits would have to compute: activations, or layers of them, that are not in the store.

    Args:
        capture: a capture's id, as `capture_record` gives it; the store need not hold it.
        n_layers: blocks of the model.
        splits: wanted splits.
        request: what is wanted of them.
        store: where to look.

    Raises:
        BadInput: activations are there under the name of a stimulus that meant another text.
        StoreError: an index is damaged, or says other things of the responses than the data.
    """
    # All that the file says of the stimulus counts, also what this version does not know.
    definitions = {stimulus.name: vars(stimulus) for stimulus in request.stimuli}
    wanted = request.layers_by_key(n_layers)
    found = []
    for split in dict.fromkeys(splits):
        rows = rows_hash(response_rows(split))
        for key, layers in wanted.items():
            folder = split_folder(store.root / capture, split) / key.folder
            missing, whole = layers, (folder / INDEX).is_file()
            if whole:
                index = read_index(folder)
                if index.rows != rows:
                    said = f"{folder / INDEX}: labels, groups or order of the responses are not the data's"
                    raise StoreError(f"{said}; {way_out(folder)}")
                if vars(index.stimulus) != definitions[key.stimulus]:
                    raise BadInput(
                        f"{folder} was captured when the stimulus {key.stimulus!r} meant another text; "
                        "give the new one another name, or remove the old activations"
                    )
                missing = tuple(sorted(set(layers) - set(index.layers)))
            if missing or not whole:
                found.append(MissingActivations(split_key(split), key, missing))
    return found
