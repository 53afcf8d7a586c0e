"""Every picture as an Altair chart: it shows itself in Jupyter, and `save_chart` writes it."""

from repeng.report.layer_charts import cluster_order, matrix_chart, sweep_chart
from repeng.report.pictures import inline_svg, save_chart
from repeng.report.study_charts import elicitation_plot, heat_map, reliability_chart

__all__ = [
    "cluster_order",
    "elicitation_plot",
    "heat_map",
    "inline_svg",
    "matrix_chart",
    "reliability_chart",
    "save_chart",
    "sweep_chart",
]
