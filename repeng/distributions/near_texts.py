"""How alike two prompts are in what they say: their words without the template, in runs of three, and MinHash to find
the alike among many. Texts alone are read here, never which response is best."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import chain

Words = tuple[str, ...]

ALIKE = 0.7
"""Jaccard similarity from which two prompts are near duplicates."""
INSIDE = 0.9
"""Share of a prompt's runs that a text must hold for the prompt to stand inside it."""
FEWEST_WORDS = 5
"""A content of fewer words is never compared by its runs: one of them would decide."""
FEWEST_INSIDE = 8
"""A content of fewer words may stand in any long text by chance."""
SHORT = 25
"""In a content of fewer words one that is exchanged makes another question of it."""
TEMPLATE_SHARE = 0.02
TEMPLATE_FEWEST = 5
"""A run that more than this share of a split's prompts hold, and more than so many, is of their template."""

PERMUTATIONS, BANDS, SEED = 128, 32, 0
"""Of MinHash. A pair at ALIKE shares none of 32 bands of 4 rows, and so is missed, in 2 of 10,000 cases."""

CUT_BY_SEAM = 2
"""How many runs of a content lie across the seam of a prompt and its response."""
NEXT_END, NEXT_TEXT = "\0", "\1"

_PROSE = ".,;:!?\"'()[]{}“”‘’«»¿¡…#–—_`"
_SEAMS = re.compile(f"[{NEXT_END}{NEXT_TEXT}]")
_WORDS = re.compile(rf"[^\W_]+|[^\w\s{re.escape(_PROSE)}]")


def words_of(text: str) -> Words:
    """Words in lower case, and symbols that are no punctuation of prose, as + and an emoji: these can be the point."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return tuple(_WORDS.findall(plain.casefold()))


def runs_of(words: Words) -> set[str]:
    """Every three words in a row."""
    return set(_runs(words))


def contents(prompts: Sequence[Words]) -> list[Words]:
    """Each prompt without the template at its beginning and its end; nothing of one that is template throughout.

    A word is of the template where it stands in a run that many of the distinct prompts hold (`TEMPLATE_SHARE`). What
    lies between the first and the last word of a prompt's own is kept whole.
    """
    padded = [list(_runs(("", "", *words, "", ""))) for words in prompts]
    held = Counter(chain.from_iterable(map(set, padded)))
    many = max(TEMPLATE_FEWEST, TEMPLATE_SHARE * len(prompts))
    template = {run for run, count in held.items() if count > many}
    return [_own(words, runs, template) for words, runs in zip(prompts, padded, strict=True)]


def similarity(one: Words, other: Words) -> float:
    """Jaccard similarity of two contents' runs: those of both over those of either."""
    runs, others = runs_of(one), runs_of(other)
    shared = len(runs & others)
    return shared / (len(runs) + len(others) - shared) if shared else 0.0


def nearness(one: Words, other: Words) -> float:
    """The similarity of two contents that are near duplicates of each other; 0 of those that are not.

    A word exchanged in a short text asks for another thing (the capital of France, of Spain): such are not.
    """
    if one == other:
        return 1.0
    alike = similarity(one, other)
    return alike if alike >= ALIKE and not (min(len(one), len(other)) < SHORT and _exchanged(one, other)) else 0.0


def near_contents(asked: Collection[Words], known: Collection[Words]) -> dict[Words, list[tuple[float, Words]]]:
    """For each content asked about the known ones that are near duplicates of it, with their similarity.

    MinHash finds which may be; each is verified by `nearness`.
    """
    from rensa import RMinHash, RMinHashLSH

    ours, theirs = ([words for words in dict.fromkeys(some) if len(words) >= FEWEST_WORDS] for some in (asked, known))
    if not ours or not theirs:
        return {}
    index = RMinHashLSH(ALIKE, PERMUTATIONS, BANDS)
    index.insert_many(RMinHash.from_token_sets(list(map(runs_of, theirs)), PERMUTATIONS, SEED))
    hits = index.query_all(RMinHash.from_token_sets(list(map(runs_of, ours)), PERMUTATIONS, SEED))
    near = {
        words: [(alike, theirs[hit]) for hit in sorted(found) if (alike := nearness(words, theirs[hit]))]
        for words, found in zip(ours, hits, strict=True)
    }
    return {words: found for words, found in near.items() if found}


