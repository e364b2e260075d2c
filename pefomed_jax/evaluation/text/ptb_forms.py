"""The forms of words that `ptb` knows: what each begins with, looks like, and is followed by."""

import functools
import re
from typing import NamedTuple

# Symbols that are words by themselves; any other character is dropped and cuts a word.
_SYMBOLS = (
    "$%&*+/<=>@\\\\\\^_`|~#()\\[\\]{}¡¢-©¬®-´¶-¹¼-¿×÷;·฿‖‗‚„†-•‰-‸※‾-⁂⁰⁴-⁾₀-₎₤€℀℁℃-℆℈℉℔№-℘℞-℣℥℧℩℮"
    "℺℻⅀-⅄⅊-⅍⅏⅓-⅞←-⯿、。〒・！-／：-＠［-｀｛-･￠￡￥￦\x80\x96\x97–—―…₠"
)

# Words that keep their full stop: in any case; capitalised only; before numbers only.
_ABBREVIATIONS = (
    "jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue|tues|wed|thu|thurs|fri|ala|ariz"
    "|calif|colo|conn|ct|dak|fla|ga|ind|kans?|ky|md|mich|minn|mo|mont|neb|nev|okla|penn|tenn|va|vt"
    "|wisc?|wyo|inc|cos?|corp|pp?t[ye]s?|ltd|plc|rt|bancorp|dept|bhd|assn|univ|intl|sys|tel|est|ext"
    r"|sq|jr|bros|ed\.d|ph\.d|blvd|rd|esq|etc|al|seq|bldg"
)
_TITLES = (
    "mr|mrs|ms|drs?|profs?|sens?|reps?|attys?|lt|col|gen|messrs|govs?|adm|rev|maj"
    "|sgt|cpl|pvt|capt|ste?|ave|pres|lieut|hon|brig|co?mdr"
    "|pfc|spc|supts?|det|mt|ft|adj|adv|asst|assoc|ens|insp|mlle|mme|msgr|sfc|sr|invt|elec|natl|m[ft]g"
    r"|vs|alex|wm|jos|cie|a\.k\.a|cf|treas|ph"
)
_CAPITALISED = (
    "A(?i:rk|z)|D(?i:el)|I(?i:ll)|L(?i:a)|M(?i:ass|iss)|O(?i:re)|P(?i:a)|T(?i:ex)|W(?i:ash)"
)
_BEFORE_NUMBERS = "ca|figs?|prop|nos?|arts?|bldg|pp|op"
# Before these a letter with a full stop ends its sentence: "type B. There is".
_STARTERS = (
    "A(?i:|bout|ccording|dditionally|fter|n|s|t)|B(?i:ut)|E(?i:arlier)|H(?i:e|er|ere|owever)"
    r"|I(?i:f|n|t)|L(?i:ast)|M(?i:any|ore|r\.|s\.)|N(?i:ow)|O(?i:nce|ne|ther|ur)"
    "|S(?i:he|ince|o|ome|uch)|T(?i:hat|he|heir|hen|here|hese|hey|his)|W(?i:e|hen|hile|hat)"
    "|Y(?i:et|ou)"
)

_BLANK = r"[ \t\xa0\u2000-\u200a\u3000]"
_GAP = r"[ \t\xa0\u2000-\u200a\u3000\n]"
_LETTER = r"(?:(?![_²³¹¼-¾⁰-₎⅐-↋①-⯿])[^\W\d]|[\xad\u0300-\u036f])"
_EITHER, _ALNUM, _ALPHA = rf"(?:\d|{_LETTER})", "[A-Za-z0-9]", "[A-Za-z]"
_APOS, _ANY_APOS = "(?:['’\x92]|&apos;)", "(?:['’\x92`‘‛\x91]|&apos;)"
_QUOTE = "['’\x92&]"
_SHORT = rf"{_APOS}(?i:[msd]|re|ve|ll)"  # patient's, they're
_WORD = rf"{_LETTER}{_EITHER}*(?:[.!?]{_LETTER}{_EITHER}*)*"
_NUMBER = r"(?:\d*(?:[.:,\xad٫٬]\d+)+|\d+)"
_COUNTRY = r"(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-U\.K"
_HYPHENED = rf"{_ALNUM}[A-Za-z0-9.,\xad]*"
_HYPHENED += rf"(?:-(?:(?:{_ALPHA}(?:\.{_ALPHA})+|{_COUNTRY})\.|[A-Za-z0-9\xad]+))+"
_SLASHED = rf"{_ALNUM}+(?:-{_ALPHA}+){{0,2}}"
_ELIDED = rf"(?:[dDoOlL]{_ANY_APOS}{_EITHER})?"
_JOINED = rf"{_ELIDED}{_EITHER}+(?:[-_֊‐‑]{_ELIDED}{_EITHER}+)*"
_ENDINGS = (
    "bat|bmp|c|class|cgi|cpp|dll|docx?|exe|gif|gz|h|html?|jar|java|jpe?g|mov|mp3|pdf|php|pl|png"
    "|ppt|ps|py|sql|tar|txt|wav|x|xml|zip|wp3"
)
_NAME = r"[A-Za-z][A-Za-z0-9_:.-]*"
_VALUE = rf"""[ ]*=[ ]*(?:'[^'\n]*'|"[^"\n]*"|{_NAME})"""
_TAG = rf"<(?:[!?][A-Za-z-][^>\n]*|/{_NAME}|{_NAME}(?:[ ]+{_NAME}(?:{_VALUE})?)*[ ]*/?)[ ]*>"
_NO_URL = r""" \t\n\f\r"<>|(){}"""  # no address holds these, or ends with a mark
_PATH = rf"(?:/[^{_NO_URL}]+[^{_NO_URL},.!?-])?"


