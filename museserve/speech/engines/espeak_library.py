"""The espeak-ng shared library through ctypes: text in, sound with the times of phonemes and words out.

The library keeps its state in globals, so everything here goes through one lock. It is loaded at run time from the package
`espeakng-loader`; nothing is linked against it. Python's packages for it give sound or phonemes, none of them both with
their times, which are what moves the lips.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

from museserve.errors import EngineUnavailableError, SpeechEngineError

# espeak-ng/speak_lib.h
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS = 0x0001
_INITIALIZE_PHONEME_IPA = 0x0002
_INITIALIZE_DONT_EXIT = 0x8000
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_PHONEMES_IPA = 0x02
_EVENT_LIST_TERMINATED, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_RATE, _PITCH = 1, 3


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class PhonemeEvent:
    """A sound begins at `sample`; it lasts until the next. `symbol` is IPA with stress marks, "" for a pause."""

    sample: int
    symbol: str


@dataclass(frozen=True)
class WordEvent:
    """The word that begins at text[first] sounds from the phoneme numbered `phoneme` on."""

    first: int
    phoneme: int


@dataclass(frozen=True)
class Rendition:
    """pcm: int16 (n,) at the library's rate. Phonemes and words in order of time."""

    pcm: NDArray[np.int16]
    phonemes: tuple[PhonemeEvent, ...]
    words: tuple[WordEvent, ...]

    def spans(self, text: str) -> list[tuple[int, int, int, int]]:
        """(first, last, first phoneme, last phoneme) of stretches of `text` that are one or more words, in order, each with sounds.

        A word that espeak-ng speaks as one with its neighbour ("of the") has no event, or one without phonemes: it joins the word before.
        """
        spans: list[tuple[int, int, int, int]] = []
        for number, word in enumerate(self.words):
            following = self.words[number + 1] if number + 1 < len(self.words) else None
            last = len(text[: following.first if following is not None else len(text)].rstrip())
            after = following.phoneme if following is not None else len(self.phonemes)
            if any(event.symbol for event in self.phonemes[word.phoneme : after]):
                spans.append((word.first, last, word.phoneme, after))
            elif spans:
                spans[-1] = (spans[-1][0], last, spans[-1][2], after)
        return spans


class EspeakLibrary:
    """Use `load()`; a process can have only one."""

    def __init__(self) -> None:
        """Raises EngineUnavailableError when the library or its data is missing."""
        try:
            self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
            data = espeakng_loader.get_data_path().encode()
        except (OSError, RuntimeError) as error:
            raise EngineUnavailableError(f"espeak-ng cannot be loaded: {error}") from None
        self._lock = threading.Lock()
        options = _INITIALIZE_PHONEME_EVENTS | _INITIALIZE_PHONEME_IPA | _INITIALIZE_DONT_EXIT
        self.rate = int(self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, options))
        if self.rate <= 0:
            raise EngineUnavailableError(f"espeak-ng did not start (espeak_Initialize answered {self.rate})")
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self._blocks: list[NDArray[np.int16]] = []
        self._phonemes: list[PhonemeEvent] = []
        self._words: list[WordEvent] = []
        self._callback = _Callback(self._receive)  # kept, or the library would call freed memory
        self._library.espeak_SetSynthCallback(self._callback)

    def synthesize(self, text: str, voice: str, words_per_minute: int = 175, pitch: int = 50) -> Rendition:
        """Speak `text`.

        Args:
            voice: a language, with a variant if wished: "ko+f3".
            words_per_minute: 80 to 450.
            pitch: 0 to 99.
        Raises:
            SpeechEngineError: no such voice, or the library failed.
        """
        encoded = _encode(text)
        with self._lock:
            self._choose(voice)
            self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
            self._library.espeak_SetParameter(_PITCH, pitch, 0)
            self._blocks, self._phonemes, self._words = [], [], []
            status = self._library.espeak_Synth(encoded, len(encoded) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
            if status != 0:
                raise SpeechEngineError(f"espeak-ng failed with status {status} on {len(text)} characters for voice {voice!r}")
            pcm = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.int16)
            return Rendition(pcm, tuple(self._phonemes), tuple(self._words))

    def phonemize(self, text: str, voice: str) -> list[tuple[str, str]]:
        """Clauses of `text` as (IPA with stress marks and a blank between words, the punctuation mark that ends it or "")."""
        encoded = _encode(text)
        clauses: list[tuple[str, str]] = []
        with self._lock:
            self._choose(voice)
            buffer = ctypes.create_string_buffer(encoded)
            start = ctypes.addressof(buffer)
            pointer = ctypes.c_char_p(start)
            read = 0
            while pointer.value is not None:
                ipa = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _CHARS_UTF8, _PHONEMES_IPA)
                address = ctypes.cast(pointer, ctypes.c_void_p).value
                # The library looks one character ahead.
                reached = len(text) if address is None else len(encoded[: address - start].decode("utf-8", "ignore")) - 1
                seen = text[read:reached].rstrip()
                read = reached
                clauses.append(((ipa or b"").decode("utf-8", "ignore").strip(), seen[-1] if seen and seen[-1] in ".,;:?!" else ""))
        return [clause for clause in clauses if clause[0]]

    def _choose(self, voice: str) -> None:
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SpeechEngineError(f"espeak-ng has no voice {voice!r}")

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        number = 0
        while events[number].type != _EVENT_LIST_TERMINATED:
            event = events[number]
            if event.type == _EVENT_PHONEME:
                self._phonemes.append(PhonemeEvent(event.sample, event.id.string.decode("utf-8", "ignore")))
            elif event.type == _EVENT_WORD:
                self._words.append(WordEvent(event.text_position - 1, len(self._phonemes)))
            number += 1
        if samples and count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0


def _encode(text: str) -> bytes:
    return text.replace("\0", " ").encode("utf-8", "ignore")


@cache
def load() -> EspeakLibrary:
    """The process's library. Raises EngineUnavailableError."""
    return EspeakLibrary()
