r"""The one reader of a choice: which of the possible answers a text concludes.

Evidence comes in ranks: an answer in a mark of its own (`\boxed{B}`, JSON, `<answer>`), then what the text announces
("the answer is B"), then what it begins or ends with, and what it says its subject is ("this is not safe"). Evidence of
one rank that contradicts itself abstains, unless the text takes the earlier one back. A mention is no evidence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tasks.contract.answer import NotJSON, parse_answer
from tasks.contract.reasoning import split_reasoning
from tasks.parallel.votes import choice_words as words
from tasks.parallel.votes.latex import unwrap_latex
from tasks.parallel.votes.normalize import normalize

#: Characters that are read of a longer text: its beginning and its end.
HEAD, TAIL = 2_000, 8_000
#: Keys of a JSON answer that hold the choice, the likeliest first.
KEYS = (
    "final_answer", "answer", "verdict", "label", "choice", "decision", "classification", "category", "class",
    "prediction", "conclusion", "result", "selected", "option", "output", "response", "value", "antwort", "réponse",
    "respuesta", "答案",
)  # fmt: skip
_BOXED = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,3}\{")
_EMPHASIS = re.compile(
    r"\*+|`+|(?<!\w)_+|_+(?!\w)|^#{1,3} (?=\w)|<\|[^|<>]{1,30}\|>|</?(?:b|i|em|strong|s|u|p|br)/?>", re.MULTILINE
)
_MARKUP = re.compile(r"[*`_#<]")
_BLANKS = re.compile(r"[^\S\n]{2,}|[\t\r\f\v]")
_SENTENCE_END = re.compile(r"(?<!\b[A-Za-z]\.[a-z])[.!?](?= |\n|$)|[\n。！？]")
_CLAUSE = re.compile(r"\b(?:but|however|yet|aber|jedoch|mais|pero)\b|但是?", re.IGNORECASE)
_GOES_ON = re.compile(r" (?:as|for|is|with|that|i|me|but)\b", re.IGNORECASE)
_ASKS = re.compile(r" ?[^.!\n]{0,80}\?")
_DENIED = re.compile(rf"{words.NEGATION} $", re.IGNORECASE)
_QUOTED, _FINAL, _UNSURE = (re.compile(form, re.IGNORECASE) for form in (words.QUOTED, words.FINAL, words.UNSURE))
#: Characters around a mention in which its announcement stands.
BEFORE, AFTER = 120, 100
#: Two conclusions that contradict each other.
_HEDGE = ""


def read_choice(text: str, answers: Sequence[str] | Mapping[str, str]) -> str:
    """Return the one of `answers` that a text concludes, in its normalized form, "" if it concludes none.

    A mapping gives the ballot of each answer, where several mean the same. Answers of two ballots exclude each other:
    "not safe" is the other one. Pure; reads at most `HEAD` + `TAIL` characters of prose.
    """
    ballots = dict(answers) if isinstance(answers, Mapping) else {answer: normalize(answer) for answer in answers}
    reader = _reader(tuple(ballots.items()))
    _, text = split_reasoning(text)
    return reader.read(text.strip())


@lru_cache(maxsize=256)
def _reader(ballots: tuple[tuple[str, str], ...]) -> _ChoiceReader:
    return _ChoiceReader(dict(ballots))


@dataclass(frozen=True, slots=True)
class _Evidence:
    """A ballot that stands at a place; "" for several at once."""

    start: int
    end: int
    ballot: str


class _ChoiceReader:
    """The patterns for one set of answers."""

    def __init__(self, ballots: Mapping[str, str]) -> None:
        self._ballots = {normalize(answer): ballot for answer, ballot in ballots.items()}
        for answer, others in words.SYNONYMS.items():
            if answer in self._ballots:
                for other in others:
                    self._ballots.setdefault(other, self._ballots[answer])
        self._distinct = list(dict.fromkeys(self._ballots.values()))
        known = dict.fromkeys(
            form for answer in (*ballots, *self._ballots) for form in (answer.strip(), normalize(answer)) if form
        )
        one = words.alternatives(list(known))
        self._mention = re.compile(one, re.IGNORECASE)
        strong = words.alternatives([answer for answer in known if words.is_strong(answer, several=len(ballots) > 4)])
        replies = words.alternatives([answer for answer in known if answer.casefold() in words.INTERJECTIONS])
        flags = re.IGNORECASE
        other = words.alternatives(list(known), name="other")
        hedge = rf"(?P<hedge>{words.WRAP}(?:{words.OR})(?:{words.WRAP}){other})?"
        self._announced = re.compile(
            rf"(?P<cue>{words.CUES})(?:(?P<not>{words.NEGATION}) ?(?:option )?|either |both |entweder |soit )?"
            rf"{words.WRAP}(?:option |choice )?{words.WRAP}{one}{hedge}(?P<wrong>{words.WRONG})?"
            r"(?P<ask>[^.!?\n]{0,80}\?)?",
            flags,
        )
        self._but = re.compile(
            rf" ?,? ?(?:but|rather|instead|it is|sondern|mais|sino|而是)(?: rather)? (?:option )?{words.WRAP}{one}",
            flags,
        )
        self._beside = re.compile(rf"{one}{words.WRAP}(?:{words.OR}|, ?){words.WRAP}$", flags)
        self._listed = re.compile(rf" ?[,/;] ?{words.WRAP}{one}(?P<wrong>{words.WRONG}\b)?", flags)
        self._right = re.compile(rf"{words.WRAP}{one}{words.WRAP}(?:{words.RIGHT})\b", flags)
        self._begins = re.compile(
            rf"{words.WRAP}(?:option |choice |answer |选项|选)?{words.WRAP}{one}"
            rf"(?P<hedge>[ ]?(?:{words.OR}){words.WRAP}{other})?"
            rf"(?P<wrong>{words.WRONG}\b)?(?={words.FOLLOWS})",
            flags,
        )
        self._asked = re.compile(
            rf"{one}[^.!?\n]{{0,80}}\? ?{words.WRAP}(?:(?P<yes>{words.YES})|(?P<no>{words.NO}))(?![\w])", flags
        )
        self._replied = re.compile(rf"\? ?{words.WRAP}{replies}(?=[ ,.!;:—–-]|$)", flags) if replies else None
        self._predicate = re.compile(
            rf"(?:(?:(?:{words.PREDICATE})(?P<not> ?(?:{words.NEGATED}))?"
            rf"|(?P<bare>{words.NEGATED}))(?:{words.BETWEEN}) ?"
            rf"|(?P<verb>\b(?:it|this|that|and|which|post|content|message|comment|text) (?:clearly |directly |also )?))"
            rf"{words.WRAP}{strong}(?! (?:to say|to assume|side|bet|than|enough|or)\b|['’\w-]|\?)",
            flags,
        ) if strong else None  # fmt: skip

    def read(self, text: str) -> str:
        if len(text) <= 500 and (whole := self._ballots.get(normalize(text))) is not None:
            return whole
        if "{" in text and (found := self._read_json(text)) is not None:
            return found
        if "\\" in text and (boxed := self._read_boxed(text)):
            return boxed
        plain = _plain(text)
        if len(plain) <= 500 and (whole := self._ballots.get(normalize(plain))) is not None:
            return whole
        return self._read_prose(plain)

    def _ballot(self, word: str) -> str:
        return self._ballots.get(word) or self._ballots.get(word.casefold()) or self._ballots.get(normalize(word), "")

    def _other(self, ballot: str) -> str:
        """Return the ballot of an answer that is denied: the other one of two, "" among several."""
        return next((one for one in self._distinct if one != ballot), "") if len(self._distinct) == 2 else ""

    # -- marks of their own ------------------------------------------------------------------------

    def _read_json(self, text: str) -> str | None:
        """Return the ballot of a JSON answer; None where the text holds none, or none that names a choice."""
        try:
            value = parse_answer(text)
        except NotJSON:
            return None
        if not isinstance(value, dict):
            return None
        lowered = {str(key).casefold(): inner for key, inner in value.items()}
        for key in KEYS:
            if key in lowered:
                return self._value_ballot(lowered[key], key)
        found = {self._value_ballot(inner, key) for key, inner in lowered.items() if not _is_reason(key)} - {""}
        return found.pop() if len(found) == 1 else ""

    def _value_ballot(self, value: Any, key: str) -> str:
        if isinstance(value, bool):
            named = self._ballots.get(normalize(key.removeprefix("is_")))
            if named:
                return named if value else self._other(named)
            return self._ballot("true" if value else "false") or self._ballot("yes" if value else "no")
        if isinstance(value, str | int | float):
            return self._ballot(str(value)) or (self.read(value.strip()) if isinstance(value, str) else "")
        return self._value_ballot(value[0], key) if isinstance(value, list) and len(value) == 1 else ""

    def _read_boxed(self, text: str) -> str:
        last = None
        for last in _BOXED.finditer(text, max(len(text) - TAIL, 0)):  # noqa: B007 - the last one
            pass
        if last is None:
            return ""
        content = _braced(text, last.end() - 1)
        return self._ballot(content) or self._begin(_plain(content)) if content else ""

    # -- prose -------------------------------------------------------------------------------------

    def _read_prose(self, text: str) -> str:
        windows = list(self._windows(text))
        if not windows:
            return ""
        announced = list(self._announcements(text, windows))
        if announced:
            return self._last_word(text, announced)
        found = [one.ballot for one in self._places(text, windows)]
        if not found or _HEDGE in found:
            return ""
        if len(set(found)) == 1:
            return "" if _UNSURE.search(text) else found[0]
        return ""

    def _windows(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the ranges around mentions of an answer: nothing else is looked at closely."""
        start = end = -1
        for match in self._mention.finditer(text):
            if match.start() - BEFORE > end:
                if end >= 0:
                    yield start, end
                start = max(match.start() - BEFORE, 0)
            end = match.end() + AFTER
        if end >= 0:
            yield start, end

    def _last_word(self, text: str, announced: list[_Evidence]) -> str:
        """Return the conclusion of a text that announces one, or several of which the last takes back the others."""
        lines = [line for line in text.split("\n") if line.strip()]
        last = announced[-1]
        for line in (lines[0], lines[-1]) if len(lines) > 1 else ():
            alone = self._ballots.get(normalize(line))
            if alone and alone != last.ballot:
                return ""
        others = [one for one in announced[:-1] if one.ballot != last.ballot]
        if others:
            between = text[others[-1].end : last.end]
            if _FINAL.search(between) is None:
                return ""
        # "Wait, that's wrong. A." behind it.
        tail = _sentences(text[last.end :])
        if len(tail) > 1 and (ending := self._ballots.get(normalize(tail[-1]))) and ending != last.ballot:
            return ""
        return last.ballot

    def _announcements(self, text: str, windows: Sequence[tuple[int, int]]) -> Iterator[_Evidence]:
        """Yield the conclusions that a text announces, in their order; "" for a doubtful one."""
        found = [one for match in _within(self._announced, text, windows) for one in self._announcement(text, match)]
        for match in _within(self._right, text, windows):
            if not self._is_quoted(text, match.start()) and not _asks(text, match.end()):
                found.extend(self._called_right(text, match))
        return iter(sorted(found, key=lambda one: one.start))

    def _called_right(self, text: str, match: re.Match[str]) -> Iterator[_Evidence]:
        """Yield the choice that a text calls right: none of "both A and C are right", another of "not A is right"."""
        ballot = self._ballot(_word(match))
        before = text[max(match.start("word") - 40, 0) : match.start("word")]
        beside = self._beside.search(before)
        if beside and self._ballot(_word(beside)) != ballot:
            ballot = _HEDGE
        elif _DENIED.search(before) and not (ballot := self._other(ballot)):
            return
        yield _Evidence(match.start(), match.end(), ballot)

    def _announcement(self, text: str, match: re.Match[str]) -> Iterator[_Evidence]:
        ballot = self._ballot(_word(match))
        if match["ask"] or self._is_quoted(text, match.start(), match.end("cue")):
            return
        word = _word(match)
        if match["pronoun"] and not words.is_letter(word):
            return
        if (
            match["so"]
            and word.casefold() in words.WEAK
            and not re.match(r" ?(?:[.,!;。，]|$|\n)", text[match.end("word") :])
        ):
            return
        if match["hedge"]:
            other = self._ballot(_word(match, "other"))
            if other != ballot:
                yield _Evidence(match.start(), match.end(), self._or_denied(text, match))
                return
        if match["not"] or match["wrong"]:
            instead = self._but.match(text, match.end())
            ballot = self._ballot(_word(instead)) if instead else self._other(ballot)
            if not ballot:
                return
        yield _Evidence(match.start(), match.end(), ballot)

    def _or_denied(self, text: str, match: re.Match[str]) -> str:
        """Return the first of two choices where the second is denied at once: "B, and A is wrong"."""
        denied = re.match(words.WRONG, text[match.end() : match.end() + 40], re.IGNORECASE)
        return self._ballot(_word(match)) if denied else _HEDGE

    def _is_quoted(self, text: str, start: int, end: int | None = None) -> bool:
        before = text[max(start - 200, 0) : end or start]
        sentence = _CLAUSE.split(_SENTENCE_END.split(before)[-1])[-1]
        return _QUOTED.search(sentence) is not None

    def _places(self, text: str, windows: Sequence[tuple[int, int]]) -> Iterator[_Evidence]:
        """Yield what the text begins and ends with, what it replies to a question, and what it says its subject is."""
        asked = list(_within(self._asked, text, windows))
        for match in asked:
            ballot = self._ballot(_word(match))
            if _word(match).casefold() not in words.INTERJECTIONS:
                yield _Evidence(match.start(), match.end(), ballot if match["yes"] else self._other(ballot))
        if self._replied is not None and not asked:
            for match in _within(self._replied, text, windows):
                yield _Evidence(match.start(), match.end(), self._ballot(_word(match)))
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        starts = [self._begin(line) for line in lines]
        listed = len({start for start in starts if start}) > 1
        sentences = _sentences(text)
        if not listed and lines and not (asked and asked[0].start() < 20):
            if starts[0]:
                yield _Evidence(0, 0, starts[0])
            elif len(sentences) > 1 and (ending := self._begin(sentences[-1])):
                yield _Evidence(len(text), len(text), ending)
        if len(lines) > 1 and (alone := self._ballots.get(normalize(lines[-1])) or ("" if listed else starts[-1])):
            yield _Evidence(len(text), len(text), alone)
        yield from self._predicates(text, windows, {match.start() for match in asked})

    def _begin(self, text: str) -> str:
        """Return the ballot that a text begins with, "" for none and for two at once."""
        match = self._begins.match(text)
        if match is None:
            return ""
        word, ballot = _word(match), self._ballot(_word(match))
        rest = text[match.end() :]
        doubtful = (
            (word.casefold() in words.FILLERS and rest.strip(" .,!") != "")
            or (word.casefold() in words.WEAK and _GOES_ON.match(rest) is not None)
            or (match["hedge"] is not None and self._ballot(_word(match, "other")) != ballot)
            or _ASKS.match(rest) is not None
        )
        beside = self._listed.match(text, match.end()) if word.casefold() not in words.INTERJECTIONS else None
        if doubtful or (beside and not beside["wrong"] and self._ballot(_word(beside)) != ballot):
            return ""
        return self._other(ballot) if match["wrong"] else ballot

    def _predicates(self, text: str, windows: Sequence[tuple[int, int]], asked: set[int]) -> Iterator[_Evidence]:
        if self._predicate is None:
            return
        for match in _within(self._predicate, text, windows):
            word = _word(match)
            if match.start("word") in asked or self._is_quoted(text, match.start()) or _asks(text, match.end()):
                continue
            if match["verb"] and not word.casefold().endswith("s"):
                continue
            ballot = self._ballot(word)
            denied = match["not"] or match["bare"]
            if denied:
                ballot = self._other(ballot)
                if not ballot:
                    continue
            yield _Evidence(match.start(), match.end(), ballot)


