"""What denies a conclusion in the clause before it, in English, German, French, Spanish and Chinese."""

from __future__ import annotations

import re

from tasks.parallel.votes.prose import clause_before

#: Whole texts that are an answer in other words.
DENIALS = {
    "yes": ("of course", "bien sûr", "por supuesto", "natürlich", "auf jeden fall"),
    "no": (
        "not at all", "not really", "by no means", "in no way", "never", "auf keinen fall", "keineswegs", "keinesfalls",
        "ganz und gar nicht", "überhaupt nicht", "pas du tout", "absolument pas", "certainement pas", "en absoluto",
        "de ninguna manera", "para nada", "claro que no",
    ),
}  # fmt: skip
#: Verbs that judge: what a person says, thinks, calls, or chooses.
_JUDGE = (
    r"(?:call(?:ed)?|consider(?:ed)?|deem(?:ed)?|say|said|think|believe|judged?|find|found|class(?:ify|ified"
    r"|ed)|describ\w+"
    r"|label+(?:ed)?|regard(?:ed)?|rated?|see|treat(?:ed)?|view(?:ed)?|flag(?:ged)?|mark(?:ed)?|categori[sz]ed?"
    r"|agree|claim"
    r"|argue|conclude|choose|pick|select|go (?:with|for)|vote for|answer|opt for|recommend|suggest|assume"
    r"|suppose|declare"
    r"|pronounce|prove|guarantee|imagine|allow|block)"
)
_WORDS = r"(?: [\w'’]+){0,6}?"
_DOUBTED = re.compile(
    rf"(?:\b(?:not|never|cannot|no(?:body| one)|none of us|hardly|barely|scarcely)|n['’]t){_WORDS} {_JUDGE}\b"
    r"|\b(?:doubt|unlikely|hardly|no way|not (?:true|the case)(?: that)?|disagree|fail(?:s|ed)? to see"
    r"|refuse[sd]? to|declined? to"
    r"|no (?:reason|need|cause|basis|evidence|grounds?|indication|sign|hint)(?: here)? (?:to|that|for|of|whatsoever)"
    r"|nothing (?:about|in|on|suggests|indicates|shows|makes|points)|(?:wrong|mistake|false|incorrect|error) to"
    r"|(?:cannot|can['’]?t|could(?: not|n['’]t)|should(?: not|n['’]t)) be)\b"
    r"|\b(?:under no circumstances|in no case|en aucun cas|en ningún caso|auf keinen fall)\b"
    r"|\b(?:avoid\w*|against|refrain from|stop short of) \w+ing\b"
    r"|\b(?:nicht|kaum|nie(?:mals)?|niemand|keinesfalls|keineswegs)\b(?: [\wäöüß]+){0,3}?,? "
    r"(?:für|als|dass|sagen|behaupten|nennen|bezeichnen|wählen)\b"
    r"|\b(?:glaube nicht|denke nicht|finde nicht|bezweifle|halte (?:das|es|dies|den \w+|die \w+) nicht"
    r"|falsch zu sagen)\b"
    r"|\b(?:ne |n['’])\w+ (?:pas|jamais|plus|guère|point)\b|\bfaux de\b|\bje doute\b"
    r"|\b(?:no|nunca|jamás|nadie|tampoco)(?: (?:se|me|lo|la|le|te|nos))?(?: puedo| puede| podría)?"
    r" (?:dir\w+|decir\w*|cre[oe]\w*|piens\w+|consider\w+|llam\w+|calific\w+|eleg\w+|elij\w+|clasific\w+)\b"
    r"|\bdudo que\b|我不认为",
    re.IGNORECASE,
)
#: The text leaves open what follows.
_OPEN = re.compile(
    r"\b(?:hesita\w+|reluctant|hard|difficult|tough|tricky|unsafe|unwise|naive|naïve|reckless|dangerous"
    r"|premature|foolish|absurd"
    r"|misleading|inaccurate|unfair|tempting|easy|stretch|schwer|schwierig|difficile"
    r"|difícil) (?:for \w+ )?(?:to|zu|de|decir|à)\b"
    r"|\bhesita\w+ to\b|\b(?:not|n['’]t|hardly|never) (?:\w+ )?(?:convinced|sure|certain|persuaded|confident)\b"
    r"|\bnot (?:everyone|everybody|all|many|always|necessarily)\b|\bonly an? \w+ (?:would|could)\b"
    r"|\blying if\b|\bnot? (?:only|just|merely)\b",
    re.IGNORECASE,
)
#: A denied doubt affirms.
_AFFIRMED = re.compile(
    r"\b(?:no|without(?: an?y?)?|little|beyond(?: an?y?)?|zero|any|kein(?:en|e)?|ohne|aucun|sans|sin|ninguna?|no hay)"
    r" (?:reasonable |real |jeden )?(?:doubts?|question|hesitation|zweifel|doute|duda)(?: about it| at all)?"
    r"|(?:\b(?:not|never)|n['’]t) (?:hesitate|doubt|hard|difficult|wrong|unreasonable|a stretch|disagree|fail"
    r"|unfair|an exaggeration)"
    r"(?: to)?|zweifellos|\bno dudo\b|\bne doute pas\b|\bcannot (?:help|but)\b",
    re.IGNORECASE,
)
#: A conclusion of its own begins.
_BEGINS = re.compile(
    r"[;:]|\b(?:so(?! far)|therefore|thus|hence|because|since|although|though|instead|daher|deshalb|weil|donc"
    r"|car|porque|así que)\b",
    re.IGNORECASE,
)


#: Behind a conclusion: to conclude it would be wrong.
_REJECTED = re.compile(
    r" (?:\w+ )?(?:is|was|would be|seems|ist|wäre|est|serait|es|sería) (?:\w+ ){0,2}"
    r"(?:mistake|wrong|false|misleading|error|naive"
    r"|lie|falsch|fehler|faux|erreur|falso)\b",
    re.IGNORECASE,
)


def is_rejected(text: str, end: int) -> bool:
    """Whether the words behind a conclusion reject it: "to call this safe is a mistake"."""
    return _REJECTED.match(text, end) is not None


def doubts(text: str, end: int) -> bool | None:
    """Whether the clause that goes on at a place denies what follows; None where it leaves that open.

    A comma between a denial and what follows leaves it open, and so do two denials.
    """
    clause = _BEGINS.split(_AFFIRMED.sub(" ", clause_before(text, end)))[-1]
    if _OPEN.search(clause):
        return None
    found = list(_DOUBTED.finditer(clause))
    if not found:
        return False
    behind = clause[found[-1].end() :]
    return None if len(found) > 1 or "," in behind else True
