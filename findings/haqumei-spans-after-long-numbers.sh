#!/usr/bin/env bash
# haqumei 0.12.3: behind a number of 17 digits, `char_span` of `g2p_mapping` points at other words.
#
# `char_span` says which characters of the text a word was read from. Numbers are read as several words, and those that
# stand for no digit of their own have an empty span; up to 16 digits every other word still has its own place. With 17 the
# first part of the number gets all the digits, the parts after it get the words that follow the number, and those words,
# which are read correctly, get empty spans at the end of the text. Nothing is raised. Whoever puts readings back into the
# text by these spans must expect empty ones, and see to it that he goes on.
#
# Seen: what stands in the text where the last words are said to be, for 16 digits and for 17. Exits 1 when that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check haqumei==0.12.3
cat >"$work/try.py" <<'PY'
from haqumei import Haqumei

library, seen = Haqumei(), {}
for digits in ("1234567890123456", "12345678901234567"):
    text = f"売上は{digits}円でした。"
    seen[len(digits)] = [(word.word, text[slice(*word.char_span)]) for word in library.g2p_mapping(text)][-4:]
    print(len(digits), "digits:", seen[len(digits)])
own = [("円", "円"), ("でし", "でし"), ("た", "た"), ("。", "。")]
raise SystemExit(0 if seen[16] == own and seen[17] == [(word, "") for word, _ in own] else 1)
PY
"$work/venv/bin/python" "$work/try.py"
