"""The results table and evaluation files: reading and writing."""

from repeng.results.evaluations import evaluation_path, read_evaluation, read_provenance, write_evaluation
from repeng.results.layer_table import LayerFigure, LayerRow, layer_rows, read_layers, write_layers
from repeng.results.table import COLUMNS, ResultRow, ShiftNames, read_results, row_from, write_results

__all__ = [
    "COLUMNS",
    "LayerFigure",
    "LayerRow",
    "ResultRow",
    "ShiftNames",
    "evaluation_path",
    "layer_rows",
    "read_evaluation",
    "read_layers",
    "read_provenance",
    "read_results",
    "row_from",
    "write_evaluation",
    "write_layers",
    "write_results",
]
