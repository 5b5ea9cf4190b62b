"""HTTP in front of the graph: which call goes where. No media work."""

from __future__ import annotations

from functools import partial
from typing import Any

from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from configs.models import AppConfig
from deployments import logs, tracing
from deployments.ingress import cors, openapi, page
from deployments.ingress.access import ANYBODY, MANAGE, SPEAK, USE, Gate, KnowCaller, route, socket_route
from deployments.ingress.answers import HANDLERS
from deployments.ingress.avatars import Avatars
from deployments.ingress.body_limit import BodyLimit, HeldBytes
from deployments.ingress.boundary import Boundary
from deployments.ingress.graph_client import GraphClient
from deployments.ingress.health import Health
from deployments.ingress.interview import Interview
from deployments.ingress.patience import Patience
from deployments.ingress.rate_limit import RateLimit
from deployments.ingress.session_avatar import session_avatar
from deployments.ingress.sessions.registry import Sessions
from deployments.ingress.speech import Speech, list_models, list_speech_models, read_model
from deployments.ingress.tokens import Tokens
from deployments.ingress.transcription import Transcription
from deployments.ingress.videos import Videos
from deployments.live import LiveConfig
from deployments.quotas import Quotas
from museserve.runtime import malloc

LARGEST_BLOCK, KEPT_BYTES = 2**20, 16 * 2**20  # of the heap: what uploads had goes back to the system
FREE = frozenset({"/health"})  # needs no place, and counts for no quota


class Ingress:
    """A plain class: `graph.py` makes it the application's HTTP side."""

    def __init__(self, config: AppConfig, mux: DeploymentHandle[Any], face_prep: DeploymentHandle[Any]) -> None:
        logs.join_serve()
        tracing.join_serve()
        malloc.keep_freed(LARGEST_BLOCK, KEPT_BYTES)
        self._config, self._live_config = config, LiveConfig("ingress", config)
        self._gate = Gate(config.access)
        self._quotas = Quotas(config.limits)
        graph = self._graph = GraphClient(mux, face_prep, config.limits.max_live_utterances, config.mux.segment_timeout_s)
        self._avatars = Avatars(config, graph)
        self._speech = Speech(config, graph)
        self._transcription = Transcription(config)
        self._videos = Videos(config, graph, self._avatars)
        self._interview = Interview(config, self._avatars, self._videos, self._speech)
        signer = self._videos.marks.signer
        opened = partial(session_avatar, self._avatars)
        self._sessions = Sessions(config, graph.stream, opened, graph.info, self._gate.use, self._gate.still_in, signer)
        self._tokens = Tokens(config, self._gate, self._avatars)
        self._health = Health(config, graph, self._avatars, self._sessions)

    def reconfigure(self, user_config: Any) -> None:
        """What Serve calls with a new `user_config`. Raises ConfigError at the start alone."""
        if (config := self._live_config.changed(user_config)) is not None:
            self._graph.configure(config.limits.max_live_utterances, config.mux.segment_timeout_s)
            self._sessions.configure(config)
            self._quotas.configure(config.limits)

    def __serve_build_asgi_app__(self) -> Starlette:
        config, server = self._config, self._config.server
        middleware = [
            Middleware(Patience, limits=config.limits, most=config.open_requests, free=FREE),
            Middleware(Boundary, server=server),
            *cors.middleware(server.cors_origins),
            Middleware(KnowCaller, gate=self._gate),
            Middleware(RateLimit, quotas=self._quotas, free=FREE),
        ]
        return Starlette(routes=[*self.routes(), *page.routes()], exception_handlers=HANDLERS, middleware=middleware)

    def routes(self) -> list[BaseRoute]:
        """Every call of the API; `openapi.document` tells the same."""
        avatars, videos, interview = self._avatars, self._videos, self._interview
        limits = self._config.limits
        together = HeldBytes(limits.held_bytes)
        limit = Middleware(BodyLimit, most=limits.max_body_bytes, together=together)
        clip_limit = Middleware(BodyLimit, most=max(limits.max_clip_bytes, limits.max_body_bytes), together=together)
        return [
            route("/health", self._health.read, ANYBODY),
            route("/openapi.json", openapi.answer, ANYBODY),
            route("/v1/voices", self._speech.list_voices, USE),
            route("/v1/audio/models", list_speech_models, USE),
            route("/v1/audio/voices", self._speech.list_openai_voices, USE),
            route("/v1/models", list_models, USE),
            route("/v1/models/{id}", read_model, USE),
            route("/v1/avatars", avatars.list, USE),
            route("/v1/avatars", avatars.create, MANAGE, "POST", clip_limit),
            route("/v1/avatars/{id}", avatars.read, USE),
            route("/v1/avatars/{id}", avatars.delete, MANAGE, "DELETE"),
            route("/v1/avatars/{id}/portrait", avatars.portrait, USE),
            route("/v1/avatars/{id}/idle", avatars.idle_loop, USE),
            route("/v1/avatars/{id}/idle.segments", avatars.idle_segments, USE),
            socket_route("/v1/sessions", self._sessions.serve, SPEAK),
            route("/v1/sessions/tokens", self._tokens.create, SPEAK, "POST", limit),
            route("/v1/sessions/schema.json", openapi.answer_session_schema, ANYBODY),
            route("/v1/videos", videos.create, SPEAK, "POST", limit),
            route("/v1/prerender", videos.prerender, SPEAK, "POST", limit),
            route("/v1/videos/{id}/captions.vtt", videos.captions, SPEAK),
            route("/v1/videos/{id}/manifest.c2pa", videos.manifest, SPEAK),
            route("/v1/cache", videos.clear_cache, MANAGE, "DELETE"),
            route("/v1/audio/speech", self._speech.create, SPEAK, "POST", limit),
            route("/v1/audio/transcriptions", self._transcription.create, SPEAK, "POST", limit),
            route("/api/core/tts/synthesize/", interview.synthesize, SPEAK, "POST", limit),
            route("/api/core/interview/video/generate/", interview.video, SPEAK, "POST", limit),
            route("/generate", interview.generate, SPEAK, "POST", limit),
            route("/idle", interview.idle_of_image, SPEAK, "POST", limit),
        ]
