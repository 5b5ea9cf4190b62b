"""What Korean says for numbers, counters, dates, units, symbols and English.

Particles stay as written: "AWS은" keeps its 은. A number before a counter takes the series that the counter wants (세 개, 삼 년).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from museserve.speech.text import korean_numbers
from museserve.speech.text.hanja import HANJA, read_hanja
from museserve.speech.text.latex import plain_formula
from museserve.speech.text.rewrite import Finder, Rule, rewrite
from museserve.speech.text.tables import table
from museserve.speech.text.transliterate import LETTERS, is_spelled, say_identifier, say_letters, say_word

_SAID: dict[str, dict[str, str]] = table("normalize_ko")
_UNITS, _CURRENCIES, _SYMBOLS, _PER = _SAID["units"], _SAID["currencies"], _SAID["symbols"], _SAID["per"]
_PARTICLES = (
    "은는이가을를과와의에로도만",
    "에서 으로 부터 까지 보다 이나 이고 이며 이라 라고 이라고 처럼 마다 에게 에는 에도 에서는 으로는 로는 보다는 까지는 부터는 이면 이라면 라면 "
    "입니다 이에요 예요 이죠 인가요 일까요 인데 인지 이지만 하고 씩 만큼 정도로 이상은 이랑 랑".split(),
)
_IS_PARTICLE = frozenset(_PARTICLES[0]).union(_PARTICLES[1])
_PARTICLE_RUN = re.compile(rf"(?:{'|'.join(sorted(_IS_PARTICLE, key=len, reverse=True))})[{_PARTICLES[0]}]?")

_NUM = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_START = r"(?<![\d.])"
# What must not follow a native counter, or it is another word: 3개월, 4대 보험, 5달러.
_NOT_BEFORE = {
    "개": "[월국년]",
    "명": "령",
    "번": "[지호]",
    "대": " ?(?:보험|원칙|요소|특성|장점|핵심|주요|과제|전략|도시|기업)|\\d",
    "달": "러",
    "시": "[스리그]",
    "배": "[포열]",
    "장": "점",
    "건": "[물강]",
    "통": "신",
    "권": "한|에서?(?![가-힣])|부터|까지|의",  # the volumes of a work
    "병": "[렬합]",
    "판": "[매단]",
    "편": "집",
    "팀": "장",
    "벌": "금",
    "부분": "적",
}
_COUNTERS = "|".join(
    counter + (f"(?!{_NOT_BEFORE[counter]})" if counter in _NOT_BEFORE else "")
    for counter in sorted(korean_numbers.NATIVE_COUNTERS, key=len, reverse=True)
)
# What may follow a counter that stands apart from its number: else it is the beginning of another word, as in "Java 8 개발".
_AFTER_COUNTER = "씩 째 쯤 정도 이상 이하 미만 간 동안 중 만에 짜리 들 당 가량 전 후 내 마다 안 반 이었 였 입 인 이라 이나 이든 입니".split()
_COUNTER_ENDS = rf"(?![가-힣])|(?=(?:{'|'.join(sorted({*_AFTER_COUNTER, *_PARTICLES[0], *_PARTICLES[1]}, key=len, reverse=True))}))"
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_PER_UNIT = rf"(?:/(?P<per>{'|'.join(sorted(_PER, key=len, reverse=True))})(?![A-Za-z]))?"
# Units that are no word and no letter without a number either: 몇 mg, 단위는 km.
_BARE_UNIT = "|".join(re.escape(unit) for unit in sorted((unit for unit in _UNITS if unit not in _SAID["ambiguous"]), key=len, reverse=True))
_SPEEDS = {"km/h": "시속", "m/s": "초속", "km/s": "초속"}
_DEGREES = {"℃": "섭씨 ", "°C": "섭씨 ", "℉": "화씨 ", "°F": "화씨 "}
_DATED = r"(?:\s?\((?P<weekday>[월화수목금토일])(?:요일)?\))?"
_MEMORIAL = "절|전쟁|혁명|운동|민주|항쟁|사태|쿠데타|광복|선언|사변|군사|참사|계엄|정신|의거|기념"
_MEMORIALS = {"3·1", "4·3", "4·16", "4·19", "5·16", "5·18", "6·10", "6·15", "6·25", "7·4", "8·15", "9·11", "10·26", "10·29", "12·3", "12·12"}
_PRESSURE = re.compile(r"(?:혈압|BP)[^\d]{0,12}$")
_NUMBERED = re.compile(r"(?:문제|질문|문항|선택지|보기|포트|출구|항목|예제|슬라이드|노드|서버)\s?$")
_NAMED_VERSION = re.compile(r"(?:Java|iOS|Android|Windows|Vue|React|Angular|Spring|Node|Python|자바|파이썬|안드로이드|윈도우)\s$", re.I)
_NUMBERS = re.compile(r"번\s?(?:오류|에러|코드|상태|응답|문제|질문|문항|선택지|출구|버스|포트|선수|항목|슬라이드|예제|노드|서버)")
_VERSIONED = re.compile(
    r"(?:버전|파이썬|자바|노드|루비|파이토치|텐서플로|Python|Java|Node(?:\.js)?|Ruby|Go|PyTorch|TLS|HTTP|PHP|Kotlin|Spring Boot)\s?$", re.I
)
_SECRET = re.compile(
    r"(?:비밀번호|인증\s?번호|일련\s?번호|등록번호|우편번호|사번|학번|수험번호|접수번호|송장\s?번호|PIN)(?:[은는이가]|\s[앞뒷]자리|:)?\s?$"
)
_JAMO = dict(
    zip(
        "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ",
        "기역 쌍기역 니은 디귿 쌍디귿 리을 미음 비읍 쌍비읍 시옷 쌍시옷 이응 지읒 쌍지읒 치읓 키읔 티읕 피읖 히읗".split(),
        strict=True,
    )
)
_COMPANIES = {"주": "주식회사", "유": "유한회사", "사": "사단법인", "재": "재단법인"}
_ORDINALS = "첫 둘 셋 넷 다섯 여섯 일곱 여덟 아홉".split()
NAMED_CHARS = 16  # before a number that are looked at for what it is a number of
_HANGUL_RUN = re.compile(r"[가-힣]+")
_MAGNITUDE = re.compile(r"(?:십|백|천)?(?:만|억|조)|천(?![가-힣]*터)|백(?![가-힣]*[엔업])")
_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξοπρστυφχψω",
        "알파 베타 감마 델타 엡실론 제타 에타 세타 이오타 카파 람다 뮤 뉴 크사이 오미크론 파이 로 시그마 타우 입실론 파이 카이 프사이 오메가".split(),
        strict=True,
    )
)
_FORMULA = re.compile(r"log|sqrt|[A-Za-z]+|\d+(?:\.\d+)?|\^\(?\w+\)?|[²³√!*+/-]")
_FORMULA_SIGNS = {"²": "제곱", "³": "세제곱", "√": "루트", "!": "팩토리얼", "*": "", "+": "플러스", "-": "마이너스", "/": "나누기"}


def plain_latin(text: str) -> str:
    """Accented Latin letters without their accent and every script's digits as 0-9, one character for each."""
    if text.isascii():
        return text
    return "".join(char if char < "\x80" or "가" <= char <= "힣" else _plain_char(char) for char in text)


