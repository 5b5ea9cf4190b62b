"""Requests made from our own OpenAPI document, right ones and wrong ones, and what must hold for every answer.

    python -m tests.fuzz.http --url http://... [--key KEY] [--requests 100000] [--seed 0]

Exits 1 when an answer was a 500, told of our insides, was an error without a type, or did not come.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

import hypothesis
import requests
import schemathesis
from schemathesis import Case, GenerationMode

from deployments.ingress import openapi
from museserve.errors import BusyError, EngineUnavailableError, SpeechEngineError
from tests.fuzz.mutants import mutated

AVATARS = ["interviewer_woman", "interviewer_man", "man", "woman"]
VOICES = ["auto", "nova", "onyx", "espeak-f"]
SHORT = 60  # characters of a text: it is spoken and drawn
READ_BYTES = 256 * 2**10  # of an answer; then the client hangs up
ANSWER_S = 60.0  # for the first byte
INSIDES = ("Traceback (most recent call last)", 'File "/', "site-packages", "/tmp/", "/home/", "/root/")
OURS = {BusyError.status, EngineUnavailableError.status, SpeechEngineError.status}  # 5xx that an answer may have, with a type
CASES, MUTANTS = 20, 30  # of one operation in one round; mutants of each case


def document() -> dict[str, Any]:
    """The published one, with values that lead further in, and without what costs minutes. The WebSocket has a fuzzer of its own."""
    made = copy.deepcopy(openapi.document())
    del made["paths"]["/v1/sessions"]
    _widen(made["paths"])
    return made


def _widen(node: Any) -> None:
    if isinstance(node, list):
        for each in node:
            _widen(each)
    if not isinstance(node, dict):
        return
    if node.get("in") == "path" and node.get("name") == "id":
        node["schema"] = {"anyOf": [{"enum": AVATARS}, {"type": "string", "minLength": 1}]}
    for name, schema in node.get("properties", {}).items():
        if name in ("text", "input", "texts"):
            _shorten(schema)
        if name in ("avatar", "voice"):
            known = {"anyOf": [{"enum": AVATARS if name == "avatar" else VOICES}, {"type": "string"}]}
            schema.update({"anyOf": [*schema.pop("anyOf", []), *known["anyOf"]]})
            schema.pop("type", None)
    for each in node.values():
        _widen(each)


def _shorten(schema: dict[str, Any]) -> None:
    if schema.get("type") == "string":
        schema["maxLength"] = SHORT
    if schema.get("type") == "array":
        schema["maxItems"] = 2
        _shorten(schema["items"])
    for each in schema.get("anyOf", []):
        _shorten(each)


@dataclass
class Answered:
    """statuses: how many answers had which; faults: what was wrong, with the request as a curl command."""

    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, str]] = field(default_factory=list)
    slowest_s: float = 0.0

    @property
    def requests(self) -> int:
        return sum(self.statuses.values())


def operations() -> dict[str, Any]:
    """ "POST /v1/videos" to the operation, in the document's order."""
    schema = schemathesis.openapi.from_dict(document())
    found: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    return {f"{each.method.upper()} {each.path}": each for each in found}


