"""The page at `/` in headless Chromium, against the real service: an interview is set up, held and read again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Dialog, Page, Route, WebSocketRoute, expect

from deployments.ingress import page as web
from tests.web.browser import until
from tests.web.line import Line

pytestmark = [pytest.mark.serve, pytest.mark.browser]

ROOT = Path(__file__).resolve().parent.parent.parent
PORTRAIT = ROOT / "musetalk" / "avatars" / "shipped" / "interviewer_woman" / "portrait.png"
PLAYER = "document.getElementById('player')"
VIDEO = f"{PLAYER}.shadowRoot.querySelector('video')"
SHORT = ["Why do you test?", "What comes first?"]
LONG = [
    "Tell me about a project you are proud of, and what was hard about it.",
    "What did you learn from it, and what would you do differently today?",
]


@pytest.fixture
def open_page(browser, service) -> Iterator[Callable[..., Page]]:
    """Opens the page as a fresh visitor with two short questions. What the console complained of is collected in `page.complaints`."""
    contexts = []

    def opened(
        *,
        locale: str = "en-US",
        width: int = 1280,
        height: int = 800,
        url: str = "",
        questions: list[str] | None = SHORT,
        before: Callable[[Page], None] | None = None,
        wait_until: str = "load",
        **options: object,
    ) -> Page:
        context = browser.new_context(locale=locale, viewport={"width": width, "height": height}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        if questions is not None:
            stored = json.dumps(json.dumps({"questions": questions}))
            page.add_init_script(f"localStorage.getItem('museserve.page') ?? localStorage.setItem('museserve.page', {stored})")
        if before:
            before(page)
        page.goto(f"{url or service.url}/", wait_until=wait_until)
        return page

    yield opened
    for context in contexts:
        context.close()


def wait_for(page: Page, state: str) -> None:
    """Of the interview: preparing, asking, listening, trouble."""
    until(page, f"document.getElementById('interview').dataset.state === '{state}'")  # `expect` looks too rarely for a short question


def alive(page: Page) -> None:
    until(page, f"{PLAYER}.state === 'idle' && {VIDEO}.currentTime > 0")


def test_interviewer_lives_asks_and_listens_without_a_complaint(open_page) -> None:
    page = open_page(questions=LONG)
    alive(page)
    early = page.evaluate(f"{VIDEO}.currentTime")
    until(page, f"{VIDEO}.currentTime > {early} + 0.3")
    page.click("#begin")
    wait_for(page, "asking")
    expect(page.locator("#question")).to_have_text(LONG[0])
    early = page.evaluate(f"{VIDEO}.currentTime")
    until(page, f"{VIDEO}.currentTime > {early} + 0.3")
    wait_for(page, "listening")
    expect(page.locator("#timer")).to_have_text("0:01", timeout=5_000)
    assert page.evaluate(f"{VIDEO}.buffered.length") == 1
    assert page.evaluate(f"{PLAYER}.unlocked && !{VIDEO}.muted")
    expect(page.locator("#notice")).to_be_hidden()
    assert page.complaints == []


SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const { value, hadRecentInput } of list.getEntries()) if (!hadRecentInput) shifted += value;
}).observe({ type: "layout-shift", buffered: true });
"""


