"""`repeng.sweep` and `repeng.transfer_matrix`: of a study's data, and of one's own rows with tables and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from repeng.errors import BadInput
from repeng.study import cached_sweep
from repeng.study.layer_sweep import LayerFigures, TransferFigures, sweep_layers, transfer_between

if TYPE_CHECKING:
    import pandas as pd

    from repeng.results import LayerRow


@dataclass(frozen=True)
class LayerSweep:
    """Classifiers at every layer: a table, and a chart that shows itself in a notebook.

    Attributes:
        rows: one a classifier and layer.
    """

    rows: tuple[LayerFigures, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a classifier and layer: `probe`, `layer`, each figure with its `_low` and `_high`, and counts."""
        import pandas as pd

        return pd.DataFrame([{"probe": row.probe, "layer": row.layer, **row.figures.as_dict()} for row in self.rows])

    def chart(self) -> Any:
        """AUROC by layer, one line a classifier with its interval as a band: an Altair chart."""
        from repeng.report.layer_charts import auroc_chart

        return auroc_chart(self.frame)

    def __repr__(self) -> str:
        return str(self.frame[["probe", "layer", "auroc", "auroc_low", "auroc_high"]].round(3).to_string(index=False))

    def _repr_html_(self) -> str:
        return str(self.frame.round(3).to_html(index=False))


@dataclass(frozen=True)
class TransferTable:
    """One classifier fitted on each of some labelled sets and tested on each: a table and a chart.

    Attributes:
        rows: one a set that was fitted on and a set that was tested on.
    """

    rows: tuple[TransferFigures, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The labelled sets."""
        return tuple(dict.fromkeys(row.fitted_on for row in self.rows))

    @property
    def frame(self) -> pd.DataFrame:
        """One row a pair of sets: `fitted_on`, `tested_on`, figures with their `_low` and `_high`, and `cosine`."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "fitted_on": row.fitted_on,
                    "tested_on": row.tested_on,
                    **row.figures.as_dict(),
                    "cosine": row.cosine,
                }
                for row in self.rows
            ]
        )

    def matrix(self, figure: str = "auroc") -> pd.DataFrame:
        """A figure as a square: fitted on the row, tested on the column."""
        wide = self.frame.pivot(index="fitted_on", columns="tested_on", values=figure)
        return wide.loc[list(self.names), list(self.names)]

    def chart(self) -> Any:
        """The AUROCs as a heat map, next to the cosines of the directions where there are any: an Altair chart."""
        from repeng.report.transfer_charts import matrix_chart
        from repeng.results import AUROC

        known = all(row.cosine is not None for row in self.rows)
        cosine = self.matrix("cosine").to_numpy().tolist() if known else None
        return matrix_chart(self.names, self.matrix().to_numpy().tolist(), cosine, figures=[AUROC] * len(self.names))

    def __repr__(self) -> str:
        return str(self.matrix().round(3).to_string())

    def _repr_html_(self) -> str:
        return str(self.matrix().round(3).to_html())


@overload
def sweep(
    cached: cached_sweep.Cached,
    source: str | Sequence[str],
    targets: str | Sequence[str],
    probes: Any = ...,
    **options: Any,
) -> list[LayerRow]: ...
@overload
def sweep(cached: Mapping[int, Any], source: Any, probes: Any = ..., **options: Any) -> LayerSweep: ...
def sweep(cached: Any, source: Any, *others: Any, **options: Any) -> list[LayerRow] | LayerSweep:
    """Every probe at every layer.

        repeng.sweep(acts, y, ["mms", "logistic"])            # cross-validated AUROC on texts of one's own
        repeng.sweep(cached, "facts", ["myths"], ["mms"])     # from a source to targets, on a store

    Args:
        cached: activations by layer, as `repeng.capture` gives for texts; or those of a store.
        source: a label a row; or the distribution to fit on, or several; `a+b` is the union of two.
        others: the probes; or the targets, and the probes.
        options: of `repeng.study.layer_sweep.sweep_layers`: groups, test, folds, seed; or of
            `repeng.study.cached_sweep.sweep`: train_limit, site, token, seed, block_bytes, allow_shared.

    Returns:
        A `LayerSweep` with `.frame` and `.chart()`; or one `LayerRow` a probe, source, target, layer and head.

    Raises:
        UnknownName: no such probe, source or target.
        BadInput: rows, labels or groups that do not fit each other; or a target that was fitted on.
        StoreError: what a probe reads was not captured.
    """
    if not isinstance(cached, Mapping | cached_sweep.Cached):
        raise BadInput(
            "a sweep is over layers; give a mapping of layers to rows: {4: X}, or what repeng.capture gives for texts"
        )
    if isinstance(cached, Mapping):
        return LayerSweep(tuple(sweep_layers(cached, source, *others, **options)))
    return cached_sweep.sweep(cached, source, *others, **options)


@overload
def transfer_matrix(
    cached: cached_sweep.Cached, distributions: Sequence[str], probe: Any = ..., **options: Any
) -> cached_sweep.Transfer: ...
@overload
def transfer_matrix(cached: Mapping[str, Any], probe: Any = ..., **options: Any) -> TransferTable: ...
def transfer_matrix(cached: Any, *others: Any, **options: Any) -> cached_sweep.Transfer | TransferTable:
    """Fit on each of some sets, test on each.

        repeng.transfer_matrix({"cities": (X1, y1), "sums": (X2, y2)}, "mms")    # rows and labels of one's own
        repeng.transfer_matrix(cached, ["facts", "myths"], "mms")                # distributions of a store

    Args:
        cached: `(X, y)` or `(X, y, groups)` by name; or activations of a store.
        others: the probe; or the distributions, and the probe.
        options: of `repeng.study.layer_sweep.transfer_between`: folds, seed; or of
            `repeng.study.cached_sweep.transfer_matrix`: layers, train_limit, site, token, seed, allow_shared.

    Returns:
        A `TransferTable` with `.frame`, `.matrix()` and `.chart()`; or a `Transfer` of accuracies and cosines.

    Raises:
        BadInput: fewer than two sets; rows and labels that do not fit each other; or a target that was fitted on.
        UnknownName: no such probe or distribution.
        StoreError: what the probe reads was not captured.
    """
    if not isinstance(cached, Mapping | cached_sweep.Cached):
        raise BadInput('a transfer is between labelled sets by name; give {"a": (X1, y1), "b": (X2, y2)}')
    if isinstance(cached, Mapping):
        return TransferTable(tuple(transfer_between(cached, *others, **options)))
    return cached_sweep.transfer_matrix(cached, *others, **options)
