r"""Plain sentences: which ones state one result though they neither conclude ("So ...") nor name it ("The total ...").

Knows: "The train travels for 3 hours.", "12 students passed.", and sentences of the same form that only recall, count
or tell a part: "Each box holds 6 eggs.", "The first train travels 60 miles."; results in words ("so it is odd").
Does not know: which sentence of a text counts, doubts and conditions (``conclusions``). Linear in the text.
"""

from __future__ import annotations

import re

from oreo_envs.grading.words import spoken

_PART = (
    r"(?:first|second|third|fourth|last|next|each|every|other|others|another|one|half|rest|original|initial|old"
    r"|given|denominator|numerator|discriminant|left|right|former|latter|previous|following|above|same"
    r"|only|whole|step|case|rule|question|problem|formula|theorem)\b"
)
_OTHER_START = (
    r"(?:The|This|That|These|Those|His|Her|Their|Its|Our|My|Your|We|I|You|Someone|Nobody|Each|Every|All"
    r"|Both|Some|Any|An?|One|Another|Half|Twice|Thrice|Double|Triple|Last|Most|Many|Few|Step|Case|Part"
    r"|Add|Let|Find|Note|Recall|Use"
    r"|Using|For|From|In|On|At|By|To|With|Of|Per|After|Before|During|Since|When|While|If|As|What|Which|Who|How|Why|Here"
    r"|Given|Let's|Check|Try|Also|Next|Then|Now|First|Second|Third|Again|Similarly|Similar|Initially|Originally"
    r"|Yesterday|Today|Suppose|Assume|Consider|Figure|Table|Page|Line|Equation|Problem|Question|Example"
    r"|Rule|Method|January|February|March|April|May|June|July|August|September|October"
    r"|November|December|Week|Profit)\b"
)
_WORDS = r"(?:[\w'$-]+\s)"
_SUBJECT = (
    rf"(?:(?:the|this|that|his|her|their|its|our|my|your)\s(?!{_PART}){_WORDS}{{1,7}}?"
    rf"|(?-i:[A-Z][a-z]+ing)\s{_WORDS}{{0,5}}?(?=(?:takes?|took|costs?|requires?|required|will\stake)\s)"
    rf"|(?:it|he|she|they|there|this|that|one|you(?=\s(?:will|can|have|get|need|would))|we(?=\s(?:need"
    rf"|can)\s)|(?-i:[a-zA-Z])(?=\s(?:is|equals)))\s|(?-i:(?!{_OTHER_START})(?:(?:Mrs?|Dr"
    rf"|Ms)\.\s)?[A-Z][a-z]+)(?:\s(?:and|or)\s(?:(?:his|her|their)\s)?[\w'-]+)?"
    rf"(?:'s?\s{_WORDS}{{1,4}}?|\s(?:(?:together|both|now|then|also|still|only|just|alone|therefore|thus"
    rf"|hence|actually)\s){{0,2}}))"
)
_TELLS = (
    r"(?:is|are|was|were|equals|will|can|would|should|has|have|had|gets?|got|took|takes?|made|makes?|paid"
    r"|spent|sold|bought|ran|ate"
    r"|cost|left|drove|won|lost|gave|need|earn|pay|spend|sell|buy|read|run|travel|meet|finish|receive|owe|weigh|hold"
    r"|brought|came|kept|grew|fell|rose|held|went|drank|wrote|built|caught|found|lent|met|put|rode|swam"
    r"|threw|began|broke"
    r"|chose|did|drew|fed|flew|grew|hit|knew|led|lay|saw|sent|set|shot|slept|spread|stood|taught|told|wore"
    r"|add|sum|differ|amount|come|equal|remain|exist|number|live|share|total|intersect|cross|carry|contain|must"
    r"|[a-z]{2,}(?:[^s\W]s|ed))\s"
)
_TOLD_BY_OTHERS = re.compile(
    r"\b(?:(?<!equal )(?<!comes )(?<!amounts )(?<!up )(?<!sums )(?<!evaluates )(?<!simplifies )(?<!reduces )(?<!rises )"
    r"(?<!falls )(?<!drops )(?<!increases )(?<!decreases )(?<!sum )(?<!come )(?<!amount )(?<!out )to"
    r"|depends?|claim(?:s|ed)?|says?|said|thinks?|thought|guess(?:es|ed)?|asks?|asked|wants?|wanted"
    r"|supposed"
    r"|expect(?:s|ed)?|hope[sd]?|wish(?:es|ed)?|plans?|seems?|appears?|involves?|divides?|called|named"
    r"|(?:multiple|factor|divisor)\sof|estimate|guess|bound|attempt|assumption|condition|mistake|error"
    r"|case|steps?|(?:start(?:s|ed)?|began|begins?)\s(?:out\s)?with|other\s(?:two|three|four)"
    r"|answer(?!\s(?:is|will|comes|equals|turns)\b)"
    r"|contradicts?|exceeds?|wrong(?:ly)?|too)\s",
    re.IGNORECASE,
)
_BEFORE = re.compile(rf"\W*{_SUBJECT}{_TELLS}{_WORDS}{{0,8}}?\$?", re.IGNORECASE)
_AFTER_LABEL = re.compile(
    r"\b(?:step|case|part|page|room|figure|chapter|day|year|number|grade|table|equation|line|question|problem|until|per"
    r"|from|than|(?<!creased )(?<!creases )(?<!dropped )(?<!rose )(?<!fell )(?<!grew )(?<!differ )by|the"
    r"|these|those|first|last|next|every|each|times|mod|modulo|add|subtract|type|version|level|row"
    r"|column|gate|bus|group|team|player|all|other|remaining|another)\s+\W?$",
    re.IGNORECASE,
)
_FACT = re.compile(r"\W*there\sare\s\S+\s(?:[a-z]+\s){1,3}?in\s(?:an?|one|each|every)\s", re.IGNORECASE)
_BEFORE_NOW = re.compile(
    r"\b(?:at first|initially|originally|beforehand|yesterday|earlier|previously)\b", re.IGNORECASE
)
_PLACED = re.compile(
    r"\b(?:(?:is|are|was|were|be|been)(?:\s(?!(?:set|left|up|down)\b|\w+ed\b)\w+){0,2}|liv(?:es?|ed)|st(?:ands?|ood)|sits?|sat"
    r"|stay(?:s|ed)?|works?|worked|lies?|lay|wait(?:s|ed)?|vote[sd]?|look(?:s|ed)?)"
    r"\s(?:at|on|in|for|from|with|like|as|among|through|against)\s\W?$",
    re.IGNORECASE,
)
_WITH = re.compile(r"\bwith\s+\W?$")
_ENDS = re.compile(r"\b(?:ends?|ended|left|finish\w*|leaves)\b")
_SHARE = re.compile(
    r"\W*(?:each|every)\s(?:of\s)?(?:[\w']+\s){1,3}?(?:(?:will|would)\s)?(?:gets?|got|receives?"
    r"|received)\s(?:an?\s\w+\sof\s)?\$?",
    re.IGNORECASE,
)
_INTRO = re.compile(
    r"(?:After|By|Combined|Together|Adding|Subtracting|Multiplying|Dividing|Using|With|Once|Counting|Overall|On|At|Over"
    r"|During|Given\sthese|Given\sthis|When\sall\sis\ssaid\sand\sdone|Simplifying|Solving|From"
    r"|All\sin\sall)\b(?![^,]*\b(?:case|step|part|first|one|each|every|if|when|another|other|start"
    r"|beginning|outset|problem|question)\b)[^,.\d]{0,80},\s"
    r"(?:we\s(?:can\s)?(?:see|find|know|have|conclude)\s(?:that\s)?)?"
    r"|(?:Over|In|At|By|During|On|After|Within)\s(?:the|this|that|a|one)\s(?:(?!case|step|part|first|next"
    r"|start|beginning|outset|problem|question)[a-z]+\s){1,4}?(?=(?:he|she|it|they)\s)"
    r"|By\s(?:symmetry|inspection|counting|calculation|hand)\s"
)
_COUNT_FIRST = re.compile(
    r"\W*(?:(?:Only|Exactly|Just)\s)?\$?\d[\d,]*(?:\.\d+)?%?\s(?!(?:is|are|was|were|has|does|can|will"
    r"|would|divides|equals|works|satisfies|means|gives)\b)[a-z]+\s(?!too\b)"
)
_RUNS = re.compile(r"[A-Za-z]+(?:[-\s][A-Za-z]+)*")
_FRACTION = (
    r"(?:one|two|three|four|five|six|seven|eight|nine)[\s-](?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth"
    r"|tenth|half)s?"
)
_NUMBER_WORD = re.compile(
    rf"\b(?:{_FRACTION}|"
    r"(?:one|two|three|four|five|six|seven|eight|nine)\s(?:hundred|thousand|million)|two|three|four"
    r"|five|six|seven|eight"
    r"|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty)\b",
    re.IGNORECASE,
)
_SHARED = re.compile(
    rf"\W*{_FRACTION}\sof\s(?:the|this|that|these|those|all|them|his|her|its|our|their)\s(?!remaining\s|{_PART})",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"(?!(?:of(?! (?:them|these|those)\b)|is|are|was|times|plus|minus|and|or)\b)(?:(?!\b(?:is|are|was"
    r"|were)\b)[a-z'-]++\s?){0,6}"
)
_SAID = re.compile(
    r".*\b(?:is|are|was|were|be|equals)\s+(?:(?:an?|the|on)\s+)?([A-Za-z][\w'-]*(?:\s[A-Za-z][\w'-]*){0,2})[.!]?",
    re.IGNORECASE | re.DOTALL,
)
_OPTION = re.compile(
    r"\W*(?:(?:option|choice|answer|statement)\s)?\(?([A-J])\)?\s(?:is|must\sbe)\s(?:correct|right"
    r"|the\s(?:correct|right|best)\s\w+)\W*"
)
_SUPERLATIVE = re.compile(
    r"\W*([A-Z][a-z]+)\s(?:is|was|has|had|finished|will\sbe)\sthe\s(?:(?:[a-z]+\s)?[a-z]+est|most|least"
    r"|winner|first|last|only)\b[^,;]*"
    r"|\W*([A-Z][a-z]+)\s(?:won|wins|will\swin|(?:came|comes|finished|arrived|arrives)\sfirst)\b[^,;]*"
)
_DOES = re.compile(r".*\s((?:con|di)verges)[.!]?", re.IGNORECASE | re.DOTALL)


