"""What transformers' `from_pretrained` is given for a source, be it a folder, a hub id or a GGUF file."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from repeng.errors import BadInput, first_line
from repeng.models.gguf import read_header
from repeng.models.source import Source

log = logging.getLogger(__name__)

REFUSALS = (OSError, ValueError, KeyError, ImportError, NotImplementedError)
"""What transformers raises of a model that it cannot load."""


@contextmanager
def reading(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the options to call `from_pretrained` with.

    A GGUF file is shown in a folder of its own, since transformers reads tokenizer files that lie next to it too, and
    what a model is should not hang on its neighbours.
    """
    if source.gguf is None:
        yield source.path, {"revision": source.commit} if source.commit else {}
        return
    with tempfile.TemporaryDirectory(prefix="repeng-gguf-") as folder:
        (Path(folder) / source.gguf.name).symlink_to(source.gguf.resolve())
        yield folder, {"gguf_file": source.gguf.name}


def read_tokenizer(source: Source, **options: Any) -> Any:
    """The tokenizer of a source."""
    with reading(source) as (path, own):
        tokenizer = AutoTokenizer.from_pretrained(path, **own, **options)
    if source.gguf is not None:
        tokenizer.name_or_path = str(source.gguf)
    return tokenizer


def read_model(auto_class: Any, source: Source, **options: Any) -> Any:
    """A model of a source by one of transformers' auto classes, with its weights.

    Quantised weights of a GGUF file are unpacked to the dtype asked for; the result is a model as any other, that can
    be saved and tuned.

    Raises:
        BadInput: a GGUF file whose quantisation transformers cannot undo, or that lacks weights.
    """
    if source.gguf is None:
        with reading(source) as (path, own):
            return auto_class.from_pretrained(path, use_safetensors=True, **own, **options)
    from transformers import AutoConfig, GgufConfig

    if options.get("quantization_config") is not None:
        raise BadInput(f"{source.name} is a GGUF file, whose weights cannot be quantised anew; use quantization 'none'")
    quantisation = read_header(source.gguf).quantisation
    with reading(source) as (path, own):
        try:
            config = AutoConfig.from_pretrained(path, **own)
            model, found = auto_class.from_pretrained(
                path,
                config=config,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
                **own,
                **options,
            )
        except REFUSALS as error:
            raise BadInput(f"{source.gguf}: cannot be read ({quantisation}): {first_line(error)}") from error
    if missing := _missing(found["missing_keys"], model):
        raise BadInput(f"{source.gguf}: the file lacks weights of the model, such as {missing[0]}")
    model.config._name_or_path = model.name_or_path = str(source.gguf)
    log.info("unpacked %s (%s)", source.gguf, quantisation)
    return model


def _missing(keys: Iterable[str], model: Any) -> list[str]:
    """Those of the weights that a file lacks that are no new head's."""
    return sorted(key for key in keys if key.startswith(f"{model.base_model_prefix}."))