def _plain_char(char: str) -> str:
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    if "₀" <= char <= "₉":
        return str(unicodedata.digit(char))
    if "Ⅰ" <= char <= "ⅿ" or "\u3200" <= char <= "\u33ff" or char == "ℓ":  # numbers, and signs that have a reading of their own
        return char
    folded = unicodedata.normalize("NFKD", char)[0]
    return folded if folded.isascii() and folded.isalpha() else char


def korean_rules(known: Callable[[str], str | None]) -> tuple[Finder, ...]:
    """`known`: the lexicon's reading of a term, or None."""
    any_sign = "|".join(re.escape(sign) for sign in sorted(_SYMBOLS, key=len, reverse=True))
    return (
        Rule("address", r"https?://[^\s가-힣]+|www\.[^\s가-힣]+|[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", lambda m: _address(m, known), re.ASCII),
        Rule(
            "complexity",
            r"(?<![A-Za-z0-9])O ?\((?P<of>[^()\n가-힣]{1,40}(?:\([^()\n가-힣]{0,20}\)[^()\n가-힣]{0,20})?)\)",
            lambda m: "오 " + _formula(m["of"]),
        ),
        Rule("formula", r"\$(?=\S)(?P<tex>[^$\n가-힣]{1,120})(?<=\S)\$(?!\d)", lambda m: _tex(m["tex"], known)),
        Rule("formula", r"\\(?:frac|sqrt|times|cdot|leq?|geq?|neq?)\b[^\s가-힣]*", lambda m: _tex(m[0], known)),
        Rule(
            "comparison",
            # Without spaces only single letters and numbers: Map<String, Integer> compares nothing.
            r"(?<![A-Za-z0-9_.])(?P<a>[A-Za-z0-9_.]{1,40} (?=\S{1,2} )|(?:[A-Za-z]|[0-9.]{1,20}) ?(?=[<>≤≥]=?(?: |[A-Za-z](?![A-Za-z0-9_])|[0-9])))"
            r"(?P<op><=|>=|[<>≤≥]) ?(?P<b>[A-Za-z0-9_.]{0,40}[A-Za-z0-9_])(?!>)"
            r"(?P<tail>이고|고|일 때|이면|면|인|입니다|이다)?",
            lambda m: _comparison(m, known),
            re.ASCII,
        ),
        Rule("date", _START + r"(?P<y>(?:19|20)\d{2})\. (?P<m>0?[1-9]|1[0-2])\. (?P<d>[12]\d|3[01]|0?[1-9])\.?(?!\d)" + _DATED, _date),
        Rule(
            "month",
            _START + r"(?P<y>(?:19|20)\d{2})[./-](?P<m>0[1-9]|1[0-2]|[1-9])\s?[~～∼〜–-]\s?"
            r"(?P<y2>(?:19|20)\d{2})[./-](?P<m2>0[1-9]|1[0-2]|[1-9])(?![\d.]\d|\d)",
            _months,
        ),
        Rule(
            "month",
            _START + r"(?P<y>(?:19|20)\d{2})[./](?P<m>0[1-9]|1[0-2](?=\s?[~～∼〜–-]|월|부터|까지))(?![\d./]\d|\d)",
            lambda m: f"{_year(m['y'])} {_month(m['m'])}",
        ),
        Rule("date", r"(?<![\d./])(?P<m>0?[1-9]|1[0-2])/(?P<d>[12]\d|3[01]|0?[1-9])\s?\((?P<weekday>[월화수목금토일])\)", _day),
        Rule("date", _START + r"(?P<y>\d{2})\.(?P<m>0?[1-9]|1[0-2])\.(?P<d>0[1-9]|[12]\d|3[01])\.?(?![\d.]?\d)" + _DATED, _short_date),
        Rule("date", r"(?<!\w)['’‘](?P<y>\d\d)\.\s?(?P<m>0?[1-9]|1[0-2])\.?월?(?![\d.]\d|\d)", lambda m: f"{_year(m['y'])} {_month(m['m'])}"),
        Rule("date", _START + r"(?P<y>\d\d)\.(?P<m>0?[1-9]|1[0-2])월", lambda m: f"{_year(m['y'])} {_month(m['m'])}"),
        Rule("date", r"(?<!\w)['’‘](?P<y>\d\d)(?:년|(?=\s?[~～∼〜–-]))", lambda m: _year(m["y"])),
        Rule(
            "months",
            r"(?<![\d.])(?P<a>[1-9]|1[0-2])\s?[~～∼〜–-]\s?(?P<b>[1-9]|1[0-2])월(?!간)",
            lambda m: f"{_month(m['a'])}에서 {_month(m['b'])}",
        ),
        Rule("date", r"(?<=일)\s?\((?P<weekday>[월화수목금토일])\)", " {weekday}요일"),
        Rule("date", r"(?<![\d./])(?P<y>\d\d)/(?P<m>0[1-9]|1[0-2])/(?P<d>0[1-9]|[12]\d|3[01])(?![\d/])" + _DATED, _date),
        Rule(
            "phone",
            r"(?<![\d.,])(?:11\d|1[28]\d|1[3-6]\d\d)(?=번?(?:에|으?로)\s(?:신고|전화|문의|연락|상담))"
            r"|(?<![\d.,])11[29](?=에서|에게|\s?(?:구급|신고|상황실|안전|대원|종합))",
            lambda m: korean_numbers.one_by_one(m[0]),
        ),
        Rule(
            "memorial day",
            rf"(?<![\d.])(?P<m>[1-9]|1[0-2])\s?(?P<sign>[·.ㆍ])\s?(?P<d>[12]\d|3[01]|[1-9])(?![\d.])(?=\s?(?P<what>{_MEMORIAL})?)",
            _memorial,
        ),
        Rule("row", r"(?<![\d.])\d{1,3}(?:[·ㆍ]\d{1,3})+(?![\d.])", _row),
        Rule("row", r"(?<![\w.-])\d{1,2}(?:-\d{1,2}){2,}(?![\w.-]*\d)", _row),
        Rule("quarter", _START + r"(?P<q>[1-4])/4\s?(?=분기)", lambda m: korean_numbers.sino(int(m["q"])) + "사"),
        Rule("phone", r"\(0\d{1,2}\)\s?\d{3,4}[-. ]\d{4}(?!\d)|(?<!\d)0\d{1,2}\)\s?\d{3,4}[-. ]\d{4}(?!\d)", _phone),
        Rule(
            "phone",
            r"(?<!\w)\+(?P<country>\d{1,3})[- ]?(?P<rest>\(?\d{1,4}\)?(?:[- ]\d{2,4}){1,3})(?!\d)",
            lambda m: f"국가번호 {korean_numbers.one_by_one(m['country'])}, {_groups(m['rest'])}",
        ),
        Rule("company", r"(?<![가-힣A-Za-z])\((?P<of>[주유사재])\)(?=\s?[가-힣A-Za-z])\s?", lambda m: _COMPANIES[m["of"]] + " "),
        Rule("company", r"(?<=[가-힣A-Za-z])\s?\((?P<of>[주유])\)", lambda m: " " + _COMPANIES[m["of"]]),
        Rule("Hanja", r"(?<=[가-힣])\s?[(（]\s?(?:[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+\s?)+[)）]", ""),
        Rule("Hanja", HANJA.pattern, lambda m: read_hanja(m[0])),
        Rule("Roman numeral", "[Ⅰ-Ⅻⅰ-ⅻ]", lambda m: korean_numbers.sino(int(unicodedata.numeric(m[0])))),
        Rule("power", "(?<=[0-9A-Za-z가-힣])[⁻⁺]?[⁰¹²³⁴-⁹]+", _superscript),
        Rule("sign", r"[△▽▼]\s?(?=\d)", "마이너스 "),
        Rule(
            "date",
            _START + r"(?P<y>\d{4})[-./](?P<m>0?[1-9]|1[0-2])[-./](?P<d>[12]\d|3[01]|0?[1-9])(?:\.(?=\s?[~～∼–(]|\s[가-힣]))?(?![\d.]?\d)" + _DATED,
            _date,
        ),
        Rule("phone", _START + r"(?:0\d{1,2}[-. ]\d{3,4}[-. ]\d{4}|1[568]\d\d-\d{4}|01\d{8,9}|\d{3,6}(?:-\d{2,7}){2,})(?!\d)", _phone),
        Rule("time", _START + r"(?P<h>[01]?\d|2[0-4]):(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))?(?![\d:])", _clock),
        Rule(
            "ratio",
            _START + r"(?P<a>\d+)(?:\s?:\s?|대)(?P<b>\d+)(?![\d:])",
            lambda m: f"{korean_numbers.number(m['a'])} 대 {korean_numbers.number(m['b'])}",
        ),
        Rule("version", r"(?<![A-Za-z])[vV](?:er\.?\s?)?(?P<n>\d+(?:\.\d+)*)(?![\w])", lambda m: "버전 " + _dotted(m["n"]), re.ASCII),
        Rule("dotted number", _START + r"\d+(?:\.\d+){2,}", lambda m: _dotted(m[0])),
        Rule(
            "range with unit",
            rf"(?P<below>(?<![\w)\]])[-−])?{_START}(?P<a>{_NUM})\s?[~～∼〜–-]\s?(?P<b>{_NUM})(?P<space>\s?)(?P<unit>{_UNIT}){_PER_UNIT}(?![A-Za-z0-9])",
            _unit_range,
        ),
        Rule("power", r"(?<![\w.])(?P<a>\d+(?:\.\d+)?)[eE](?P<n>[-+]?\d{1,3})(?![A-Za-z0-9_])", _scientific),
        Rule("range", rf"{_START}(?P<a>{_NUM})\s?[~～∼〜–-]\s?(?P<b>{_NUM})(?![\d.]\d)(?=(?:\s?(?P<counter>{_COUNTERS}))?)", _range),
        Rule("mark", _START + r"(?P<a>\d+\.\d+)\s?/\s?(?P<b>\d+\.\d+)(?![\d/.]\d|\d)", _mark),
        Rule("fraction", _START + r"(?P<a>\d+)/(?P<b>\d+)(?![\d/.])", _fraction),
        Rule("money", rf"(?P<sign>[$₩￦€£¥￥])\s?(?P<n>{_NUM})(?P<big>[KMBkmb](?![A-Za-z])|\s?(?:천|백|십)?(?:만|억|조))?", _money),
        Rule("degrees", rf"(?<![\w)\]])[-−](?P<n>{_NUM})\s?(?P<unit>℃|°C|℉|°F|도(?![가-힣]*[로시]))", _below_zero),
        Rule("minus", r"(?<![\w)\]])[-−](?=\d)", "마이너스 "),
        Rule("unit", rf"{_START}(?P<n>{_NUM})(?P<space>\s?)(?P<unit>{_UNIT}){_PER_UNIT}(?![A-Za-z0-9])", _with_unit),
        Rule("unit", rf"(?<![A-Za-z0-9_./-])(?P<unit>{_BARE_UNIT}){_PER_UNIT}(?![A-Za-z0-9_/-])", _bare_unit),
        Rule("unit", rf"(?<=[십백천만억조])\s?(?P<unit>{_UNIT}){_PER_UNIT}(?![A-Za-z0-9])", lambda m: f" {_per(m)}{_UNITS[m['unit']]}"),
        Rule("days", r"(?<![A-Za-z])D\s?(?P<sign>[-+−])\s?(?P<n>\d{1,3})(?!\d|\s?(?:비자|체류))", _days),
        Rule("counter", rf"(?<!\+){_START}(?P<n>{_NUM})(?=(?P<counter>{_COUNTERS})|\s(?P<apart>{_COUNTERS})(?:{_COUNTER_ENDS}))", _counted),
        Rule("ordinal", rf"(?<![가-힣])제\s?(?P<n>{_NUM})", lambda m: "제" + korean_numbers.number(m["n"])),
        Rule("ordinal", r"(?<![\d.])(?P<n>[1-9])째(?=[ ,로])", lambda m: _ORDINALS[int(m["n"]) - 1] + "째"),
        Rule(
            "floor",
            r"(?<![A-Za-z0-9])(?P<b>B?)(?P<n>\d{1,2})F(?![A-Za-z0-9])",
            lambda m: f"{'지하 ' if m['b'] else ''}{korean_numbers.sino(int(m['n']))} 층",
        ),
        Rule("level", r"(?<![A-Za-z])[Ll]v\.?\s?(?=\d)", "레벨 "),
        Rule("more", r"(?<=[년세점명급월])\s?(?P<sign>[↑↓])", lambda m: " 이상" if m["sign"] == "↑" else " 이하"),
        Rule("number", _NUM, _plain_number),
        Rule("spelled", r"[A-Za-z]{2,}", _row_of_letters, re.ASCII),
        Rule("English", r"[A-Za-z][A-Za-z0-9]*(?:['’](?:s|t|re|ve|ll|d|m)\b)?(?:-\d+(?![\d.]))?", lambda m: _latin(m, known), re.ASCII),
        Rule("power", r"\^(?P<n>\w+)", lambda m: _power(m["n"]), re.ASCII),
        Rule("range sign", r"(?<=[^\s(~～∼〜])\s?[~～∼〜]\s?(?=[\w$₩€£'’−-])", "에서 "),
        Rule("range sign", r"(?<=[\d%℃원만억개명건점년월시분초배])\s?(?:→|->|⇒|➜)\s?(?=[\d$₩€£약−-])", "에서 "),
        Rule("range sign", r"(?<=[%℃])\s?-\s?(?=\d)", "에서 "),
        Rule("sharp", r"(?<=[A-Za-z])#", " 샵 "),
        Rule("star", r"(?<=[A-Z]{2}\s)\*", " "),  # SELECT * FROM
        Rule("sign", any_sign, _sign),
        Rule("numeral", r"[½⅓¼¾⅔①-⑳]", _numeral),
        Rule("Greek", r"[α-ωΑ-Ω]", lambda m: _GREEK.get(m[0].lower(), m[0])),
        Rule("letter", "[ㄱ-ㅎ]+", _letters),
        Rule("dot", r"(?<=[A-Za-z0-9])\.(?=[A-Za-z0-9])", " 점 "),
        Rule("dash", r"\s[-–—]+\s|[–—]+", ", "),
        Rule(
            "quotation", r"(?<![>)\]}”’»」』])[>)\]}”’»」』]+(?=[가-힣])|(?<=\w)[\"'](?=[가-힣])", ""
        ),  # the particle after a quotation belongs to its last word
        Rule("ellipsis", r"…+|\.{2,}", ". "),
        Rule("mark", r"[-#\\^<>|~～∼〜`_*/\[\]{}()\"“”‘’'«»「」『』]+", " "),
    )


