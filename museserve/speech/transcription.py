"""Recorded speech to text, by a server of OpenAI's contract that the operator chose. Nothing here listens by itself."""

from __future__ import annotations

import os

from configs.models import TranscriptionConfig
from museserve.errors import TranscriptionError

_NO_KEY = "none"  # a server of one's own may want no key, the client wants one


class Transcriber:
    """Only where `base_url` is set: see `TranscriptionConfig.chosen`."""

    def __init__(self, config: TranscriptionConfig) -> None:
        import openai  # a second and 30 MB, which a process without a server to ask does without

        key = config.api_key.get_secret_value() if config.api_key is not None else os.environ.get("OPENAI_API_KEY", "")
        self._config = config
        self._client = openai.AsyncOpenAI(api_key=key or _NO_KEY, base_url=config.base_url, timeout=config.timeout_s, max_retries=config.max_retries)

    async def text(self, name: str, recording: bytes, language: str | None = None) -> str:
        """What is said in a recording.

        Args:
            name: of the file: its ending tells the server what it is.
            language: ISO 639-1; None = the server finds out.
        Raises:
            TranscriptionError: no answer, a refusal, or an answer that is no transcript.
        """
        import openai

        config = self._config
        try:
            answer = await self._client.audio.transcriptions.create(
                file=(name, recording), model=config.model, language=language if language is not None else openai.omit, response_format="json"
            )
        except openai.APITimeoutError:
            raise TranscriptionError(f"the transcription server did not answer within {config.timeout_s:g} s") from None
        except openai.APIConnectionError:
            raise TranscriptionError("the transcription server cannot be reached") from None
        except openai.APIStatusError as error:
            raise TranscriptionError(f"the transcription server answered {error.status_code}: {_explain(error.status_code, config)}") from None
        except openai.OpenAIError as error:
            raise TranscriptionError(f"the transcription server failed: {type(error).__name__}") from None
        if not isinstance(text := getattr(answer, "text", None), str):
            raise TranscriptionError("the transcription server answered something that is no transcript; is transcription.base_url right?")
        return text.strip()


def _explain(status: int, config: TranscriptionConfig) -> str:
    """For whoever can mend it. The server's own words are left out: they may quote the key or the recording."""
    if status in (401, 403):
        return "check OPENAI_API_KEY or transcription.api_key"
    if status == 404:
        return f"check transcription.base_url and the model {config.model!r}"
    return "its rate limit or quota is used up" if status == 429 else "it did not take the recording"
