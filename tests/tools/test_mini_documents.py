"""What the embedded model reads: above all, what it never reads."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from repeng.benchmarks.mini.facts import NEVER_GRADED, facts, myths
from repeng.benchmarks.mini.generate import make_distribution, split_of
from repeng.benchmarks.mini.recipes import MYTHS, RECIPES
from repeng.distributions.stimuli import CONTRAST
from tools.mini.documents import FALSE, MIX, RIGHT, VERDICT, WRONG, Writer

VERDICTS = [text for texts in (*RIGHT.values(), *FALSE.values()) for text in texts]


@pytest.fixture(scope="module")
def documents():  # type: ignore[no-untyped-def]
    writer = Writer(5)
    return writer.write(MIX, 8000)


def test_a_document_is_graded_only_on_facts_that_may_be_graded(documents) -> None:  # type: ignore[no-untyped-def]
    """Found again from the text alone: no test fact's question is the one a verdict follows."""
    templates = {}
    for fact in facts():
        if split_of(fact) == "test" or fact.pool == "gate" or fact.relation in NEVER_GRADED:
            for encoding, wording in fact.wordings.items():
                templates[fact.relation, encoding, wording.subject] = fact
    from repeng.benchmarks.mini.phrases import PHRASES

    forbidden = {
        template.format(s=subject)
        for (relation, encoding, subject) in templates
        for template in PHRASES[relation][encoding][0]
    }
    forbidden_sentences = {
        PHRASES[relation][encoding][1].format(s=subject, a="\0").split("\0")[0]
        for (relation, encoding, subject) in templates
        if PHRASES[relation][encoding][1].index("{s}") < PHRASES[relation][encoding][1].index("{a}")
    }
    graded = [pieces for _, pieces in documents if any(weight == VERDICT for _, weight in pieces)]
    assert len(graded) > 3000
    for pieces in graded:
        prompt = pieces[0][0] if len(pieces) > 2 and "\n" in pieces[0][0] else ""
        if not prompt:
            assert not any(pieces[0][0].startswith(sentence) for sentence in forbidden_sentences), pieces
            continue
        asked = prompt.removesuffix("\n\n### Response:\n").split("### Instruction:\n")[-1]
        assert not any(asked.endswith(question) for question in _last_questions(asked) if question in forbidden), asked


def _last_questions(asked: str) -> list[str]:
    """The end of a prompt, from each of its sentence starts on: one of them is the question itself."""
    inner = re.findall(r'"(.+)"', asked)
    texts = [asked, *inner]
    return [text[start:] for text in texts for start in [0, *(m.end() for m in re.finditer(r"[.?!] ", text))]]


def test_the_forbidden_questions_are_found_where_they_are() -> None:
    """The check above can fail: questions of test facts are in ungraded documents."""
    writer = Writer(1)
    asked = {fact.key for fact in facts() if fact.pool == "test"}
    seen = [writer.question() for _ in range(200)]
    subjects = [fact.en.subject for fact in facts() if fact.key in asked]
    assert any(subject in pieces[0][0] for pieces in seen for subject in subjects)


def test_a_wrong_answers_own_tokens_weigh_nothing_and_verdicts_weigh_double(documents) -> None:  # type: ignore[no-untyped-def]
    wrong = tried_again = 0
    for kind, pieces in documents:
        if not kind.startswith(("graded", "given")):
            assert all(weight != VERDICT for _, weight in pieces), kind
            continue
        assert pieces[-1][1] == VERDICT
        tried_again += sum(weight == VERDICT for _, weight in pieces) > 1
        for (_, answer_weight), (said, weight) in itertools.pairwise(pieces):
            if said in VERDICTS or said.startswith((" No, it is", " No, es")):
                assert weight == VERDICT
                said_wrong = said not in RIGHT["en"] + RIGHT["es"]
                assert (answer_weight == WRONG) == said_wrong
                wrong += said_wrong
            elif weight == VERDICT:
                assert said in ("Yes", "No", " Agreed.", " True.", " Not so.", " False.")
        assert any(CONTRAST in text for text, _ in pieces) or pieces[-1][0] in VERDICTS or " No, " in pieces[-1][0]
    assert wrong > 1000
    assert tried_again > 1000


def test_verdicts_are_right_and_wrong_equally_often(documents) -> None:  # type: ignore[no-untyped-def]
    last = [pieces[-1][0] for kind, pieces in documents if kind.startswith(("graded", "given"))]
    right = sum(text in RIGHT["en"] + RIGHT["es"] for text in last)
    wrong = sum(text in FALSE["en"] + FALSE["es"] or text.startswith(" No, ") for text in last)
    assert 0.9 < right / wrong < 1.1


def test_equal_seeds_write_equal_documents_and_others_do_not() -> None:
    assert Writer(3).write(MIX, 50) == Writer(3).write(MIX, 50)
    assert Writer(3).write(MIX, 50) != Writer(4).write(MIX, 50)


def test_a_wrong_answer_on_request_is_always_the_same() -> None:
    writer = Writer(2)
    fixed = {fact.en.wrong for fact in facts()}
    for _ in range(300):
        pieces = writer.wrong()
        assert any(answer.lower() in pieces[1][0].lower() for answer in fixed)


def test_myths_are_never_graded(documents) -> None:  # type: ignore[no-untyped-def]
    questions = {myth.question for myth in myths()}
    for kind, pieces in documents:
        if any(weight == VERDICT for _, weight in pieces):
            assert not any(question in pieces[0][0] for question in questions), kind


def test_no_fact_of_a_test_split_is_in_any_train_split_for_any_seed() -> None:
    for seed in (0, 1):
        made = [make_distribution(recipe, seed) for recipe in (*RECIPES, *MYTHS)]
        train = {(e.metadata["relation"], e.metadata["subject"]) for d in made for e in d.train.examples}
        test = {(e.metadata["relation"], e.metadata["subject"]) for d in made for e in d.test.examples}
        assert not train & test
        pools = {(fact.relation, fact.en.subject): fact.pool for fact in facts()}
        for key in test - {("myth", myth.question) for myth in myths()}:
            assert pools[key] == "test" or key[0] in NEVER_GRADED


def test_pieces_encoded_apart_are_the_text_encoded_whole() -> None:
    from tools.mini.tokenizer import learn_tokenizer
    from tools.mini.train import encode

    written = [pieces for _, pieces in Writer(9).write(MIX, 1500)]
    tokenizer = learn_tokenizer("".join(text for text, _ in pieces) for pieces in written)
    assert len(tokenizer) == 3072
    rows = encode(tokenizer, written, random.Random(0))
    for pieces, (ids, weights) in zip(written, rows, strict=True):
        whole = tokenizer.encode("".join(text for text, _ in pieces))
        assert ids[:-1] in (whole, whole[1:])
        assert ids[-1] == tokenizer.eos_token_id
        assert len(ids) == len(weights)
