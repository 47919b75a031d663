"""The words around a choice, in English, German, French, Spanish and Chinese: they announce, deny, doubt, quote it.

Each is a regular expression of fixed size. Blanks are one space: texts are read with collapsed blanks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

#: The same answer in other words. Only an answer of the job has synonyms, and only words that are no answer themselves.
SYNONYMS = {
    "yes": ("ja", "oui", "sí", "yeah", "yep", "yup", "是的", "是", "true"),
    "no": (
        "nein",
        "non",
        "nope",
        "不是",
        "否",
        "false",
        "no way",
        "absolutely not",
        "definitely not",
        "certainly not",
        "of course not",
    ),
}
#: Answers that reply to a question, and say nothing where a sentence holds them ("there is no …").
INTERJECTIONS = {"yes", "no", *SYNONYMS["yes"], *SYNONYMS["no"], "si", "ok", "okay", "none", "0", "1", "是", "否"}
#: Answers that are common words of other meanings: "it is clear that", "allow me", "pass".
WEAK = INTERJECTIONS | {"clear", "pass", "flag", "block", "reject", "accept", "allow", "true", "false", "not"}
#: Fillers at the beginning of a text.
FILLERS = {"ok", "okay", "right", "sure", "well"}
#: A sentence around an answer that replies: "it's a no from me".
FRAMED = re.compile(
    r"(?:it['’]?s|it is|that['’]?s|that is|this is|(?:that|this|it) would be|das ist|c['’]est|es) (?:an? |ein |un )"
    r"(?:clear |hard |firm |definite |resounding |solid |klares |clair )?(?P<word>\w+)(?: from me| for me| von mir)?"
)
YES = r"(?:yes|yep|yeah|ja|oui|sí|是的|是|correct|indeed|true|i (?:think|believe|guess|would say|['’]d say) so)"
NO = (
    r"(?:i (?:do not|don['’]t|wouldn['’]t|would not) (?:think|believe|say) so|hardly|no|nope|nein|non|not|never"
    r"|不是|否|不|false)"
)

#: Keys of a JSON answer that hold no choice.
REASON_KEY = re.compile(r"reason|expla|rational|thought|comment|confidence|score|analysis|justif|why")
#: Keys of a JSON answer that hold the choice, the likeliest first.
KEYS = (
    "final_answer", "answer", "verdict", "label", "choice", "decision", "classification", "category", "class",
    "prediction", "conclusion", "result", "selected", "option", "output", "response", "value", "antwort", "réponse",
    "respuesta", "答案",
)  # fmt: skip
_NOUNS = (
    r"(?:answer|ans\.?|verdict|conclusion|decision|classification|label|rating|prediction|judge?ment|assessment"
    r"|choice|option"
    r"|category|selection|pick|vote|outcome|determination|class|sentiment|winner|result|response"
    r"|antwort(?:option)?|lösung|urteil|ergebnis|entscheidung|réponse|conclusion|choix|verdict|résultat|décision"
    r"|respuesta|conclusión|veredicto|opción|resultado|decisión)"
)
_COPULA = (
    r"(?:is|was|are|would be|must be|should be|has to be|will be|lautet|ist|wäre|est|serait|es|sería|=|:|：|->|→|⇒)"
)
_ADVERBS = (
    r"(?:(?:clearly|therefore|thus|hence|definitely|most|likely|probably|indeed|simply|also|that|this|it|is|in fact"
    r"|actually|still|just|a|an|the|to be|very|quite|ultimately|mostly|rather|mainly|generally|largely|strongly"
    r"|slightly|somewhat|du|de la|des|completely|perfectly|certainly|obviously|entirely|totally|highly"
    r"|considered|classified|rated|labell?ed|marked|as|overall|extremely|really|clear|option|choice|answer"
    r"|letter|label"
    r"|candidate|statement|response|category|correct|right|daher|also|eindeutig|klar|wohl|ein|eine|option"
    r"|antwort|donc"
    r"|clairement|bien|un|une|la|le|l'|option|réponse|claramente|una|opción|respuesta|sehr|très|muy|选项|明显|显然"
    r"|很)[ :]?){0,4}"
)
#: Signs around a choice.
WRAP = r"""["'“”‘’«»„‚()\[\]{}【】「」《》<>#|:： -]{0,6}"""
NEGATION = (
    r"(?:not|never|neither|isn['’]?t|aren['’]?t|wasn['’]?t|cannot be|can['’]?t be|nicht|keine?[nmrs]?|keinesfalls"
    r"|n['’]est pas|pas|no es|tampoco|不是|并非|不|非)"
)
#: Before a choice: it is the conclusion.
CUES = (
    rf"\b{_NOUNS},?(?: (?!is\b|ist\b|est\b|es\b)[\w'’,()]{{1,20}}){{0,6}}? ?{_COPULA} ?{_ADVERBS}"
    rf"|\b(?:final|correct|best|my|right|richtige|finale|finale|bonne|correcta|final) {_NOUNS} "
    r"|(?:答案|结论|结果|判断|回答|选项|正确选项|类别|分类)(?:应该|应当|应)?(?:是|为|：|:|选)? ?(?:选项)?"
    r"|(?:应选|故选|所以选|因此选|我选择?|选择|选) ?(?:选项)?(?:是|：|:)? ?"
    r"|\b(?:choose|choosing|pick|picking|select|selecting|vote for|voting for|go with|going with|opt for|settle on"
    r"|(?:corresponds?|corresponding|points?|leads?(?: us)?|belongs?|goes|assign(?:ed)?|rout(?:ed?)) to|matches"
    r"|supports"
    r"|send (?:this|it|the \w+) to|call (?:this|it|the \w+)|prefer|left with|(?:i|we) (?:think|believe|guess|suspect"
    r"|reckon|conclude)|leaning towards|my vote goes to|classify (?:this|it"
    r"|the \w+) as|label (?:this|it|the \w+) as|rate (?:this|it) as"
    r"|(?:classified|categori[sz]ed|labell?ed|flagged|marked|rated) as|falls? (?:under|into)|say it(?:['’]s| is)"
    r"|consider (?:this|it|that|the)(?: \w+)?"
    r"|i(?:['’]d)? say"
    rf"|i would say|wähle|entscheide mich für|nehme|choisis|opte pour|elijo|escojo|opto por) {_ADVERBS}"
    r"|(?P<so>(?:^|[.,;:!?\n。，；] ?)(?:and |but )?(?:so|thus|therefore|hence|ergo|consequently|overall|in conclusion"
    r"|in summary|in short"
    r"|to sum up|conclusion|also(?=[ ,:]+(?:ist|die|das|der|option|antwort|(?-i:[A-Z])\b))|daher|somit|folglich"
    r"|deshalb|insgesamt|donc|ainsi|en conclusion|par conséquent"
    r"|por (?:lo )?tanto|así que|en conclusión|因此|所以|故|综上|综上所述|总之)[,:，：]? ?"
    r"(?:it(?:['’]s| is| must be)|this is|that is"
    rf"|that leaves|we get|i choose|es ist|c['’]est|es|是)? ?{_ADVERBS})"
    rf"|(?P<pronoun>\b(?:it|this|that|correct one|right one|best one)(?: is|['’]s| must be| has to be"
    rf"| should be) {_ADVERBS})"
    r"|\b(?:leaves|leaving)(?: us)?(?: only| just| with)? "
    r"|(?:→|->|=>|⇒) ?|####? ?|\[\[ ?|【 ?"
    r"|<(?:answer|final_answer|final|output|response|verdict|label|result|choice)>\s{0,3}"
)
#: Behind a choice: it is the conclusion, or it is ruled out.
RIGHT = (
    r" ?(?:is|are|seems|looks|would be|has to be|must be|to be|ist|est|es|是) ?(?:therefore |thus |clearly |indeed "
    r"|definitely |also |hence |then |daher |donc |la |le |das |die )?(?:the |my )?(?:correct|right|best|better|true"
    r"|answer|only correct|only one|final|winner|the one|most (?:appropriate|accurate|suitable|plausible|likely"
    r"|relevant"
    r"|logical)|richtig|korrekt|correcte?|bonne|correct[ao]|verdadera|对的?"
    r"|正确)"
)
WRONG = (
    r" ?(?:is|are|was|can be|ist|est|es|是)? ?(?:therefore |thus |clearly |also )?(?:not|isn['’]t|cannot be"
    r"|can['’]t be"
    r"|incorrect|wrong|false|out|ruled out|eliminated|invalid|impossible|falsch|nicht|faux|fausse|incorrect[ao]"
    r"|fals[ao]"
    r"|不对|错误?|不正确)"
)
#: Between a subject and a word of the answers, which is then what the subject is.
PREDICATE = (
    r"(?:\b(?:is|are|was|were|['’]s|['’]re|can be(?= \w+ed\b)|(?:should|must|has to|have to|needs to|need to"
    r"|ought to|will|can safely) be"
    r"|seems|appears|looks|sounds|remains|contains|constitutes|counts as|qualifies as|considered|deemed|muss|sollte"
    r"|ist|sind|bleibt|est|sont|doit être|es|son|está|debe ser)|(?:是|属于|为|有|应该?|应当|应被|包含|构成))"
)
#: Before a word: it is denied.
NEGATED = (
    r"(?:\b(?:by no means|in no way|nothing|keineswegs|keinesfalls|kaum|nichts|rien de|nada|not|never|no longer"
    r"|no|without|far from|anything but|(?:would|could|can|do|does)(?: ?not"
    r"|n['’]t) (?:call|consider"
    r"|regard|describe|deem|label|find)(?: this| it| that| the \w+)?|isn['’]?t|aren['’]?t|wasn['’]?t|does(?: ?not"
    r"|n['’]t) (?:contain|include"
    r"|constitute|seem|appear|look)|(?:should|must|can|need|does|do)(?: ?not|n['’]t)"
    r"(?: needs? to| have to)? be|cannot be|neither|nor|hardly|keine?[nmrs]?|nicht|n['’]est pas|pas|ne doit pas être"
    r"|aucune?|no es"
    r"|no|sin|ni"
    r"|ningun[ao]?|ningún)|(?:不是|没有|并非|不应|不该|无|不|非|未))"
)
BETWEEN = rf" ?(?:{_ADVERBS}|(?:any|in|signs? of|evidence of|content that is|de|d['’]) ?)"
#: It is no conclusion where these stand before it in its sentence.
QUOTED = (
    r"\b(?:some|many|most people|others?|people|one|you|they|critics|students?|the user|he|she|everyone|users?)"
    r" (?:might |may |could |would |often |usually |always |wrongly |tend to |just |sometimes )?(?:call|calls"
    r"|consider|considers|describe|label|say|says|think"
    r"|thinks|claim|claims|argue|argues|believe"
    r"|believes|answered|said"
    r"|expect|expects|guess|assume|pick|picks|choose|chooses|select|selects|prefer|go for|go with)\b|\b(?:if|unless"
    r"|suppose|assuming|wenn|falls|si)\b[^.!?]{0,80}\b(?:would|were"
    r"|wäre|serait|sería)\b"
    r"|\b(?:if|unless|until|once|wenn|falls|si|cuando)\b[^,.;]{0,60}$|如果[^，]{0,40}$"
    r"|\b(?:claim|idea|notion|assertion|belief|hypothesis|myth) (?:that|is that)\b"
    r"|\b(?:could|might|may|könnte|pourrait|podría)(?: also| well| possibly| perhaps)* (?:be|sein|être|ser)\b"
    r"|\bwould be\b[^.!?]{0,40}\bif\b"
    r"|\b(?:whether|ask(?:s|ed)? if)\b|可能|也许"
)
#: A condition behind a conclusion.
IF = r"[^.!?\n]{0,60}\b(?:if|unless|only when|wenn|falls|si)\b|[^。]{0,30}如果"
#: What may follow a word that a sentence says of its subject: "a spam filter" is no spam.
SAID = (
    r"(?= ?[.,;:!)\]\n\"'“”’»–—。，；！、）-]| ?$|[\u4e00-\u9fff]"
    r"| (?:because|since|as|due|for|and|or|but|to|under|by|in|with|at|on|of"
    r"|per|given|here|overall|content|messages?|emails?|reviews?|sentiment|posts?|comments?|text|tone|material"
    r"|language|about"
    r"|towards?|not|so|then|which|despite|although|though|while|when|even|also|too|either|according|regardless"
    r"|rather|weil|und"
    r"|aber|für|car|et|mais|pour|porque|y|pero|para|now|according|this|it|that|the)\b)"
    r"(?! (?:is|are) (?:wrong|false|incorrect|not|untrue|misleading)\b| (?:to say|to assume|side|bet|than|or)\b)"
)
#: Words before a reply at the beginning of a sentence.
OPENERS = (
    r"(?:(?:absolutely|unfortunately|definitely|certainly|indeed|probably|most likely|surely|obviously|i think"
    r"|i believe|sadly|clearly|simply|hmm+|well|honestly|actually"
    r"|of course"
    r"|short answer|in short|so|then|my verdict|natürlich|leider|klar|bien sûr|malheureusement|claro|por supuesto|当然)"
    r"[,:—–-]? ?){0,2}"
)
#: What takes an earlier conclusion back, or says that this is the last.
FINAL = (
    r"\b(?:final|finally|so|thus|therefore|hence|actually|wait|but|however|correction|instead|sorry|rather|overall|no"
    r"|in conclusion|on second thought|corrected|mistake|revis\w+|reconsider\w*|changed?|endgültig|doch|finalement"
    r"|en fait"
    r"|mais|pero|finalmente|en realidad|moment|attends)\b|最终|不对|其实|所以|因此|更正"
)
#: Between two choices: neither is chosen.
OR = (
    r",? ?(?:but also|or|and|oder|und|ou|et|o|y|or maybe|or perhaps|as well as|/|&|或者?|和|、) ?"
    r"(?:maybe |perhaps |possibly |option |choice )?"
)
UNSURE = (
    r"\b(?:not sure|unsure|uncertain|cannot (?:decide|determine|tell|say|be determined)|can['’]t (?:decide|determine"
    r"|tell|say)|unable to"
    r"|don['’]t know|no idea|hard to say|impossible to (?:say|tell|determine)|undecided|it depends|depends on"
    r"|weiß nicht"
    r"|nicht sicher|je ne sais pas|no estoy segur[ao]|no sé)\b|不确定|不知道|无法(?:判断|确定)"
)
#: What may follow a word at the beginning of a text that is an answer.
FOLLOWS = (
    r"(?: ?[.,;:!()\[\]|<\"'”’»|\n–—。，；：！、）】-]| ?$"
    r"| (?:because|since|as|due|at all|overall|for|given|it|this|that|the|there|you|i|he|she|they|we|with|but|is the"
    r"|is correct|is right|is my|(?:sentiment|tone|content|message|review|text|post|comment|email)(?=[.!]?$)|weil"
    r"|denn|da|car|parce|puisque|porque|ya que|因为)\b)"
)


def is_letter(word: str) -> bool:
    """Whether an answer is a single letter."""
    return len(word) == 1 and word.isascii() and word.isalpha()


def is_strong(answer: str, *, several: bool) -> bool:
    """Whether a sentence that says this of its subject chooses the answer; of few answers also true and false."""
    truth = not several and answer.casefold() in {"true", "false"}
    return len(answer) > 1 and (truth or answer.casefold() not in WEAK)


def alternatives(answers: Sequence[str], *, name: str = "word") -> str:
    """Return a pattern of answers as separate words, the longest first; "" for none.

    A single letter is a capital, or a small one that a sign follows: "a bird" does not name A.
    """
    forms: list[str] = []
    named: dict[tuple[str, str], list[str]] = {}
    for answer in sorted(set(answers), key=len, reverse=True):
        plain = unicodedata.normalize("NFKC", answer)
        if is_letter(plain):
            after = (
                r"(?=[ ]?[^\w\s'’-]|\s*$|\n| (?:because|since|is|as|for|or|and|but|nor|weil|car|porque|oder|und|ou"
                r"|et|o|y|sondern|mais|sino)\b)"
                if plain in "aAiI"
                else ""
            )
            forms.append(f"(?-i:{plain.upper()}){after}(?!['’]|[a-zA-Z0-9_])")
            forms.append(rf"(?-i:{plain.lower()})(?=[ ]?[^\w\s'’-]|\s*$)")
            continue
        pattern = r"\s".join(map(re.escape, plain.split()))
        before = r"(?<![a-zA-Z0-9_À-ɏ-])" if plain[:1].isascii() or plain[:1] < "ɏ" else ""
        after = r"(?![a-zA-Z0-9_À-ɏ])(?![.,]\d)" if plain[-1:].isascii() or plain[-1:] < "ɏ" else ""
        named.setdefault((before, after), []).append(pattern)
    # Forms with the same neighbours share them: that halves the time to compile. Letters are the shortest.
    forms = [f"{before}(?:{'|'.join(group)}){after}" for (before, after), group in named.items()] + forms
    boundary = r"(?<![a-zA-Z0-9_À-ɏ'’])"
    return (
        f"{boundary if any(is_letter(answer) for answer in answers) else ''}(?P<{name}>{'|'.join(forms)})"
        if forms
        else ""
    )
