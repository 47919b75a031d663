"""Whether a text is written in a script or a language that no example is written in."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Languages"]

#: Letters of a text that are looked at: the first so many say what it is written in.
LETTERS = 1_000
#: Words of a text that are looked at.
WORDS = 300
#: A language counts as one of the examples' if it has this share of the function words found in them.
SHARE_OF_EXAMPLES = 0.1
#: Function words of a foreign language that a text must have at least …
LEAST_HITS = 2
#: … and how many times those of any language of the examples: titles and quotations are foreign, too.
FOREIGN_FACTOR = 2

#: Function words, the commonest of each language in running text, less those that are English words as well.
_FUNCTION_WORDS = {
    "English": "the of and to in is it you that for on with are this be at have from or what how my your can "
    "do not when where which will would could should there please i me we they if a an",
    "German": "der die das und ist ich nicht ein eine einen mit auf für wie sich dem den von zu es wird "
    "kann mein meine bitte wann wo warum habe haben sind im auch wir sie",
    "French": "le la les des est je un une et que pour dans qui vous mon ma mes comment quel quelle avec "
    "sur du pas ce au nous quand où pourquoi puis ai ne",
    "Spanish": "el los las que es una por para con mi mis cómo qué cuál cuándo dónde está puedo del se "
    "quiero hay tengo su al y un lo",
    "Italian": "il lo gli che è una per con mio mia come quando dove perché sono posso della di del nel "
    "questo vorrei ho non si ed",
    "Portuguese": "os uma que é para com meu minha como quando onde por não você está posso dos da em um eu "
    "qual ao quero tenho e",
    "Dutch": "het een en van ik is niet mijn voor met hoe wat waar kan dat op te zijn wanneer heb naar "
    "deze aan ook wij",
    "Polish": "nie jest jak czy się na mój moje moja w z do mogę gdzie kiedy proszę dlaczego że co mam dla jestem",
    "Swedish": "och är det att jag inte hur vad var kan min mitt på en ett med för som när har om av till",
    "Danish": "og er det at jeg ikke hvordan hvad hvor kan min mit på en et med som når har om af til",
    "Finnish": "on ja ei minun miten mitä missä voinko se että kuinka milloin ole mikä olen onko minä",
    "Czech": "je jak na se kde kdy můj moje co mohu prosím proč že pro jsem nebo jsou mám si",
    "Romanian": "este și pe cum unde când meu mea pentru care nu sunt pot din să ce cu vreau am",
    "Hungarian": "az egy hogyan nem mi hol mikor és van hogy kell az én meg kérem miért lehet",
    "Turkish": "bir ve bu nasıl ne için nerede benim mı mi değil var çok neden olarak ile da",
    "Indonesian": "yang dan di saya apa bagaimana untuk tidak dengan ini itu dari ke bisa adalah kapan mana",
    "Vietnamese": "là của tôi không và có cho được làm thế nào gì ở khi một các này bao",
}
_LANGUAGES_OF: dict[str, tuple[str, ...]] = {}
for _language, _words in _FUNCTION_WORDS.items():
    for _word in _words.split():
        if _language not in _LANGUAGES_OF.get(_word, ()):
            _LANGUAGES_OF[_word] = (*_LANGUAGES_OF.get(_word, ()), _language)

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Languages:
    """What the examples are written in. `languages` is empty where they hold too little running text to tell."""

    scripts: frozenset[str]
    languages: frozenset[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Languages:
        scripts: Counter[str] = Counter()
        languages: Counter[str] = Counter()
        for text in texts:
            scripts.update(_scripts(text))
            languages.update(_languages(text))
        least = SHARE_OF_EXAMPLES * max(languages.values(), default=0)
        return cls(frozenset(scripts), frozenset(name for name, hits in languages.items() if hits > least))

    def foreign(self, text: str) -> str:
        """What `text` is written in if no example is, as the end of a sentence (``German``), else an empty string.

        A script is foreign if most letters of the text are of it and no example has one. A language is if the text
        holds two of its function words or more, and over twice as many as of any language of the examples.
        """
        scripts = _scripts(text)
        own = sum(letters for script, letters in scripts.items() if script in self.scripts)
        if scripts and own * 2 < scripts.total():
            script = scripts.most_common(1)[0][0]
            return "Chinese or Japanese" if script == "CJK" else f"{script.capitalize()} letters"
        if not self.languages:
            return ""
        hits = _languages(text)
        known = max((hits[name] for name in self.languages), default=0)
        strange, most = max(((name, hits[name]) for name in hits if name not in self.languages),
                            key=lambda item: item[1], default=("", 0))  # fmt: skip
        return strange if most >= LEAST_HITS and most > FOREIGN_FACTOR * known else ""


def _scripts(text: str) -> Counter[str]:
    """Letters of each script among the first of `text`."""
    found: Counter[str] = Counter()
    for letter in islice(filter(str.isalpha, text), LETTERS):
        found["LATIN" if letter < "\u0250" else _script(letter)] += 1
    return found


@lru_cache(maxsize=8_192)
def _script(letter: str) -> str:
    """The first word of its name: CYRILLIC, ARABIC, CJK. Japanese mixes kana and Han: they are one script."""
    name = unicodedata.name(letter, "UNKNOWN").split()[0]
    return "CJK" if name in {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"} else name


def _languages(text: str) -> Counter[str]:
    """Distinct function words of each language among the first words of `text`."""
    folded = unicodedata.normalize("NFC", text[: WORDS * 20]).casefold()
    words = {match[0] for match in islice(_WORD.finditer(folded), WORDS)}
    return Counter(language for word in words for language in _LANGUAGES_OF.get(word, ()))
