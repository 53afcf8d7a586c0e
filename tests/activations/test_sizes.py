"""What a capture will take on disk, and that too much of it is refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from chat_samples import MARKED, conversations
from made_up import made_up
from safetensors.torch import save
from tiny_models import make_model

from repeng.activations.capture import Request, capture
from repeng.activations.sizes import (
    activation_sizes,
    bytes_text,
    check_size,
    parse_bytes,
    shard_bytes,
    vector_shape,
)
from repeng.activations.store import files as parts
from repeng.activations.store.request import capture_record
from repeng.activations.store.store import Store
from repeng.distributions.schema import Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput
from repeng.models.load import load_model
from repeng.models.outline import load_outline

EVERYTHING = ("last", "response_mean", "prompt_last", "first_response", "last:-1", "mean:assistant", "all")


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SHARD_RESPONSES", 8)


@pytest.mark.parametrize(
    ("architecture", "storage"), [("llama", "bfloat16"), ("gpt2", "float32"), ("gemma", "float16")]
)
def test_the_bytes_announced_are_those_written_to_the_last(architecture: str, storage: str, tmp_path: Path) -> None:
    folder = str(make_model(architecture, tmp_path / "model", positions=40))
    sites = ("resid_post", "hook_z", "mlp_out", "ln_final", "resid_pre")
    store, splits = Store(tmp_path / "store"), [made_up(5), made_up(3, "other")]
    request = Request((get_stimulus("plain"), get_stimulus("contrast_yes")), sites, EVERYTHING)
    outline = load_outline(folder, device="cpu")
    record = capture_record(outline.identity, storage_dtype=storage)
    before = activation_sizes(outline, splits, request, store, record)
    assert not store.root.exists()
    assert {parameter.device.type for parameter in outline.model.parameters()} == {"meta"}
    done = capture(load_model(folder, device="cpu"), splits, request, store, storage_dtype=storage)
    assert done.capture_id == record.id
    stored = store.capture(done.capture_id)
    for size in before:
        held = stored.open(size.split, size.key.stimulus, size.key.site, size.key.token)
        assert (size.n_bytes, size.n_texts) == (held.n_bytes, held.n_responses)
        assert size.n_vectors == (sum(held.index.token_counts) if held.is_ragged else held.n_responses)
        lengths = stored.open(size.split, size.key.stimulus, "logprob", "").tensor("text_length")
        assert size.n_tokens == lengths.sum() and size.held_bytes == 0
    assert len(before) == done.parts_written == 2 * 2 * (len(sites) * len(EVERYTHING) + 1)
    assert done.skipped > 0
    after = activation_sizes(outline, splits, request, store, record)
    assert [size.held_bytes for size in after] == [size.n_bytes for size in before]
    assert not any(size.n_bytes or size.layers or size.n_tokens for size in after)


def test_only_layers_that_are_missing_are_counted_as_to_be_written(tmp_path: Path) -> None:
    folder, store = str(make_model("llama", tmp_path / "model")), Store(tmp_path / "store")
    plain, split = (get_stimulus("plain"),), made_up(9)
    first = Request(plain, tokens=("all",), layers=(1,))
    capture(load_model(folder, device="cpu"), [split], first, store)
    outline = load_outline(folder, device="cpu")
    record = capture_record(outline.identity)
    size, logprob = activation_sizes(outline, [split], Request(plain, tokens=("all",)), store, record)
    assert (size.layers, logprob.layers, logprob.n_bytes) == ((0, 2), (), 0)
    held = store.capture(record.id).open(split, "plain", "resid_post", "all").n_bytes
    capture(load_model(folder, device="cpu"), [split], Request(plain, tokens=("all",)), store)
    whole = store.capture(record.id).open(split, "plain", "resid_post", "all").n_bytes
    assert (size.held_bytes, size.n_bytes) == (held, whole - held)


def test_roles_of_a_chat_are_counted_by_their_turns(tmp_path: Path) -> None:
    folder, store, split = str(make_model("llama", tmp_path / "model")), Store(tmp_path / "store"), conversations()
    request = Request((get_stimulus("plain"),), tokens=("all:user", "all:assistant", "turn_end"), logprob=False)
    lm = load_model(folder, device="cpu")
    lm.tokenizer.chat_template = MARKED
    sizes = activation_sizes(lm, [split], request, store, capture_record(lm.identity))
    stored = store.capture(capture(lm, [split], request, store).capture_id)
    assert [size.n_bytes for size in sizes] == [
        stored.open(split, "plain", "resid_post", token).n_bytes for token in request.tokens
    ]


def test_every_token_above_the_limit_is_refused_and_nothing_is_written(tmp_path: Path, split: Split) -> None:
    folder, store = str(make_model("llama", tmp_path / "model")), Store(tmp_path / "store")
    lm, request = load_model(folder, device="cpu"), Request((get_stimulus("plain"),), tokens=("last", "all"))
    sizes = activation_sizes(lm, [split], request, store, capture_record(lm.identity))
    need = sum(size.n_bytes for size in sizes if size.key.token == "all")
    with pytest.raises(
        BadInput, match=r"the token all takes .* KiB .* more than the limit of .*--layers 8.*--max-bytes"
    ):
        capture(lm, [split], request, store, max_bytes=need - 1)
    assert not store.root.exists()
    check_size([size for size in sizes if size.key.token == "last"], 0)
    capture(lm, [split], request, store, max_bytes=need)
    # What is there is not written again.
    capture(lm, [split], request, store, max_bytes=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_file_is_as_large_as_the_library_writes_it(dtype: torch.dtype) -> None:
    for rows in (0, 1, 12345):
        tensors = {f"blocks.{layer}.hook_resid_post": torch.zeros(rows, 3, dtype=dtype) for layer in range(12)}
        tensors |= {"offsets": torch.zeros(5, dtype=torch.int64), "logprob": torch.zeros(rows, dtype=torch.float64)}
        described = [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]
        assert shard_bytes(described) == len(save(tensors))


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox", "gemma", "qwen3", "opt"])
def test_a_vector_is_as_wide_as_its_module_gives_it(architecture: str, tmp_path: Path, split: Split) -> None:
    lm = load_model(str(make_model(architecture, tmp_path / "model")), device="cpu")
    sites = tuple(site for site in lm.sites() if not site.endswith(("hook_in", "act")))
    store = Store(tmp_path / "store")
    request = Request((get_stimulus("plain"),), sites, layers=(1,), logprob=False)
    stored = store.capture(capture(lm, [split.first(2)], request, store).capture_id)
    for site in sites:
        held = stored.open(split.first(2), "plain", site)
        assert held.index.shape[1:] == vector_shape(lm, site, held.layers[0]), site


def test_bytes_are_read_and_written_as_people_write_them() -> None:
    cases = {"50G": 50 << 30, "1.5T": 3 << 39, "800MiB": 800 << 20, "10 kb": 10 << 10, "0": 0, "123": 123, "7b": 7}
    for text, number in cases.items():
        assert parse_bytes(text) == number
    assert [bytes_text(number) for number in (0, 1023, 1536, 50 << 30)] == [
        "0 bytes",
        "1023 bytes",
        "1.5 KiB",
        "50.0 GiB",
    ]
    for text in ("", "G", "-1G", "nan", "inf", "5X", "5GG"):
        with pytest.raises(BadInput, match="is no number of bytes; write it as 50G"):
            parse_bytes(text)
