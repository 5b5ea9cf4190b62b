"""The backend of an interview app with Django: questions as films, and session tokens for a live interviewer.

    museserve serve --config examples/service.yaml     # or another service, which MUSETALK_SERVICE_URL names
    python examples/django_interview.py                # then open http://127.0.0.1:8101/

Where the service asks for keys, MUSESERVE_KEY has one; it stays here, browsers get tokens.
"""

# /// script
# requires-python = ">=3.10"
# dependencies = ["django>=5.2", "httpx"]
# ///

import os
import secrets
import sys
from collections.abc import Iterator

import httpx
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

PORT = int(os.environ.get("PORT", "8101"))

settings.configure(
    # What an app adds to its own settings.
    MUSETALK_SERVICE_URL=os.environ.get("MUSETALK_SERVICE_URL", "http://127.0.0.1:8001"),
    MUSESERVE_KEY=os.environ.get("MUSESERVE_KEY"),
    # What it has already.
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(),
)

QUESTIONS = ["Tell me about a project that you are proud of.", "What would you do differently today?"]
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>An interview, with Django</title>
<style>body { font: 1rem system-ui; max-width: 40rem; margin: 2rem auto } video, avatar-player { width: 20rem }</style>
<h1>As a film</h1>
<video id="film" controls playsinline></video>
<p><button id="play">Play the question</button></p>
<h1>Live</h1>
<avatar-player avatar="woman" src="SERVICE"></avatar-player>
<p><button id="ask">Ask the question</button> <span id="problem" role="alert"></span></p>
<script type="module">
  const $ = (id) => document.getElementById(id);
  $("play").onclick = () => { $("film").src = "/questions/0/film"; $("film").play(); };

  const player = document.querySelector("avatar-player");
  const post = { method: "POST", headers: { "X-CSRFToken": "CSRF_TOKEN" } };
  player.token = async () => (await (await fetch("/interviews/42/token", post)).json()).token;
  player.addEventListener("error", ({ detail }) => ($("problem").textContent = detail.message));
  // An app with a build step installs @museserve/avatar-player instead.
  import("SERVICE/avatar-player.js").catch(() => {
    $("problem").textContent = `SERVICE must run, and list ${location.origin} in server.cors_origins`;
  });
  $("ask").onclick = async () => {
    await player.unlock(); // inside the click: browsers want a gesture before sound
    player.speak({ text: (await (await fetch("/questions/0")).json()).text, interrupt: true });
  };
</script>
"""

museserve = httpx.Client(
    base_url=settings.MUSETALK_SERVICE_URL,
    headers={"Authorization": f"Bearer {settings.MUSESERVE_KEY}"} if settings.MUSESERVE_KEY else {},
    timeout=httpx.Timeout(60, read=120),
)


def refused(answer: httpx.Response) -> JsonResponse:
    return JsonResponse({"detail": answer.json()["error"]["message"]}, status=answer.status_code)


def unreachable(error: Exception) -> JsonResponse:
    return JsonResponse({"detail": f"{settings.MUSETALK_SERVICE_URL} cannot be reached: {error}"}, status=502)


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE.replace("SERVICE", settings.MUSETALK_SERVICE_URL).replace("CSRF_TOKEN", get_token(request)))


@require_GET
def question(request: HttpRequest, number: int) -> JsonResponse:
    if number >= len(QUESTIONS):
        return JsonResponse({"detail": f"there are {len(QUESTIONS)} questions"}, status=404)
    return JsonResponse({"text": QUESTIONS[number]})


@require_GET
def film(request: HttpRequest, number: int) -> JsonResponse | StreamingHttpResponse:
    """Passed on while it is made. Safari plays finished films alone: for that add `"stream": False`, keep the film and answer its ranges."""
    if number >= len(QUESTIONS):
        return question(request, number)
    asked = museserve.build_request("POST", "/v1/videos", json={"text": QUESTIONS[number], "avatar": "woman"})
    try:
        answer = museserve.send(asked, stream=True)
    except httpx.TransportError as error:
        return unreachable(error)
    if answer.status_code != 200:
        answer.read()
        return refused(answer)

    def pieces() -> Iterator[bytes]:
        try:
            yield from answer.iter_raw()
        finally:
            answer.close()  # the browser may have gone before the end: nothing more is made

    return StreamingHttpResponse(pieces(), content_type="video/mp4")


@require_POST
def token(request: HttpRequest, interview: int) -> JsonResponse:
    """Here an app asks whether this user may hold this interview."""
    origin = f"{request.scheme}://{request.get_host()}"  # of the page; the service must list it in server.cors_origins
    try:
        answer = museserve.post("/v1/sessions/tokens", json={"avatar": "woman", "origin": origin})
    except httpx.TransportError as error:
        return unreachable(error)
    if answer.status_code == 409:
        return JsonResponse({"token": None})  # the service asks for no keys
    if answer.status_code != 201:
        return refused(answer)
    return JsonResponse({"token": answer.json()["token"]})


urlpatterns = [
    path("", page),
    path("questions/<int:number>", question),
    path("questions/<int:number>/film", film),
    path("interviews/<int:interview>/token", token),
]

if __name__ == "__main__":
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", f"127.0.0.1:{PORT}"])
