"""Formulas of LaTeX as plain text, which the rules of a language then say."""

from __future__ import annotations

import re
from collections.abc import Callable

from museserve.speech.text.tables import table

_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_ROOT = re.compile(r"\\sqrt\s*\{([^{}]*)\}")
_COMMANDS: dict[str, str] = table("latex")


def plain_formula(formula: str, fraction: Callable[[str, str], str]) -> str:
    """fraction: how the language says what is above and below a line, where they are not both whole numbers."""

    def divided(match: re.Match[str]) -> str:
        above, below = match[1].strip(), match[2].strip()
        return f"{above}/{below}" if above.isdecimal() and below.isdecimal() else fraction(above, below)

    for _ in range(8):  # nested ones, from the inside
        simpler = _ROOT.sub(r"√\1", _FRACTION.sub(divided, formula))
        if simpler == formula:
            break
        formula = simpler
    formula = re.sub(r"\\(?:text|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}", r"\1", formula)
    formula = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", formula)
    formula = re.sub(r"\\([A-Za-z]+)", lambda match: _COMMANDS.get(match[1], f" {match[1]} "), formula)
    return re.sub(r"[{}\\$]|_(?=\w)", "", formula)
