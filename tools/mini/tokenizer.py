"""The embedded model's tokenizer: byte-level BPE, learned from the documents themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from repeng.benchmarks.mini.phrases import RESPONSE
from repeng.distributions.stimuli import CONTRAST

VOCABULARY = 3072
BOS, EOS = "<s>", "</s>"
MARKS = (
    "\n",
    "### Instruction:\n",
    RESPONSE,
    CONTRAST,
)
"""The line break and the marks of the format, one token each: ordinary text, kept when special tokens are skipped."""


def learn_tokenizer(texts: Iterable[str]) -> Any:
    """A `PreTrainedTokenizerFast` that opens every text with BOS.

    A word is the same tokens at the start of a line as after a space (`add_prefix_space` acts behind each mark): what
    a model learned of Paris in a sentence holds for a response that begins with it.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(MARKS),
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in MARKS])
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bos)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=EOS, model_max_length=512
    )
