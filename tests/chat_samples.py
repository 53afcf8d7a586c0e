"""Chat templates and conversations, and the text that each template makes of them, written out by hand."""

from __future__ import annotations

from repeng.distributions.schema import Example, Message, Split

OPEN = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ '\n' }}"
END = "{% endfor %}{% if add_generation_prompt %}[assistant]{{ '\n' }}{% endif %}"
UNMARKED = OPEN + "{{ m.content | trim + '</s>\n' }}" + END
MARKED = (
    OPEN
    + "{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}</s>{% endgeneration %}{{ '\n' }}"
    + "{% else %}{{ m.content | trim + '</s>\n' }}{% endif %}"
    + END
)
CLOSE = "</s>"
TEMPLATES = {"unmarked": UNMARKED, "marked": MARKED}
FAMILIES = {
    # As Qwen 2.5 writes: a system message of its own where there is none.
    "chatml": (
        "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{%- endif %}"
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}",
        "<|im_end|>",
    ),
    # As Qwen 3: the last assistant turn is given thoughts that earlier ones are not.
    "thinking": (
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}{%- if m.role == 'assistant' and loop.last %}"
        "{{- '<think>\n\n</think>\n\n' }}{%- endif %}{{- m.content + '<|im_end|>\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}",
        "<|im_end|>",
    ),
    "llama3": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' "
        "+ m.content | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "<|eot_id|>",
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim "
        "+ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        "<end_of_turn>",
    ),
    "mistral": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content | trim + eos_token }}{% endif %}{% endfor %}",
        "</s>",
    ),
}
"""Templates as some well-known families have them, and what closes a turn; gemma's takes no system message."""

CHAT = (
    Message("system", "The assistant answers briefly, honestly and with care."),
    Message("user", "  Which of these is the largest planet? Mars, or Jupiter\n"),
    Message("assistant", "Jupiter, of course."),
    Message("user", "user: ¿Cuál es la capital de España? 日本"),
)
SHORT = (Message("user", "Say yes or no."),)


def conversations() -> Split:
    """Examples with system, user and assistant turns, one of them with an empty response."""
    return Split(
        "chats",
        "train",
        (
            Example(CHAT, ("Madrid, I don't know.", "Write a short poem about the sea, and say why."), 0),
            Example(SHORT, ("Yes", ""), 1),
            Example((*CHAT[:1], *SHORT), ("No", "Yes; the sea"), 0),
            Example((*SHORT, Message("assistant", "Yes, and")), (" no", " I say why"), 1),
        ),
    )


def written(messages: tuple[Message, ...], *, marked: bool) -> tuple[str, list[tuple[str, int, int]]]:
    """The text of a chat up to the response, and the characters that are each message's."""
    text, turns = "", []
    for message in messages:
        text += f"[{message.role}]\n"
        content = message.content.strip()
        continued = message is messages[-1] and message.role == "assistant"
        closed = content + ("" if continued or not (marked and message.role == "assistant") else CLOSE)
        turns.append((message.role, len(text), len(text) + len(closed)))
        text += content if continued else f"{content}{CLOSE}\n"
    return (text if messages[-1].role == "assistant" else f"{text}[assistant]\n"), turns
