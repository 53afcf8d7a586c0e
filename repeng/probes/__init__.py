"""Probes: scikit-learn estimators fitted on cached activations. Tensors only.

    from repeng import probes
    probe = probes.get_probe("logistic", C=0.1)      # or probes.Logistic(C=0.1)
    probe.fit(X, y).predict(X)                       # X: [n, d] of one layer, y: two classes

`probes.known_probes()` lists the names. Each class says which stimuli and which site of a capture it reads.
"""

from __future__ import annotations

from repeng.probes.attention import Attention
from repeng.probes.base import LinearProbe, Probe
from repeng.probes.ccs import CCS, CCSGenies
from repeng.probes.cra import CRA
from repeng.probes.fitted import FittedProbe
from repeng.probes.fitting import ProbeSpec, fit_probe
from repeng.probes.genies import CRAGenies, LATGenies, LATStimulus2Genies, MMSGenies
from repeng.probes.io import load, save
from repeng.probes.lat import LAT, LATStimulus2
from repeng.probes.lda import LDA
from repeng.probes.logistic import Logistic
from repeng.probes.mlp import MLP
from repeng.probes.mms import MMS
from repeng.probes.own_file import is_probe_reference
from repeng.probes.pooling import MaxOfMeans, MeanOfScores, SoftmaxPooling
from repeng.probes.ragged import Ragged
from repeng.probes.random import Random
from repeng.probes.registry import get_probe, known_probes
from repeng.probes.sklearn_probe import SklearnProbe, as_probe, is_sklearn_reference

__all__ = [
    "Attention",
    "CCS",
    "CCSGenies",
    "CRA",
    "CRAGenies",
    "FittedProbe",
    "LAT",
    "LATGenies",
    "LATStimulus2",
    "LATStimulus2Genies",
    "LDA",
    "LinearProbe",
    "Logistic",
    "MLP",
    "MMS",
    "MMSGenies",
    "MaxOfMeans",
    "MeanOfScores",
    "Probe",
    "ProbeSpec",
    "Ragged",
    "Random",
    "SklearnProbe",
    "SoftmaxPooling",
    "as_probe",
    "fit_probe",
    "get_probe",
    "is_probe_reference",
    "is_sklearn_reference",
    "known_probes",
    "load",
    "save",
]
