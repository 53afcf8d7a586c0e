"""The works that a study may cite, by key, and their BibTeX. A field that is not known for sure is left out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from repeng.study.provenance import Provenance

SOFTWARE = "repeng"
SMOLLM2 = "allal2025smollm2"
ACCENTS = {"\u0301": "'", "\u0300": "`", "\u0308": '"', "\u0303": "~", "\u030c": "v ", "\u0327": "c ", "\u0302": "^"}
"""Unicode's accents and TeX's."""
ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
"""Signs that TeX would take for its own."""


@dataclass(frozen=True)
class Entry:
    """A work.

    Attributes:
        kind: BibTeX's, as `article`.
        authors: `Given Family`, in order; empty for a model that names none.
        title: as published.
        year: None where it is not known.
        fields: BibTeX's others, in order.
        name: how a text names a work without authors.
    """

    kind: str
    title: str
    authors: tuple[str, ...] = ()
    year: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict, hash=False)
    name: str = ""

    @property
    def short(self) -> str:
        """How a text names it: `Clymer et al. 2023`."""
        if self.name:
            return self.name
        family = [author.split(",")[0] for author in self.authors]
        who = family[0] if len(family) == 1 else " and ".join(family) if len(family) == 2 else f"{family[0]} et al."
        return f"{who} {self.year}"

    @property
    def link(self) -> str:
        """Where it can be read; empty where that is not known."""
        number = self.fields.get("eprint")
        return f"https://arxiv.org/abs/{number}" if number else self.fields.get("url", "")


def _arxiv(number: str, year: int, title: str, *authors: str) -> Entry:
    return Entry("misc", title, authors, year, {"eprint": number, "archivePrefix": "arXiv"})


ENTRIES: Mapping[str, Entry] = {
    "clymer2023genies": _arxiv(
        "2311.07723",
        2023,
        "Generalization Analogies: A Testbed for Generalizing AI Oversight to Hard-To-Measure Domains",
        *("Clymer, Joshua", "Baker, Garrett", "Subramani, Rohan", "Wang, Sam"),
    ),
    "zou2023repe": _arxiv(
        "2310.01405",
        2023,
        "Representation Engineering: A Top-Down Approach to AI Transparency",
        *("Zou, Andy", "Phan, Long", "Chen, Sarah", "Campbell, James", "Guo, Phillip", "Ren, Richard"),
        *("Pan, Alexander", "Yin, Xuwang", "Mazeika, Mantas", "Dombrowski, Ann-Kathrin", "Goel, Shashwat"),
        *("Li, Nathaniel", "Byun, Michael J.", "Wang, Zifan", "Mallen, Alex", "Basart, Steven", "Koyejo, Sanmi"),
        *("Song, Dawn", "Fredrikson, Matt", "Kolter, J. Zico", "Hendrycks, Dan"),
    ),
    "burns2022ccs": _arxiv(
        "2212.03827",
        2022,
        "Discovering Latent Knowledge in Language Models Without Supervision",
        *("Burns, Collin", "Ye, Haotian", "Klein, Dan", "Steinhardt, Jacob"),
    ),
    "marks2023geometry": _arxiv(
        "2310.06824",
        2023,
        "The Geometry of Truth: Emergent Linear Structure in Large Language Model Representations of True/False "
        "Datasets",
        *("Marks, Samuel", "Tegmark, Max"),
    ),
    "li2023iti": _arxiv(
        "2306.03341",
        2023,
        "Inference-Time Intervention: Eliciting Truthful Answers from a Language Model",
        *("Li, Kenneth", "Patel, Oam", "Viégas, Fernanda", "Pfister, Hanspeter", "Wattenberg, Martin"),
    ),
    "mckenzie2025probes": _arxiv(
        "2506.10805",
        2025,
        "Detecting High-Stakes Interactions with Activation Probes",
        *("McKenzie, Alex", "Pawar, Urja", "Blandfort, Phil", "Bankes, William", "Krueger, David"),
        *("Lubana, Ekdeep Singh", "Krasheninnikov, Dmitrii"),
    ),
    "kramar2026probes": _arxiv(
        "2601.11516",
        2026,
        "Building Production-Ready Probes For Gemini",
        *("Kramár, János", "Engels, Joshua", "Wang, Zheng", "Chughtai, Bilal", "Shah, Rohin", "Nanda, Neel"),
        "Conmy, Arthur",
    ),
    "azaria2023internal": _arxiv(
        "2304.13734",
        2023,
        "The Internal State of an LLM Knows When It's Lying",
        *("Azaria, Amos", "Mitchell, Tom"),
    ),
    "pacchiardi2023liar": _arxiv(
        "2309.15840",
        2023,
        "How to Catch an AI Liar: Lie Detection in Black-Box LLMs by Asking Unrelated Questions",
        *("Pacchiardi, Lorenzo", "Chan, Alex J.", "Mindermann, Sören", "Moscovitz, Ilan", "Pan, Alexa Y."),
        *("Gal, Yarin", "Evans, Owain", "Brauner, Jan"),
    ),
    "brown2020gpt3": _arxiv(
        "2005.14165",
        2020,
        "Language Models are Few-Shot Learners",
        *("Brown, Tom B.", "Mann, Benjamin", "Ryder, Nick", "Subbiah, Melanie", "others"),
    ),
    "hu2021lora": _arxiv(
        "2106.09685",
        2021,
        "LoRA: Low-Rank Adaptation of Large Language Models",
        *("Hu, Edward J.", "Shen, Yelong", "Wallis, Phillip", "Allen-Zhu, Zeyuan", "Li, Yuanzhi", "Wang, Shean"),
        *("Wang, Lu", "Chen, Weizhu"),
    ),
    "lester2021prompt": _arxiv(
        "2104.08691",
        2021,
        "The Power of Scale for Parameter-Efficient Prompt Tuning",
        *("Lester, Brian", "Al-Rfou, Rami", "Constant, Noah"),
    ),
    SMOLLM2: _arxiv(
        "2502.02737",
        2025,
        "SmolLM2: When Smol Goes Big -- Data-Centric Training of a Small Language Model",
        *("Ben Allal, Loubna", "Lozhkov, Anton", "Bakouch, Elie", "Martín Blázquez, Gabriel", "Penedo, Guilherme"),
        *("Tunstall, Lewis", "Marafioti, Andrés", "Kydlíček, Hynek", "Piqueres Lajarín, Agustín"),
        *("Srivastav, Vaibhav", "Lochner, Joshua", "Fahlgren, Caleb", "Nguyen, Xuan-Son", "Fourrier, Clémentine"),
        *("Burtenshaw, Ben", "Larcher, Hugo", "Zhao, Haojun", "Zakka, Cyril", "Morlon, Mathieu", "Raffel, Colin"),
        *("von Werra, Leandro", "Wolf, Thomas"),
    ),
    "guo2017calibration": _arxiv(
        "1706.04599",
        2017,
        "On Calibration of Modern Neural Networks",
        *("Guo, Chuan", "Pleiss, Geoff", "Sun, Yu", "Weinberger, Kilian Q."),
    ),
    "hendrycks2018outlier": _arxiv(
        "1812.04606",
        2018,
        "Deep Anomaly Detection with Outlier Exposure",
        *("Hendrycks, Dan", "Mazeika, Mantas", "Dietterich, Thomas"),
    ),
    "kumar2019verified": _arxiv(
        "1909.10155",
        2019,
        "Verified Uncertainty Calibration",
        *("Kumar, Ananya", "Liang, Percy", "Ma, Tengyu"),
    ),
    "hewitt2019control": _arxiv(
        "1909.03368",
        2019,
        "Designing and Interpreting Probes with Control Tasks",
        *("Hewitt, John", "Liang, Percy"),
    ),
    "platt1999probabilistic": Entry(
        "incollection",
        "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods",
        ("Platt, John C.",),
        1999,
        {"booktitle": "Advances in Large Margin Classifiers", "publisher": "MIT Press", "pages": "61--74"},
    ),
    "ledoit2004covariance": Entry(
        "article",
        "A well-conditioned estimator for large-dimensional covariance matrices",
        ("Ledoit, Olivier", "Wolf, Michael"),
        2004,
        {"journal": "Journal of Multivariate Analysis", "volume": "88", "number": "2", "pages": "365--411"},
    ),
    "ojala2010permutation": Entry(
        "article",
        "Permutation Tests for Studying Classifier Performance",
        ("Ojala, Markus", "Garriga, Gemma C."),
        2010,
        {"journal": "Journal of Machine Learning Research", "volume": "11", "pages": "1833--1863"},
    ),
    "korn1998intervals": Entry(
        "article",
        "Confidence Intervals for Proportions With Small Expected Number of Positive Counts Estimated From Survey Data",
        ("Korn, Edward L.", "Graubard, Barry I."),
        1998,
        {"journal": "Survey Methodology", "volume": "24", "number": "2", "pages": "193--201"},
    ),
    "holm1979": Entry(
        "article",
        "A Simple Sequentially Rejective Multiple Test Procedure",
        ("Holm, Sture",),
        1979,
        {"journal": "Scandinavian Journal of Statistics", "volume": "6", "number": "2", "pages": "65--70"},
    ),
    "delong1988": Entry(
        "article",
        "Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves: A Nonparametric "
        "Approach",
        ("DeLong, Elizabeth R.", "DeLong, David M.", "Clarke-Pearson, Daniel L."),
        1988,
        {"journal": "Biometrics", "volume": "44", "number": "3", "pages": "837--845"},
    ),
    "pedregosa2011sklearn": Entry(
        "article",
        "Scikit-learn: Machine Learning in Python",
        *(("Pedregosa, Fabian", "Varoquaux, Gaël", "Gramfort, Alexandre", "Michel, Vincent", "others"), 2011),
        {"journal": "Journal of Machine Learning Research", "volume": "12", "pages": "2825--2830"},
    ),
}
"""Works by the key that a text cites them with."""


def software(version: str) -> Entry:
    """repeng itself, of that version; of no version where it is empty."""
    fields = {**({"version": version} if version else {}), "note": "Python package"}
    name = "The repeng authors"
    return Entry("misc", "repeng-toolkit", (f"{{{name}}}",), fields=fields, name=name)


def model_entry(provenance: Provenance | None, model: str) -> tuple[str, Entry] | None:
    """The work or the page that describes a model; None where nothing is known of it but its name.

    Args:
        provenance: says whether it came from the hub, and in which revision.
        model: the name that the user gave it.
    """
    if model == "mini":
        return SOFTWARE, software(provenance.repeng_version if provenance else "")
    if model == "smollm2" or model.startswith("HuggingFaceTB/SmolLM2"):
        return SMOLLM2, ENTRIES[SMOLLM2]
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)@(\w+)", provenance.model.weights) if provenance else None
    if found is None:
        return None
    name, revision = found.groups()
    fields = {"howpublished": "Hugging Face", "url": f"https://huggingface.co/{name}", "note": f"Revision {revision}"}
    return "hub:" + re.sub(r"[^A-Za-z0-9]+", "-", name), Entry("misc", name, fields=fields, name=name)


def bibtex(entries: Mapping[str, Entry], keys: Iterable[str]) -> str:
    """BibTeX of some works, each once, in the order in which they are first cited."""
    return "\n".join(_bibtex(key, entries[key]) for key in dict.fromkeys(keys))


def tex(text: str) -> str:
    """A text as TeX prints it: signs of its own escaped, accents as its commands."""
    return "".join(map(_tex_letter, unicodedata.normalize("NFC", text)))


def _tex_letter(letter: str) -> str:
    if letter in ESCAPES:
        return ESCAPES[letter]
    plain, mark = (apart := unicodedata.normalize("NFD", letter))[0], apart[1:]
    if mark in ACCENTS and plain.isascii():
        return f"{{\\{ACCENTS[mark]}{{{plain}}}}}"
    return letter


def _bibtex(key: str, entry: Entry) -> str:
    lines = [f"@{entry.kind}{{{key},"]
    if entry.authors:
        listed = (author if author.startswith("{") else tex(author) for author in entry.authors)
        lines.append(f"  author = {{{' and '.join(listed)}}},")
    lines.append(f"  title = {{{{{tex(entry.title)}}}}},")
    if entry.year is not None:
        lines.append(f"  year = {{{entry.year}}},")
    for name, value in entry.fields.items():
        lines.append(f"  {name} = {{{value if name in ('url', 'eprint') else tex(value)}}},")
    return "\n".join([*lines, "}\n"])