def is_declared(sentence: str, number: re.Match[str]) -> bool:
    """Whether a sentence tells the one number that it holds as a fact of its own."""
    before = sentence[: number.start()]
    if re.sub(r"Only|Exactly|Just", "", before).strip(" *$") == "":
        return _COUNT_FIRST.match(sentence) is not None
    if _BEFORE_NOW.search(sentence) or (_WITH.search(before) and not _ENDS.search(before)):
        return False
    if _FACT.match(sentence) or _AFTER_LABEL.search(before) or _TOLD_BY_OTHERS.search(before):
        return False
    return (_BEFORE.fullmatch(before) or _SHARE.fullmatch(before)) is not None


def names_a_place(before: str, after: str) -> bool:
    """Whether a bare number after these words says where, for what or like what something is: "It is at 7."."""
    return re.search(r"\w", after) is None and _PLACED.search(before) is not None


def without_intro(sentence: str) -> str:
    """Without the words before the comma that say how or where: "After the sale, Ann has 6 pens."."""
    intro = _INTRO.match(sentence)
    return sentence if intro is None else sentence[intro.end() :][:1].upper() + sentence[intro.end() + 1 :]


def in_digits(sentence: str) -> str:
    """A sentence with its number in words as a digit."""
    return _NUMBER_WORD.sub("7", sentence)


