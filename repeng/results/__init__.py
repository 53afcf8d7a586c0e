"""The results table and evaluation files: reading and writing."""

from repeng.results.causal_table import (
    ACCURACY,
    ADD,
    CAUSAL_TABLES,
    LEACE,
    PREFERENCE,
    REMOVE,
    VERDICT,
    VERDICT_GAP,
    CausalRow,
    DoseRow,
    read_causal,
    write_causal,
)
from repeng.results.csv_table import record_of, write_csv
from repeng.results.evaluations import (
    evaluation_path,
    read_evaluation,
    read_provenance,
    warn_of_denied,
    write_evaluation,
)
from repeng.results.figure_names import AUROC, PAIR_ACCURACY, figure_name, figure_names
from repeng.results.kinds import CAPABILITY, FITTED, kind_of, our_name
from repeng.results.layer_table import LayerFigure, LayerRow, layer_rows, read_layers, write_layers
from repeng.results.table import (
    COLUMNS,
    CONTRADICTED,
    ResultRow,
    accuracy_of_probabilities,
    read_results,
    results_frame,
    row_from,
    write_results,
)
from repeng.results.verdicts import with_verdicts

__all__ = [
    "ACCURACY",
    "ADD",
    "AUROC",
    "CAPABILITY",
    "CAUSAL_TABLES",
    "COLUMNS",
    "CONTRADICTED",
    "CausalRow",
    "DoseRow",
    "FITTED",
    "LEACE",
    "LayerFigure",
    "LayerRow",
    "PAIR_ACCURACY",
    "PREFERENCE",
    "REMOVE",
    "ResultRow",
    "VERDICT",
    "VERDICT_GAP",
    "accuracy_of_probabilities",
    "evaluation_path",
    "figure_name",
    "figure_names",
    "kind_of",
    "layer_rows",
    "our_name",
    "read_causal",
    "read_evaluation",
    "read_layers",
    "read_provenance",
    "read_results",
    "record_of",
    "results_frame",
    "row_from",
    "warn_of_denied",
    "with_verdicts",
    "write_causal",
    "write_csv",
    "write_evaluation",
    "write_layers",
    "write_results",
]
