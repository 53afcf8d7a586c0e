"""A probe applied at every token of one text."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make_model

from repeng.activations.capture import Request, capture
from repeng.activations.store.store import Store
from repeng.distributions.schema import Example, Split
from repeng.distributions.stimuli import get_stimulus
from repeng.errors import BadInput
from repeng.methods.token_scores import token_scorer
from repeng.models.load import load_model
from repeng.study.probing import fit_from_store

EXAMPLES = tuple(
    Example(f"### Instruction:\nSay {number} again.\n\n### Response:\n", (f"{number} it is.", f"Not {number}."), 0)
    for number in range(14)
)


@pytest.mark.parametrize("site", ["resid_post", "hook_z"])
def test_the_last_token_scores_as_the_stored_response_does_and_every_token_is_there(tmp_path: Path, site: str) -> None:
    lm = load_model(str(make_model("llama", tmp_path / "model")))
    split = Split("numbers", "train", EXAMPLES)
    store = Store(tmp_path / "store")
    request = Request((get_stimulus("plain"),), sites=(site,), logprob=False)
    found = capture(lm, [split], request, store, storage_dtype="float32")
    stored = store.capture(found.capture_id)
    fitted = fit_from_store(stored, "numbers", "mms", layers="1", site=site).fitted
    vectors = stored.open(split, "plain", site).layer(1).float()
    whole = vectors[None, None] if site == "resid_post" else vectors.permute(1, 0, 2)[None, :, None]
    expected = fitted.scores(whole, (1,))

    score = token_scorer(lm, fitted)
    for number, example in ((0, EXAMPLES[0]), (9, EXAMPLES[9])):
        for response in (0, 1):
            scored = score(example, response)
            text = "".join(word for word, _ in scored)
            assert text.endswith(example.responses[response])
            assert scored[-1][1] == pytest.approx(expected[2 * number + response], abs=1e-4)


def test_a_probe_of_two_texts_is_refused(tmp_path: Path) -> None:
    lm = load_model(str(make_model("llama", tmp_path / "model")))
    split = Split("numbers", "train", EXAMPLES)
    store = Store(tmp_path / "store")
    request = Request((get_stimulus("contrast_yes"), get_stimulus("contrast_no")), logprob=False)
    found = capture(lm, [split], request, store)
    fitted = fit_from_store(store.capture(found.capture_id), "numbers", "cra").fitted
    with pytest.raises(BadInput, match="contrast_yes and contrast_no"):
        token_scorer(lm, fitted)
