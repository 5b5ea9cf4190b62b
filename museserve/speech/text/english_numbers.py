"""Dates, years, money and fractions in words, so that every English voice says them alike; plain numbers each reads well itself."""

from __future__ import annotations

MONTHS = "January February March April May June July August September October November December".split()
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety".split()
ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()


def below_hundred(number: int) -> str:
    """0 to 99 in words."""
    if number < 20:
        return ONES[number]
    tens = TENS[number // 10 - 1]
    return f"{tens} {ONES[number % 10]}" if number % 10 else tens


def ordinal(number: int) -> str:
    """1 to 99: first, twenty first."""
    if number <= 12:
        return ORDINALS[number - 1]
    if number < 20:
        return ONES[number] + "th"
    tens = TENS[number // 10 - 1]
    return f"{tens} {ORDINALS[number % 10 - 1]}" if number % 10 else tens[:-1] + "ieth"


def year(digits: str) -> str:
    """1999: nineteen ninety nine; 2005: two thousand five; 2026: twenty twenty six."""
    century, rest = int(digits[:2]), int(digits[2:])
    if 2000 <= int(digits) < 2010:
        return "two thousand" + (f" {ONES[rest]}" if rest else "")
    if not rest:
        return f"{below_hundred(century)} hundred"
    return f"{below_hundred(century)} {'oh ' if rest < 10 else ''}{below_hundred(rest)}"


def date(year_digits: str, month: int, day: int) -> str:
    """December 5 2026: December fifth, twenty twenty six."""
    return f"{MONTHS[month - 1]} {ordinal(day)}, {year(year_digits)}"


def decade(digits: str) -> str:
    """1980: nineteen eighties; 2010: twenty tens."""
    century, tens = int(digits[:2]), int(digits[2:]) // 10
    if not tens:
        return f"{'two thousand' if century == 20 else below_hundred(century) + ' hundred'}s"
    said = TENS[tens - 1]
    return f"{below_hundred(century)} {said[:-1] + 'ies' if said.endswith('y') else said + 's'}"


def fraction(above: int, below: int) -> str:
    """1 of 2: one half; 2 of 3: two thirds."""
    name = {2: "half", 4: "quarter"}.get(below) or ordinal(below)
    if above != 1:
        name = "halves" if below == 2 else name + "s"
    return f"{below_hundred(above)} {name}"
