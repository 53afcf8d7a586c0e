"""What transformers' `from_pretrained` is given for a source, be it a folder, a hub id or a GGUF file."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from repeng.errors import BadInput, first_line
from repeng.models.gguf import read_header, unused_by_transformers
from repeng.models.source import Source, find_model

log = logging.getLogger(__name__)

REFUSALS = (OSError, ValueError, KeyError, ImportError, NotImplementedError)
"""What transformers raises of a model that it cannot load."""


@contextlib.contextmanager
def pretrained_arguments(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the options to call `from_pretrained` with, while the context is open.

    A GGUF file is shown in a folder of its own, since transformers reads tokenizer files that lie next to it too, and
    what a model is should not hang on its neighbours.
    """
    if source.gguf is None:
        yield source.path, {"revision": source.commit} if source.commit else {}
        return
    with tempfile.TemporaryDirectory(prefix="repeng-gguf-") as folder:
        (Path(folder) / source.gguf.name).symlink_to(source.gguf.resolve())
        yield folder, {"gguf_file": source.gguf.name}


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' bars and warnings: of a head that is new on purpose, of padding that it will not find, of
    what peft still calls by an old name."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def read_tokenizer(source: Source, **options: Any) -> Any:
    """The tokenizer of a source."""
    from transformers import AutoTokenizer

    with pretrained_arguments(source) as (path, own):
        tokenizer = AutoTokenizer.from_pretrained(path, **own, **options)
    if source.gguf is not None:
        # Else the folder that was made for the reader, which is gone by now.
        tokenizer.name_or_path = str(source.gguf)
    return tokenizer


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model, as `find_model` takes it; no code of the model's own is run.

    Raises:
        BadInput: there is no such model, or its tokenizer cannot be loaded.
    """
    try:
        return read_tokenizer(find_model(name), trust_remote_code=False)
    except REFUSALS as error:
        raise BadInput(f"{name}: no tokenizer can be loaded: {first_line(error)}") from error


def read_model(auto_class: Any, source: Source, *, num_labels: int | None = None, **options: Any) -> Any:
    """A model of a source by one of transformers' auto classes, with its weights.

    Quantised weights of a GGUF file are unpacked to the dtype asked for; the result is a model as any other, that can
    be saved and tuned.

    Args:
        auto_class: such as `AutoModelForCausalLM`.
        source: where the model's files are.
        num_labels: outputs of a classifier's head.
        options: for the class's `from_pretrained`.

    Raises:
        BadInput: a GGUF file whose quantisation transformers cannot undo, or that lacks weights.
    """
    of_config = {} if num_labels is None else {"num_labels": num_labels}
    if source.gguf is None:
        with pretrained_arguments(source) as (path, own):
            return auto_class.from_pretrained(path, use_safetensors=True, **own, **of_config, **options)
    from transformers import AutoConfig, GgufConfig

    if options.get("quantization_config") is not None:
        raise BadInput(f"{source.name} is a GGUF file, whose weights cannot be quantised anew; use quantization 'none'")
    header = read_header(source.gguf)
    # What it would report of weights that are missing, or of another size, is told in one line below.
    with pretrained_arguments(source) as (path, own), quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(path, **own, **of_config)
            model, found = auto_class.from_pretrained(
                path,
                config=config,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **own,
                **options,
            )
        except REFUSALS as error:
            raise BadInput(f"{source.gguf}: cannot be read ({header.quantisation}): {first_line(error)}") from error
    if missing := _missing(found["missing_keys"], model):
        raise BadInput(f"{source.gguf}: the file lacks weights of the model, such as {missing[0]}")
    if found["mismatched_keys"]:
        name, held, wanted = sorted(found["mismatched_keys"])[0]
        raise BadInput(
            f"{source.gguf}: weights are not of the size that the file's own header says, such as {name}, "
            f"{tuple(held)} where the model has {tuple(wanted)}"
        )
    if unused := unused_by_transformers(header, model):
        log.warning(
            "%s: transformers leaves aside what this file holds, so numbers differ from those of the model that it was "
            "made from: %s",
            source.gguf,
            ", ".join(unused),
        )
    model.config._name_or_path = model.name_or_path = str(source.gguf)
    log.info("unpacked %s (%s)", source.gguf, header.quantisation)
    return model


def read_outline(auto_class: Any, source: Source, **options: Any) -> Any:
    """A model of a source with its modules on torch's meta device: no weights are read, and it cannot be run.

    Args:
        auto_class: such as `AutoModelForCausalLM`.
        source: where the model's files are.
        options: `trust_remote_code`.
    """
    import torch
    from transformers import AutoConfig

    with pretrained_arguments(source) as (path, own):
        config = AutoConfig.from_pretrained(path, **own, **options)
    with torch.device("meta"):
        return auto_class.from_config(config, **options).eval()


def _missing(keys: Iterable[str], model: Any) -> list[str]:
    """Those of the weights that a file lacks that are no new head's."""
    return sorted(key for key in keys if key.startswith(f"{model.base_model_prefix}."))