def _plain(text: str) -> str:
    """Return the beginning and the end of a text without markup, full-width letters and runs of blanks."""
    if len(text) > HEAD + TAIL:
        text = text[:HEAD] + "\n" + text[-TAIL:]
    text = unwrap_latex(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if _MARKUP.search(text):
        text = _EMPHASIS.sub("", text)
    return _BLANKS.sub(" ", text).strip() if "  " in text or not text.isprintable() else text.strip()


def _within(pattern: re.Pattern[str], text: str, windows: Sequence[tuple[int, int]]) -> Iterator[re.Match[str]]:
    for start, end in windows:
        yield from pattern.finditer(text, start, end)


def _sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in _SENTENCE_END.split(text[-TAIL:]) if sentence.strip()]


def _asks(text: str, end: int) -> bool:
    """Whether the sentence that goes on here is a question."""
    rest = _SENTENCE_END.search(text, end, end + 200)
    return rest is not None and rest.group() in {"?", "？"}


def _is_reason(key: str) -> bool:
    return re.search(r"reason|expla|rational|thought|comment|confidence|score|analysis|justif|why", key) is not None


def _word(match: re.Match[str], name: str = "word") -> str:
    return match[name].replace("\n", " ")


def _braced(text: str, place: int) -> str:
    """Return what stands between the brace at a place and its partner, at most 500 characters, "" without a partner."""
    depth = 0
    for end in range(place, min(place + 500, len(text))):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return unwrap_latex(text[place + 1 : end]).strip()
    return ""
