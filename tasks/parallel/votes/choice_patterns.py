"""The patterns with which the reader of choices looks for one set of answers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tasks.parallel.votes import choice_words as words
from tasks.parallel.votes.choice_words import WRAP

_BUT = r"(?:but|rather|instead|it is|sondern|mais|sino|而是)(?: rather)?"
_FLAGS = re.IGNORECASE


@dataclass(frozen=True, slots=True)
class Evidence:
    """A ballot that stands at a place; "" for several at once."""

    start: int
    end: int
    ballot: str


class ChoicePatterns:
    """Patterns, compiled when a text first needs them. The group `word` is an answer, `other` a second one."""

    def __init__(self, answers: Sequence[str], *, several: bool) -> None:
        self._one = words.alternatives(answers)
        self._other = words.alternatives(answers, name="other")
        self._strong = words.alternatives([answer for answer in answers if words.is_strong(answer, several=several)])
        self._replies = words.alternatives([answer for answer in answers if answer.casefold() in words.INTERJECTIONS])
        #: The words with which a mention begins, in small letters.
        self.first_words = {unicodedata.normalize("NFKC", answer).split()[0].lower() for answer in answers}

    @cached_property
    def mention(self) -> re.Pattern[str]:
        """Any mention."""
        return re.compile(self._one, _FLAGS)

    @cached_property
    def announced(self) -> re.Pattern[str]:
        """The answer is (not) B (or C)."""
        return re.compile(
            rf"(?P<cue>{words.CUES})(?:(?P<not>{words.NEGATION}) ?(?:option )?|either |both |entweder |soit )?"
            rf"{WRAP}(?:option |choice )?{WRAP}{self._one}(?P<hedge>{WRAP}(?:{words.OR})(?:{WRAP}){self._other})?"
            rf"(?P<wrong>{words.WRONG})?(?P<ask>[^.!?\n]{{0,80}}\?)?",
            _FLAGS,
        )

    @cached_property
    def but(self) -> re.Pattern[str]:
        """What follows a denial: ", but C"."""
        return re.compile(rf" ?,? ?{_BUT} (?:option )?{WRAP}{self._one}", _FLAGS)

    @cached_property
    def instead(self) -> re.Pattern[str]:
        """The whole of a denial: "not B but C"."""
        return re.compile(
            rf"{words.NEGATION} (?:option )?{WRAP}{self._one}{WRAP},? ?{_BUT} ?(?:option )?{WRAP}{self._other}", _FLAGS
        )

    @cached_property
    def right(self) -> re.Pattern[str]:
        """What calls a choice right: "B is the correct one"."""
        return re.compile(
            rf"{WRAP}{self._one}{WRAP}(?:{words.RIGHT}| fits (?:[a-z]+ ){{0,3}}best| (?:seems|works) best)(?![a-zA-Z])",
            _FLAGS,
        )

    @cached_property
    def beside(self) -> re.Pattern[str]:
        """What stands before such a choice: "A and"."""
        return re.compile(rf"{self._one}{WRAP}(?:{words.OR}|, ?){WRAP}$", _FLAGS)

    @cached_property
    def begins(self) -> re.Pattern[str]:
        """The beginning of a line or sentence."""
        return re.compile(
            rf"{WRAP}{words.OPENERS}(?:option |choice |answer |ans\.? ?|选项|选)?{WRAP}{self._one}"
            rf"(?P<hedge>[ ]?(?:{words.OR}){WRAP}{self._other})?(?P<wrong>{words.WRONG}\b)?(?={words.FOLLOWS})",
            _FLAGS,
        )

    @cached_property
    def listed(self) -> re.Pattern[str]:
        """What follows a beginning: ", B"."""
        return re.compile(rf" ?[,/;] ?{WRAP}{self._one}(?P<wrong>{words.WRONG}\b)?", _FLAGS)

    @cached_property
    def closing(self) -> re.Pattern[str]:
        """The end of a line, behind a colon or "is"."""
        return re.compile(
            rf"(?:(?P<is>\b(?:is|be|ist|est|es)|(?<!不)是)|[:：]) ?(?:option |la "
            rf"|the )?{WRAP}{self._one}{WRAP}(?: ?[(\[][^)\]\n]{{0,40}}[)\]])?(?=[.!。]?(?:\n|$))",
            _FLAGS,
        )

    @cached_property
    def asked(self) -> re.Pattern[str]:
        """A question and its reply: "Safe? No"."""
        return re.compile(
            rf"{self._one}[^.!?\n]{{0,80}}\? ?{WRAP}(?:(?P<yes>{words.YES})|(?P<no>{words.NO}))(?![\w])", _FLAGS
        )

    @cached_property
    def ordered(self) -> re.Pattern[str]:
        """What a person would do: "I would block this"."""
        return re.compile(
            r"(?:\b(?:i(?:['’]d| would| will)?|we(?: should| must| can| could| will)?|you should|please|must"
            r"|should|recommend(?: to)?"
            r"|do|can(?=n['’]t|not)|could|would|wo(?=n))(?P<not> ?not| ?never|n['’]t)?"
            r"|(?:^|(?<=[.!?\n] ))(?P<never>never))"
            rf" {self._one} (?:this|it|the|that)\b",
            _FLAGS,
        )

    @cached_property
    def replied(self) -> re.Pattern[str] | None:
        """A reply to a question; None without answers that reply."""
        if not self._replies:
            return None
        return re.compile(rf"\? ?{WRAP}{self._replies}(?=[ ,.!;:—–-]|$)", _FLAGS)

    @cached_property
    def keyed(self) -> re.Pattern[str] | None:
        """A key and its value: "flagged: false"; None without answers that a sentence may hold."""
        if not self._strong:
            return None
        return re.compile(rf"{self._strong} ?[:=] ?(?:(?P<yes>true|yes)|(?P<no>false|no|none))(?!\w)", _FLAGS)

    @cached_property
    def predicate(self) -> re.Pattern[str] | None:
        """What a sentence says its subject is; None without answers that a sentence may hold."""
        if not self._strong:
            return None
        return re.compile(
            rf"(?:(?:(?:{words.PREDICATE})(?P<not> ?(?:{words.NEGATED}))?|(?P<bare>{words.NEGATED}))"
            rf"(?:{words.BETWEEN}) ?|(?P<verb>\b(?:it|this|that|and|which|post|content|message|comment|text) "
            r"(?:clearly |directly |also )?))"
            rf"(?P<joined>[a-z]{{3,15}},? and )?{WRAP}{self._strong}{words.SAID}",
            _FLAGS,
        )
