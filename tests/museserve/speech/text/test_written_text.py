"""What people paste: CVs, job adverts, chats and web pages, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from museserve.speech.text import sentences
from museserve.speech.text.lexicon import Lexicon
from museserve.speech.text.normalize import normalize

LEXICON = Lexicon.load()


def said(text: str) -> str:
    """All of its clauses, as a voice is given them."""
    return " ".join(normalize(clause.text, clause.language, LEXICON).text for clause in sentences.split(text))


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        # a number before a word that merely begins like a counter
        ("Java 17 대신 Java 8 개선을 했습니다.", "자바 십칠 대신 자바 팔 개선을 했습니다."),
        ("iOS 18 개발자입니다.", "아이오에스 십팔 개발자입니다."),
        ("Vue 3 개요를 설명해 주세요.", "뷰 삼 개요를 설명해 주세요."),
        ("서버 3 대를 씁니다.", "서버 세 대를 씁니다."),
        ("2 개씩 3 번 했습니다.", "두 개씩 세 번 했습니다."),
        ("N+1 문제와 K+2 번째", "엔 플러스 일 문제와 케이 플러스 이 번째"),
        ("500번 에러와 302번 응답", "오백 번 에러와 삼백이 번 응답"),
        # dates and times
        ("2025. 3. 17. 오전에 만나요.", "이천이십오년 삼월 십칠일 오전에 만나요."),
        ("2019.07 ~ 2021.12 근무", "이천십구년 칠월에서 이천이십일년 십이월 근무"),
        ("2020.06부터 일했습니다.", "이천이십년 유월부터 일했습니다."),
        ("6/9(월)에 봅시다.", "유월 구일 월요일에 봅시다."),
        ("24.02.01에 입사했습니다.", "이십사년 이월 일일에 입사했습니다."),
        ("파이썬 3.11.4를 씁니다.", "파이썬 삼 점 십일 점 사를 씁니다."),
        ("1/4분기와 4/4 분기", "일사분기와 사사분기"),
        ("3/4을 마쳤습니다.", "사분의 삼을 마쳤습니다."),
        # phones
        ("(031) 789-0123입니다.", "공삼일, 칠팔구, 공일이삼입니다."),
        ("02)555-1234로", "공이, 오오오, 일이삼사로"),
        ("+82-2-555-1234로", "국가번호 팔이, 이, 오오오, 일이삼사로"),
        # signs
        ("33㎡와 12㎜, 5㎾", "삼십삼 제곱미터와 십이 밀리미터, 오 킬로와트"),
        ("㈜푸른하늘 대표", "주식회사 푸른하늘 대표"),
        ("△7%와 ▲8%", "마이너스 칠 퍼센트와 팔 퍼센트"),
        ("Ⅳ. 경력 Ⅲ장", "사. 경력 삼장"),
        ("2¹⁰과 CO₂", "이의 십 제곱과 씨오투"),
        ("10⁻³초", "십의 마이너스 삼 제곱초"),
        ("5G와 8K 영상", "파이브지와 에잇케이 영상"),
        # Hanja
        ("現 직장과 新 제품", "현 직장과 신 제품"),
        ("지원동기(志願動機)는?", "지원동기는?"),
        ("女子 勞動者의 比率", "여자 노동자의 비율"),
        # comparisons, formulas
        ("a >= 3이면 x < 10인", "에이가 삼보다 크거나 같으면 엑스가 십보다 작은"),
        ("n > 0일 때", "엔이 영보다 클 때"),
        ("i<n인 동안 List<int>와 Map<String, Integer>를", "아이가 엔보다 작은 동안 리스트 인트와 맵 스트링, 인테저를"),
        (r"$x^2 + 1$과 $\frac{3}{4}$", "엑스 제곱 플러스 일과 사분의 삼"),
        (r"$\sqrt{n}$번", "루트 엔번"),
        ("가격은 $5, 배송은 $3입니다.", "가격은 오 달러, 배송은 삼 달러입니다."),
        # markup
        ("<p>첫째</p><p>둘째 &amp; 셋째</p>", "첫째 둘째 앤드 셋째"),
        ('<speak>네<break time="1s"/>좋아요</speak>', "네 좋아요"),
        ("List<String>과 <strong>강조</strong>", "리스트 스트링과 강조"),
        ('[문서](https://example.org/a_(b) "제목")를 보세요.', "문서를 보세요."),
        # what is written for other readers
        ("시속 60km/h, 초속 5m/s, 80km/h", "시속 육십 킬로미터, 초속 오 미터, 시속 팔십 킬로미터"),
        ("(주)푸른하늘과 푸른나무(주)", "주식회사 푸른하늘과 푸른나무 주식회사"),
        ("1권에서 배우고 책 3권을 읽었습니다.", "일 권에서 배우고 책 세 권을 읽었습니다."),
        ("119에 신고하고 120번으로 문의하세요.", "일일구에 신고하고 일이공번으로 문의하세요."),
        ("25/11/29(토)에 '24.3월 자료를", "이십오년 십일월 이십구일 토요일에 이십사년 삼월 자료를"),
        ("ㄱㄴㄷ 순서와 ㅋㅋㅋ", "기역 니은 디귿 순서와 ㅋㅋㅋ"),
        ("10%~20%, 영하 -5℃~3℃", "십 퍼센트에서 이십 퍼센트, 영하 섭씨 영하 오 도에서 섭씨 삼 도"),
        ("hghe와 zqkw", "에이치지에이치이와 제트큐케이더블유"),
    ],
)
def test_korean(written: str, spoken: str) -> None:
    assert said(written) == spoken


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("About 2~4 weeks, 10–12 people, 2015-2019.", "About 2 to 4 weeks, 10 to 12 people, twenty fifteen to twenty nineteen."),
        ("What if 2 < 3 and n >= 10?", "What if 2 is less than 3 and n is greater than or equal to 10?"),
        ("People in their 20s with an iPhone 5s waited 1.2s.", "People in their 20s with an iPhone 5s waited 1.2 seconds."),
        ("Use Map<String, Integer> or List<int> while i<n.", "Use Map String, Integer or List int while i is less than n."),
        ("It is $5 = ₩7,000, or $6.", "It is 5 dollars = 7,000 wahn, or 6 dollars."),
        ("It handles 10³ and 2¹⁰ rows.", "It handles 10 cubed and 2 to the power of 10 rows."),
        ("<b>Bold</b> &quot;R&amp;D&quot; &lt; 5", 'Bold "R&D" is less than 5'),
        (r"Is $\frac{n}{2}$ or $x^2$ larger?", "Is n over 2 or x to the power of 2 larger?"),
        ("Call 02-345-6789 or +1 555 010 9999.", "Call 0 2, 3 4 5, 6 7 8 9 or plus 1, 5 5 5, 0 1 0, 9 9 9 9."),
        ("I am 6'1\" and paid US$1.50, €3M and ₩45,000.", "I am 6 feet 1 inch and paid 1 dollar and 50 cents, 3 million euros and 45,000 wahn."),
        ("A ratio of 4:1, on 21:9, at 3:15 PM.", "A ratio of 4 to 1, on 21 to 9, at 3:15 PM."),
        ("A 4K video of 8K, at 2e-3.", "A 4 K video of 8 K, at 2 times 10 to the power of minus 3."),
        ("Since 2024.03.09 or 2026-12-05.", "Since March ninth, twenty twenty four or December fifth, twenty twenty six."),
        ("In the 1990s, 2/3 of World War II films, 8/10.", "In the nineteen nineties, two thirds of World War 2 films, 8 out of 10."),
        ("It has 12_500_000 rows at 90 km/h and 1 kg.", "It has 12,500,000 rows at 90 kilometers per hour and 1 kilogram."),
        ("Python 3.11 at 10.0.0.1, v2.5, 9-to-5.", "Python 3 point 11 at 10 dot 0 dot 0 dot 1, v2 point 5, 9-to-5."),
        ("A range of $5 to $10, or 24/7.", "A range of 5 dollars to 10 dollars, or twenty four seven."),
        ("Dr. Lee and Mr. Kim, on Jan. 5 at Baker St.", "Doctor Lee and Mister Kim, on January 5 at Baker Street"),
        ("It took 1.2s. See the README.", "It took 1.2 seconds. See the read me."),
        (f"The number {'7' * 40} is long.", f"The number {' '.join('7' * 40)} is long."),
        ("The area is 84㎡.", "The area is 84 square meters."),
        # what is written for other readers
        ("At 8:00 or 12:01am, 9:00 PM.", "At 8 o'clock or 12 oh 1am, 9 PM."),
        ("It takes 2-3 mins or 5-10 kg.", "It takes 2 to 3 minutes or 5 to 10 kilograms."),
        ("A 2x4 on Sunset Blvd in the '80s.", "A 2 by 4 on Sunset Boulevard in the eighties."),
        ("Part V, Act I and an IV line.", "Part 5, Act 1 and an I V line."),
        ("In 1920 and 1908, 50:50.", "In nineteen twenty and nineteen oh eight, 50 to 50."),
        ("See vol.3, p. 12 and Nos. 1-3.", "See volume 3, page 12 and Numbers 1 to 3."),
        ("Is O(n) better than O(√n)?", "Is O of n better than O of root n?"),
    ],
)
def test_english(written: str, spoken: str) -> None:
    assert said(written) == spoken


def test_words_of_what_is_marked_up_are_shown_as_they_are_read() -> None:
    (clause,) = sentences.split("<p>R&amp;D <b>팀</b>을 소개해 주세요</p>")
    assert clause.text == "R&D 팀을 소개해 주세요"
    assert [word for word, _ in normalize(clause.text, "ko", LEXICON).words] == ["R&D", "팀을", "소개해", "주세요"]


def corpus(name: str) -> list[list[str]]:
    lines = (Path(__file__).parent / "corpus" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("name", ["ko", "en"])
def test_interview_questions(name: str) -> None:
    wrong = {written: said(written) for written, spoken in corpus(name) if said(written) != spoken}
    assert not wrong and len(corpus(name)) >= 200
