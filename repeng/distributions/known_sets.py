"""Public sets by name: where each is, how its rows are read, its licence and its size, as its publishers state them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from repeng.distributions.reading import Reading
from repeng.errors import BadData

Row = dict[str, Any]
Convert = Callable[[Row], Row | None]
"""A set's row as one of ours; None leaves it out."""
SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class KnownSet:
    """A public set of data, read as `known:NAME` from the hub, or as `known:NAME=FOLDER` from a copy here.

    Attributes:
        name: ours.
        hub: the hub's id, OWNER/NAME; of several the rows are taken in turn; none where the hub has no copy that its
            authors made.
        home: where it is described, and where a copy comes from if no hub has it.
        asks: what is asked.
        fields: what a row has.
        licence: as its card states it.
        size: examples.
        reading: its columns and labels.
        configurations: of the hub's configurations, or of a folder's files, those that are read; none means all.
        splits: our names of splits, and the set's own; `all` is divided by group into train and test.
        convert: from its rows to ours.
        labels: where it comes from several hub sets, the label of each one's rows.
    """

    name: str
    hub: tuple[str, ...]
    home: str
    asks: str
    fields: str
    licence: str
    size: str
    reading: Reading = field(default_factory=Reading)
    configurations: tuple[str, ...] = ()
    splits: Mapping[str, str] = field(default_factory=dict, hash=False)
    convert: Convert | None = None
    labels: tuple[int, ...] = ()


def of_a_city(row: Row) -> Row:
    """Geometry of Truth: the true and the false statement of one city are of one group."""
    return {**row, "group": row["city"]} if row.get("city") else row


def dolus_row(row: Row) -> Row:
    """DolusChat: its system message with what the assistant knows, then what the user asks; two responses by name."""
    context, query = row.get("context"), row.get("user_query")
    if not isinstance(context, Mapping) or not isinstance(query, Mapping):
        raise BadData("no context or user_query as DolusChat has them")
    known = [*(context.get("non_sensitive_info") or ()), context.get("sensitive_info") or ""]
    system = f"{row.get('system_message') or ''}\nContext:\n" + "\n".join(map(str, known))
    user = f"User ID: {query.get('speaker_type')}\n{query.get('content')}"
    prompt = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return {**row, "prompt": prompt}


def truthful_row(targets: str) -> Convert:
    """TruthfulQA's multiple choice: the question, and every choice with its label."""

    def convert(row: Row) -> Row:
        question, given = row.get("question"), row.get(targets)
        if not isinstance(given, Mapping) or not isinstance(question, str):
            raise BadData(f"no question or {targets} as TruthfulQA has them")
        # A choice that is listed twice is one choice.
        labels = dict(zip(given.get("choices") or (), given.get("labels") or (), strict=False))
        return {"prompt": f"Q: {question}\nA: ", "responses": list(labels), "labels": list(labels.values())}

    return convert


def unequal(row: Row) -> Row | None:
    """UltraFeedback: a pair whose chosen and rejected response are the same text prefers nothing, and is left out."""
    return None if _last(row.get("chosen")) == _last(row.get("rejected")) else row


def transcripts(row: Row) -> Row | None:
    """HH-RLHF: its transcripts as chats; those that differ before their last turn, or nowhere, are left out."""
    chats = {key: transcript(row.get(key)) for key in ("chosen", "rejected")}
    if chats["chosen"][:-1] != chats["rejected"][:-1] or chats["chosen"] == chats["rejected"]:
        return None
    return {**row, **chats}


def transcript(text: object) -> list[dict[str, str]]:
    """A transcript of turns that begin with `Human:` and `Assistant:`, as messages.

    Raises:
        BadData: it is none.
    """
    pieces = SPEAKER.split(text) if isinstance(text, str) else []
    if len(pieces) < 3 or pieces[0].strip():
        raise BadData("no transcript of turns that begin with 'Human: ' and 'Assistant: '")
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return [{"role": ROLES[who], "content": said} for who, said in turns]


def _last(chat: object) -> object:
    return chat[-1].get("content") if isinstance(chat, list) and chat and isinstance(chat[-1], dict) else chat


