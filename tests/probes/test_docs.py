"""The pages about probes say what is true."""

from __future__ import annotations

import re
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from planted import fit_probe, planted

import repeng.probes.registry as registry
from repeng.errors import BadInput
from repeng.methods.text import SCORERS
from repeng.probes.base import Probe

DOCS = Path(__file__).resolve().parents[2] / "docs"


def documented_probe() -> type[Probe]:
    code = re.findall(r"```python\n(.*?)```", (DOCS / "add-a-probe.md").read_text(), flags=re.DOTALL)[0]
    module = types.ModuleType("documented")
    exec(code, vars(module))
    return module.MedianShift


@pytest.mark.parametrize("name", [*registry.PROBES, *SCORERS])
def test_every_method_has_a_page(name: str) -> None:
    page = DOCS / "methods" / f"{name}.md"
    index = (DOCS / "methods" / "README.md").read_text()
    assert f"`{name}`" in index
    if not name.endswith("-genies") and name != "lat-stimulus-2":
        assert page.read_text().startswith(f"# {name}: ")


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for page in [DOCS / "add-a-probe.md", *(DOCS / "methods").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_documented_probe_keeps_the_contract() -> None:
    cls = documented_probe()
    part = planted(layers=3)
    together = cls(power=1.5).fit(part.activations, part.labels, part.groups)
    for layer in range(3):
        alone = cls(power=1.5).fit(part.activations[layer], part.labels, part.groups)
        torch.testing.assert_close(
            together.decision_function(part.activations)[layer], alone.decision_function(part.activations[layer])
        )
    assert fit_probe(cls(), part.source()).held_out_accuracy.min() > 0.8


def test_another_packages_probe_answers_to_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cls = documented_probe()
    point = EntryPoint(name="median-shift", value="my_package.probes:MedianShift", group="repeng.probes")
    monkeypatch.setattr(EntryPoint, "load", lambda self: cls)
    monkeypatch.setattr(
        registry, "entry_points", lambda *, group, name=None: [point] if name in (None, point.name) else []
    )
    assert isinstance(registry.get_probe("median-shift", power=2.0), cls)
    assert "median-shift" in registry.known_probes()
    with pytest.raises(BadInput, match="no parameter 'base'"):
        registry.get_probe("median-shift", base=1)
    monkeypatch.setattr(EntryPoint, "load", lambda self: object)
    with pytest.raises(BadInput, match="not a subclass"):
        registry.get_probe("median-shift")