class Form(NamedTuple):
    """One kind of words."""

    first: re.Pattern[str]  # of the character it begins with
    pattern: re.Pattern[str]  # its first group is the word, the rest its context
    needs: str  # what it cannot be without
    quotes: bool  # its quotes are put out as those of the Treebank


def _form(first: str, word: str, then: str = "", needs: str = "", quotes: bool = False) -> Form:
    return Form(re.compile(first), re.compile(f"({word}){then}"), needs, quotes)


_FORMS = (
    _form(_LETTER, _WORD, _SHORT),
    _form(_LETTER, r"[A-Za-z\xad]*[A-MO-Za-mo-z]\xad*", rf"[nN]{_ANY_APOS}[tT]"),
    _form(_LETTER, _WORD),
    # apostrophes inside and at either end
    _form(_LETTER, rf"[lLdDjJ]{_APOS}|(?i:dunkin|somethin|ol){_APOS}"),
    _form(_LETTER, rf"[A-HJ-XZn]{_ANY_APOS}{_LETTER}{{2,}}"),
    _form(_LETTER, rf"{_LETTER}+[aeiouyAEIOUY]{_ANY_APOS}[aeiouA-Z]{_LETTER}*"),
    _form(_LETTER, r"(?i:cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l|cap'n|c'est)"),
    _form(_QUOTE, rf"{_APOS}(?i:n{_APOS}?|em|[2-9]0s|till?|cause)"),
    _form("'", "'(?i:twas|tis)"),
    _form("[yY]", rf"[yY]{_APOS}", _LETTER),
    _form(_QUOTE, _SHORT, "[^A-Za-z]", quotes=True),
    _form("'", "'", r"[A-Za-z][^ \t\n\xa0]"),
    _form(_QUOTE, _SHORT, quotes=True),
    _form("'", "''"),
    _form("[nN]", rf"[nN]{_ANY_APOS}[tT]", "[^A-Za-z]", quotes=True),
    _form(_QUOTE, rf"{_APOS}\d\d", _GAP),
    _form("[`‘-‟‹›«»\x91-\x94]", "[`‘-‟‹›«»\x91-\x94]{1,2}", quotes=True),
    # addresses
    _form(_ALPHA, rf"(?:ftp|svn|https?|mailto)://[^{_NO_URL}]+[^{_NO_URL},.!?-]", needs="://"),
    _form("[wW]", rf"(?i:www)\.(?:[^{_NO_URL},.!?]+\.)+[a-zA-Z]{{2,4}}{_PATH}", needs="."),
    _form(r"[^\s.]", rf"(?:[^{_NO_URL}!`',-_$]+\.)+(?i:com|net|org|edu){_PATH}", needs="."),
    _form(
        rf"[<&]|{_ALNUM}",
        rf"(?:&lt;|<)?{_ALNUM}[^{_NO_URL}\xa0]*@(?:[^{_NO_URL}.\xa0]+\.)*[^{_NO_URL}.\xa0]+(?:&gt;|>)?",
        needs="@",
    ),
    _form("@", "@[a-zA-Z_][a-zA-Z_0-9]*"),
    _form("#", rf"\#{_LETTER}+"),
    # numbers
    _form(r"\d", r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}"),
    _form(r"[-+.:,\d]", rf"[-+]?{_NUMBER}"),
    _form(r"\d", r"(?:\d{1,4}[- \xa0])?\d{1,4}(?:\\?/|⁄)\d{1,4}"),
    _form("[⁰¹²³⁴-⁹⁺⁻]", "[⁺⁻]?[⁰¹²³⁴-⁹]+"),
    _form("[₀-₉₊₋⁺⁻]", "[⁺⁻₊₋]?[₀-₉]+"),
    _form("[A-Z$]", r"[A-Z]*\$"),
    _form(_ALPHA, r"(?i:c\.d\.s|pro-|anti-|s(?:&amp;|&)p-500|s(?:&amp;|&)ls|c\+\+|[cf]\#)"),
    _form("-", "-(?i:[rl][rcs]b)-"),
    _form(_ALNUM, rf"{_SLASHED}(?:\\?/{_SLASHED}){{1,2}}", needs="/"),
    _form("[A-Z]", "[A-Z]+(?:(?:&amp;|[+&])[A-Z]+)+"),
    # full stops that stay, or do not
    _form(_ALPHA, _ALPHA, rf"\.{_GAP}+(?:{_STARTERS})(?:{_BLANK}|[?!\n])", needs="."),
    _form(_ALPHA, rf"(?:{_ALPHA}(?:\.{_ALPHA})*|{_COUNTRY})\.", needs="."),
    _form(_ALPHA, rf"(?i:{_BEFORE_NUMBERS})\.", rf"{_GAP}?\d", needs="."),
    _form(_ALPHA, rf"(?:(?i:{_ABBREVIATIONS})|{_CAPITALISED})\.", r"(?:[^\n][^\n])?", needs="."),
    _form(_ALPHA, rf"(?i:{_TITLES})\.", needs="."),
    _form(_EITHER, rf"{_EITHER}+(?:\.{_EITHER}+)*\.(?i:{_ENDINGS})", rf"(?:{_GAP}|[.?!,])", "."),
    _form(_LETTER, rf"{_WORD}\.", "[,;:、]", "."),
    # telephones
    _form(
        r"[(+\d]",
        r"(?:\(\d{2,3}\)[ \xa0]?|(?:\+\+?)?(?:\d{2,4}[- \xa0])?\d{2,4}[- \xa0])"
        r"\d{3,4}[- \xa0]?\d{3,5}",
    ),
    _form(r"[+\d]", r"(?:(?:\+\+?)?\d{2,4}\.)?\d{2,4}\.\d{3,4}\.\d{3,5}", needs="."),
    # tags, entities, faces
    _form("<", _TAG, needs=">"),
    _form("&", "&(?:amp|lt|gt|quot|MD|mdash|ndash|HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);"),
    _form("[<>:;=]", r"[<>]?[:;=][-o*']?[()DPdpO\\{@|[\]]", "[^A-Za-z0-9]"),
    _form("[-^x=~<>']", r"[-^x=~<>']_[-^x=~<>']|[\^x=~<>]\.\[\^x=~<>]"),
    _form(r"\(", r"\((?:[-^x=~<>'][_.]?[-^x=~<>']|[\^x=~<>']-[\^x=~<>'`])\)", needs=")"),
    # what is left
    _form("[<>]", "<<|>>"),
    _form("[-.]", r"-+|\.{3,}"),
    _form("[@#_*?!]", r"@+|\#+|_+|\*+|[?!]+"),
    _form(r"\\", r"(?:\\\*){1,3}"),
    _form(_ALNUM, _HYPHENED, needs="-"),
    _form(_ALNUM, rf"{_HYPHENED}\.", "[,;:、]", "-"),
    _form(_EITHER, _JOINED),
    _form(_EITHER, rf"{_JOINED}\.", "[,;:、]", "."),
    _form(f"[{_SYMBOLS}]", f"[{_SYMBOLS}]"),
)

# Letters between blanks, with at most a mark after them: no form but the word's own can be longer.
PLAIN = re.compile(
    rf"(?!(?i:{_ABBREVIATIONS}|{_TITLES}|{_CAPITALISED}|{_BEFORE_NUMBERS})\.)"
    r"([A-Za-z]{2,})(?=[.,;:]?[ \n])"
)


@functools.cache
def beginning_with(first: str) -> tuple[Form, ...]:
    """The forms that can begin with a character, in their order."""
    return tuple(form for form in _FORMS if form.first.fullmatch(first))