TRUTHFUL = {
    "hub": ("truthfulqa/truthful_qa",),
    "home": "https://huggingface.co/datasets/truthfulqa/truthful_qa",
    "licence": "Apache-2.0",
    "size": "817",
    "configurations": ("multiple_choice",),
    "splits": {"all": "validation"},
}
KNOWN_SETS: Mapping[str, KnownSet] = {
    known.name: known
    for known in (
        KnownSet(
            "geometry-of-truth",
            hub=(),
            home="https://github.com/saprmarks/geometry-of-truth (its folder datasets)",
            asks="is the statement true?",
            fields="statement, label",
            licence="CC-BY-4.0",
            size="11 files; cities: 1,496",
            configurations=(
                *("cities", "neg_cities", "sp_en_trans", "neg_sp_en_trans", "larger_than", "smaller_than"),
                *("cities_cities_conj", "cities_cities_disj", "companies_true_false", "common_claim_true_false"),
                "counterfact_true_false",
            ),
            convert=of_a_city,
        ),
        KnownSet(
            "liars-bench",
            hub=("Cadenza-Labs/liars-bench",),
            home="https://huggingface.co/datasets/Cadenza-Labs/liars-bench (its terms must be accepted there)",
            asks="is the assistant's last turn a lie?",
            fields="messages, deceptive, model, ...",
            licence="see its card",
            size="72,863",
            reading=Reading({"messages": "messages", "label": "deceptive"}),
            splits={"all": "test"},
        ),
        KnownSet(
            "doluschat",
            hub=("AlignmentResearch/DolusChat",),
            home="https://huggingface.co/datasets/AlignmentResearch/DolusChat",
            asks="which response is truthful?",
            fields="system_message, context, user_query, responses.truthful, responses.deceptive",
            licence="see its card",
            size="about 65,000",
            reading=Reading(positive="truthful"),
            convert=dolus_row,
        ),
        KnownSet(
            "reward-bench-2",
            hub=("allenai/reward-bench-2",),
            home="https://huggingface.co/datasets/allenai/reward-bench-2",
            asks="which responses are right?",
            fields="prompt, chosen (a list), rejected (a list), subset",
            licence="ODC-BY",
            size="1,865",
            splits={"all": "test"},
        ),
        KnownSet(
            "truthfulqa",
            asks="which answers are true?",
            fields="question, mc2_targets.choices, mc2_targets.labels",
            convert=truthful_row("mc2_targets"),
            **TRUTHFUL,  # type: ignore[arg-type]
        ),
        KnownSet(
            "truthfulqa-mc1",
            asks="which answer is the true one?",
            fields="question, mc1_targets.choices, mc1_targets.labels",
            convert=truthful_row("mc1_targets"),
            **TRUTHFUL,  # type: ignore[arg-type]
        ),
        KnownSet(
            "ultrafeedback",
            hub=("HuggingFaceH4/ultrafeedback_binarized",),
            home="https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized",
            asks="which response is preferred?",
            fields="prompt, chosen (messages), rejected (messages)",
            licence="MIT",
            size="61,135 and 2,000",
            splits={"train": "train_prefs", "test": "test_prefs"},
            convert=unequal,
        ),
        KnownSet(
            "hh-rlhf",
            hub=("Anthropic/hh-rlhf",),
            home="https://huggingface.co/datasets/Anthropic/hh-rlhf",
            asks="which response is preferred?",
            fields="chosen, rejected (transcripts)",
            licence="MIT",
            size="160,800 and 8,552",
            convert=transcripts,
        ),
        KnownSet(
            "harmful-requests",
            hub=("mlabonne/harmful_behaviors", "mlabonne/harmless_alpaca"),
            home="https://huggingface.co/datasets/mlabonne/harmful_behaviors",
            asks="is the request harmful?",
            fields="text",
            licence="see their cards",
            size="416 and 104 harmful, as many harmless",
            reading=Reading({"text": "text", "label": "label"}),
            labels=(1, 0),
        ),
        KnownSet(
            "beavertails",
            hub=("PKU-Alignment/BeaverTails",),
            home="https://huggingface.co/datasets/PKU-Alignment/BeaverTails",
            asks="is the response safe?",
            fields="prompt, response, is_safe, category",
            licence="CC-BY-NC-4.0",
            size="27,200 and 3,020 (its 30k splits)",
            reading=Reading({"prompt": "prompt", "response": "response", "label": "is_safe"}),
            splits={"train": "30k_train", "test": "30k_test"},
        ),
    )
}
