"""Pronunciations that no rule would get right: written -> spoken, for each language. Users add their own file on top.

ko:
  AWS: 에이더블유에스
en:
  kubectl: kube control
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

from museserve.errors import ConfigError
from museserve.speech.text.language import LANGUAGES

SHIPPED = Path(__file__).with_name("lexicon.yaml")
MAX_TERM_CHARS = 80

_LATIN = re.compile(r"[A-Za-z0-9]")


class Lexicon:
    """Terms by language. A term is matched as a whole: exactly as written first, then in any case; the longest wins.

    Attributes: digest: 16 hex digits that stand for all terms.
    """

    def __init__(self, terms: Mapping[str, Mapping[str, str]]) -> None:
        self._sections = {language: LexiconSection(section) for language, section in terms.items()}
        self.digest = hashlib.sha256(json.dumps(terms, sort_keys=True, default=dict).encode()).hexdigest()[:16]

    @classmethod
    def load(cls, extra: Path | None = None) -> Lexicon:
        """The shipped lexicon, with the terms of the file `extra` on top.

        Raises:
            ConfigError: `extra` cannot be read or is malformed; the message names the line or the key.
        """
        terms = {language: dict(section) for language, section in _shipped().items()}
        if extra is not None:
            for language, section in _read(extra).items():
                terms.setdefault(language, {}).update(section)
        return cls(terms)

    def section(self, language: str) -> LexiconSection:
        return self._sections.get(language, _EMPTY)


class LexiconSection:
    """The terms of one language; a `Finder` for `rewrite`."""

    name = "lexicon"

    def __init__(self, terms: Mapping[str, str]) -> None:
        self.terms = dict(terms)
        self._folded: dict[str, str] = {}
        for written, spoken in terms.items():
            self._folded.setdefault(written.lower(), spoken)
        lengths: dict[str, set[int]] = {}
        for written in terms:
            lengths.setdefault(written[0].lower(), set()).add(len(written))
        self._lengths = {first: sorted(sizes, reverse=True) for first, sizes in lengths.items()}

    def spoken(self, term: str) -> str | None:
        """How the whole of `term` is said, or None."""
        exact = self.terms.get(term)
        return self._folded.get(term.lower()) if exact is None else exact

    def find(self, text: str, pos: int) -> tuple[int, int, str] | None:
        for start in range(pos, len(text)):
            lengths = self._lengths.get(text[start].lower())
            if lengths is None or not _is_border(text, start):
                continue
            for length in lengths:
                end = start + length
                if end <= len(text) and _is_border(text, end, closing=True):
                    spoken = self.spoken(text[start:end])
                    if spoken is not None:
                        return start, end, spoken
        return None


def _is_border(text: str, at: int, closing: bool = False) -> bool:
    """Whether a term may start (end) at `at`: not inside a run of Latin letters and digits; a Hangul term may carry a particle."""
    if at == 0 or at >= len(text):
        return True
    before, after = text[at - 1], text[at]
    if _LATIN.match(before) and _LATIN.match(after):
        return False
    if closing:
        return not (after in "+#" and _LATIN.match(before))  # the C of C++
    return before.isspace() or not before.isalnum() or before.isascii() != after.isascii()


_EMPTY = LexiconSection({})


@cache
def _shipped() -> dict[str, dict[str, str]]:
    return _read(SHIPPED)


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _TextLoader)
    except OSError as error:
        raise ConfigError(f"cannot read the lexicon {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the lexicon {path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"the lexicon {path} is not YAML: {error}") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"the lexicon {path} must hold a section for each language, got a {type(raw).__name__}")
    terms: dict[str, dict[str, str]] = {}
    for language, section in raw.items():
        if language not in LANGUAGES:
            raise ConfigError(f"the lexicon {path} has a section {language!r}; accepted: {', '.join(LANGUAGES)}")
        if section == "":
            continue
        if not isinstance(section, dict):
            raise ConfigError(f"the lexicon {path}, section {language}: expected 'written: spoken' lines, got a {type(section).__name__}")
        for written, spoken in section.items():
            if not isinstance(written, str) or not isinstance(spoken, str) or not written.strip() or not spoken.strip():
                raise ConfigError(f"the lexicon {path}, {language}.{written!r}: expected 'written: spoken' text, got {spoken!r}")
            if len(written) > MAX_TERM_CHARS:
                raise ConfigError(
                    f"the lexicon {path}, {language}.{written[:20]!r}…: {len(written)} characters; at most {MAX_TERM_CHARS} are accepted"
                )
        terms[language] = {written.strip(): " ".join(spoken.split()) for written, spoken in section.items()}
    return terms


class _TextLoader(yaml.SafeLoader):
    """YAML in which every scalar is text (`NO: no` and `404: four oh four` stay as written) and no key comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} comes twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_TextLoader.yaml_implicit_resolvers = {}
