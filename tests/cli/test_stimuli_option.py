"""Stimuli as they are typed: names in a list, and those of one's own, whose commas are their own."""

from __future__ import annotations

from repeng.cli.options import stimuli


def test_templates_and_questions_keep_their_commas_and_names_are_a_list() -> None:
    template, question, verdict = "judge={prompt}{response}, good?", "ask?=Sure, really?", "ask?Yes=Sure, really?"
    typed = ["plain, did_you_lie", template, question, verdict]
    assert stimuli(typed) == ("plain", "did_you_lie", template, question, verdict)
