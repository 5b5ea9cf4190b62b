"""Numbers as Korean says them: the Sino-Korean series (일, 이, 삼) and the native one (하나, 둘, 셋) that counts things."""

from __future__ import annotations

DIGITS = "영일이삼사오육칠팔구"
PLACES = ("", "십", "백", "천")
MYRIADS = ("", "만", "억", "조", "경")
MAX_DIGITS = 4 * len(MYRIADS)  # longer numbers are read digit by digit

NATIVE_UNITS = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")
NATIVE_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")

# What the native series counts, and up to what number it is usual.
NATIVE_COUNTERS = {
    **dict.fromkeys(
        "개 명 사람 살 마리 가지 번 번째 장 권 잔 병 달 곳 군데 쌍 그루 송이 채 척 벌 켤레 통 끼 편 곡 건 팀 바퀴 조각 판 줄 칸 글자 단어 문장 "
        "문제 종류 그룹 나라 부분 자리 차례 대 갈래 과목 걸음 마디".split(),
        99,
    ),
    "시": 12,
    "시간": 20,
    "배": 10,
}


def sino(number: int) -> str:
    """0 -> 영, 12 -> 십이, 10000 -> 만, 2024 -> 이천이십사."""
    if number == 0:
        return DIGITS[0]
    parts: list[str] = []
    for myriad in MYRIADS:
        number, group = divmod(number, 10_000)
        if group:
            said = _thousands(group)
            parts.append(("" if said == "일" and myriad == "만" else said) + myriad)
    return "".join(reversed(parts))


def _thousands(group: int) -> str:
    out = ""
    for place in (3, 2, 1, 0):
        digit = group // 10**place % 10
        if digit:
            out += ("" if digit == 1 and place else DIGITS[digit]) + PLACES[place]
    return out


def native(number: int) -> str:
    """The form before a counter, 1 to 99: 1 -> 한, 20 -> 스무, 21 -> 스물한. From 100 on only the last digit is native: 103 -> 백세."""
    if number >= 100:
        head, tail = number - number % 10, number % 10
        return sino(number) if tail == 0 or number % 100 > 10 else sino(head) + NATIVE_UNITS[tail]
    return "스무" if number == 20 else NATIVE_TENS[number // 10] + NATIVE_UNITS[number % 10]


def one_by_one(digits: str) -> str:
    """Telephone style: 0 is 공."""
    return "".join("공" if digit == "0" else DIGITS[int(digit)] for digit in digits)


def number(digits: str) -> str:
    """A written number without a unit: "1,234", "3.14", "007"."""
    whole, _, fraction = digits.replace(",", "").partition(".")
    if len(whole) > MAX_DIGITS or (len(whole) > 1 and whole[0] == "0"):
        said = one_by_one(whole)
    else:
        said = sino(int(whole or "0"))
    return f"{said} 점 {''.join(DIGITS[int(digit)] for digit in fraction)}" if fraction else said


def counted(digits: str, counter: str) -> str:
    """The number before `counter`: ("3", "개") -> 세, ("3", "년") -> 삼, ("3.5", "배") -> 삼 점 오."""
    plain = digits.replace(",", "")
    if counter in NATIVE_COUNTERS and plain.isdecimal() and len(plain) <= MAX_DIGITS and plain[0] != "0":
        value = int(plain)
        if counter == "번째" and value == 1:
            return "첫"
        if counter == "대" and value < 100 and value % 10 == 0:  # 20대: the twenties
            return sino(value)
        if value <= NATIVE_COUNTERS[counter] or (value >= 100 and NATIVE_COUNTERS[counter] == 99):
            return native(value)
    return number(digits)