def _sign(match: re.Match[str]) -> str:
    run = _HANGUL_RUN.match(match.string, match.end())
    said = _SYMBOLS[match[0]]
    return said.rstrip() if run and run[0] in _IS_PARTICLE else said  # A+를


def _formula(formula: str) -> str:
    said = []
    for token in _FORMULA.findall(formula):
        if token == "log":
            said.append("로그")
        elif token == "sqrt":
            said.append("루트")
        elif token[0] == "^":
            said.append(_power(token.strip("^()")))
        elif token[0].isdecimal():
            said.append(korean_numbers.number(token))
        elif token[0].isascii() and token[0].isalpha():
            said.append(" ".join(LETTERS[letter] for letter in token.upper()) if len(token) <= 2 else say_identifier(token))
        else:
            said.append(_FORMULA_SIGNS[token])
    return " ".join(part.strip() for part in said if part).replace(" 의 ", "의 ")


def _power(exponent: str) -> str:
    if exponent in ("2", "3"):
        return " 제곱" if exponent == "2" else " 세제곱"
    return f"의 {korean_numbers.number(exponent) if exponent.isdecimal() else say_identifier(exponent.replace('_', ''))} 제곱"


def _address(match: re.Match[str], known: Callable[[str], str | None]) -> str:
    """A web or mail address without its scheme: example.com/docs -> 이그잼플 점 컴 슬래시 닥스."""
    address = re.sub(r"^https?://(?:www\.)?", "", match[0])
    body = address.rstrip(".,;:!?)]}'\"")
    tail = address[len(body) :]
    said = []
    for token in re.findall(r"[A-Za-z0-9]+|[./@]", body):
        said.append({".": "점", "/": "슬래시", "@": "골뱅이", "com": "컴", "www": "더블유더블유더블유"}.get(token) or _latin_said(token, known))
    return " ".join(said) + re.sub(r"[)\]}'\":;]", "", tail)


