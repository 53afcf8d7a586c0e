"""What `import repeng` gives, and what it says where another package of that name is installed."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_store import two_worlds
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import repeng
from repeng.benchmarks.mini import mini_distributions
from repeng.errors import BadInput, UnknownName
from repeng.study.cached_data import CachedData

PAGE = Path(__file__).resolve().parents[1] / "docs" / "add-a-probe.md"


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedData:
    distributions = mini_distributions(names=("facts", "myths"))
    model = repeng.load_model("mini", device="cpu")
    store = tmp_path_factory.mktemp("doors") / "store"
    return repeng.capture(model, list(distributions.values()), store=store, limit=40)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_worlds(tmp_path_factory.mktemp("planted"))


def test_capture_fit_evaluate(cached: CachedData) -> None:
    probe = repeng.fit(cached, "facts", "mms")
    found = repeng.evaluate(probe, cached, "myths")
    assert found.n_pairs >= 40
    assert 0 <= found.accuracy <= 1
    assert repeng.evaluate(probe, cached, "facts").accuracy > 0.6


def test_options_that_would_be_ignored_are_refused(cached: CachedData) -> None:
    with pytest.raises(BadInput, match="token and tokens: two options conflict; give only one"):
        repeng.capture("mini", "mini", token="last", tokens=("response_mean",), store=cached.folder.parent)
    probe = repeng.fit(cached, "facts", "mms")
    with pytest.raises(BadInput, match="a distribution has groups of its own; leave out groups"):
        repeng.evaluate(probe, cached, "myths", np.arange(3))


def test_a_second_capture_of_fewer_examples_is_not_mixed_up_with_the_first(cached: CachedData) -> None:
    store = cached.folder.parent
    fewer = repeng.capture("mini", mini_distributions(names=("facts",))["facts"], store=store, limit=20)
    assert fewer.id == cached.id
    assert len(fewer.labels("facts").labels) < len(cached.labels("facts").labels)
    one = mini_distributions(names=("facts",))["facts"].test
    assert repeng.evaluate(repeng.fit(fewer, "facts", "mms"), fewer, "facts").n_pairs == len(one.first(20).pairs)
    alone = repeng.capture("mini", [one], store=store, limit=20)
    assert alone.find("facts", "test") == fewer.find("facts", "test")


def test_cached_activations_go_straight_into_scikit_learn(cached: CachedData) -> None:
    known = cached.labels("facts")
    x = cached.activations("facts", layer=4)
    assert x.dtype == np.float32 and x.shape == (len(known.labels), cached.d_model)
    pipeline = make_pipeline(StandardScaler(), repeng.probes.Logistic())
    scores = cross_val_score(pipeline, x, known.labels, groups=known.groups, cv=GroupKFold(4))
    assert scores.mean() > 0.6
    both = np.stack([cached.activations("facts", layer=4, stimulus=s) for s in ("contrast_yes", "contrast_no")], axis=1)
    scores = cross_val_score(repeng.probes.CRA(), both, known.labels, groups=known.groups, cv=GroupKFold(4))
    assert scores.mean() > 0.6


def test_a_sweep_is_a_table_and_a_matrix_is_square(planted: Path) -> None:
    table = pd.DataFrame(repeng.sweep(planted, "near", ["near", "far"], ["mms", "logistic(C=0.5)"]))
    assert len(table) == 2 * 2 * 4
    assert set(table.probe) == {"mms", "logistic(C=0.5)"}
    found = repeng.transfer_matrix(repeng.Store(planted), ("near", "far", "like"), "mms")
    assert np.shape(found.accuracy) == np.shape(found.cosine) == (3, 3)


def test_a_probe_in_a_file_of_ones_own_is_fitted_swept_saved_and_loaded(planted: Path, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "mine.py"
    file.parent.mkdir()
    file.write_text(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[0])
    fitted = repeng.fit(planted, "near", f"{file}:MedianShift")
    assert (fitted.name, fitted.layers) == ("median-shift", (2,))
    assert {row.probe for row in repeng.sweep(planted, "near", "like", f"{file}:MedianShift(power=0.5)")} == {
        "median-shift(power=0.5)"
    }
    repeng.probes.save(fitted, tmp_path / "saved")
    code = (
        "import sys, repeng; probe = repeng.probes.load(sys.argv[1], trust_code=True);"
        "print(probe.name, repeng.evaluate(probe, sys.argv[2], 'like').accuracy)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "saved", planted], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["median-shift", str(repeng.evaluate(fitted, planted, "like").accuracy)]
    file.unlink()
    with pytest.raises(BadInput, match=r"mine\.py: there is no such file"):
        repeng.probes.load(tmp_path / "saved", trust_code=True)


@pytest.mark.parametrize("name", repeng.__all__)
def test_every_door_is_there_and_says_what_it_does(name: str) -> None:
    found = getattr(repeng, name)
    assert name in dir(repeng)
    if not isinstance(found, str):
        assert len(inspect.getdoc(found) or "") > 80
    if inspect.isfunction(found):
        assert "Raises:" in (found.__doc__ or "")


def test_a_door_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'control'"):
        _ = repeng.control  # type: ignore[attr-defined]
    with pytest.raises(UnknownName, match="'msm'; did you mean mms.* Choose from attention"):
        repeng.probes.get_probe("msm")


def python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONSAFEPATH": "1"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=path[0])


def test_another_package_of_the_name_beside_ours_is_warned_of(tmp_path: Path) -> None:
    ours = Path(repeng.__file__).parents[1]
    assert python("import repeng", ours).stderr == ""
    folder = tmp_path / "repeng-0.4.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: repeng\nVersion: 0.4.0\n")
    told = python("import repeng; print(repeng.__version__)", ours, tmp_path)
    assert "PyPI's repeng 0.4.0 (control vectors)" in told.stderr
    assert "pip uninstall repeng repeng-toolkit" in told.stderr
    assert told.stdout.strip() == repeng.__version__


def test_another_package_written_over_ours_ends_the_command_line_with_the_way_out(tmp_path: Path) -> None:
    shutil.copytree(Path(repeng.__file__).parent / "cli", tmp_path / "repeng" / "cli")
    (tmp_path / "repeng" / "__init__.py").write_text('"""Control vectors."""\n')
    told = python("from repeng.cli import main", tmp_path)
    assert told.returncode == 1
    assert "was installed over it" in told.stderr and "pip uninstall repeng repeng-toolkit" in told.stderr
