from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from museserve.speech.text.hangul import compose, romanize
from museserve.speech.text.lexicon import Lexicon
from museserve.speech.text.normalize import normalize
from museserve.speech.text.transliterate import say_identifier, say_word

LEXICON = Lexicon.load()


def korean(text: str) -> str:
    return normalize(text, "ko", LEXICON).text


def english(text: str) -> str:
    return normalize(text, "en", LEXICON).text


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        # native series
        ("3개", "세 개"),
        ("서버 3대와 사과 12개", "서버 세 대와 사과 열두 개"),
        ("3 개", "세 개"),
        ("20살이고", "스무 살이고"),
        ("21살", "스물한 살"),
        ("개발자 5명이", "개발자 다섯 명이"),
        ("2가지", "두 가지"),
        ("3번 했습니다", "세 번 했습니다"),
        ("1번째, 2번째, 11번째", "첫 번째, 두 번째, 열한 번째"),
        ("2배, 10배", "두 배, 열 배"),
        ("99개, 100개, 103개", "아흔아홉 개, 백 개, 백세 개"),
        ("4시간", "네 시간"),
        # Sino-Korean series
        ("3년차", "삼 년차"),
        ("3개월", "삼 개월"),
        ("24시간", "이십사 시간"),
        ("20대", "이십 대"),
        ("4대 보험", "사 대 보험"),
        ("1위", "일 위"),
        ("2단계", "이 단계"),
        ("1차 면접", "일 차 면접"),
        ("문제 3번", "문제 삼 번"),
        ("3번 문제", "삼 번 문제"),
        ("제2장", "제이장"),
        ("30분", "삼십 분"),
        # dates and times
        ("3시 30분", "세 시 삼십 분"),
        ("15:30에", "십오 시 삼십 분에"),
        ("2024년 3월 5일", "이천이십사년 삼월 오일"),
        ("6월과 10월", "유월과 시월"),
        ("2024-03-15에", "이천이십사년 삼월 십오일에"),
        ("1990년대", "천구백구십년대"),
        # numbers
        ("0", "영"),
        ("1,234원", "천이백삼십사 원"),
        ("3만 원", "삼만 원"),
        ("1만 명", "만 명"),
        ("1억 2천만 원", "일억 이천만 원"),
        ("10000", "만"),
        ("110000", "십일만"),
        ("3.14", "삼 점 일사"),
        ("3.5배", "삼 점 오 배"),
        ("-5도", "영하 오 도"),
        ("007", "공공칠"),
        ("1/2", "이분의 일"),
        ("½", "이분의 일"),
        ("3:2", "삼 대 이"),
        ("１２개", "열두 개"),
        ("010-1234-5678", "공일공, 일이삼사, 오육칠팔"),
        ("3은 4보다 작다", "삼은 사보다 작다"),
        # units and money
        ("10%", "십 퍼센트"),
        ("99.9%의", "구십구 점 구 퍼센트의"),
        ("5km", "오 킬로미터"),
        ("16GB", "십육 기가바이트"),
        ("100 ms", "백 밀리초"),
        ("25°C", "섭씨 이십오 도"),
        ("3x", "세 배"),
        ("$100", "백 달러"),
        ("₩5,000", "오천 원"),
        # ranges
        ("3~5년", "삼에서 오 년"),
        ("3-5년", "삼에서 오 년"),
        ("3~5개", "세 개에서 다섯 개"),
        ("10~20%", "십에서 이십 퍼센트"),
        ("2019~2021년", "이천십구에서 이천이십일년"),
        # English inside Korean
        ("AWS를", "에이더블유에스를"),
        ("REST API는", "레스트 에이피아이는"),
        ("O(n log n)은", "오 엔 로그 엔은"),
        ("O(n^2)과 O(1)", "오 엔 제곱과 오 일"),
        ("O(n²)과 O(²)", "오 엔 제곱과 오 제곱"),
        ("O(V + E)", "오 브이 플러스 이"),
        ("O(2^n)", "오 이의 엔 제곱"),
        ("C++로", "씨 플러스 플러스로"),
        ("C#", "씨 샵"),
        ("CI/CD", "씨아이 씨디"),
        ("Node.js와 K8s", "노드제이에스와 쿠버네티스"),
        ("TypeScript와 React", "타입스크립트와 리액트"),
        ("BFS와 DFS", "비에프에스와 디에프에스"),
        ("APIs", "에이피아이스"),
        ("S3와 EC2", "에스 쓰리와 이씨 투"),
        ("p99", "피 구십구"),
        ("Python 3.11", "파이썬 삼 점 십일"),
        ("v2.0", "버전 이 점 영"),
        ("192.168.0.1", "백구십이 점 백육십팔 점 영 점 일"),
        ("getUserName 함수", "겟 유저 네임 함수"),
        ("A & B", "에이 앤드 비"),
        ("β 버전", "베타 버전"),
        ("café", say_identifier("cafe")),
        ("i++와 A+를", "아이 플러스 플러스와 에이 플러스를"),
        ("SELECT * FROM", "셀렉트 프롬"),
        ("RxJava", "알엑스 자바"),
        ('"실패"란', "실패란"),
        ("가용성(SLA)을", "가용성 에스엘에이을"),
        # particles stay as they are written, right or wrong
        ("SQL을 Docker을", "에스큐엘을 도커을"),
    ],
)
def test_korean(written: str, spoken: str) -> None:
    assert korean(written) == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        (
            "최근 3년 동안 AWS에서 운영하신 서비스 2개 중 하나를 소개해 주세요.",
            "최근 삼 년 동안 에이더블유에스에서 운영하신 서비스 두 개 중 하나를 소개해 주세요.",
        ),
        ("HashMap의 조회는 왜 평균 O(1)인가요?", "해시맵의 조회는 왜 평균 오 일인가요?"),
        ("응답 시간을 200ms에서 50ms로 75% 줄이셨네요?", "응답 시간을 이백 밀리초에서 오십 밀리초로 칠십오 퍼센트 줄이셨네요?"),
        ("오후 2시 30분까지 5분 남았습니다.", "오후 두 시 삼십 분까지 오 분 남았습니다."),
        ("초당 10만 건의 요청을 서버 4대로 처리했다고요?", "초당 십만 건의 요청을 서버 네 대로 처리했다고요?"),
        ("TCP와 UDP의 차이를 1분 안에 설명해 주세요.", "티씨피와 유디피의 차이를 일 분 안에 설명해 주세요."),
    ],
)
def test_korean_questions(written: str, spoken: str) -> None:
    assert korean(written) == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("It runs in O(n log n).", "It runs in O of n log n."),
        ("Is it O(n^2) or O(1)?", "Is it O of n squared or O of 1?"),
        ("Do you know C++, C# and Node.js?", "Do you know C++, C sharp and Node J S?"),
        ("Cache it, e.g. in Redis, i.e. memory.", "Cache it, for example in Redis, that is memory."),
        ("It got 3x faster for 10k users.", "It got 3 times faster for 10 thousand users."),
        ("about .5 seconds , ok", "about .5 seconds, ok"),
        ("See https://example.com/docs.", "See example dot com slash docs."),
        ("Mail me@example.com", "Mail me at example dot com"),
        ("Open main.py, then run it.", "Open main dot pie, then run it."),
        ("From A -> B", "From A to B"),
        ("if x <= y", "if x is less than or equal to y"),
        ("Python 3.11 or v2.0", "Python 3 point 11 or v2 point 0"),
        ("at 192.168.0.1", "at 192 dot 168 dot 0 dot 1"),
        ("call getUserName()", "call getUserName"),
        ("What does 안녕 mean?", "What does annyeong mean?"),
        ("Is CI/CD on K8s hard?", "Is C I, C D on koober netties hard?"),
        # the voice reads these itself
        ("It costs $5.5M, 99.9% or 1/2, in 2024.", "It costs 5.5 million dollars, 99.9% or one half, in 2024."),
        ("A REST API on AWS with SQL and 16ms for 5GB", "A REST API on AWS with SQL and 16 milliseconds for 5 gigabytes"),
        ("3-5 years since March 5th at 10:30 AM", "3 to 5 years since March 5th at 10:30 AM"),
    ],
)
def test_english(written: str, spoken: str) -> None:
    assert english(written) == spoken


