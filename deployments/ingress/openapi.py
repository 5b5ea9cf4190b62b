"""The API as an OpenAPI 3.1 document, made from the same models that validate the bodies."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import museserve
from deployments.ingress import bodies
from deployments.ingress.pictures import SIZES
from deployments.ingress.sessions.protocol import message_schemas, schema

JSON, FORM, MP4, VTT, PNG, WEBP = "application/json", "multipart/form-data", "video/mp4", "text/vtt", "image/png", "image/webp"
NDJSON = "application/x-ndjson"
PROGRESS = (
    "only with `Accept: application/x-ndjson`: one JSON object a line as the work goes on; the last is the avatar, or an error with the status "
    "that it would have had. Without that header the avatar comes as 201 when it is ready. Whoever hangs up before leaves nothing behind"
)
BINARY = {"type": "string", "format": "binary"}
KEY = {"type": "http", "scheme": "bearer", "description": "a key, or a session token; only where access.auth is keys"}
OPEN = ("/health", "/openapi.json", "/v1/sessions/schema.json")  # without a key
SOCKET = "text frames: #/components/schemas of SessionClientMessage and SessionServerMessage; binary frames: 20 bytes of header and a fragment"
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string", "description": "what was seen and what is accepted"}},
        }
    },
}


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The whole document; every operation lists its statuses."""
    audio_types = {kind: {"schema": BINARY} for kind in ("audio/mpeg", "audio/ogg", "audio/aac", "audio/flac", "audio/wav", "audio/pcm")}
    found = {"404": _failure("unknown avatar")}
    busy = {"503": _failure("busy; see Retry-After"), "502": _failure("the speech provider failed")}
    paths: dict[str, Any] = {
        "/health": {
            "get": _operation(
                "What runs, and why",
                {
                    "200": _json("engine, reason, device, weights, voices, versions"),
                    "503": _failure("starting: no avatar can speak yet; see Retry-After"),
                },
            )
        },
        "/v1/voices": {"get": _operation("Voices", {"200": _json("data: list of voices")})},
        "/v1/audio/models": {"get": _operation("Models, as Open WebUI asks for them", {"200": _json("models: list of id and name")})},
        "/v1/audio/voices": {"get": _operation("Voices, as clients of OpenAI's ask for them", {"200": _json("voices: list of id and name")})},
        "/v1/models": {"get": _operation("Models, as clients of OpenAI's ask for them", {"200": _json("data: list of models")})},
        "/v1/models/{id}": {
            "parameters": [_path_id()],
            "get": _operation("One model", {"200": _json("the model"), "404": _failure("unknown model")}),
        },
        "/v1/avatars": {
            "get": _operation("Avatars", {"200": _json("data: list of avatars")}),
            "post": _operation(
                "Make an avatar from a portrait or a clip",
                {
                    "200": {"description": PROGRESS, "content": {NDJSON: {"schema": _progress()}}},
                    "201": _json("the avatar with its report"),
                    "409": _failure("the id is taken"),
                    "503": _failure("a clip, and MuseTalk does not run here; or busy"),
                },
                body=_either(bodies.AvatarBody, "image", "video"),
            ),
        },
        "/v1/avatars/{id}": {
            "parameters": [_path_id()],
            "get": _operation("One avatar with its report", {"200": _json("the avatar"), **found}),
            "delete": _operation("Delete an avatar", {"204": {"description": "gone"}, **found, "409": _failure("a shipped avatar")}),
        },
        "/v1/avatars/{id}/portrait": {
            "parameters": [
                _path_id(),
                _query("size", "sides of at most so many pixels; without it as it is kept", kind="integer", enum=list(SIZES)),
                _version(),
            ],
            "get": _operation("Its picture", {"200": _binary(PNG, WEBP), "400": _failure("another size"), **found}),
        },
        "/v1/avatars/{id}/idle": {"parameters": [_path_id()], "get": _operation("Its idle loop", {"200": _binary(MP4), **found})},
        "/v1/avatars/{id}/idle.segments": {
            "parameters": [_path_id(), _version()],
            "get": _operation("Its idle loop as a player keeps it", {"200": _binary("application/octet-stream"), **found}),
        },
        "/v1/sessions": {"get": _operation("A live conversation over a WebSocket", {"101": {"description": SOCKET}})},
        "/v1/sessions/tokens": {
            "post": _operation(
                "A session token for a browser",
                {"201": _json("token, expires_at, uses"), **found, "409": _failure("access.auth is none")},
                body=_json_body(bodies.TokenBody),
            )
        },
        "/v1/sessions/schema.json": {"get": _operation("The messages of a conversation as JSON schema", {"200": _json("JSON schema 2020-12")})},
        "/v1/videos": {
            "post": _operation(
                "Speak: text or audio in, video out",
                {"200": _binary(MP4), **found, **busy},
                body={**_json_body(bodies.VideoBody), **_multipart(bodies.VideoBody, "audio", required=False)},
            )
        },
        "/v1/prerender": {
            "post": _operation(
                "Have texts ready",
                {"200": _json("data: text, cache (miss = made now), frames"), "409": _failure("the cache is off"), **found, **busy},
                body=_json_body(bodies.PrerenderBody),
            )
        },
        "/v1/cache": {
            "delete": _operation(
                "Forget every utterance that is kept", {"204": {"description": "gone"}, "503": _failure("the store of the cache does not answer")}
            )
        },
        "/v1/videos/{id}/captions.vtt": {
            "parameters": [_path_id()],
            "get": _operation("Captions of a video, once its words are known", {"200": _binary(VTT), "404": _failure("no longer kept")}),
        },
        "/v1/videos/{id}/manifest.c2pa": {
            "parameters": [_path_id()],
            "get": _operation(
                "C2PA manifest of a stream, once it is over",
                {"200": _binary("application/c2pa"), "404": _failure("streams are not signed here, or no longer kept")},
            ),
        },
        "/v1/audio/transcriptions": {
            "post": _operation(
                "Recorded speech to text, OpenAI's contract, by the server that the operator chose",
                {"200": _json("text"), "404": _failure("no server is set up"), "502": _failure("the server failed")},
                body=_multipart(bodies.TranscriptionBody, "file"),
            )
        },
        "/v1/audio/speech": {
            "post": _operation(
                "Speech alone, OpenAI's contract",
                {"200": {"description": "audio", "content": audio_types}, **busy},
                body=_json_body(bodies.SpeechBody),
            )
        },
        "/api/core/tts/synthesize/": {
            "post": _operation("Speech as mp3", {"200": _binary("audio/mpeg"), **busy}, body=_json_body(bodies.SynthesizeBody))
        },
        "/api/core/interview/video/generate/": {
            "post": _operation(
                "A finished video, or the idle loop",
                {"200": _binary(MP4), **busy},
                body={**_json_body(bodies.InterviewBody), **_multipart(bodies.InterviewBody, "audio", required=False)},
            )
        },
        "/generate": {
            "post": _operation("A portrait speaks a recording", {"200": _binary(MP4), **busy}, body=_multipart(bodies.ImageBody, "image", "audio"))
        },
        "/idle": {"post": _operation("The idle loop of a portrait", {"200": _binary(MP4)}, body=_multipart(bodies.ImageBody, "image"))},
    }
    for path, item in paths.items():
        for verb, operation in item.items():
            if path in OPEN:
                operation["security"] = []
            elif verb != "parameters":
                operation["responses"] |= {
                    "401": _failure("no key that is valid"),
                    "403": _failure("the key lacks the scope; or a page of another site"),
                }
    client, server, messages = message_schemas("#/components/schemas/{model}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "museserve", "version": museserve.__version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": paths,
        "security": [{"key": []}],
        "components": {
            "securitySchemes": {"key": KEY},
            "schemas": {"Error": ERROR, **messages, "SessionClientMessage": {"oneOf": client}, "SessionServerMessage": {"oneOf": server}},
        },
    }


