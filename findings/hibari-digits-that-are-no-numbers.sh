#!/usr/bin/env bash
# hibari-tts 0.2.1: a raised or circled digit in an English text, such as a footnote's mark, makes the voice raise ValueError.
#
# Its reader asks `str.isdigit`, which is true of them, and then makes an `int`, which Python does of decimal digits alone
# (`str.isdecimal`). Two and three, which it reads as "squared" and "cubed", and digits of other scripts, which `int` knows, are spoken.
#
# Seen: what each text gives. Exits 1 when that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check hibari-tts==0.2.1
cat >"$work/try.py" <<'PY'
import sys
from importlib.metadata import version
from hibari.g2p import G2P

g2p = G2P()

def said(text):
    try:
        return g2p(text)
    except Exception as error:
        return type(error).__name__

texts = ["Room ٣.", "See note ²n.", "See note ¹n.", "See note ①n."]
seen = {text: said(text) for text in texts}
print(f"hibari-tts {version('hibari-tts')}: {seen}")
sys.exit(0 if [value == "ValueError" for value in seen.values()] == [False, False, True, True] else 1)
PY
"$work/venv/bin/python" "$work/try.py"
