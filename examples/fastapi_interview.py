"""The backend of an interview app with FastAPI: questions as films, and session tokens for a live interviewer.

    museserve serve --config examples/service.yaml     # or another service, which MUSETALK_SERVICE_URL names
    python examples/fastapi_interview.py               # then open http://127.0.0.1:8100/

Where the service asks for keys, MUSESERVE_KEY has one; it stays here, browsers get tokens.
"""

# /// script
# requires-python = ">=3.10"
# dependencies = ["fastapi", "httpx", "uvicorn"]
# ///

import os
from collections.abc import AsyncIterator

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

MUSETALK_SERVICE_URL = os.environ.get("MUSETALK_SERVICE_URL", "http://127.0.0.1:8001")
KEY = os.environ.get("MUSESERVE_KEY")
PORT = int(os.environ.get("PORT", "8100"))
ORIGIN = f"http://127.0.0.1:{PORT}"  # of the page; the service must list it in server.cors_origins

QUESTIONS = ["Tell me about a project that you are proud of.", "What would you do differently today?"]
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>An interview, with FastAPI</title>
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
  player.token = async () => (await (await fetch("/interviews/42/token", { method: "POST" })).json()).token;
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

app = FastAPI()
museserve = httpx.AsyncClient(
    base_url=MUSETALK_SERVICE_URL,
    headers={"Authorization": f"Bearer {KEY}"} if KEY else {},
    timeout=httpx.Timeout(60, read=120),
)


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE.replace("SERVICE", MUSETALK_SERVICE_URL)


@app.get("/questions/{number}")
async def question(number: int) -> dict[str, str]:
    if not 0 <= number < len(QUESTIONS):
        raise HTTPException(404, f"there are {len(QUESTIONS)} questions")
    return {"text": QUESTIONS[number]}


@app.get("/questions/{number}/film")
async def film(number: int) -> StreamingResponse:
    """Passed on while it is made. Safari plays finished films alone: for that add `"stream": False`, keep the film and answer its ranges."""
    asked = {**await question(number), "avatar": "woman"}
    answer = await museserve.send(museserve.build_request("POST", "/v1/videos", json=asked), stream=True)
    if answer.status_code != 200:
        await answer.aread()
        raise HTTPException(answer.status_code, answer.json()["error"]["message"])

    async def pieces() -> AsyncIterator[bytes]:
        try:
            async for piece in answer.aiter_raw():
                yield piece
        finally:
            await answer.aclose()  # the browser may have gone before the end: nothing more is made

    return StreamingResponse(pieces(), media_type="video/mp4")


@app.post("/interviews/{interview}/token")
async def token(interview: int) -> dict[str, str | None]:
    """Here an app asks whether this user may hold this interview."""
    answer = await museserve.post("/v1/sessions/tokens", json={"avatar": "woman", "origin": ORIGIN})
    if answer.status_code == 409:
        return {"token": None}  # the service asks for no keys
    if answer.status_code != 201:
        raise HTTPException(answer.status_code, answer.json()["error"]["message"])
    return {"token": answer.json()["token"]}


@app.exception_handler(httpx.TransportError)
async def unreachable(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"{MUSETALK_SERVICE_URL} cannot be reached: {error}"}, status_code=502)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT)
