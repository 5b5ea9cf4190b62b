"""What is filmed: interview questions in two languages, three faces, and speech that comes as sound alone."""

from __future__ import annotations

from dataclasses import dataclass

SILENCE_S = 4.0  # of silence after the last word, so that rest can be judged


@dataclass(frozen=True)
class Case:
    """One film. sound_only: the speech is uploaded as an MP3, so no phonemes are known. photo: the face is an ordinary photograph."""

    id: str
    avatar: str
    text: str
    gender: str
    sound_only: bool = False

    @property
    def voice(self) -> str:
        return "onyx" if self.gender == "male" else "nova"


PHOTO = "photograph"

WELCOME = (
    "Good morning, and thank you for coming in today. My name is Emma, and I will be your interviewer. "
    "Before we begin, could you briefly tell me about a project you are proud of?"
)
TEAM = (
    "Imagine that two members of your team disagree about a problem in production. "
    "What would you do first, and how would you make both of them feel heard? Please give me an example from your own past."
)
BUG = (
    "Let's move on to something more technical. Suppose a web page becomes slow every Monday morning. "
    "Which measurements would you look at, and what would you expect to find?"
)
BACKUP = (
    "Perhaps the most important part of my job is to prepare for bad days. "
    "When did you last bring back a broken database from a backup, and how long did the whole process take?"
)
FUTURE = (
    "We have about five minutes left. Where do you want to be in three years, and what would help you most to get there? "
    "Feel free to be honest, nobody expects a perfect plan."
)
QUESTIONS = (
    "Why did you apply for this position? And which of your former employers would you happily work for again? "
    "Have a moment to think about it if you wish, there is no hurry at all."
)
INTRO_KO = (
    "안녕하세요, 오늘 면접에 와 주셔서 감사합니다. 먼저 간단하게 자기소개를 부탁드립니다. 그리고 우리 회사에 지원하게 된 이유도 함께 말씀해 주세요."
)
PROJECT_KO = (
    "가장 기억에 남는 프로젝트는 무엇이었습니까? "
    "그 프로젝트에서 맡은 역할과 어려웠던 문제, 그리고 그 문제를 어떻게 해결했는지 설명해 주시기 바랍니다."
)
CONFLICT_KO = (
    "팀 동료와 의견이 맞지 않을 때 보통 어떻게 행동하십니까? "
    "최근에 겪은 일을 예로 들어서 편하게 말씀해 주세요. "
    "부담 갖지 마시고 천천히 답변하시면 됩니다."
)
PLAN_KO = (
    "입사 후 일 년 동안 이루고 싶은 목표는 무엇입니까? 마지막으로 저희에게 궁금한 점이 있으면 무엇이든 물어보시기 바랍니다. 오늘 수고 많으셨습니다."
)

CASES = (
    Case("woman-en-1", "woman", WELCOME, "female"),
    Case("woman-en-2", "woman", BUG, "female"),
    Case("woman-en-3", "woman", BACKUP, "female"),
    Case("woman-ko-1", "woman", INTRO_KO, "female"),
    Case("woman-ko-2", "woman", CONFLICT_KO, "female"),
    Case("man-en-1", "man", TEAM, "male"),
    Case("man-en-2", "man", FUTURE, "male"),
    Case("man-ko-1", "man", PROJECT_KO, "male"),
    Case("man-ko-2", "man", PLAN_KO, "male"),
    Case("photo-en", PHOTO, QUESTIONS, "female"),
    Case("photo-ko", PHOTO, INTRO_KO, "female"),
    Case("woman-en-mp3", "woman", TEAM, "female", sound_only=True),
    Case("man-ko-mp3", "man", CONFLICT_KO, "male", sound_only=True),
)
QUICK = ("woman-en-1", "man-ko-1", "woman-en-mp3")

LONG = Case("woman-5-min", "woman", " ".join([WELCOME, BUG, TEAM, BACKUP, FUTURE, QUESTIONS] * 6), "female")