def test_other_languages_only_lose_what_cannot_be_spoken() -> None:
    assert normalize("¿Cuántos **años** 😀 tiene, 30?", "es", LEXICON).text == "¿Cuántos años tiene, 30?"


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("약 12% 증가", "ko", [("약", "약"), ("12%", "십이 퍼센트"), ("증가", "증가")]),
        ("3 개와 O(n log n)은?", "ko", [("3", "세"), ("개와", "개와"), ("O(n log n)은?", "오 엔 로그 엔은?")]),
        ("그것은 — 네, REST API입니다.", "ko", [("그것은 —", "그것은,"), ("네,", "네,"), ("REST API입니다.", "레스트 에이피아이입니다.")]),
        ("10k users - see a.b.com", "en", [("10k", "10 thousand"), ("users -", "users -"), ("see", "see"), ("a.b.com", "a.b.com")]),
        ("« oui »", "fr", [("« oui »", "oui »")]),
    ],
)
def test_each_written_word_keeps_its_place(text: str, language: str, words: list[tuple[str, str]]) -> None:
    spoken = normalize(text, language, LEXICON)
    assert [(written, spoken.text[a:b]) for written, (a, b) in spoken.words] == words


ENGLISH_WORDS = """
    server 서버|cluster 클러스터|container 컨테이너|latency 레이턴시|cache 캐시|thread 스레드|
    process 프로세스|manager 매니저|system 시스템|design 디자인|pattern 패턴|factory 팩토리|
    index 인덱스|table 테이블|class 클래스|object 오브젝트|event 이벤트|effect 이펙트|
    render 렌더|router 라우터|middleware 미들웨어|framework 프레임워크|browser 브라우저|token 토큰|
    packet 패킷|header 헤더|request 리퀘스트|response 리스폰스|status 스테이터스|stream 스트림|
    topic 토픽|partition 파티션|release 릴리스|version 버전|commit 커밋|merge 머지|
    coverage 커버리지|project 프로젝트|market 마킷|customer 커스터머|mission 미션|interview 인터뷰|
    question 퀘스천|desk 데스크|cat 캣|color 컬러|film 필름|queen 퀸|
    whisper 위스퍼|node 노드|language 랭귀지|memory 메모리|concurrency 컨커런시|embedding 임베딩|
    throughput 스루풋
"""