def _latin_said(token: str, known: Callable[[str], str | None]) -> str:
    return korean_numbers.number(token) if token.isdecimal() else known(token) or say_identifier(token, known)


def _letters(match: re.Match[str]) -> str | None:
    """ㄱㄴㄷ is 기역 니은 디귿, and laughter stays."""
    return None if set(match[0]) <= set("ㅋㅎ") else " ".join(_JAMO.get(letter, letter) for letter in match[0])


def _row_of_letters(match: re.Match[str]) -> str | None:
    """hghe, in which no rule finds anything to say."""
    return None if is_spelled(match[0]) or say_word(match[0].lower()) else say_letters(match[0])


def _latin(match: re.Match[str], known: Callable[[str], str | None]) -> str:
    word, _, number = match[0].partition("-")
    word = re.split("['’]", word)[0] + "".join(re.split("['’]", word)[1:])
    plural = re.fullmatch(r"([A-Z]{2,4})s", word)
    said = (known(plural[1]) or say_identifier(plural[1])) + "스" if plural else say_identifier(word, known)
    return f"{said} {say_identifier('x' + number).split(' ', 1)[1]}" if number else said


def _date(match: re.Match[str]) -> str:
    weekday = f" {match['weekday']}요일" if match["weekday"] else ""
    return f"{_year(match['y'])} {_month(match['m'])} {korean_numbers.sino(int(match['d']))}일{weekday}"


