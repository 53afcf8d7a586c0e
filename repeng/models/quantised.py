"""Models whose weights are quantised: as their checkpoint holds them, or while they are loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from repeng.errors import BadInput, UnknownName, first_line
from repeng.models.source import Source

ON_LOADING = ("int8", "nf4")
"""What weights can be quantised to while they are loaded, by bitsandbytes: 8 bits (LLM.int8) or 4 (NormalFloat)."""
QUANTIZATIONS = ("auto", "none", *ON_LOADING)
"""What may be asked for: `auto` is as the checkpoint holds them, `none` is unpacked to the dtype to compute in."""
UNPACKED = "unpacked"
PACKAGES = {
    "bitsandbytes": ("bitsandbytes",),
    "gptq": ("optimum", "gptqmodel"),
    "awq": ("gptqmodel",),
    "compressed-tensors": ("compressed-tensors",),
    "torchao": ("torchao",),
    "quanto": ("optimum-quanto",),
    "hqq": ("hqq",),
    "fbgemm_fp8": ("fbgemm-gpu",),
    "mxfp4": ("kernels",),
    "eetq": ("eetq",),
    "aqlm": ("aqlm",),
    "vptq": ("vptq",),
}
"""The packages that compute with weights of a method, by the method's name in config.json."""
GPUS = {
    "fp8": "a CUDA GPU of compute capability 8.9 or more (RTX 4090, L4, H100)",
    "mxfp8": "a CUDA GPU of compute capability 8.9 or more (RTX 4090, L4, H100)",
    "fbgemm_fp8": "a CUDA GPU of compute capability 9.0 or more (H100)",
    "mxfp4": "a CUDA GPU of compute capability 7.5 or more (T4, A100, H100) with triton 3.4, and kernels",
    "gptq": "a CUDA GPU, or gptqmodel",
}
"""What else a method needs."""
CAN_UNPACK = ("fp8", "mxfp8", "mxfp4")
"""Methods whose weights transformers unpacks to a dtype while they are loaded."""
FLOAT16 = ("awq", "gptq")
"""Methods whose kernels compute in float16: `auto` leaves it."""


@dataclass(frozen=True)
class Quantisation:
    """How the weights of a model are quantised, in its checkpoint or while it is loaded.

    Attributes:
        method: as in config.json: `bitsandbytes`, `fp8`, `gptq`, ...
        name: the method, its kind and how many bits: `bitsandbytes nf4`, `gptq 4-bit`.
        quantizer: what changes the weights while they are loaded: a library with its version, or `unpacked`; empty
            where they are computed with as the checkpoint holds them.
        settings: those of the checkpoint.
    """

    method: str
    name: str
    quantizer: str
    settings: Mapping[str, Any]

    def options(self, dtype: Any) -> dict[str, Any]:
        """What `from_pretrained` is told.

        Args:
            dtype: a torch dtype, to compute in.
        """
        if self.quantizer == UNPACKED:
            from transformers.quantizers.auto import AutoQuantizationConfig

            settings = AutoQuantizationConfig.from_dict(dict(self.settings))
            settings.dequantize = True
            return {"quantization_config": settings}
        return {"quantization_config": bitsandbytes_settings(self.name.split()[1], dtype)} if self.quantizer else {}


def quantisation_of(source: Source, asked: str = "auto") -> Quantisation | None:
    """How a model's weights are quantised when it is loaded; None where they are not.

    Args:
        source: where the model's files are. A GGUF file is always unpacked, and counts as not quantised.
        asked: one of QUANTIZATIONS.

    Raises:
        UnknownName: nothing can be asked for by that name.
        BadInput: what is asked for cannot be had of this model, or not without a package that is not installed.
    """
    if asked not in QUANTIZATIONS:
        raise UnknownName("quantization", asked, QUANTIZATIONS)
    held = None if source.gguf is not None else _held(source)
    if asked in ON_LOADING:
        what = "a GGUF file" if source.gguf is not None else held and f"quantised already ({held.name})"
        if what:
            raise BadInput(
                f"{source.name} is {what}, whose weights cannot be quantised anew; leave out quantization {asked!r}"
            )
        require_packages("bitsandbytes", f"quantization {asked!r}", "or leave it out")
        return Quantisation("bitsandbytes", f"bitsandbytes {asked}", f"bitsandbytes {version('bitsandbytes')}", {})
    if held is None or asked == "auto":
        return held
    if held.method not in CAN_UNPACK:
        raise BadInput(
            f"{source.name} is quantised ({held.name}), which transformers does not unpack while it loads; leave out "
            "quantization 'none', or take the model that it was made from"
        )
    return Quantisation(held.method, held.name, UNPACKED, held.settings)


