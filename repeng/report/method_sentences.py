"""What each method is, in half a sentence for a paper, and the works that it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from repeng.distributions.follow_ups import FOLLOW_UPS, PACCHIARDI
from repeng.results.kinds import our_name

SKLEARN = "sklearn:"
ASK = "ask:"
GENIES = "clymer2023genies"


@dataclass(frozen=True)
class Described:
    """A method in words.

    Attributes:
        says: what it is, to follow its name and a comma.
        cites: keys of `citations.ENTRIES`; none where it has no work of its own to cite.
    """

    says: str
    cites: tuple[str, ...] = ()


METHODS: Mapping[str, Described] = {
    "mms": Described(
        "the difference of the mean activations of best and worse responses", ("li2023iti", "marks2023geometry")
    ),
    "lat": Described("the first principal component of the differences of paired activations", ("zou2023repe",)),
    "lat-stimulus-2": Described(
        "the same principal component where the text asks how far the instruction was followed",
        ("zou2023repe", GENIES),
    ),
    "ccs": Described(
        "a direction along which a text that ends in the verdict Yes and one that ends in No are judged consistently "
        "and confidently, found without labels but for its sign",
        ("burns2022ccs",),
    ),
    "cra": Described(
        "the difference of means of activations of a text that ends in the verdict Yes less those of one that ends in "
        "No",
        (GENIES,),
    ),
    "logistic": Described("L2-penalised logistic regression on single responses"),
    "lda": Described(
        "the difference of means whitened by the shrunk covariance within classes",
        ("marks2023geometry", "ledoit2004covariance"),
    ),
    "mlp": Described("a network with one hidden layer, stopped early", ("azaria2023internal",)),
    "attention": Described(
        "attention over all tokens of a text, with learned queries and values",
        ("mckenzie2025probes", "kramar2026probes"),
    ),
    "mean-of-scores": Described("the mean of linear scores of all tokens", ("mckenzie2025probes",)),
    "max-of-means": Described("the highest rolling mean of linear scores of tokens", ("mckenzie2025probes",)),
    "softmax-pooling": Described("the softmax-weighted mean of linear scores of all tokens", ("mckenzie2025probes",)),
    "random": Described("an even guess"),
    "mms-genies": Described(
        "the difference of means at the 16 attention heads of highest validation accuracy, as released with GENIES",
        ("li2023iti", GENIES),
    ),
    "lat-genies": Described(
        "the difference of means at the 16 layers of highest validation accuracy, which GENIES released as LAT",
        ("zou2023repe", GENIES),
    ),
    "lat-stimulus-2-genies": Described(
        "the same difference of means where the text asks how far the instruction was followed, as released with "
        "GENIES",
        ("zou2023repe", GENIES),
    ),
    "cra-genies": Described(
        "the difference of means of the Yes text less the No text at the 16 attention heads of highest validation "
        "accuracy, as released with GENIES",
        (GENIES,),
    ),
    "ccs-genies": Described(
        "the consistent direction at the last layer with the settings released with GENIES", ("burns2022ccs", GENIES)
    ),
    "lora": Described("a reward model tuned by low-rank adaptation", ("hu2021lora",)),
    "prompt-tuning": Described("a reward model whose prompt of virtual tokens is tuned", ("lester2021prompt",)),
    "full": Described("a reward model of which all weights are tuned"),
    "zero-shot": Described("the response to which the model gives the higher total log-probability"),
    "zero-shot-mean": Described("the response to which the model gives the higher mean log-probability of a token"),
    "zero-shot-genies": Described(
        "the response of higher total log-probability, by the rule released with GENIES", (GENIES,)
    ),
    "few-shot": Described("the same preference after worked examples of the source", ("brown2020gpt3",)),
    "truthfulness": Described(
        "the model's own verdict, Yes against No, on whether the response follows the instruction"
    ),
    "length": Described("the longer or the shorter response, whichever is right for more pairs of the source"),
    "tfidf": Described("logistic regression on words by TF-IDF", ("pedregosa2011sklearn",)),
}
"""Every registered method but those that a prefix names, by its name without parameters."""


def described(method: str) -> Described | None:
    """A method in words; None of one that is the user's own, a plug-in's or a file's.

    Args:
        method: its name, with parameters or the share of an augmented source behind it.
    """
    if method.startswith(SKLEARN):
        return Described("that classifier of scikit-learn's kind on single responses", ("pedregosa2011sklearn",))
    name = our_name(re.split(r"[(+]", method)[0].strip())
    if name.startswith(ASK):
        return _follow_up(name.removeprefix(ASK))
    return METHODS.get(name)


def _follow_up(name: str) -> Described | None:
    asked = FOLLOW_UPS.get(name)
    if asked is None:
        return None
    known = asked.reference == PACCHIARDI
    source = "" if known else f" (a question of {asked.reference})"
    says = f"the model's answer, Yes against No, to the question “{asked.text}” after the response{source}"
    return Described(says, ("pacchiardi2023liar",) if known else ())