def _memorial(match: re.Match[str]) -> str | None:
    """5·18 is 오일팔, 12·12 십이십이, 6.25 전쟁 육이오; 3.1 is a number unless a day follows."""
    month, day = match["m"], match["d"]
    if match["what"] is None and (match["sign"] == "." or f"{month}·{day}" not in _MEMORIALS):
        return None
    is_whole = day == month or day[-1] == "0"
    said = korean_numbers.sino(int(day)) if is_whole else "".join(korean_numbers.DIGITS[int(digit)] for digit in day)
    return korean_numbers.sino(int(month)) + said


def _row(match: re.Match[str]) -> str:
    """1·2차, 6-3-3-4."""
    numbers = re.findall(r"\d+", match[0])
    sign = " " if "-" in match[0] else ", "
    return sign.join(map(korean_numbers.number, numbers[:-1])) + sign + _said_number(match, numbers[-1], match.end())


def _scientific(match: re.Match[str]) -> str:
    minus = "마이너스 " if "-" in match["n"] else ""
    return f"{korean_numbers.number(match['a'])} 곱하기 십의 {minus}{korean_numbers.sino(int(match['n'].lstrip('+-')))} 제곱"


def _below_zero(match: re.Match[str]) -> str:
    return f"{_DEGREES.get(match['unit'], '')}영하 {korean_numbers.number(match['n'])} 도"