def fuzz(operation: Any, url: str, cases: int, seed: int, answered: Answered, key: str = "", mutants: int = 0) -> None:
    """So many requests to one operation, half of them wrong on purpose, and after each so many mutants of what it sends.

    The same for the same seed and versions of the libraries.
    """
    dice = random.Random(seed)
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {key}" if key else None  # type: ignore[assignment]

        def ask(case: Case) -> None:
            try:
                request = session.prepare_request(requests.Request(**case.as_transport_kwargs(base_url=url)))
            except (requests.RequestException, UnicodeError):
                return  # not even the client would send it
            send(request, session, answered)
            for _ in range(mutants):
                send(mutant(request, dice), session, answered)

        for mode, n in ((GenerationMode.POSITIVE, cases - cases // 2), (GenerationMode.NEGATIVE, cases // 2)):
            settings = hypothesis.settings(
                max_examples=n,
                deadline=None,
                database=None,
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            # Nothing of some operations can be wrong.
            with suppress(hypothesis.errors.Unsatisfiable, schemathesis.errors.SchemathesisError):
                hypothesis.seed(seed)(settings(hypothesis.given(operation.as_strategy(generation_mode=mode))(ask)))()


def mutant(request: requests.PreparedRequest, dice: random.Random) -> requests.PreparedRequest:
    """Another body, path or query, byte by byte."""
    made = request.copy()
    body = request.body.encode() if isinstance(request.body, str) else request.body if isinstance(request.body, bytes) else b""
    if body and dice.random() < 0.8:
        made.body = mutated(body, [body], dice)
        made.headers["Content-Length"] = str(len(made.body))
        if dice.random() < 0.05:
            made.headers["Content-Type"] = dice.choice(("application/json", "multipart/form-data", "text/plain", ""))
    else:
        place = urlsplit(str(request.url))
        tail = unquote_to_bytes(place.path[1:] + ("?" + place.query if place.query else ""))
        made.url = f"{place.scheme}://{place.netloc}/{quote(mutated(tail, [tail], dice)[:2_000], safe='/?=&%')}"
    return made


def send(request: requests.PreparedRequest, session: requests.Session, answered: Answered) -> None:
    began = time.perf_counter()
    try:
        with session.send(request, stream=True, timeout=ANSWER_S, allow_redirects=False) as got:
            answered.statuses[got.status_code] += 1
            answered.slowest_s = max(answered.slowest_s, time.perf_counter() - began)
            body = got.raw.read(READ_BYTES)
            if got.status_code >= 400 and request.method != "HEAD":
                for what in faults_of(request, got, body):
                    _note(answered, request, what)
                answered.codes[_code(body)] += 1
    except requests.RequestException as error:
        answered.statuses[0] += 1
        _note(answered, request, f"no answer: {type(error).__name__}: {error}"[:400])


def _code(body: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(body)["error"]["code"])
    return ""


def faults_of(request: requests.PreparedRequest, got: requests.Response, body: bytes) -> Iterator[str]:
    """What is wrong with an answer that is an error."""
    status, told = got.status_code, body.decode("utf-8", "replace")
    code = _code(body)
    if not code:
        yield f"{status} without a type: {told[:300]!r}"
    elif status >= 500 and status not in OURS:
        yield f"{status}: {told[:300]}"
    if status in (429, 503) and "retry-after" not in got.headers:
        yield f"{status} without Retry-After: {told[:300]}"
    # What the caller wrote itself may be told back.
    asked = f"{request.url} {request.body!r}"
    for inside in INSIDES:
        if inside in told and inside not in asked:
            yield f"{status} tells of our insides: {told[:300]}"


def _note(answered: Answered, request: requests.PreparedRequest, what: str) -> None:
    if len(answered.faults) < 200:
        sent = f"{request.method} {request.url} {request.headers.get('Content-Type')!r} {request.body!r}"
        answered.faults.append({"what": what, "request": sent[:2_000]})


def rounds(url: str, count: int, seed: int, key: str = "") -> Iterator[Answered]:
    """All operations in turn until so many requests are answered; after each round what is known so far."""
    answered, each = Answered(), operations()
    while answered.requests < count:
        for operation in each.values():
            fuzz(operation, url, CASES, seed, answered, key, MUTANTS)
        seed += 1
        yield answered


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", default="")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began, answered = time.perf_counter(), Answered()
    for answered in rounds(args.url.rstrip("/"), args.requests, args.seed, args.key):
        took = time.perf_counter() - began
        print(f"{answered.requests} requests in {took:.0f} s; {len(answered.faults)} faults", file=sys.stderr, flush=True)
        if took > args.seconds:
            break
    told = {"requests": answered.requests, "statuses": dict(answered.statuses), "codes": dict(answered.codes), "faults": answered.faults}
    print(json.dumps({**told, "slowest_s": round(answered.slowest_s, 1)}, indent=1))
    return int(bool(answered.faults))


if __name__ == "__main__":
    sys.exit(main())