def test_nothing_jumps_when_words_and_people_and_notices_come_late(open_page) -> None:
    """On a slow line the page is painted before its script runs. By the measure of Core Web Vitals, of which 0.1 is called good."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    def before(page: Page) -> None:
        page.add_init_script(SHIFTS)
        page.route(re.compile(r"/app(-\w+)?\.js$"), hold)

    page = open_page(width=412, height=823, questions=None, before=before, wait_until="commit")
    until(page, "performance.getEntriesByType('paint').some(({ name }) => name === 'first-contentful-paint')")
    (script,) = held
    script.continue_()
    alive(page)
    expect(page.locator("#interviewers img")).to_have_count(2)
    page.evaluate(f"{PLAYER}.dispatchEvent(new CustomEvent('notice', {{ detail: {{ code: 'reconnecting', message: '' }} }}))")
    expect(page.locator("#notice")).to_be_in_viewport(ratio=1)
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    assert page.evaluate("shifted") < 0.03


def test_a_notice_is_in_sight_whatever_the_screen(open_page) -> None:
    for width, height in ((1280, 800), (390, 844), (844, 390)):
        page = open_page(questions=[LONG[0]], width=width, height=height)
        page.click("#begin")
        wait_for(page, "asking")
        page.evaluate(f"{PLAYER}.dispatchEvent(new CustomEvent('notice', {{ detail: {{ code: 'reconnecting', message: '' }} }}))")
        expect(page.locator("#notice")).to_be_in_viewport(ratio=1)
        expect(page.locator("#interrupt")).to_be_in_viewport(ratio=1)


def test_the_interview_can_be_begun_without_scrolling(open_page) -> None:
    for width, height in ((1280, 800), (390, 844), (844, 390)):
        page = open_page(questions=None, width=width, height=height)
        expect(page.locator("#begin")).to_be_in_viewport(ratio=1)


# --- keyboard ----------------------------------------------------------------------------------------------------------------


def tab_to(page: Page, selector: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none' || document.activeElement.matches('textarea')")
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_whole_interview_by_keyboard_alone(open_page, tmp_path: Path) -> None:
    page = open_page(questions=[LONG[0], "Away with it?", "Last?"])
    alive(page)
    key = page.keyboard
    tab_to(page, "#interviewers input")
    key.press("ArrowDown")
    until(page, f"{PLAYER}.avatar === 'interviewer_man' || {PLAYER}.avatar === 'interviewer_woman'")
    tab_to(page, "#questions li:nth-child(2) textarea")
    key.press("Control+a")
    key.press("Delete")
    key.press("Backspace")
    expect(page.locator("#questions li")).to_have_count(2)
    assert page.evaluate("document.activeElement.value") == "Last?"
    key.press("Enter")
    key.type("Why here?")
    key.press("Alt+ArrowUp")
    tab_to(page, "#questions li:nth-child(3) .tool[aria-label='Remove question 3']")
    key.press("Enter")
    assert page.evaluate("[...document.querySelectorAll('#questions textarea')].map((field) => field.value)") == [LONG[0], "Why here?"]

    tab_to(page, "#begin")
    key.press("Enter")
    assert page.evaluate("document.activeElement.id") == "step"
    wait_for(page, "listening")
    expect(page.locator("#announcer")).to_have_text("Your turn. Take your time.")
    tab_to(page, "#repeat")
    key.press("Enter")
    expect(page.locator("#interview")).not_to_have_attribute("data-state", "listening")
    key.press("Escape")
    wait_for(page, "listening")
    key.press("Shift+Tab")
    assert page.evaluate("document.activeElement.id") == "next"
    key.press("Enter")
    expect(page.locator("#question")).to_have_text("Why here?")
    wait_for(page, "listening")
    assert page.evaluate("document.activeElement.id") == "next", "the focus went to the button that took the place of the other, and back"
    expect(page.locator("#next")).to_have_text("Finish")
    key.press("Enter")
    assert page.evaluate("document.activeElement.id") == "finish-title"

    saved = {}
    for kind in ("text", "vtt"):
        tab_to(page, f"#save-{kind}")
        with page.expect_download() as download:
            key.press("Enter")
        saved[kind] = (name := download.value.suggested_filename, Path(download.value.path()).read_text(encoding="utf-8"))
        assert name.endswith({"text": ".txt", "vtt": ".vtt"}[kind])
    assert re.search(r"\[00:\d\d\] 1\. Tell me .+\n +Answer: 00:\d\d · Repeated once\n\n\[00:\d\d\] 2\. Why here\?", saved["text"][1])
    cues = re.findall(r"(\d\d:\d\d:\d\d\.\d{3}) --> (\d\d:\d\d:\d\d\.\d{3})\n<v [^>]+>(.+)\n", saved["vtt"][1])
    assert saved["vtt"][1].startswith("WEBVTT\n\n") and [text for *_, text in cues] == [LONG[0], "Why here?"]
    assert cues[0][0] < cues[0][1] <= cues[1][0] < cues[1][1]
    assert page.complaints == []


@pytest.mark.slow
def test_changes_of_the_list_can_be_undone(open_page) -> None:
    page = open_page()
    values = "[...document.querySelectorAll('#questions textarea')].map((field) => field.value)"
    page.check("#roles input[value=backend]")
    assert len(page.evaluate(values)) == 5
    page.click("#undo button")
    assert page.evaluate(values) == SHORT
    page.hover("#questions li:first-child")
    page.click("#questions li:first-child .tool >> nth=2")
    assert page.evaluate(values) == SHORT[1:]
    page.click("#undo button")
    page.click("#add-question")
    page.keyboard.type("One more?")
    page.reload()
    expect(page.locator("#begin-count")).to_have_text("3 questions")
    assert page.evaluate(values) == [*SHORT, "One more?"]


def test_empty_list_is_not_begun(open_page) -> None:
    page = open_page(questions=[""])
    page.click("#begin")
    expect(page.locator("#setup-problem")).to_have_text("Write at least one question first.")
    assert page.evaluate("document.activeElement.matches('#questions textarea')")
    expect(page.locator("#interview")).to_be_hidden()


# --- languages, captions, motion ----------------------------------------------------------------------------------------------


def test_korean_visitor_gets_korean_and_may_switch(open_page) -> None:
    page = open_page(locale="ko-KR", questions=None)
    expect(page.locator("#begin")).to_contain_text("면접 시작하기")
    assert page.get_attribute("html", "lang") == "ko"
    assert "말씀해 주세요" in page.input_value("#questions li:first-child textarea")
    page.click("#begin")
    wait_for(page, "asking")
    expect(page.locator("#state")).to_have_text("질문하는 중")
    page.click("[data-language=en]")
    expect(page.locator("#state")).to_have_text("Asking")
    assert page.get_attribute("html", "lang") == "en"
    assert "말씀해 주세요" in page.inner_text("#question"), "the interview goes on in its own language"
    page.click("#end")
    page.click("#back")
    page.check("#interview-languages input[value=en]")
    assert page.input_value("#questions li:first-child textarea").startswith("Please introduce yourself")
    page.check("#interview-languages input[value=ko]")
    expect(page.locator("#begin")).to_contain_text("면접 시작하기")
    page.reload()
    expect(page.locator("#begin")).to_contain_text("면접 시작하기")
    assert page.complaints == []


def test_captions_are_a_track_with_a_size_and_a_switch(open_page) -> None:
    page = open_page(questions=[" ".join(LONG)])
    page.click("#begin")
    wait_for(page, "asking")
    track = f"{VIDEO}.textTracks[0]"
    until(page, f"{track}.cues?.length > 0")
    box = f"{PLAYER}.shadowRoot.querySelector('[part=captions]')"
    until(page, f"{box}.innerText.includes('project')")
    medium = page.evaluate(f"parseFloat(getComputedStyle({box}).fontSize)")
    page.check("#sizes input[value=large]")
    assert page.evaluate(f"parseFloat(getComputedStyle({box}).fontSize)") > medium * 1.2
    words, shown = " ".join(LONG).split(), f"[...{track}.cues].map((cue) => cue.text).join(' ')"
    until(page, f"{shown}.split(/\\s+/).length >= {len(words)}")  # cues come as the voice does
    assert page.evaluate(shown).split() == words
    page.click("#captions")
    until(page, f"!{box}.innerText.trim() || getComputedStyle({box}).display === 'none'")
    assert page.get_attribute("#captions", "aria-pressed") == "false"
    page.click("#written")
    expect(page.locator("#question")).to_have_text("The question is not shown in writing.")
    page.reload()
    assert page.evaluate(f"{PLAYER}.captions") == "off"


def test_reduced_motion_is_still_until_asked(open_page) -> None:
    page = open_page(questions=LONG, reduced_motion="reduce")
    until(page, f"{PLAYER}.state === 'idle'")
    assert page.evaluate(f"!{PLAYER}.moving")
    expect(page.locator("#still-hint")).to_be_visible()
    page.click("#begin")
    wait_for(page, "asking")
    assert page.evaluate(f"!{PLAYER}.moving && {PLAYER}.unlocked")
    page.get_by_role("button", name="Show motion").click()
    assert page.evaluate(f"{PLAYER}.moving")
    page.get_by_role("button", name="Pause motion").click()
    assert page.evaluate(f"!{PLAYER}.moving")
    wait_for(page, "listening")


def test_pace_is_kept_and_bounded(open_page) -> None:
    page = open_page()
    page.click("#begin")
    page.focus("#faster")
    for _ in range(9):
        page.keyboard.press("Enter")
    expect(page.locator("#pace")).to_have_text("1.6×")
    assert page.get_attribute("#faster", "aria-disabled") == "true"
    page.click("#slower")
    assert page.evaluate(f"{PLAYER}.speed") == 1.4


def test_captions_fill_the_width_that_is_there(open_page) -> None:
    """Large ones on a narrow screen: no line of a word that would have had a place in the one before."""
    page = open_page(questions=[LONG[0]], width=360)
    page.evaluate("document.getElementById('player').addEventListener('caption', ({ detail }) => (window.caption = detail))")
    page.click("#begin")
    page.check("#sizes input[value=large]")
    box = f"{PLAYER}.shadowRoot.querySelector('[part=caption]')"
    until(page, f"window.caption?.lines.join(' ').length > 30 && {box}")
    widths = page.evaluate(
        f"""(() => {{
            const words = {box}.firstChild, lines = new Map();
            for (let i = 0; i < words.length; i += 1) {{
                const range = new Range();
                range.setStart(words, i);
                range.setEnd(words, i + 1);
                const {{ top, left, right }} = range.getBoundingClientRect();
                const line = lines.get(Math.round(top)) ?? [left, right];
                lines.set(Math.round(top), [Math.min(left, line[0]), Math.max(right, line[1])]);
            }}
            return [...lines.values()].map(([left, right]) => right - left);
        }})()"""
    )
    assert len(widths) > 1 and min(widths) > 0.5 * max(widths), widths


def test_the_voice_that_speaks_is_named_and_the_korean_one_is_explained_once(open_page) -> None:
    page = open_page(questions=["Why?", "왜 지원하셨나요?", "지원 동기는요?"])
    page.click("#begin")
    wait_for(page, "listening")
    expect(page.locator("#spoken-by")).to_have_text("Voice: Hibari")
    expect(page.locator("#voice-hint")).to_be_hidden()
    page.click("#next")
    expect(page.locator("#spoken-by")).to_have_text("Voice: espeak-ng")
    expect(page.locator("#voice-hint")).to_contain_text("museserve weights download --for voices")
    page.click("#end")
    page.reload()
    page.click("#begin")
    wait_for(page, "listening")
    page.click("#next")
    expect(page.locator("#spoken-by")).to_have_text("Voice: espeak-ng")
    expect(page.locator("#voice-hint")).to_be_hidden()


# --- for everybody, on every screen -------------------------------------------------------------------------------------------


def test_no_serious_violation_in_any_view_or_scheme(open_page, axe: str) -> None:
    page = open_page()
    alive(page)

    def look(view: str) -> None:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.evaluate(axe)
            found = page.evaluate("axe.run(document, { resultTypes: ['violations'] }).then((result) => result.violations)")
            bad = [f"{one['id']}: {[node['target'] for node in one['nodes']]}" for one in found if one["impact"] in ("serious", "critical")]
            assert bad == [], f"{view}, {scheme}"

    page.click("#details summary")
    look("setup")
    page.click("#add-open")
    look("dialog")
    page.click("#add-close")
    page.click("#begin")
    wait_for(page, "listening")
    look("interview")
    page.click("#end")
    look("finish")


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_360_pixels_are_wide_enough(open_page, locale: str) -> None:
    page = open_page(locale=locale, width=360, questions=None)
    alive(page)
    beside = "document.documentElement.scrollWidth"
    assert page.evaluate(beside) == 360
    page.click("#begin")
    wait_for(page, "asking")
    assert page.evaluate(beside) == 360
    expect(page.locator("#frame")).to_be_in_viewport(ratio=0.95)
    expect(page.locator("#interrupt")).to_be_in_viewport(ratio=1)
    page.click("#interrupt")
    page.click("#end")
    page.click("#details summary")
    assert page.evaluate(beside) == 360


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_a_phone_on_its_side_shows_every_button(open_page, locale: str) -> None:
    page = open_page(locale=locale, width=844, height=390, questions=[" ".join(LONG)])
    expect(page.locator("#begin")).to_be_in_viewport(ratio=1)
    page.click("#begin")
    wait_for(page, "asking")
    for name in ("frame", "step", "interrupt", "repeat", "slower", "faster", "written", "barge", "end", "captions", "motion"):
        expect(page.locator(f"#{name}")).to_be_in_viewport(ratio=0.95)
    assert page.evaluate("document.documentElement.scrollWidth") == 844


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844), (844, 390)])
def test_buttons_stay_where_they_are_from_one_question_to_the_next(open_page, width: int, height: int) -> None:
    page = open_page(questions=["Why?", " ".join(LONG), "And?"], width=width, height=height)
    page.click("#begin")
    places = []
    for _ in range(3):
        page.keyboard.press("Escape")
        wait_for(page, "listening")
        names = ("#next", "#repeat") if width < height else ("#next", "#repeat", "#end")  # upright, the others scroll behind them
        places.append([page.locator(name).bounding_box() for name in names])
        shown = page.evaluate("[...document.querySelectorAll('h1')].filter((one) => one.offsetParent).map((one) => one.id)")
        assert shown == ["step"], "one heading of the view"
        if len(places) < 3:
            page.click("#next")
    assert places[0] == places[1] == places[2]


# --- a portrait of one's own ---------------------------------------------------------------------------------------------------


def test_upload_that_is_no_picture_is_told(open_page) -> None:
    page = open_page()
    page.click("#add-open")
    page.set_input_files("#image", files=[{"name": "cv.png", "mimeType": "image/png", "buffer": b"%PDF-1.7\n"}])
    page.click("#add-send")
    expect(page.locator("#report")).to_contain_text("PDF")
    page.click("#add-close")
    assert page.locator("#interviewers input").count() == 2
    assert page.evaluate("document.activeElement.id") == "add-open"


@pytest.mark.slow
def test_upload_becomes_an_interviewer_and_is_removed(open_page) -> None:
    page = open_page()
    alive(page)
    page.click("#add-open")
    page.set_input_files("#image", PORTRAIT)
    page.fill("#name", "Mina")
    page.click("#add-send")
    expect(page.locator("#add-status")).to_have_text("Mina is ready.", timeout=30_000)
    expect(page.locator("#report")).to_be_visible()
    page.get_by_role("button", name="Use Mina").click()
    own = page.locator(".own")
    expect(own).to_contain_text("Mina")
    assert own.locator("input").is_checked()
    alive(page)
    assert page.evaluate(f"{PLAYER}.avatar").startswith("mina")
    own.get_by_role("button").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(own).to_have_count(0)
    assert page.evaluate(f"{PLAYER}.avatar").startswith("interviewer_")
    assert page.complaints == []


# --- an interview that is cut, or left -------------------------------------------------------------------------------------------


def test_a_line_that_is_cut_in_mid_question_is_told_at_once_and_goes_on(open_page, service) -> None:
    line = Line(service.url)
    try:
        page = open_page(questions=[" ".join(LONG) * 3, "Last?"], url=line.url)
        alive(page)
        page.click("#begin")
        wait_for(page, "asking")
        line.cut()
        expect(page.locator("#notice")).to_contain_text("goes on by itself", timeout=3_500)
        line.mend(keep=True)
        expect(page.locator("#notice")).to_be_hidden(timeout=10_000)
        expect(page.locator("#announcer")).to_have_text("The connection is back.")
        assert page.get_attribute("#interview", "data-state") == "asking"
        page.keyboard.press("Escape")
        wait_for(page, "listening")
    finally:
        line.close()


def test_an_interview_goes_on_after_the_page_was_loaded_again(open_page) -> None:
    page = open_page(questions=["Why do you test?", "What comes first?", "And then?"])
    asked: list[str] = []

    def leave(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", leave)
    page.click("#begin")
    wait_for(page, "listening")
    page.click("#next")
    wait_for(page, "listening")
    page.wait_for_timeout(1_200)
    page.reload()
    assert asked == ["beforeunload"], "leaving warns"
    wait_for(page, "paused")
    expect(page.locator("#question")).to_have_text("What comes first?")
    expect(page.locator("#step")).to_have_text("Question 2 of 3")
    expect(page.locator("#setup")).to_be_hidden()
    page.click("#go-on")
    wait_for(page, "listening")
    assert page.evaluate(f"{PLAYER}.unlocked")
    page.click("#end")
    rows = page.locator("#transcript li")
    expect(rows).to_have_count(2)
    assert re.search(r"Answer: 0:0[1-9]", rows.nth(1).inner_text()), "what was answered before counts; hearing it again does not"
    assert "Repeated" not in rows.nth(1).inner_text()
    page.reload()
    assert asked == ["beforeunload"]
    expect(page.locator("#setup")).to_be_visible()


def test_an_answer_is_measured_without_the_question_that_is_heard_again(open_page) -> None:
    page = open_page(questions=[LONG[0], "Last?"])
    page.click("#begin")
    page.keyboard.press("Escape")
    wait_for(page, "listening")
    page.wait_for_timeout(1_100)
    page.click("#repeat")
    wait_for(page, "listening")
    repeated_for = page.evaluate("Number(document.getElementById('timer').textContent.split(':')[1])")
    assert 1 <= repeated_for <= 2, "the time goes on where it was"
    page.click("#end")
    expect(page.locator("#transcript li")).to_have_count(1)
    assert re.search(r"Answer: 0:0[12] · Repeated once", page.locator("#transcript li").inner_text())


# --- what may go wrong -----------------------------------------------------------------------------------------------------------


def test_service_that_is_gone_is_told_and_found_again(open_page) -> None:
    page = open_page(before=lambda page: page.route("**/health", lambda route: route.abort()))
    expect(page.locator("#notice")).to_contain_text("cannot be reached")
    page.unroute("**/health")
    page.get_by_role("button", name="Try again").click()
    alive(page)
    expect(page.locator("#notice")).to_be_hidden()


@pytest.mark.slow
def test_busy_service_is_told_with_a_way_back(open_page) -> None:
    full = {"now": True}

    def refuse(socket: WebSocketRoute) -> None:
        if full["now"]:
            said = {"type": "error", "seq": 0, "code": "busy", "message": "24 sessions are open", "retry_after_s": 1, "closing": 4013}
            socket.send(json.dumps(said))
            socket.close(code=4013)
        else:
            socket.connect_to_server()

    page = open_page(before=lambda page: page.route_web_socket("**/v1/sessions**", refuse))
    expect(page.locator("#notice")).to_contain_text("All interviewers are busy", timeout=20_000)
    full["now"] = False
    page.get_by_role("button", name="Reconnect").click()
    alive(page)
    expect(page.locator("#notice")).to_be_hidden()


def test_a_microphone_that_is_refused_is_told(open_page) -> None:
    page = open_page()
    alive(page)
    page.click("#record")
    expect(page.locator("#notice")).to_contain_text("cannot be recorded")
    expect(page.locator("#record")).to_have_attribute("aria-pressed", "false")
    page.click("#notice-act")
    expect(page.locator("#notice")).to_be_hidden()


@pytest.mark.slow
def test_question_that_cannot_be_asked_is_told_and_tried_again(open_page) -> None:
    page = open_page(questions=["∿∿∿", "What comes first?"])
    page.click("#begin")
    wait_for(page, "trouble")
    expect(page.locator("#notice")).to_contain_text("could not be asked")
    page.click("#next")
    wait_for(page, "listening")
    expect(page.locator("#notice")).to_be_hidden()


# --- for developers --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_details_say_what_runs_and_speak_any_text(open_page) -> None:
    page = open_page()
    alive(page)
    page.click("#details summary")
    expect(page.locator("#runs")).to_contain_text("animator")
    page.click("#say button[type=submit]")
    expect(page.locator("#say-problem")).to_have_text("Type something first.")
    page.fill("#say-text", "Hello there.")
    page.press("#say-text", "Control+Enter")
    expect(page.locator("#client-times tr")).to_contain_text(re.compile(r"First speaking picture painted\s*[\d,]+ ms"), timeout=20_000)
    assert page.locator("#server-times tr").count() >= 3
    expect(page.locator("#say-problem")).to_be_hidden()
    page.fill("#say-text", "a" * 10_000)
    page.press("#say-text", "Control+Enter")
    expect(page.locator("#say-problem")).to_contain_text(re.compile("10,?000"))


def test_nothing_is_loaded_from_elsewhere(open_page, service) -> None:
    page = open_page()
    alive(page)
    hosts = page.evaluate("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin)")
    assert set(hosts) == {service.url}
    for path in web.files():
        text = (web.folder() / path).read_bytes()
        assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg|avatars\.example\.org)", text), path


def test_every_module_is_served_under_its_path_with_its_type(client) -> None:
    kinds = {"/": "text/html", "/app.js": "text/javascript", "/page/icons.svg": "image/svg+xml", "/page/setup.css": "text/css"}
    for path, kind in kinds.items():
        answer = client.get(path)
        assert answer.status_code == 200 and answer.headers["content-type"].split(";")[0] == kind
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-cache"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        tag = answer.headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}'):
            assert client.get(path, headers={"If-None-Match": known}).status_code == 304
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_what_is_for_developers_is_not_served(client) -> None:
    for path in ("/package.json", "/eslint.config.js", "/node_modules/typescript/package.json", "/tsconfig.json", "/../pyproject.toml"):
        assert client.get(path).status_code == 404, path


def test_words_exist_in_both_languages() -> None:
    def keys(tag: str) -> list[str]:
        return re.findall(r"^  (\w+):", (ROOT / "web" / "page" / f"words-{tag}.js").read_text(encoding="utf-8"), re.M)

    assert keys("en") == keys("ko")
    assert set(re.findall(r'data-(?:text|label|title)="(\w+)"', (ROOT / "web" / "index.html").read_text(encoding="utf-8"))) <= set(keys("en"))
