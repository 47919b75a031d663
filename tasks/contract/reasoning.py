"""Separate the thoughts that a model wrote into its answer from the answer.

The marks are those of chat templates and reasoning parsers: DeepSeek, Qwen, GLM, MiniMax and Hunyuan (`<think>`),
EXAONE, Marco and Reflection (`<thought>`, `<reflection>`), Seed (`<seed:think>`), Kimi (`◁think▷`), Magistral
(`[THINK]`), gpt-oss (harmony's channels), Gemma (`<|channel>thought`), Command A (`<|START_THINKING|>`), OpenThinker
(`<|begin_of_thought|>`), MedGemma (`<unused94>`), Granite, Apriel and HuatuoGPT (headings).
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Sequence
from itertools import islice

_NAMES = (
    r"(?:th(?:ink(?:ing)?|oughts?)|re(?:ason(?:ing)?|flect(?:ion)?)|(?:seed|mm|antml):(?:think|thinking)|antthinking"
    r"|longcat_think|scratchpad|inner_monologue|chain_of_thought)"
)
#: What may stand between the name of a channel and its content.
_HEADER = r"(?:[^<\n]{0,100}(?:<\|constrain\|>[^<\n]{0,30})?<\|message\|>)?"
#: Marks that are looked at; no answer has more.
MOST_MARKS = 50_000
#: One token of a text: a fence, or a mark. `final` begins the answer, `noise` only surrounds it.
_TOKEN = re.compile(
    # Each alternative begins with a character, so that the search skips to the next of these four.
    rf"""
      `(?<![^\n]`)(?P<fence>`{{2,}})(?P<info>[^\n]{{0,80}})
    | <(?:[ ]?(?P<xml>{_NAMES})(?:\s[^<>]{{0,200}})?>
        | [ ]?/[ ]?(?P<endxml>{_NAMES})\s?>
        | (?P<open>\|(?:begin_of_thought|begin_of_thinking|start_thinking|thinking|think)\|>
            | unused94>(?:thought)? | \|channel\|?>\s{{0,9}}(?:analysis|commentary|thought)\b{_HEADER})
        | (?P<close>\|(?:end_of_thought|end_of_thinking|end_thinking|/thinking|/think)\|> | unused95> | channel\|>)
        | (?P<final>\|channel\|?>\s{{0,9}}final\b{_HEADER} | \|(?:begin_of_solution|start_response|start_text)\|>)
        | (?P<end>\|(?:end|call)\|>)
        | (?P<noise>\|start\|>(?:assistant)? | \|(?:return|message|end_of_solution|end_response|end_text)\|>))
    | \[(?:(?P<bracket>THINK) | /(?P<endbracket>THINK))\]
    | ◁(?:(?P<arrow>think) | /(?P<endarrow>think))▷
    """,
    re.IGNORECASE | re.VERBOSE,
)
#: Cheap: a text that holds none of these marks, and does not begin with one of these headings, holds no thoughts.
#: The first characters are outside of `(?i:…)`, so that the search skips to them.
A_MARK = re.compile(
    rf"<(?i:[ ]?/?[ ]?{_NAMES}[\s>]|\|[a-z_/]+\|?>|channel\|>|unused9[45]>)|\[(?i:/?THINK)\]|◁(?i:/?think)▷"
)
A_HEADING = re.compile(
    r"\s{0,20}(?:here(?:'s|’s| is) my thought|here are my reasoning|#{1,4} thinking|analysis\S)", re.IGNORECASE
)
#: Thoughts that begin the text under a heading, and the heading of the answer; both must be there.
_HEADINGS = tuple(
    (re.compile(rf"\s{{0,20}}{opening}", flags), re.compile(answer, flags))
    for opening, answer, flags in (
        (r"here(?:'s|’s| is) my thought process:", r"here(?:'s|’s| is) my response:", re.IGNORECASE),
        (r"here are my reasoning steps:", r"\[BEGIN FINAL RESPONSE\]", re.IGNORECASE),
        (r"#{1,4} thinking\s*\n", r"^#{1,4} (?:final )?response[ \t]*$", re.IGNORECASE | re.MULTILINE),
        # Harmony's channels where the server dropped the special tokens.
        (r"analysis(?=\S)", r"assistantfinal", re.NOFLAG),
    )
)
#: What stands between two tags that are only mentioned: "between <think> and </think>".
_MENTION = re.compile(r"\s{0,9}(?:…|\.{3}|and|or|und|oder|et|ou|y|o|和|或|,|/)?\s{0,9}", re.IGNORECASE)
#: Characters that are looked at around a mark: its line.
_AROUND = 200
#: After the last token.
_NEVER = sys.maxsize
#: Marks that are tokens of a vocabulary: no sentence mentions them.
_TOKENS = {"open", "close", "arrow", "endarrow"}
#: Ends of a clause, after which thoughts may begin in the middle of a line.
_ENDS = ".!?:;…。！？：>)]"


def split_reasoning(text: str) -> tuple[str, str]:
    """Return the thoughts in a text, "" if there are none, and the answer without them, "" if there is none.

    Thoughts stand between marks; one whose closing mark is missing lasts to the end, one whose opening mark is missing
    begins with the text. A mark in code, or one that a sentence only mentions, is none. A text without thoughts is
    returned as it is. Pure; takes time in proportion to the text.
    """
    for opening, answer in _HEADINGS:
        if (start := opening.match(text)) and (last := deque(answer.finditer(text), maxlen=1)):
            head = text[start.end() : last[0].start()].strip()
            return head, text[last[0].end() :].replace("[END FINAL RESPONSE]", "").strip()
    if A_MARK.search(text) is None:
        return "", text
    return _Splitting(text).run()


class _Splitting:
    """One pass over the tokens of a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._content_end = len(text.rstrip())
        self._tokens = list(islice(_TOKEN.finditer(text), MOST_MARKS))
        self._ends = _match_marks(self._tokens)
        self._fence_ends = _match_fences(self._tokens)
        self._thoughts: list[str] = []
        self._answer: list[str] = []
        #: Opening marks in the last thought, and opening tags of the answer that are only mentioned.
        self._inner = self._mentioned = 0
        #: Where the text that is not assigned yet begins.
        self._from = 0
        self._changed = False

    def run(self) -> tuple[str, str]:
        at = 0
        while at < len(self._tokens):
            at = self._step(at)
        self._answer.append(self._text[self._from :])
        if not self._changed:
            return "", self._text
        thoughts = (thought.strip() for thought in self._thoughts)
        return "\n\n".join(filter(None, thoughts)), "".join(self._answer).strip()

    def _step(self, at: int) -> int:
        """Read the token at a place outside of thoughts; return the next place."""
        token = self._tokens[at]
        if token.lastgroup == "info":
            # A closing mark in code that was never opened ends thoughts: their fence was left open.
            end = self._fence_ends.get(at)
            return at + 1 if end is None or not self._ends else end + 1
        if token.lastgroup == "final":
            self._take(token, thought=bool(self._text[self._from : token.start()].strip()))
        elif token.lastgroup in {"noise", "end"}:
            self._take(token, thought=False)
        elif _opens(token):
            if token.lastgroup in _TOKENS or self._is_thought(at):
                return self._think(at)
            self._mentioned += 1
        elif token.lastgroup in _TOKENS or self._is_stray_close(token):
            self._end_stray(token)
        return at + 1

    def _think(self, at: int) -> int:
        """Take the thought that opens at a place; return the place after its end."""
        self._take(self._tokens[at], thought=False)
        end = self._ends[at]
        if end is None:
            answer = _answer_at_end(self._text, self._from, self._content_end)
            self._thoughts.append(self._text[self._from : answer])
            self._from = answer
            return len(self._tokens)
        closing = self._tokens[end]
        self._inner = sum(map(_opens, self._tokens[at + 1 : end]))
        self._thoughts.append(self._text[self._from : closing.start()])
        # The mark that begins the answer is read again.
        self._from = closing.start() if closing.lastgroup == "final" else closing.end()
        return end if closing.lastgroup == "final" else end + 1

    def _is_thought(self, at: int) -> bool:
        """Whether a tag opens thoughts: on a line of its own or after the end of a sentence, and not in inline code."""
        token = self._tokens[at]
        start = token.start()
        before = self._text[max(start - _AROUND, 0) : start].rpartition("\n")[2]
        if before.count("`") % 2 and "`" in self._text[token.end() : token.end() + _AROUND].partition("\n")[0]:
            return False
        glued = before[-1:].isalnum()
        before = before.rstrip(" \t\r*_#")
        if not before:
            return True
        end = self._ends[at]
        if end is None or not (glued or before[-1] in _ENDS):
            return False
        return not _MENTION.fullmatch(self._text, token.end(), self._tokens[end].start())

    def _is_stray_close(self, token: re.Match[str]) -> bool:
        """Whether a closing tag without an opening one ends thoughts, and is no word of a sentence."""
        if self._mentioned:
            self._mentioned -= 1
            return False
        before = self._text[max(token.start() - _AROUND, 0) : token.start()].rpartition("\n")[2]
        after = self._text[token.end() : token.end() + _AROUND].partition("\n")[0]
        if before.count("`") % 2 and "`" in after:
            return False
        within = before[-1:].isspace() and after[:1] in {" ", ",", "."} and after.strip(" .,") != ""
        return not (within and before.strip() and before.rstrip()[-1] not in _ENDS)

    def _end_stray(self, token: re.Match[str]) -> None:
        """End thoughts without a beginning: all that came before, unless an answer would be lost."""
        self._take(token, thought=not self._thoughts or self._inner > 0 or token.end() < self._content_end)
        self._inner = 0

    def _take(self, token: re.Match[str], *, thought: bool) -> None:
        """Assign the text before a token, and drop the token."""
        self._changed = True
        before = self._text[self._from : token.start()]
        if thought:
            self._thoughts.extend(self._answer)
            self._answer.clear()
        (self._thoughts if thought else self._answer).append(before)
        self._from = token.end()


def _name(token: re.Match[str]) -> str:
    name = token["xml"] or token["endxml"]
    return name.casefold() if name else (token.lastgroup or "").removeprefix("end")


def _closes(token: re.Match[str]) -> bool:
    return token.lastgroup in {"endxml", "endbracket", "endarrow", "close"}


def _opens(token: re.Match[str]) -> bool:
    return token.lastgroup in {"xml", "bracket", "arrow", "open"}


def _answer_at_end(text: str, start: int, end: int) -> int:
    """Return where an ``<answer>`` begins that ends the text after unclosed thoughts, else the end of the text."""
    if not text.endswith("</answer>", start, end):
        return len(text)
    found = text.rfind("<answer>", start)
    return len(text) if found < 0 else found


def _match_marks(tokens: Sequence[re.Match[str]]) -> dict[int, int | None]:
    """Return for the place of each opening mark that of its end: by the same name, else by any, or by an answer."""
    ends: dict[int, int | None] = {}
    closes: dict[str, int] = {}
    any_close = final = channel = _NEVER
    for at in range(len(tokens) - 1, -1, -1):
        token = tokens[at]
        if _opens(token):
            close = closes.get(_name(token), any_close)
            end = min(close, final, channel if token.lastgroup == "open" else _NEVER)
            ends[at] = None if end == _NEVER else end
        elif _closes(token):
            closes[_name(token)] = any_close = at
        elif token.lastgroup == "final":
            final = at
        elif token.lastgroup == "end":
            channel = at
    return ends


def _match_fences(tokens: Sequence[re.Match[str]]) -> dict[int, int]:
    """Return for the place of each fence that of the next bare one that is as long: the end of its code."""
    ends: dict[int, int] = {}
    #: From the last to the next; a longer one before a shorter one closes all that the shorter one would.
    bare: list[tuple[int, int]] = []
    for at in range(len(tokens) - 1, -1, -1):
        token = tokens[at]
        if token.lastgroup != "info":
            continue
        length = len(token["fence"])
        found = next((place for place, ticks in reversed(bare) if ticks >= length), None)
        if found is not None:
            ends[at] = found
        if not token["info"].strip():
            while bare and bare[-1][1] <= length:
                bare.pop()
            bare.append((at, length))
    return ends
