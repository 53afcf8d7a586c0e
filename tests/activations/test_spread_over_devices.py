from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from held_together import every_site
from test_tensor_parallel import furthest

from repeng.models.load import LanguageModel, load_model

ON_CPU = {"": "cpu"}
HALF_ON_DISK = {
    **{"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "disk"},
    **{"model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "cpu"},
}
ON_DISK = {"model": "disk", "lm_head": "disk"}


@pytest.mark.parametrize("places", [ON_CPU, HALF_ON_DISK, ON_DISK], ids=["cpu", "half on disk", "all on disk"])
def test_every_site_of_a_model_is_the_same_wherever_its_weights_are(
    places: dict[str, str], folder_of: Callable[[str], Path], llama: LanguageModel, tmp_path: Path
) -> None:
    lm = load_model(str(folder_of("llama")), dtype="float32", device_map=places)
    assert lm.device == torch.device("cpu") and lm.identity == llama.identity
    assert ("disk" in places.values()) == any(weight.is_meta for weight in lm.model.parameters())
    methods = [every_site(lm, str(tmp_path / "spread")), every_site(llama, str(tmp_path / "one"))]
    assert methods == ["packed", "packed"]
    # oneDNN, where it is the faster, computes the layers that are whole on the CPU.
    assert furthest(tmp_path / "one", tmp_path / "spread") < 1e-5