async def answer(request: Request) -> Response:
    return JSONResponse(document())


async def answer_session_schema(request: Request) -> Response:
    return JSONResponse(schema())


def _operation(summary: str, responses: dict[str, Any], body: dict[str, Any] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"summary": summary, "operationId": summary.lower().replace(",", "").replace(":", "").replace(" ", "_")}
    made["responses"] = {**responses, "default": _failure("what was wrong")}
    if body is not None:
        made["requestBody"] = {"required": True, "content": body}
        made["responses"] |= {"408": _failure("the body came too slowly"), "429": _failure("the quota of the key; see RateLimit and Retry-After")}
        made["responses"] |= {"400": _failure("bad input"), "413": _failure("body too large"), "415": _failure("content type not accepted")}
    return made


def _failure(description: str) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}


def _json(description: str) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": {"type": "object"}}}}


def _binary(*kinds: str) -> dict[str, Any]:
    return {"description": " or ".join(kinds), "content": {kind: {"schema": BINARY} for kind in kinds}}


def _path_id() -> dict[str, Any]:
    return {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def _query(name: str, description: str, kind: str = "string", **bounds: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": kind, **bounds}, "description": description}


def _version() -> dict[str, Any]:
    return _query("version", "immutable when given")


def _json_body(model: type[BaseModel]) -> dict[str, Any]:
    return {JSON: {"schema": _schema(model)}}


def _multipart(model: type[BaseModel], *files: str, required: bool = True) -> dict[str, Any]:
    schema = _schema(model)
    schema["properties"] = {**schema.get("properties", {}), **{name: BINARY for name in files}}
    if required:
        schema["required"] = [*schema.get("required", []), *files]
    return {FORM: {"schema": schema}}


def _either(model: type[BaseModel], *files: str) -> dict[str, Any]:
    """Exactly one of the files."""
    body = _multipart(model, *files, required=False)
    body[FORM]["schema"]["oneOf"] = [{"required": [name]} for name in files]
    return body


def _progress() -> dict[str, Any]:
    step = {"step": {"type": "string"}, "done": {"type": "number", "minimum": 0, "maximum": 1, "description": "part of the whole"}}
    failure = {"code": {"type": "string"}, "message": {"type": "string"}, "status": {"type": "integer"}}
    kinds = (step, {"avatar": {"type": "object"}}, {"error": {"type": "object", "required": list(failure), "properties": failure}})
    return {"oneOf": [{"type": "object", "required": list(kind), "properties": kind, "additionalProperties": False} for kind in kinds]}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()
