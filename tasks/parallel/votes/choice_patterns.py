"""The patterns with which the reader of choices looks for one set of answers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

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
    """Compiled patterns; in each the group `word` is an answer, and `other` a second one."""

    def __init__(self, answers: Sequence[str], *, several: bool) -> None:
        one = words.alternatives(answers)
        other = words.alternatives(answers, name="other")
        #: Any mention, and the words with which one begins, in small letters.
        self.mention = re.compile(one, _FLAGS)
        self.first_words = {unicodedata.normalize("NFKC", answer).split()[0].lower() for answer in answers}
        self._compile_announcements(one, other)
        self._compile_places(one, other)
        strong = words.alternatives([answer for answer in answers if words.is_strong(answer, several=several)])
        replies = words.alternatives([answer for answer in answers if answer.casefold() in words.INTERJECTIONS])
        #: A reply to a question; None without answers that reply.
        self.replied = re.compile(rf"\? ?{WRAP}{replies}(?=[ ,.!;:—–-]|$)", _FLAGS) if replies else None
        #: What a sentence says its subject is; None without answers that a sentence may hold.
        self.predicate = self.keyed = None
        if strong:
            #: "flagged: false".
            self.keyed = re.compile(rf"{strong} ?[:=] ?(?:(?P<yes>true|yes)|(?P<no>false|no|none))(?!\w)", _FLAGS)
            self.predicate = re.compile(
                rf"(?:(?:(?:{words.PREDICATE})(?P<not> ?(?:{words.NEGATED}))?|(?P<bare>{words.NEGATED}))"
                rf"(?:{words.BETWEEN}) ?|(?P<verb>\b(?:it|this|that|and|which|post|content|message|comment|text) "
                r"(?:clearly |directly |also )?))"
                rf"(?P<joined>[a-z]{{3,15}},? and )?{WRAP}{strong}{words.SAID}",
                _FLAGS,
            )

    def _compile_announcements(self, one: str, other: str) -> None:
        #: "the answer is (not) B (or C)".
        self.announced = re.compile(
            rf"(?P<cue>{words.CUES})(?:(?P<not>{words.NEGATION}) ?(?:option )?|either |both |entweder |soit )?"
            rf"{WRAP}(?:option |choice )?{WRAP}{one}(?P<hedge>{WRAP}(?:{words.OR})(?:{WRAP}){other})?"
            rf"(?P<wrong>{words.WRONG})?(?P<ask>[^.!?\n]{{0,80}}\?)?",
            _FLAGS,
        )
        #: ", but C", behind a denial; and the whole of it.
        self.but = re.compile(rf" ?,? ?{_BUT} (?:option )?{WRAP}{one}", _FLAGS)
        self.instead = re.compile(
            rf"{words.NEGATION} (?:option )?{WRAP}{one}{WRAP},? ?{_BUT} ?(?:option )?{WRAP}{other}", _FLAGS
        )
        #: "B is the correct one", and "A and" before it.
        self.right = re.compile(
            rf"{WRAP}{one}{WRAP}(?:{words.RIGHT}| fits (?:[a-z]+ ){{0,3}}best| (?:seems|works) best)(?![a-zA-Z])",
            _FLAGS,
        )
        self.beside = re.compile(rf"{one}{WRAP}(?:{words.OR}|, ?){WRAP}$", _FLAGS)

    def _compile_places(self, one: str, other: str) -> None:
        #: The beginning of a line or sentence, and ", B" behind it.
        self.begins = re.compile(
            rf"{WRAP}{words.OPENERS}(?:option |choice |answer |ans\.? ?|选项|选)?{WRAP}{one}"
            rf"(?P<hedge>[ ]?(?:{words.OR}){WRAP}{other})?(?P<wrong>{words.WRONG}\b)?(?={words.FOLLOWS})",
            _FLAGS,
        )
        self.listed = re.compile(rf" ?[,/;] ?{WRAP}{one}(?P<wrong>{words.WRONG}\b)?", _FLAGS)
        #: The end of a line, behind a colon or "is".
        self.closing = re.compile(
            rf"(?:(?P<is>\b(?:is|be|ist|est|es)|(?<!不)是)|[:：]) ?(?:option |la "
            rf"|the )?{WRAP}{one}{WRAP}(?: ?[(\[][^)\]\n]{{0,40}}[)\]])?(?=[.!。]?(?:\n|$))",
            _FLAGS,
        )
        #: "Safe? No".
        self.asked = re.compile(
            rf"{one}[^.!?\n]{{0,80}}\? ?{WRAP}(?:(?P<yes>{words.YES})|(?P<no>{words.NO}))(?![\w])", _FLAGS
        )
        #: "I would block this".
        self.ordered = re.compile(
            r"(?:\b(?:i(?:['’]d| would| will)?|we(?: should| must| can| could| will)?|you should|please|must"
            r"|should|recommend(?: to)?"
            r"|do|can(?=n['’]t|not)|could|would|wo(?=n))(?P<not> ?not| ?never|n['’]t)?"
            r"|(?:^|(?<=[.!?\n] ))(?P<never>never))"
            rf" {one} (?:this|it|the|that)\b",
            _FLAGS,
        )