def _bare_unit(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - 1) : match.start()]
    return f"{' ' if '가' <= before <= '힣' else ''}{_per(match)}{_UNITS[match['unit']]}"


def _per(match: re.Match[str]) -> str:
    """mg/kg: 킬로그램당 ..."""
    speed = _SPEEDS.get(f"{match['unit']}/{match['per']}")
    if speed is not None:
        return "" if match.string[max(0, match.start() - 3) : match.start()].rstrip().endswith(speed) else f"{speed} "
    return f"{_PER[match['per']]}당 " if match["per"] else ""


def _days(match: re.Match[str]) -> str:
    return f"디 {'플러스' if match['sign'] == '+' else '마이너스'} {_said_number(match, match['n'], match.end())}"


def _short_date(match: re.Match[str]) -> str | None:
    if _VERSIONED.search(match.string, max(0, match.start() - NAMED_CHARS), match.start()):
        return None
    return _date(match)


def _day(match: re.Match[str]) -> str:
    return f"{_month(match['m'])} {korean_numbers.sino(int(match['d']))}일 {match['weekday']}요일"


def _months(match: re.Match[str]) -> str:
    return f"{_year(match['y'])} {_month(match['m'])}에서 {_year(match['y2'])} {_month(match['m2'])}"


def _year(digits: str) -> str:
    return korean_numbers.sino(int(digits)) + "년"


