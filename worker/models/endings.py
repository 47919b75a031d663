"""How an answer ended, by the provider's own word: an answer counts only if its ending is listed here as a good one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from tasks.contract.errors import ContentRefused, NoAnswer, Overloaded
from tasks.contract.job import has_text

#: stop: it is complete; length: it was cut; tools: the model calls a tool; refused: the provider blocks it; odd: the
#: model wrote what its server can't read, and may do better at the next attempt.
Ending: TypeAlias = Literal["stop", "length", "tools", "refused", "odd"]


def _table(**words: str) -> Mapping[str, Ending]:
    return {word: ending for ending, line in words.items() for word in line.split()}  # type: ignore[misc]


#: In lower case. Behind OpenAI's API stand servers that pass on words of their own: Together (eos), TGI (eos_token,
#: stop_sequence), Bedrock (end_turn, guardrail_intervened), Cohere (complete), Mistral (model_length), GLM (sensitive).
OPENAI = _table(
    stop="stop eos eos_token stop_sequence end_turn complete",
    length="length max_tokens max_output_tokens model_length model_context_window_exceeded",
    tools="tool_calls function_call tool_use tool_call",
    refused="content_filter content_filtered sensitive safety refusal guardrail_intervened recitation",
)
#: ``pause_turn`` is missing: the answer is not at its end.
ANTHROPIC = _table(
    stop="end_turn stop_sequence",
    length="max_tokens model_context_window_exceeded",
    tools="tool_use",
    refused="refusal",
)
GEMINI = _table(
    stop="stop",
    length="max_tokens continuation",
    refused="safety recitation language blocklist prohibited_content spii model_armor escalation image_safety"
    " image_prohibited_content image_recitation",
    odd="unexpected_tool_call too_many_tool_calls malformed_function_call malformed_response"
    " missing_thought_signature other image_other no_image",
)


def show_word(word: Any) -> str:
    """A provider's word, to be shown; a sentence in its place may quote the answer."""
    return word if isinstance(word, str) and re.fullmatch(r"[\w.-]{1,60}", word, re.ASCII) else "unknown"


def conclude(name: str, ending: Ending | None, word: str, text: str, *, has_thoughts: bool) -> str:
    """The finish reason of an answer, ``stop`` or ``length``. `ending` is None for a word that is not listed.

    Raises:
        ContentRefused: where the provider blocks the answer, or the model calls a tool and says nothing else.
        Overloaded: for an ending that is not listed: an error, an abort, a pause.
        NoAnswer: for an answer without text.
    """
    if ending == "refused":
        raise ContentRefused(name, f"the provider blocks this answer ({word}); change the input")
    if ending is None:
        raise Overloaded(name, f"broke its answer off ({word})")
    if ending == "odd":
        raise NoAnswer(name, f"ended with no answer that can be read ({word})")
    if has_text(text):
        return "length" if ending == "length" else "stop"
    if ending == "tools":
        raise ContentRefused(name, f"calls a tool ({word}) instead of answering, and it has none; reword the input")
    found = "thoughts alone" if has_thoughts else "no text"
    if ending == "length":
        empty = NoAnswer(name, f"was cut off ({word}) with {found}; raise max_tokens")
        empty.cut = True
        raise empty
    raise NoAnswer(name, f"answered with {found} ({word})")