class Inside:
    """Finds which contents stand inside longer texts.

    MinHash cannot: the similarity of a short text to a long one is low. So of each content a few runs are looked up in
    every text: one more than may be missing, and the two that the seam of prompt and response may cut.
    """

    def __init__(self, asked: Iterable[Words]) -> None:
        self._runs = {words: runs_of(words) for words in asked if len(words) >= FEWEST_INSIDE}
        self._looked_up: dict[str, list[Words]] = defaultdict(list)
        held = Counter(run for runs in self._runs.values() for run in runs)
        for words, runs in self._runs.items():
            # The rarest, since each that is found costs a closer look. Runs of equal count in an order that stays.
            for run in sorted(runs, key=lambda run: (held[run], run))[
                : int((1 - INSIDE) * len(runs)) + 1 + CUT_BY_SEAM
            ]:
                self._looked_up[run].append(words)

    def standing_in(self, texts: Sequence[tuple[Words, Sequence[str]]]) -> dict[Words, tuple[float, int]]:
        """Contents that stand in one of the texts, each with the largest share of its runs that does, and where.

        Args:
            texts: each a beginning, as words, and its several ends.
        """
        found: dict[Words, tuple[float, int]] = {}
        for number, hits in sorted(self._hits(texts).items()):
            beginning, ends = texts[number]
            runs = set().union(*(runs_of((*beginning, *words_of(end))) for end in ends))
            for content in dict.fromkeys(content for run in hits for content in self._looked_up[run]):
                share = len(self._runs[content] & runs) / len(self._runs[content])
                if share >= (1.0 if len(content) < SHORT else INSIDE) and share > found.get(content, (0.0, 0))[0]:
                    found[content] = (share, number)
        return found

    def _hits(self, texts: Sequence[tuple[Words, Sequence[str]]]) -> dict[int, list[str]]:
        """The looked-up runs of each text's beginning and ends. Ends are cut into words all at once, for speed."""
        if not self._runs:
            return {}
        hits: dict[int, list[str]] = defaultdict(list)
        for number, (words, _) in enumerate(texts):
            hits_of = [run for run in _runs(words) if run in self._looked_up]
            if hits_of:
                hits[number] += hits_of
        ends = (NEXT_END.join(_SEAMS.sub(" ", end) for end in own) for _, own in texts)
        words, number = words_of(NEXT_TEXT.join(ends)), 0
        for first, run in zip(words, _runs(words), strict=False):
            if run in self._looked_up:
                hits[number].append(run)
            number += first == NEXT_TEXT
        return hits


def _exchanged(one: Words, other: Words) -> bool:
    """Whether a word stands in one where another word stands in the other."""
    return any(change == "replace" for change, *_ in SequenceMatcher(None, one, other, autojunk=False).get_opcodes())


def _own(words: Words, runs: Sequence[str], template: set[str]) -> Words:
    """From the first word that is in no run of the template to the last such. A word is in the run of its place and in
    the two that follow."""
    shared = [run in template for run in runs]
    first, last = 0, len(words) - 1
    while first <= last and (shared[first] or shared[first + 1] or shared[first + 2]):
        first += 1
    while first <= last and (shared[last] or shared[last + 1] or shared[last + 2]):
        last -= 1
    return words[first : last + 1]


def _runs(words: Words) -> Iterator[str]:
    """Each run as one string, which is hashed once however often it is looked up."""
    return map(" ".join, zip(words, words[1:], words[2:], strict=False))
