"""Sentences read by the offline voices: what the sound drive learns from, and others that it is tested on."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import espeakng_loader
import onnxruntime

from museserve.messages import FloatArray, Phoneme
from museserve.speech.engines import espeak_library
from museserve.speech.engines.espeak import EspeakEngine
from museserve.speech.engines.hibari import HibariEngine
from museserve.speech.engines.piper import PiperEngine
from museserve.speech.engines.voice_engine import VoiceEngine, joined
from museserve.speech.engines.voices import HIBARI, JOE, Voice

ENGLISH = (
    "Could you begin by describing a typical day in your current job?",
    "Thank you for coming in, please have a seat and make yourself comfortable.",
    "What would you say is your biggest weakness, and how do you work around it?",
    "We were able to improve the speed of the whole pipeline by about forty percent.",
    "Tell me about a project that failed, and what you would do differently now.",
    "Five brave foxes jumped over the frozen river while the village was asleep.",
    "How would you explain a hash table to somebody who has never written code?",
    "My mother bought a beautiful blue umbrella, but my brother broke it by mistake.",
    "I usually choose the simplest thing that could possibly work.",
    "The measure was quite unusual: they treasured leisure over pleasure.",
    "Where do you see yourself in five years, and which skills would get you there?",
    "She sells fresh fish, thick soup and cheese near the old church.",
    "If the server goes down at two in the morning, who gets the phone call?",
    "We would love to know why you want to leave the company you work for today.",
    "Both of them thought that the weather would be rather warm for the month of March.",
    "Our users upload huge videos, so the queue grows quickly during the evening.",
    "That is a good answer. Could you give me one more example, please?",
    "Young people who move to the city often look for good food, music and new friends.",
    "He put the wooden box on the roof, and then he pushed it into the pool.",
    "Let's move on to the next topic: concurrency, locks, and race conditions.",
    "Perhaps we can start with something simple. What is the difference between a process and a thread?",
    "Mmm, maybe. I am not sure whether that would be the best option for everybody.",
    "The boy enjoyed the noise of the toys, although his voice was hoarse.",
    "Oh no! Go slowly, the road is cold and the boat won't float.",
    "Every employee agreed to the increase, yet three people keep asking for the details.",
    "Can you walk me through how you found the bug, step by step?",
    "A cat sat at the back and had a snack, and after that it ran.",
    "Which Python web framework do you prefer for a small internal tool?",
    "First, think about the memory. Second, think about how much work is done twice.",
    "It was wonderful to meet you. We will let you know by the end of the week.",
)
KOREAN = (
    "안녕하세요. 먼저 간단하게 자기소개를 부탁드립니다.",
    "지금까지 했던 프로젝트 중에서 가장 어려웠던 것은 무엇이었나요?",
    "우리 회사에 지원하게 된 동기를 말씀해 주세요.",
    "팀원과 의견이 다를 때 어떻게 해결하는 편입니까?",
    "데이터베이스의 인덱스가 왜 필요한지 설명해 주시겠어요?",
    "오늘 면접에 참여해 주셔서 감사합니다. 결과는 다음 주에 알려 드리겠습니다.",
    "바쁜 아침에는 빵과 커피로 밥을 대신할 때가 많아요.",
    "앞으로 오 년 뒤에 어떤 모습이 되고 싶으신가요?",
    "프로세스와 스레드의 차이를 예를 들어 말해 보세요.",
    "그 문제를 발견하고 고치기까지 얼마나 걸렸습니까?",
    "비가 오는 날이면 부모님과 함께 뜨거운 국물을 먹곤 했습니다.",
    "좋은 답변입니다. 조금 더 구체적으로 설명해 주실 수 있나요?",
    "저는 복잡한 것보다 단순하고 읽기 쉬운 코드를 좋아합니다.",
    "사용자가 갑자기 늘어나면 서버를 어떻게 확장하시겠습니까?",
    "마지막으로 궁금한 점이나 하고 싶은 말씀이 있으면 편하게 해 주세요.",
    "포기하지 않고 꾸준히 노력하는 것이 무엇보다 중요하다고 생각합니다.",
)
HELD_OUT_ENGLISH = (
    "Imagine that a customer is unhappy with your work. What would you do first?",
    "Bob and Pam played a small part in the film about the moon and the wolf.",
    "You mentioned caching before; how would you choose what to keep and what to throw away?",
    "Why do you think so few of our visitors finish the sign-up form?",
    "The old professor watched the storm from his porch, smoking a pipe.",
    "Very well, I have everything I need. Do you have any questions for us?",
)
HELD_OUT_KOREAN = (
    "본인의 장점과 단점을 하나씩 말씀해 주시기 바랍니다.",
    "배포한 뒤에 문제가 생기면 무엇부터 확인하시나요?",
    "어려운 부탁을 받았을 때 거절하는 방법이 있습니까?",
)


@dataclass(frozen=True)
class Reading:
    """One sentence as one voice read it. speaker: "engine/variant/language", what results are grouped by."""

    speaker: str
    pcm: FloatArray
    phonemes: tuple[Phoneme, ...]


@dataclass(frozen=True)
class Speaker:
    """A voice at one pace. `stride`: it reads every so many sentences, beginning with its own number."""

    voice: Voice
    language: str
    speed: float
    stride: int = 2

    @property
    def name(self) -> str:
        return f"{self.voice.engine}/{self.voice.variant or self.voice.name}/{self.language}"


def _espeak(variant: str, pitch: int) -> Voice:
    return Voice(f"espeak-{variant}", "espeak", "any", gain=1.0, variant=variant, pitch=pitch)


SPEAKERS = (
    Speaker(HIBARI, "en", 1.0, stride=1),
    Speaker(HIBARI, "en", 1.2),
    Speaker(JOE, "en", 1.0, stride=1),
    Speaker(JOE, "en", 1.2),
    Speaker(_espeak("f2", 55), "en", 1.0),
    Speaker(_espeak("m3", 40), "en", 0.9),
    Speaker(_espeak("f4", 60), "en", 1.15),
    Speaker(_espeak("m7", 35), "en", 1.0),
    Speaker(_espeak("f2", 55), "ko", 1.0, stride=1),
    Speaker(_espeak("m3", 40), "ko", 0.9),
    Speaker(_espeak("f4", 50), "ko", 1.15),
)


def readings(held_out: bool = False, speakers: Sequence[Speaker] = SPEAKERS) -> Iterator[Reading]:
    """Every speaker's share of the sentences; with `held_out`, those that nothing is trained on, all of them at each speaker's pace."""
    onnxruntime.set_seed(0)  # piper's network draws its own noise
    espeak_library.load()  # it seeds itself with the clock
    ctypes.CDLL(espeakng_loader.get_library_path()).espeak_ng_SetRandSeed(ctypes.c_long(1))
    engines: dict[str, VoiceEngine] = {"hibari": HibariEngine(), "piper": PiperEngine(), "espeak": EspeakEngine()}
    for number, speaker in enumerate(speakers):
        sentences: Sequence[str]
        if held_out:
            sentences = HELD_OUT_KOREAN if speaker.language == "ko" else HELD_OUT_ENGLISH
        else:
            sentences = (KOREAN if speaker.language == "ko" else ENGLISH)[number % speaker.stride :: speaker.stride]
        for sentence in sentences:
            take = joined(engines[speaker.voice.engine].speak(sentence, speaker.voice, speaker.language, speaker.speed))
            yield Reading(speaker.name, take.pcm, take.phonemes)
