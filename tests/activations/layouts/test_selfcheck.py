from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from tiny_models import make_model

from repeng.activations.layouts import selfcheck
from repeng.activations.layouts.batch import Batch, Run, TextRequest
from repeng.activations.layouts.packed import MASKS, TREES, as_batch
from repeng.activations.layouts.packing import pack
from repeng.activations.layouts.selfcheck import choose_texts, limits_passed, packed_layout
from repeng.activations.layouts.tree_attention import compact_mask, using_tree_attention
from repeng.models.load import LanguageModel, load_model

PROMPT = (1, 30, 31, 32, 33)
TEXTS = tuple(
    TextRequest(ids, (len(ids) - 1,))
    for ids in ((*PROMPT, 40), (*PROMPT, 50, 51), (1, 60, 61), (1, 60, 62, 63, 64, 65, 66, 67), (*PROMPT, 40, 41, 42))
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(str(make_model("llama", tmp_path_factory.mktemp("models") / "llama")))


def plan(lm: LanguageModel, texts: tuple[TextRequest, ...] = TEXTS) -> Run:
    return Run(texts, tuple(("resid_post", layer) for layer in range(lm.n_layers)), 1000)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("fault", ["next tree", "sibling", "positions"])
def test_a_layout_that_is_wrong_in_one_way_is_not_used(
    fault: str, dtype: str, llama: LanguageModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lm = load_model(llama.name, dtype=dtype)

    class Wrong:
        kind = fault

        def __call__(self, lm: LanguageModel, texts: Sequence[TextRequest], batch_tokens: int) -> Iterator[Batch]:
            (row,) = pack([text.ids for text in texts], batch_tokens)
            ends, positions = row.ends.copy(), row.positions.copy()
            if fault == "next tree":
                ends[:] = row.n_tokens
            elif fault == "sibling":
                ends[row.positions == len(PROMPT)] = row.n_tokens
            else:
                positions[row.positions >= len(PROMPT)] += 3
            wrong = type(row)(row.ids, positions, ends, row.texts, row.spans)
            with using_tree_attention(lm.model):
                yield as_batch(wrong, compact_mask(wrong))

    monkeypatch.setattr(selfcheck, "TREES", Wrong())
    monkeypatch.setattr(selfcheck, "MASKS", Wrong())
    assert packed_layout(lm, plan(lm)) is None
    assert "plain batches" in caplog.text and fault in caplog.text


def test_dense_masks_are_tried_where_attention_cannot_be_replaced(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(type(llama.model), "_can_set_attn_implementation", classmethod(lambda cls: False))
    assert packed_layout(llama, plan(llama)) == MASKS
    assert not caplog.records


def test_running_out_of_memory_is_no_fault_of_the_layout(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(lm: LanguageModel, texts: Sequence[TextRequest], batch_tokens: int) -> Iterator[Batch]:
        raise torch.OutOfMemoryError("full")
        yield

    monkeypatch.setattr(selfcheck, "TREES", full)
    with pytest.raises(torch.OutOfMemoryError):
        packed_layout(llama, plan(llama))


def test_nothing_to_run_needs_no_check(llama: LanguageModel) -> None:
    assert packed_layout(llama, plan(llama, ())) is not None


def test_one_text_alone_is_packed(llama: LanguageModel) -> None:
    assert packed_layout(llama, plan(llama, TEXTS[:1])) == TREES


def test_few_texts_are_tried_and_they_share_prefixes_and_do_not() -> None:
    many = tuple(
        TextRequest((1, number, *range(100, 100 + length), end))
        for number, length in enumerate((5, 80, 20, 30, 300, 40))
        for end in (7, 8)
    )
    chosen = choose_texts(many, {})
    assert len(chosen) <= 4
    prompts = [text.ids[:2] for text in chosen]
    assert 1 < len(set(prompts)) < len(prompts)
    assert max(len(text.ids) for text in chosen) < 200


@pytest.mark.parametrize(
    "config", [{"sliding_window": 100}, {"rope_parameters": {"original_max_position_embeddings": 100}}]
)
def test_the_longest_text_is_tried_where_it_reaches_past_a_limit_of_the_model(config: dict[str, object]) -> None:
    texts = tuple(TextRequest((1, number, *range(9, 9 + number))) for number in range(2, 200, 10))
    assert max(len(text.ids) for text in choose_texts(texts, config)) > 190
    assert max(len(text.ids) for text in choose_texts(texts, {"sliding_window": 1000})) < 190
    assert max(len(text.ids) for text in choose_texts(texts, {"sliding_window": None})) < 190


def test_a_check_costs_little_however_long_the_texts_are_and_still_sees_them_part() -> None:
    prompt = range(100, 700)
    span = ((601, 640),)
    texts = tuple(
        TextRequest((1, *prompt, *range(first, first + 300)), (900,), (span,), span) for first in (1000, 2000, 3000)
    ) + tuple(TextRequest((1, *range(first, first + 1500)), (1500,)) for first in (4000, 6000))
    chosen = choose_texts(texts, {"max_position_embeddings": 2000})
    assert sum(len(text.ids) for text in chosen) <= 4 * (1 + 2 * selfcheck.AROUND)
    whole = [tuple(text.ids) for text in texts]
    assert all(any(set(text.ids) <= set(ids) for ids in whole) and text.ids[0] == 1 for text in chosen)
    siblings = [text for text in chosen if set(text.ids) & set(prompt)]
    assert len(siblings) == 2 and len(siblings) < len(chosen)
    one, other = (text.ids for text in siblings)
    assert one[: selfcheck.AROUND + 1] == other[: selfcheck.AROUND + 1] and one[-1] != other[-1]
    for text in siblings:
        n = len(text.ids)
        assert text.positions == (n // 2, n - 1) and text.means == (text.logprobs,) == (((n // 2, n),),)
    assert set(choose_texts(texts, {"sliding_window": 800})) <= set(texts)


def test_texts_that_are_few_among_many_are_checked_whole() -> None:
    texts = tuple(
        TextRequest((1, *range(number, number + 90), last), (91,)) for number in range(400) for last in (7, 8)
    )
    assert set(choose_texts(texts, {})) <= set(texts)
    assert not set(choose_texts(texts[:60], {})) & set(texts)


def test_what_is_switched_off_is_no_limit() -> None:
    config = {"chunk_size_feed_forward": 0, "use_sliding_window": False, "max_position_embeddings": 512}
    assert limits_passed(512, config) == frozenset()
    assert limits_passed(513, config) == {512}
    assert limits_passed(513, {**config, "text_config": {"sliding_window": 64}}) == {64, 512}