def _superscript(match: re.Match[str]) -> str:
    digits = "".join(str(unicodedata.digit(char)) for char in match[0] if char not in "⁻⁺")
    if "⁻" in match[0]:
        return f"의 마이너스 {korean_numbers.number(digits)} 제곱"
    return _power(digits)


def _comparison(match: re.Match[str], known: Callable[[str], str | None]) -> str | None:
    """i < n이고 -> 아이가 엔보다 작고."""
    a, b = (rewrite(match[side], korean_rules(known)).text for side in "ab")
    if not a or not b:
        return None
    stem, is_equal = ("작" if match["op"] in ("<", "<=", "≤") else "크"), match["op"] in ("<=", ">=", "≤", "≥")
    tail = {"이고": "고", "고": "고", "일 때": "을 때", "이면": "으면", "면": "으면", "인": "은", "입니다": "습니다"}.get(match["tail"] or "", "다")
    if is_equal:
        stem = {"작": "작거나 같", "크": "크거나 같"}[stem]
    elif stem == "크":
        tail = {"을 때": "ㄹ 때", "으면": "면", "은": "ㄴ", "습니다": "ㅂ니다"}.get(tail, tail)
    said = stem + tail
    for jamo, whole in (("크ㄹ", "클"), ("크ㄴ", "큰"), ("크ㅂ", "큽")):
        said = said.replace(jamo, whole)
    ends_open = "가" <= a[-1] <= "힣" and (ord(a[-1]) - 0xAC00) % 28 == 0
    return f"{a}{'가' if ends_open else '이'} {b}보다 {said}"


def _tex(formula: str, known: Callable[[str], str | None]) -> str | None:
    """A formula of LaTeX; None where it is none, as between two prices in dollars."""
    if not re.search(r"[\\^_{}=]", formula):
        return None
    return rewrite(plain_formula(formula, lambda a, b: f"{b} 분의 {a}"), korean_rules(known)).text


def _month(digits: str) -> str:
    return {6: "유월", 10: "시월"}.get(int(digits)) or korean_numbers.sino(int(digits)) + "월"


def _phone(match: re.Match[str]) -> str:
    return _groups(match[0])


def _groups(digits: str) -> str:
    return ", ".join(korean_numbers.one_by_one(group) for group in re.findall(r"\d+", digits))


def _clock(match: re.Match[str]) -> str:
    hour, minute, second = int(match["h"]), int(match["m"]), match["s"]
    said = korean_numbers.counted(str(hour), "시") + " 시"
    if minute:
        said += f" {korean_numbers.sino(minute)} 분"
    return said + (f" {korean_numbers.sino(int(second))} 초" if second and int(second) else "")


def _dotted(digits: str) -> str:
    """A version or an address: 3.11.4 -> 삼 점 십일 점 사."""
    return " 점 ".join(korean_numbers.number(part) for part in digits.split("."))


def _unit_range(match: re.Match[str]) -> str:
    unit, scale = _UNITS[match["unit"]], _DEGREES.get(match["unit"], "")
    below = "" if not match["below"] else "영하 " if scale else "마이너스 "
    return f"{_per(match)}{scale}{below}{korean_numbers.counted(match['a'], unit)}에서 {korean_numbers.counted(match['b'], unit)} {unit}"


