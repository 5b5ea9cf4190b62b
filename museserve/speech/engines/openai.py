"""OpenAI's speech endpoint, or any server that speaks its contract: raw PCM as it is made. It knows neither phonemes nor words.

Its client takes a second and 30 MB to import, so that is done where one is made.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import numpy as np

from configs.models import OpenAIConfig
from museserve.errors import SpeechEngineError
from museserve.messages import FloatArray
from museserve.timebase import SPEECH_RATE

if TYPE_CHECKING:
    import openai

MAX_CHARS = 4_096  # of one request, by OpenAI's contract
_NO_KEY = "none"  # a server of one's own may want no key, the client wants one


def has_key(config: OpenAIConfig) -> bool:
    """True when a key, or a server of one's own, is configured."""
    return bool(_key(config)) or config.base_url is not None


class OpenAIEngine:
    """One client for each event loop, kept for its connections."""

    name = "openai"

    def __init__(self, config: OpenAIConfig) -> None:
        import openai  # noqa: F401  # not only when the first text is there

        self._config = config
        self._client: openai.AsyncOpenAI | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def stream(self, text: str, voice: str, speed: float, instructions: str = "") -> AsyncGenerator[FloatArray, None]:
        """Sound as it arrives: float32 (n,) at `SPEECH_RATE`, never empty.

        Args:
            text: at most `MAX_CHARS` characters.
            voice: a name that the server knows.
            speed: 0.25 to 4.
            instructions: how to speak; "" = as configured.
        Raises:
            SpeechEngineError: no answer, a refusal, or a stream that broke off. Tries again, as often as configured, until the first sound.
        """
        tries_left = self._config.max_retries
        while True:
            heard = 0
            try:
                async with aclosing(self._answer(text, voice, speed, instructions)) as sounds:
                    async for pcm in sounds:
                        heard += len(pcm)
                        yield pcm
                return
            except _BrokenStreamError as error:
                if heard or not tries_left:
                    after = f"after {heard / SPEECH_RATE:.1f} s of sound" if heard else "before any sound"
                    raise SpeechEngineError(f"the speech provider's stream broke off {after}: {error}") from error
                tries_left -= 1

    async def _answer(self, text: str, voice: str, speed: float, instructions: str) -> AsyncGenerator[FloatArray, None]:
        """Raises SpeechEngineError for an answer that is no sound, _BrokenStreamError for a sound that ends too early."""
        import openai

        config = self._config
        request = self._connected().audio.speech.with_streaming_response.create(
            input=text,
            model=config.model,
            voice=voice,
            response_format="pcm",
            speed=speed,
            instructions=instructions or (config.instructions if config.instructions is not None else openai.omit),
        )
        try:
            async with request as response:
                kind = response.headers.get("content-type", "").split(";")[0]
                if kind.startswith("text/") or kind in ("application/json", "audio/mpeg", "audio/wav"):
                    raise SpeechEngineError(f"the speech provider answered {kind} where raw PCM was asked for; is base_url right?")
                odd, empty = b"", True
                try:
                    async for data in response.iter_bytes():
                        data = odd + data
                        odd = data[len(data) & ~1 :]
                        if len(data) > 1:
                            empty = False
                            yield np.frombuffer(data, "<i2", len(data) // 2).astype(np.float32) / 32768.0
                except Exception as error:  # the HTTP library's errors, which the client passes through; which library depends on its version
                    slow = f"no more sound within {config.timeout_s:g} s" if "Timeout" in type(error).__name__ else "the connection was lost"
                    raise _BrokenStreamError(f"{slow} ({type(error).__name__})") from error
                if odd:
                    raise _BrokenStreamError("it ends in the middle of a sample")
                if empty:
                    raise _BrokenStreamError("it is empty")
        except openai.OpenAIError as error:
            raise SpeechEngineError(_explain(error, config, voice)) from error

    def _connected(self) -> openai.AsyncOpenAI:
        import openai

        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            config = self._config
            self._client = openai.AsyncOpenAI(
                api_key=_key(config) or _NO_KEY, base_url=config.base_url, timeout=config.timeout_s, max_retries=config.max_retries
            )
            self._loop = loop
        return self._client


class _BrokenStreamError(Exception):
    """The answer began well and did not end well."""


def _key(config: OpenAIConfig) -> str:
    return config.api_key.get_secret_value() if config.api_key is not None else os.environ.get("OPENAI_API_KEY", "")


def _explain(error: openai.OpenAIError, config: OpenAIConfig, voice: str) -> str:
    """What went wrong, in words for whoever can mend it. The provider's own text is left out where it quotes the key."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        return f"the speech provider did not answer within {config.timeout_s:g} s, {config.max_retries + 1} times"
    if isinstance(error, openai.APIConnectionError):
        return f"the speech provider cannot be reached at {config.base_url or 'the default address'} ({type(error.__cause__ or error).__name__})"
    if not isinstance(error, openai.APIStatusError):
        return f"the speech provider failed: {type(error).__name__}"
    status = error.status_code
    if status in (401, 403):
        return f"the speech provider refused the key ({status}): check OPENAI_API_KEY or speech.openai.api_key"
    if status == 404:
        return f"the speech provider has no model {config.model!r} at this address (404): check speech.openai.model and base_url"
    if status == 429:
        return f"the speech provider's rate limit or quota is used up (429), also after {config.max_retries} more tries"
    return f"the speech provider answered {status} for voice {voice!r}: {str(error.message)[:200]}"