@pytest.mark.parametrize(("word", "hangul"), [pair.split() for pair in ENGLISH_WORDS.split("|")])
def test_english_words_in_hangul(word: str, hangul: str) -> None:
    assert say_word(word) == hangul


@pytest.mark.parametrize(
    ("token", "hangul"),
    [
        ("AWS", "에이더블유에스"),
        ("npm", "엔피엠"),
        ("HTTPServer", "에이치티티피 서버"),
        ("x86", "엑스 팔십육"),
        ("blorp", "블로프"),  # in no list: by spelling
        ("grafting", "그래프팅"),
    ],
)
def test_identifiers_in_hangul(token: str, hangul: str) -> None:
    assert say_identifier(token) == hangul


def test_hangul_letters() -> None:
    assert compose("ㅎ", "ㅏ", "ㄴ") == "한"
    assert romanize("독립문 a") == "dokribmun a".replace("b", "p")


ANY_TEXT = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="가3개년시%~-–/.,:()[]O^n+*#@$₩ \nkmGBxAWSaé½²１", max_size=60),
    st.lists(
        st.sampled_from("3개 3~5년 1/2 12:30 AWS를 C++ O(n) 10% — ... 😀 010-1234-5678 v1.2 a->b 1,234원 ② https://a.b/c".split()), max_size=8
    ).map(" ".join),
)


@settings(max_examples=400)
@given(ANY_TEXT, st.sampled_from(["ko", "en", "es", "ar"]))
def test_any_text_can_be_spoken(text: str, language: str) -> None:
    spoken = normalize(text, language, LEXICON)
    at = 0
    for written, (start, end) in spoken.words:
        assert written == " ".join(written.split()) != ""
        assert at <= start < end <= len(spoken.text)
        at = end
    between = list(spoken.text)
    for _, (start, end) in spoken.words:
        between[start:end] = " " * (end - start)
    assert not any(char.isalnum() for char in between)
    assert bool(spoken.words) == any(char.isalnum() for char in spoken.text)


@settings(max_examples=400)
@given(ANY_TEXT)
def test_korean_leaves_no_digit_and_no_latin_letter(text: str) -> None:
    spoken = korean(text)
    assert re.search(r"[\dA-Za-z]", spoken) is None


@given(st.text(alphabet="가나다뭘요 .,?!“”—…😀\n()#"))
def test_korean_without_numbers_keeps_every_syllable(text: str) -> None:
    assert [char for char in korean(text) if char.isalpha()] == [char for char in text if char.isalpha()]


@pytest.mark.parametrize("letters", ["aceksz", "aouchtq", "eiycgsh", "aebdfjlm", "ounprvwx"])
def test_no_row_of_letters_is_an_error(letters: str) -> None:
    for row in itertools.product(letters, repeat=4):
        say_word("".join(row))


@settings(max_examples=200)
@given(ANY_TEXT)
def test_spoken_korean_is_its_own_spoken_form(text: str) -> None:
    once = korean(text)
    assert [char for char in korean(once) if char.isalnum()] == [char for char in once if char.isalnum()]