def said_in_words(clause: str) -> str:
    """The number in words, or the property, that a clause without digits states, or ""."""
    first = _NUMBER_WORD.search(clause)
    if first is not None:
        run = _RUNS.match(clause, first.start())
        found = spoken(run[0]) if run else None
        if (
            run is None
            or found is None
            or _NUMBER_WORD.search(found[1])
            or _AFTER_LABEL.search(clause, 0, first.start())
        ):
            return ""
        shared = _SHARED.match(clause, first.start()) is not None
        if re.match(_FRACTION, first[0], re.IGNORECASE) and found[1].startswith(("of ", "off")) and not shared:
            return ""
        ends = clause[run.end() :].strip(" .!*") == "" and (shared or _COUNTED.fullmatch(found[1]) is not None)
        begins = clause[: first.start()].strip(" *") == "" and _COUNT_FIRST.match(in_digits(clause)) is not None
        return run[0][: len(run[0]) - len(found[1])].strip() if ends or begins else ""
    if option := _OPTION.fullmatch(clause):
        return option[1]
    if first_of := _SUPERLATIVE.fullmatch(clause):
        return first_of[1] or first_of[2]
    said = _SAID.fullmatch(clause) or _DOES.fullmatch(clause)
    return said[1] if said and not re.search(r"\b(?:one|of|as|in|the same)\b", said[1], re.IGNORECASE) else ""