def check_quantisation(source: Source, quantisation: Quantisation, device_map: Any) -> None:
    """See that a quantised model can be computed with here, before any weight is read.

    Args:
        source: of the model.
        quantisation: of it.
        device_map: where its weights are to go.

    Raises:
        BadInput: a package or a GPU is missing; the message says which.
    """
    from transformers.quantizers.auto import AutoHfQuantizer

    from repeng.models.pretrained import REFUSALS, quiet_transformers

    what = f"{source.name} is quantised ({quantisation.name})"
    if quantisation.quantizer == UNPACKED:
        return
    if not quantisation.quantizer:
        others = "or take the model that it was made from"
        require_packages(quantisation.method, f"{what}, and", others)
    way_out = "take another machine, or the model that it was made from"
    if quantisation.method in CAN_UNPACK:
        way_out = "take another machine, or unpack it by quantization 'none'"
    try:
        with quiet_transformers():
            settings = quantisation.options(None).get("quantization_config") or dict(quantisation.settings)
            quantizer = AutoHfQuantizer.from_config(settings, pre_quantized=not quantisation.quantizer)
            quantizer.validate_environment(device_map=device_map, weights_only=True)
    except (*REFUSALS, RuntimeError, AttributeError, TypeError) as error:
        needs = GPUS.get(quantisation.method)
        reason = f"needs {needs}" if needs else f"cannot be loaded here: {first_line(error)}"
        raise BadInput(f"{what}, which {reason}; {way_out}") from error
    if getattr(quantizer.quantization_config, "dequantize", False) and not quantisation.settings.get("dequantize"):
        raise BadInput(f"{what}, which needs {GPUS.get(quantisation.method, 'another GPU')}; {way_out}")


def bitsandbytes_settings(kind: str, dtype: Any) -> Any:
    """transformers' settings of what bitsandbytes quantises while it loads.

    Args:
        kind: one of ON_LOADING.
        dtype: a torch dtype that 4 bits are computed in; 8 bits are computed in float16.
    """
    from transformers import BitsAndBytesConfig

    if kind == "int8":
        # It says of every layer that inputs in another dtype are cast to float16.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_use_double_quant=True, bnb_4bit_quant_type=kind, bnb_4bit_compute_dtype=dtype
    )


def require_packages(method: str, what: str, others: str) -> None:
    """Raise unless the packages are installed that a method needs.

    Args:
        method: as in config.json.
        what: needs it, as the message begins.
        others: what else can be done, as it ends.

    Raises:
        BadInput: one is not installed.
    """
    wanted = PACKAGES.get(method, ())
    if missing := [name for name in wanted if not _installed(name)]:
        raise BadInput(f"{what} needs {' and '.join(missing)}; pip install {' '.join(missing)}, {others}")


def packages_of(method: str) -> tuple[str, ...]:
    """The packages that compute with weights of a method."""
    return PACKAGES.get(method, ())


def _installed(package: str) -> bool:
    if find_spec(package.replace("-", "_")) is not None:
        return True
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _held(source: Source) -> Quantisation | None:
    """As a checkpoint's config.json says.

    Raises:
        BadInput: it says so, and not how.
    """
    inner = source.config.get("text_config")
    settings = source.config.get("quantization_config") or (
        inner.get("quantization_config") if isinstance(inner, Mapping) else None
    )
    if not settings:
        return None
    if not isinstance(settings, Mapping):
        raise BadInput(f"{source.name}: its config.json says of quantization_config {settings!r}; it is an object")
    four, eight = settings.get("load_in_4bit"), settings.get("load_in_8bit")
    method = "bitsandbytes" if four or eight else settings.get("quant_method")
    if not isinstance(method, str):
        raise BadInput(f"{source.name}: its config.json names no quant_method; fetch it again")
    if method == "bitsandbytes":
        kind, bits = "int8" if eight else settings.get("bnb_4bit_quant_type", "fp4"), None
    else:
        kind = settings.get("format") if method == "compressed-tensors" else None
        bits = settings.get("bits") or settings.get("w_bit")
    return Quantisation(method, " ".join(filter(None, [method, kind, bits and f"{bits}-bit"])), "", settings)
