r"""The one reader of a choice: which of the possible answers a text concludes.

Evidence comes in ranks: an answer in a mark of its own (`\boxed{B}`, JSON, `<answer>`), then what the text announces
("the answer is B"), then what it begins or ends with, and what it says its subject is ("this is not safe"). Evidence of
one rank that contradicts itself abstains, unless the text takes the earlier one back. A mention is no evidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from tasks.contract.answer import NotJSON, parse_answer
from tasks.contract.reasoning import split_reasoning
from tasks.parallel.votes import choice_words as words
from tasks.parallel.votes.choice_denials import DENIALS, doubts, is_rejected
from tasks.parallel.votes.choice_patterns import ChoicePatterns, Evidence
from tasks.parallel.votes.normalize import normalize
from tasks.parallel.votes.prose import (
    TAIL,
    clause_before,
    is_question,
    matches_within,
    plain_text,
    sentences,
    within_braces,
)

#: Answers that patterns are compiled for; of more, those that a text mentions.
MOST_ANSWERS = 40
#: Characters of a text that may be a mere list of answers.
SHORT = 200
_BOXED = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,3}\{")
_GOES_ON = re.compile(r" (?:as|for|is|with|that|i|me|but)\b", re.IGNORECASE)
_ASKS = re.compile(r" ?[^.!\n]{0,80}\?")
_IF = re.compile(words.IF, re.IGNORECASE)
_MODAL = re.compile(r"\b(?:should|must|ha(?:s|ve) to|needs? to|ought to|will) be\b", re.IGNORECASE)
_NEGATIVE = re.compile(r"\b(?:no|not|never|nothing|without)\b|n['’]t\b", re.IGNORECASE)
_FOLLOWS = re.compile(words.FOLLOWS, re.IGNORECASE)
_ENDS = re.compile(r" ?(?:[.,;)\n]|$|and\b|or\b|&)")
_DENIED = re.compile(rf"{words.NEGATION} $", re.IGNORECASE)
_QUOTED, _FINAL, _UNSURE = (re.compile(form, re.IGNORECASE) for form in (words.QUOTED, words.FINAL, words.UNSURE))
#: Characters around a mention in which its announcement stands.
BEFORE, AFTER = 120, 100
#: Two conclusions that contradict each other.
_HEDGE = ""


def read_choice(text: str, answers: Sequence[str] | Mapping[str, str]) -> str:
    """Return the one of `answers` that a text concludes, in its normalized form, "" if it concludes none.

    A mapping gives the ballot of each answer, where several mean the same. Answers of two ballots exclude each other:
    "not safe" is the other one. Pure; reads the beginning and the end of long prose.
    """
    ballots = dict(answers) if isinstance(answers, Mapping) else {answer: normalize(answer) for answer in answers}
    _, text = split_reasoning(text)
    text = text.strip()
    distinct = tuple(dict.fromkeys(ballots.values()))
    if len(ballots) > MOST_ANSWERS:
        folded = plain_text(text).casefold()
        ballots = {answer: ballot for answer, ballot in ballots.items() if normalize(answer) in folded}
    if not 0 < len(ballots) <= MOST_ANSWERS:
        return ""
    return _reader(tuple(ballots.items()), distinct).read(text)


@lru_cache(maxsize=256)
def _reader(ballots: tuple[tuple[str, str], ...], distinct: Sequence[str]) -> _ChoiceReader:
    return _ChoiceReader(dict(ballots), distinct)


class _ChoiceReader:
    """Reads texts for one set of answers."""

    def __init__(self, ballots: Mapping[str, str], distinct: Sequence[str]) -> None:
        self._ballots = {normalize(answer): ballot for answer, ballot in ballots.items()}
        for answer, others in words.SYNONYMS.items():
            if answer in self._ballots:
                for other in others:
                    self._ballots.setdefault(other, self._ballots[answer])
        #: The words of an answer that are one only as the whole text, or as a sentence of a frame.
        self._whole = {
            phrase: self._ballots[answer]
            for answer, phrases in DENIALS.items()
            if answer in self._ballots
            for phrase in phrases
        }
        self._distinct = distinct
        self._given = tuple(ballots)

    @cached_property
    def _forms(self) -> ChoicePatterns:
        """Compiled for the first answer in prose: that takes a tenth of a second, and most ballots are a word."""
        answers = (*self._given, *self._ballots)
        known = dict.fromkeys(form for answer in answers for form in (answer.strip(), normalize(answer)) if form)
        return ChoicePatterns(list(known), several=len(self._given) > 4)

    def read(self, text: str) -> str:
        if len(text) <= 500 and (whole := self._read_whole(text)) is not None:
            return whole
        if "{" in text and (found := self._read_json(text)) is not None:
            return found
        if "\\" in text and (boxed := self._read_boxed(text)):
            return boxed
        plain = plain_text(text)
        if len(plain) <= 500 and (whole := self._read_whole(plain)) is not None:
            return whole
        return self._read_prose(plain)

    def _read_whole(self, text: str) -> str | None:
        """Return the ballot of a text that is an answer: "B", "Not at all.", "It's a no from me."."""
        plain = normalize(text)
        whole = self._ballots.get(plain)
        if whole is None and len(plain) <= SHORT:
            framed = words.FRAMED.fullmatch(plain)
            whole = self._ballots.get(framed["word"]) if framed else self._whole.get(plain)
        return whole

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
        found = {self._ballots.get(normalize(key.removeprefix("is_"))) and self._value_ballot(inner, key)
                 for key, inner in lowered.items() if isinstance(inner, bool)} - {"", None}  # fmt: skip
        if len(found) == 1:
            return str(found.pop())
        for key in words.KEYS:
            if key in lowered and (ballot := self._value_ballot(lowered[key], key)):
                return ballot
        if any(key in lowered for key in words.KEYS[:6]):
            return ""
        others = {
            self._value_ballot(inner, key) for key, inner in lowered.items() if not words.REASON_KEY.search(key)
        } - {""}
        return others.pop() if len(others) == 1 else ""

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
        content = within_braces(text, last.end() - 1)
        return self._ballot(content) or self._begin(plain_text(content)) if content else ""

    # -- prose -------------------------------------------------------------------------------------

    def _read_prose(self, text: str) -> str:
        windows = list(self._windows(text))
        if not windows or (len(text) < SHORT and self._only_lists(text)):
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

    def _only_lists(self, text: str) -> bool:
        """Whether a text is nothing but several answers: "A. B. C. D."."""
        named = {_word(match).casefold() for match in self._forms.mention.finditer(text)}
        return (
            len({self._ballot(word) for word in named}) > 1
            and not named & words.WEAK
            and not re.search(r"\w", self._forms.mention.sub("", text))
        )

    def _windows(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the ranges around mentions of an answer: nothing else is looked at closely."""
        start = end = -1
        for place in sorted(self._mentions(text)):
            if place - BEFORE > end:
                if end >= 0:
                    yield start, end
                start = max(place - BEFORE, 0)
            end = place + AFTER
        if end >= 0:
            yield start, end

    def _mentions(self, text: str) -> Iterator[int]:
        """Yield where an answer is mentioned: substrings first, since the pattern takes longer on each character."""
        lowered = text.lower()
        if len(lowered) != len(text):
            yield from (match.start() for match in self._forms.mention.finditer(text))
            return
        for word in self._forms.first_words:
            place = lowered.find(word)
            while place >= 0:
                if self._forms.mention.match(text, place):
                    yield place
                place = lowered.find(word, place + 1)

    def _last_word(self, text: str, announced: list[Evidence]) -> str:
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
        tail = sentences(text[last.end :])
        if len(tail) > 1 and (ending := self._ballots.get(normalize(tail[-1]))) and ending != last.ballot:
            return ""
        return last.ballot

    def _announcements(self, text: str, windows: Sequence[tuple[int, int]]) -> Iterator[Evidence]:
        """Yield the conclusions that a text announces, in their order; "" for a doubtful one."""
        found = [
            one
            for match in matches_within(self._forms.announced, text, windows)
            for one in self._announcement(text, match)
        ]
        found += [
            Evidence(match.start(), match.end(), self._ballot(_word(match, "other")))
            for match in matches_within(self._forms.instead, text, windows)
        ]
        for match in matches_within(self._forms.right, text, windows):
            if not self._is_quoted(text, match.start()) and not is_question(text, match.end()):
                found.extend(self._called_right(text, match))
        return iter(sorted(found, key=lambda one: one.start))

    def _called_right(self, text: str, match: re.Match[str]) -> Iterator[Evidence]:
        """Yield the choice that a text calls right: none of "both A and C are right", another of "not A is right"."""
        if "would" in match.group() and _IF.match(text, match.end()):
            return
        ballot = self._ballot(_word(match))
        before = text[max(match.start("word") - 40, 0) : match.start("word")]
        beside = self._forms.beside.search(before)
        if beside and self._ballot(_word(beside)) != ballot:
            ballot = _HEDGE
        elif _DENIED.search(before) and not (ballot := self._other(ballot)):
            return
        yield Evidence(match.start(), match.end(), ballot)

    def _announcement(self, text: str, match: re.Match[str]) -> Iterator[Evidence]:
        ballot, doubt = self._ballot(_word(match)), doubts(text, match.end("cue"))
        denied = match["not"] or match["wrong"]
        if self._is_no_announcement(text, match):
            return
        if match["hedge"] and self._ballot(_word(match, "other")) != ballot:
            yield Evidence(match.start(), match.end(), self._or_denied(text, match))
            return
        if self._lists_another(text, match.end("word"), ballot):
            ballot = _HEDGE
        elif doubt is None or (doubt and denied) or (not denied and is_rejected(text, match.end("word"))):
            return
        elif denied or doubt:
            instead = self._forms.but.match(text, match.end())
            ballot = self._ballot(_word(instead)) if instead else self._other(ballot)
            if not ballot:
                return
        yield Evidence(match.start(), match.end(), ballot)

    def _is_no_announcement(self, text: str, match: re.Match[str]) -> bool:
        """Whether an announcement asks, quotes, is bound to a condition, or its word has another meaning there."""
        word = _word(match)
        return bool(
            match["ask"]
            or self._is_quoted(text, match.start(), match.end("cue"))
            or (match["pronoun"] and not words.is_letter(word))
            or (word.casefold() in words.WEAK and not _FOLLOWS.match(text, match.end("word")))
            or (re.search("would|wäre|serait|sería", match["cue"]) and _IF.match(text, match.end()))
        )

    def _lists_another(self, text: str, end: int, ballot: str) -> bool:
        """Whether a comma and another choice follow, and then nothing of its own: "A, C"."""
        beside = self._forms.listed.match(text, end) if text.startswith((",", " ,"), end) else None
        return (
            beside is not None
            and not beside["wrong"]
            and _ENDS.match(text, beside.end()) is not None
            and self._ballot(_word(beside)) != ballot
        )

    def _or_denied(self, text: str, match: re.Match[str]) -> str:
        """Return the first of two choices where the second is denied at once: "B, and A is wrong"."""
        denied = re.match(words.WRONG, text[match.end() : match.end() + 40], re.IGNORECASE)
        return self._ballot(_word(match)) if denied else _HEDGE

    def _is_quoted(self, text: str, start: int, end: int | None = None) -> bool:
        return _QUOTED.search(clause_before(text, end or start)) is not None

    def _places(self, text: str, windows: Sequence[tuple[int, int]]) -> Iterator[Evidence]:
        """Yield what the text begins and ends with, what it replies to a question, and what it says its subject is."""
        asked = list(matches_within(self._forms.asked, text, windows))
        if self._forms.keyed is not None:
            asked += matches_within(self._forms.keyed, text, windows)
        for match in asked:
            ballot = self._ballot(_word(match))
            if _word(match).casefold() not in words.INTERJECTIONS:
                yield Evidence(match.start(), match.end(), ballot if match["yes"] else self._other(ballot))
        if self._forms.replied is not None and not asked:
            for match in matches_within(self._forms.replied, text, windows):
                yield Evidence(match.start(), match.end(), self._ballot(_word(match)))
        yield from self._edges(text, asked)
        for match in matches_within(self._forms.closing, text, windows):
            letter = match["is"] is None or words.is_letter(_word(match))
            if letter and not self._is_quoted(text, match.start()) and doubts(text, match.start("word")) is False:
                yield Evidence(match.start(), match.end(), self._ballot(_word(match)))
        for match in matches_within(self._forms.ordered, text, windows):
            ballot = self._ballot(_word(match))
            if not self._is_quoted(text, match.start()) and not _NEGATIVE.search(clause_before(text, match.start())):
                denied = match["not"] or match["never"]
                yield Evidence(match.start(), match.end(), self._other(ballot) if denied else ballot)
        yield from self._predicates(text, windows, {match.start() for match in asked})

    def _edges(self, text: str, asked: Sequence[re.Match[str]]) -> Iterator[Evidence]:
        """Yield the answers that a text begins and ends with, unless its lines list the answers."""
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        starts = [self._begin(line) for line in lines]
        listed = len({start for start in starts if start}) > 1
        all_sentences = sentences(text)
        if not listed and lines and not (asked and asked[0].start() < 20):
            if starts[0]:
                yield Evidence(0, 0, starts[0])
            elif len(all_sentences) > 1 and (ending := self._begin(all_sentences[-1])):
                yield Evidence(len(text), len(text), ending)
        if len(lines) > 1 and (alone := self._ballots.get(normalize(lines[-1])) or ("" if listed else starts[-1])):
            yield Evidence(len(text), len(text), alone)

    def _begin(self, text: str) -> str:
        """Return the ballot that a text begins with, "" for none and for two at once."""
        match = self._forms.begins.match(text)
        if match is None:
            return ""
        word, ballot = _word(match), self._ballot(_word(match))
        rest = text[match.end() :]
        doubtful = (
            (word.casefold() in words.FILLERS and rest.strip(" .,!") != "")
            or (word.casefold() in words.WEAK - words.INTERJECTIONS and _GOES_ON.match(rest) is not None)
            or (match["hedge"] is not None and self._ballot(_word(match, "other")) != ballot)
            or _ASKS.match(rest) is not None
        )
        beside = self._forms.listed.match(text, match.end()) if word.casefold() not in words.INTERJECTIONS else None
        if doubtful or (beside and not beside["wrong"] and self._ballot(_word(beside)) != ballot):
            return ""
        return self._other(ballot) if match["wrong"] else ballot

    def _predicates(self, text: str, windows: Sequence[tuple[int, int]], asked: set[int]) -> Iterator[Evidence]:
        if self._forms.predicate is None:
            return
        for match in matches_within(self._forms.predicate, text, windows):
            word = _word(match)
            if match.start("word") in asked or self._is_quoted(text, match.start()) or is_question(text, match.end()):
                continue
            if match["verb"] and not word.casefold().endswith("s"):
                continue
            if _MODAL.search(match.group()) and not re.search(r"ed\b", match.group()):
                continue
            ballot = self._ballot(word)
            doubted = doubts(text, match.start() if match["not"] or match["bare"] else match.start("word"))
            if doubted is None:
                continue
            if (match["not"] or match["bare"]) and (doubted or match["joined"]):
                continue
            if match["not"] or match["bare"] or doubted:
                ballot = self._other(ballot)
                if not ballot:
                    continue
            yield Evidence(match.start(), match.end(), ballot)


def _word(match: re.Match[str], name: str = "word") -> str:
    return match[name].replace("\n", " ")