def _range(match: re.Match[str]) -> str:
    counter = match["counter"]
    if counter and match["a"].isdecimal() and korean_numbers.counted(match["a"], counter) != korean_numbers.number(match["a"]):
        return f"{korean_numbers.counted(match['a'], counter)} {counter}에서 {korean_numbers.counted(match['b'], counter)} "
    return f"{korean_numbers.number(match['a'])}에서 {_said_number(match, match['b'], match.end('b'))}"


def _mark(match: re.Match[str]) -> str:
    """4.1/4.5, a mark out of the best one."""
    return f"{korean_numbers.number(match['b'])} 만점에 {korean_numbers.number(match['a'])}"


def _fraction(match: re.Match[str]) -> str:
    above, below = match["a"], match["b"]
    if int(above) > int(below) and _PRESSURE.search(match.string, max(0, match.start() - NAMED_CHARS), match.start()):
        return f"{korean_numbers.number(above)}에 {korean_numbers.number(below)}"
    if len(above) <= 3 and len(below) <= 3 and 0 < int(above) < int(below):
        return f"{korean_numbers.sino(int(below))}분의 {korean_numbers.sino(int(above))}"
    return f"{korean_numbers.number(above)} {korean_numbers.number(below)}"


def _money(match: re.Match[str]) -> str:
    big = (match["big"] or "").strip()
    big = {"K": "천", "k": "천", "M": "밀리언", "m": "밀리언", "B": "빌리언", "b": "빌리언"}.get(big, big)
    gap = " " if big in ("밀리언", "빌리언") else ""
    said = korean_numbers.number(match["n"])
    return f"{'' if said == '일' and big in ('천', '만') else said + gap}{big} {_CURRENCIES[match['sign']]}"


def _with_unit(match: re.Match[str]) -> str:
    unit = _UNITS[match["unit"]]
    if match["unit"] in ("m", "g", "s", "h", "B", "L", "l", "W", "x", "X", "pt", "us", "min", "N", "t", "in") and match["space"]:
        return korean_numbers.number(match["n"]) + " " + say_identifier(match["unit"])  # "3 x" is a letter more often than a unit
    scale = _DEGREES.get(match["unit"], "")
    return f"{_per(match)}{scale}{korean_numbers.counted(match['n'], unit)} {unit}"


def _counted(match: re.Match[str]) -> str | None:
    counter, text = match["counter"] or match["apart"], match.string
    if match["apart"] and _NAMED_VERSION.search(text, max(0, match.start() - NAMED_CHARS), match.start()):
        return None
    if counter == "번" and (
        len(match["n"]) >= 3 or _NUMBERED.search(text, max(0, match.start() - NAMED_CHARS), match.start()) or _NUMBERS.match(text, match.end())
    ):
        return korean_numbers.number(match["n"]) + " "
    return korean_numbers.counted(match["n"], counter) + " "


def _plain_number(match: re.Match[str]) -> str:
    text = match.string
    if match[0].isdecimal() and len(match[0]) >= 4 and _SECRET.search(text, max(0, match.start() - NAMED_CHARS), match.start()):
        return korean_numbers.one_by_one(match[0])
    if "." in match[0] and _VERSIONED.search(text, max(0, match.start() - NAMED_CHARS), match.start()):
        return _dotted(match[0])
    return _said_number(match, match[0], match.end())


def _said_number(match: re.Match[str], digits: str, end: int) -> str:
    """A Sino-Korean number with the space that what follows wants: 삼 단계, but 삼은, 삼만, 이천이십사년, 오월."""
    text = match.string
    said = korean_numbers.number(digits)
    if run := _HANGUL_RUN.match(text, end):
        after = run[0]
        if after[0] == "월" and digits.lstrip("0") in ("6", "10"):
            return "시" if digits == "10" else "유"
        if _MAGNITUDE.match(after):
            return "" if said == "일" and after[0] in "만천백십" else said
        if after[0] in "월일등여" or (after[0] == "년" and len(digits) == 4) or _PARTICLE_RUN.fullmatch(after):
            return said
        return said + " "
    if end < len(text) and text[end].isascii() and text[end].isalpha():
        return said + " "
    return said


def _numeral(match: re.Match[str]) -> str:
    value = unicodedata.numeric(match[0])
    if value >= 1:
        return korean_numbers.sino(int(value))
    return {"½": "이분의 일", "⅓": "삼분의 일", "¼": "사분의 일", "¾": "사분의 삼", "⅔": "삼분의 이"}[match[0]]
