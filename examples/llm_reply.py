"""A language model that answers aloud: its reply streams into the avatar word by word, and is heard before it is complete.

    museserve serve --config examples/service.yaml     # or another service, which MUSETALK_SERVICE_URL names
    python examples/llm_reply.py                       # then open http://127.0.0.1:8102/

Any OpenAI-compatible server is asked, by OPENAI_BASE_URL, OPENAI_API_KEY and LLM_MODEL. Without the first a stand-in of
this file answers, which speaks the same protocol and knows one reply. Where the service asks for keys, add the token of
fastapi_interview.py.
"""

# /// script
# requires-python = ">=3.10"
# dependencies = ["fastapi", "openai", "uvicorn"]
# ///

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse
from openai import AsyncOpenAI, OpenAIError

MUSETALK_SERVICE_URL = os.environ.get("MUSETALK_SERVICE_URL", "http://127.0.0.1:8001")
PORT = int(os.environ.get("PORT", "8102"))

INTERVIEWER = {"role": "system", "content": "You are an interviewer. React to the answer in one sentence, then ask the next question."}
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>An interviewer with a language model</title>
<style>body { font: 1rem system-ui; max-width: 40rem; margin: 2rem auto } avatar-player { width: 20rem } textarea { width: 100% }</style>
<avatar-player avatar="woman" src="SERVICE"></avatar-player>
<p id="reply" lang="en"></p>
<form><textarea name="said" rows="3" aria-label="Your answer">I built a service that streams video.</textarea>
<p><button>Answer</button> <span id="problem" role="alert"></span></p></form>
<script type="module">
  const $ = (id) => document.getElementById(id);
  const form = document.querySelector("form");
  const player = document.querySelector("avatar-player");
  const messages = [];
  const complain = (error) => ($("problem").textContent = error.message);
  player.addEventListener("error", ({ detail }) => complain(detail));
  import("SERVICE/avatar-player.js").then(() => player.connect()).catch((error) => {
    complain(customElements.get("avatar-player") ? error : { message: `SERVICE must run, and list ${location.origin} in server.cors_origins` });
  });

  form.onsubmit = async (event) => {
    event.preventDefault();
    await player.unlock(); // inside the gesture: browsers want one before sound
    $("problem").textContent = $("reply").textContent = "";
    messages.push({ role: "user", content: form.said.value });
    const answer = player.speak({ deltas: true, interrupt: true });
    try {
      player.setState("thinking");
      const body = JSON.stringify({ messages });
      const response = await fetch("/reply", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      if (!response.ok) throw new Error(await response.text());
      const pieces = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let { value, done } = await pieces.read(); !done; { value, done } = await pieces.read()) {
        $("reply").textContent += value;
        answer.write(value);
      }
      messages.push({ role: "assistant", content: $("reply").textContent });
    } catch (error) {
      complain(error);
    } finally {
      answer.end(); // what came is said
    }
    await answer.ended;
    player.setState("listening");
  };
</script>
"""

app = FastAPI()
model = AsyncOpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL") or f"http://127.0.0.1:{PORT}/stand-in/v1",
    api_key=os.environ.get("OPENAI_API_KEY") or "not needed",
)


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE.replace("SERVICE", MUSETALK_SERVICE_URL)


@app.post("/reply")
async def reply(messages: Annotated[list[dict[str, str]], Body(embed=True)]) -> StreamingResponse:
    """The model's reply as plain text, piece by piece."""
    asked: list[Any] = [INTERVIEWER, *messages]
    chunks = await model.chat.completions.create(model=os.environ.get("LLM_MODEL", "gpt-4o-mini"), messages=asked, stream=True)

    async def pieces() -> AsyncIterator[str]:
        async with chunks:  # whoever leaves before the end lets the model stop
            async for chunk in chunks:
                if chunk.choices and (delta := chunk.choices[0].delta.content):
                    yield delta

    return StreamingResponse(pieces(), media_type="text/plain; charset=utf-8")


@app.exception_handler(OpenAIError)
async def model_failed(request: object, error: Exception) -> HTMLResponse:
    return HTMLResponse(f"the language model failed: {error}", status_code=502, media_type="text/plain")


# --- a stand-in for a language model, with OpenAI's protocol ----------------------------------------------------------

REPLY = "That is a lot of work. What was the hardest part of it, and what would you do differently today?"


@app.post("/stand-in/v1/chat/completions")
async def completions(asked: dict[str, Any]) -> StreamingResponse:
    def event(delta: dict[str, str], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "stand-in", "object": "chat.completion.chunk", "created": 0, "model": asked["model"], "choices": [choice]}
        return f"data: {json.dumps(chunk)}\n\n"

    async def events() -> AsyncIterator[str]:
        yield event({"role": "assistant", "content": ""})
        for at in range(0, len(REPLY), 4):  # tokens are about as long, and end within words
            yield event({"content": REPLY[at : at + 4]})
            await asyncio.sleep(0.03)
        yield event({}, "stop") + "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT)
