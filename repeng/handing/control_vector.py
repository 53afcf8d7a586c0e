"""A probe's directions as llama.cpp's control vector, a GGUF file of tensors `direction.N`.

llama.cpp adds `direction.N`, times the scale it is given, to the residual stream after block N, blocks counted from 0
(`build_cvec` of its graphs, after the MLP's output is added). It has no `direction.0`: its loader refuses a file with
one, so that nothing can be added after the first block. PyPI's `repeng` counts in the same way.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Float

from repeng.errors import BadInput
from repeng.handing.directions import Directions
from repeng.models.gguf import RENAMED
from repeng.models.source import EMBEDDED, find_model, json_object

ARCHITECTURE = "controlvector"
SHIFTS = {"resid_post": 0, "resid_pre": -1}
"""Of the sites that a control vector can be of: what comes before a block is what leaves the one before it."""
HINTS = {
    **RENAMED,
    "cohere": "command-r",
    "gemma3_text": "gemma3",
    "gpt_neox": "gptneox",
    "mistral": "llama",
    "mixtral": "llama",
    "phi": "phi2",
}
"""llama.cpp's names of architectures that transformers calls otherwise."""
NO_HINT = "unknown"


def control_vector_bytes(directions: Directions, *, model: str | None = None) -> bytes:
    """A control vector for llama.cpp; a scale of 1 there is a strength of 1 here.

    Args:
        directions: of the residual stream before or after blocks.
        model: whose architecture the file names; None for the probe's own, where that can be found.

    Raises:
        BadInput: the site is another, it would act after the first block or before it, the package `gguf` is not
            installed, or a model that was named is not found.
    """
    if find_spec("gguf") is None:
        raise BadInput("a control vector is written by the package gguf: pip install 'repeng-toolkit[gguf]'")
    import gguf

    tensors = control_tensors(directions)
    provenance = directions.vector.provenance
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "vector.gguf"
        writer = gguf.GGUFWriter(path, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", model_hint(model, str(provenance.get("model", ""))))
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(tensors))
        writer.add_name(f"{provenance.get('probe', 'probe')} on {provenance.get('source', 'a source')}")
        for number, values in tensors.items():
            writer.add_tensor(f"direction.{number}", values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def control_tensors(directions: Directions) -> dict[int, Float[np.ndarray, " d_model"]]:
    """The vectors by llama.cpp's number of the block after which each is added.

    Raises:
        BadInput: the site is none of the residual stream, or one would be added after no block or the first one.
    """
    site = directions.vector.site
    if site not in SHIFTS:
        raise BadInput(
            f"the probe reads {site}, and llama.cpp adds control vectors to the residual stream between blocks alone: "
            f"fit it at {' or '.join(SHIFTS)}, or take --to safetensors or --to numpy, which take any site"
        )
    found = {layer + SHIFTS[site]: values for layer, values in directions.by_layer().items()}
    if refused := [number for number in found if number < 1]:
        left = [layer for layer in directions.vector.layers if layer + SHIFTS[site] >= 1]
        way_out = f"leave it out: --layers {','.join(map(str, left))}" if left else "choose a later one with --layers"
        raise BadInput(
            f"llama.cpp adds nothing after the first block (it refuses direction.0), which layer "
            f"{min(refused) - SHIFTS[site]} of {site} asks for; {way_out}"
        )
    return found


def model_hint(model: str | None, own: str) -> str:
    """llama.cpp's name of a model's architecture, for the reader: llama.cpp does not look at it.

    Args:
        model: that was named; None for the probe's own.
        own: the probe's own, which may be nowhere any more.

    Raises:
        BadInput: there is no model of the name that was given.
    """
    from gguf import MODEL_ARCH_NAMES

    kind = _kind_of(own) if model is None else str(find_model(model).config.get("model_type", NO_HINT))
    return HINTS.get(kind, kind) if HINTS.get(kind, kind) in MODEL_ARCH_NAMES.values() else kind


def _kind_of(name: str) -> str:
    """The architecture of a model that is here, or whose configuration the hub's cache has; no network is asked."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        if name in EMBEDDED or (name and Path(name).exists()):
            return str(find_model(name).config.get("model_type", NO_HINT))
        cached = try_to_load_from_cache(name, "config.json")
        return str(json_object(Path(cached)).get("model_type", NO_HINT)) if isinstance(cached, str) else NO_HINT
    except (BadInput, HFValidationError):
        return NO_HINT
