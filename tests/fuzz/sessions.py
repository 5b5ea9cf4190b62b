"""A client that does anything a client may do with a live session, and a judge of what comes back.

    python -m tests.fuzz.sessions --url http://... [--key KEY] [--traces 10000] [--seed 0]

A trace is one session of up to a dozen steps, made by Hypothesis. Exits 1 when a step was not answered, an answer was not in the protocol, told of a
fault of ours, came out of order, or did not belong to what was asked.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, Any, Union

import hypothesis
import hypothesis.strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, multiple, rule, run_state_machine_as_test
from pydantic import Field, TypeAdapter
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from deployments.ingress.sessions.protocol import HEADER, SERVER_MODELS, CloseCode, FrameFlag, FrameHeader
from museserve.timebase import SEGMENT_FRAMES
from tests.fuzz.mutants import sound
from tests.sounds import encoded

ANSWER_S = 30.0
OURS = {"internal", "engine_failed", "render_failed", "device_lost"}  # codes that no client can bring about
SERVER: TypeAdapter[Any] = TypeAdapter(Annotated[Union[SERVER_MODELS], Field(discriminator="type")])  # type: ignore[arg-type]  # noqa: UP007
RECORDING = encoded(sound(), "wav")

ids = st.sampled_from(["a", "b", "c", "q-1", "Q:2"])
texts = st.one_of(
    st.sampled_from(["Hi.", "Tell me about it. Then go on.", "안녕하세요. 반갑습니다.", "1,234.5 km", "...", ""]),
    st.text(st.characters(codec=None), max_size=40),
)
phases = st.one_of(st.none(), st.integers(0, 65_535))
deliveries = st.fixed_dictionaries(
    {},
    optional={
        "voice": st.sampled_from(["nova", "onyx", "espeak-f", "auto", "nobody"]),
        "speed": st.sampled_from([0.25, 1.0, 4.0, 9.0]),
        "language": st.sampled_from(["en", "ko-KR", "auto", "tlh"]),
        "phase": st.integers(-1, 70_000),
        "interrupt": st.booleans(),
    },
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
kinds = st.sampled_from(["start", "resume", "speak", "text", "audio_end", "interrupt", "state", "ping", "ack", "played", "stats", "end!", ""])


class Wrong(AssertionError):
    """What came is not what the protocol promises."""


class Judge:
    """Holds every message of a session against the protocol, over all its connections."""

    def __init__(self) -> None:
        self.seq = 0
        self.said: list[dict[str, Any]] = []
        self.ids: dict[int, str] = {}
        self.frames: dict[int, int] = {}
        self.running: set[int] = set()
        self.over: dict[int, str] = {}
        self.parts: dict[int, dict[str, Any]] = {}
        self.gaps: list[set[int]] = []  # for each gap in the numbers the utterances whose interruption would explain it

    def take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            return self._fragment(message)
        said = json.loads(message)
        try:
            SERVER.validate_python(said)
        except ValueError as error:
            raise Wrong(f"not in the protocol: {message[:300]}: {error}") from None
        self._count(said["seq"])
        self.said.append(said)
        kind, n = said["type"], said.get("n")
        if kind == "queued":
            self.ids[n] = said["id"]
        elif n is not None:
            self._check(self.ids.get(n) == said["id"], f"{kind} of {said['id']!r} under the number of {self.ids.get(n)!r}")
            self._check(n not in self.over, f"{kind} of {said['id']!r}, which is {self.over.get(n)}")
        if kind == "started":
            self.running.add(n)
            self.frames.setdefault(n, said["first_frame"])
            self._check(said["first_frame"] == self.frames[n], f"started at {said['first_frame']}, {self.frames[n]} came")
        elif kind == "part":
            self.parts[n] = {name: value for name, value in said.items() if name not in ("type", "seq", "id", "n")}
        elif kind in ("finished", "waiting", "interrupted"):
            self.running.discard(n)
            for gap in [gap for gap in self.gaps if n in gap]:
                if kind == "interrupted":
                    self.gaps.remove(gap)
                    continue
                gap.discard(n)
                self._check(bool(gap), f"{kind} of {said['id']!r}, of which messages were missing")
            if kind != "waiting":
                self.over[n] = kind
            sent = self.frames.get(n, 0)
            self._check(said["frames"] == sent or n not in self.frames, f"{kind} after {said['frames']} frames, {sent} came")
        elif kind == "error":
            self._check(said["code"] not in OURS and "Traceback" not in said["message"], f"a fault of the service: {said}")
            self._check(bool(said["code"] and said["message"]), "an error that says nothing")

    def _fragment(self, message: bytes) -> None:
        header = FrameHeader.unpack(message)
        self._count(header.seq)
        data = message[HEADER.size :]
        self._check(header.n in self.running, f"a fragment of {header.n}, which does not run")
        self._check(header.first_frame == self.frames[header.n], f"frame {header.first_frame} follows {self.frames[header.n]}")
        self._check(0 < header.n_frames <= SEGMENT_FRAMES, f"{header.n_frames} frames in a fragment")
        self._check(data[4:8] == (b"ftyp" if header.flags & FrameFlag.INIT else b"moof"), f"a fragment that begins with {data[:8]!r}")
        self.frames[header.n] += header.n_frames

    def _count(self, seq: int) -> None:
        """Nothing is missing but fragments of what is interrupted, which need not be sent any more."""
        if seq:
            self._check(seq == self.seq + 1 or (seq > self.seq and bool(self.running)), f"message {seq} follows {self.seq}")
            if seq > self.seq + 1:
                self.gaps.append(set(self.running))
            self.seq = seq

    def _check(self, good: bool, what: str) -> None:
        if not good:
            raise Wrong(f"{what}; before: {json.dumps(self.said[-6:])[:1_500]}")


def _refuses(said: dict[str, Any], name: str | None) -> bool:
    return said["type"] == "error" and said.get("id") in (None, name)


class SessionMachine(RuleBasedStateMachine):
    """url, key: set by whoever runs it."""

    url = ""
    key = ""
    utterances = Bundle("utterances")

    def __init__(self) -> None:
        super().__init__()
        self.socket: ClientConnection | None = None
        self._connections = ExitStack()
        self.judge = Judge()
        self.ready: dict[str, Any] = {}
        self._number = 0

    @initialize(avatar=st.sampled_from(["man", "woman"]), captions=st.booleans(), by_query=st.booleans())
    def begin(self, avatar: str, captions: bool, by_query: bool) -> None:
        fields = {"avatar": avatar, "captions": captions}
        self._connect({} if not by_query else {"avatar": avatar, "captions": str(captions).lower()})
        if not by_query:
            self._send({"type": "start", **fields})
        self.ready = self._answer(lambda said: said["type"] == "ready")

    @rule(target=utterances, id=ids, text=texts, how=deliveries)
    def speak(self, id: str, text: str, how: dict[str, Any]) -> Any:
        return self._announce({"type": "speak", "id": self._new(id), "text": text, **how})

    @rule(target=utterances, id=ids, how=deliveries)
    def announce_deltas(self, id: str, how: dict[str, Any]) -> Any:
        return self._announce({"type": "speak", "id": self._new(id), "deltas": True, **how})

    @rule(target=utterances, id=ids, how=deliveries, cut=st.integers(0, len(RECORDING)), end=st.booleans())
    def speak_recording(self, id: str, how: dict[str, Any], cut: int, end: bool) -> Any:
        name = self._new(id)
        made = self._announce({"type": "speak", "id": name, "audio": True, **how})
        if made == name:
            self._raw(RECORDING[:cut])
            if end:
                self._ask({"type": "audio_end", "id": name}, "accepted", name)
        return made

    @rule(
        target=utterances,
        id=ids,
        how=deliveries,
        rate=st.sampled_from([16_000, 24_000, 48_000]),
        sizes=st.lists(st.integers(0, 30_000), max_size=4),
        end=st.booleans(),
    )
    def speak_sound(self, id: str, how: dict[str, Any], rate: int, sizes: list[int], end: bool) -> Any:
        name = self._new(id)
        made = self._announce({"type": "speak", "id": name, "pcm": rate, **how})
        if made == name:
            for size in sizes:
                self._raw(RECORDING[:size])
            if end:
                self._ask({"type": "audio_end", "id": name}, "accepted", name)
        return made

    @rule(name=utterances, frames=st.integers(0, 200))
    def tell_what_was_played(self, name: str, frames: int) -> None:
        """Not answered, unless it is more than was sent."""
        self._send({"type": "played", "id": name, "frames": frames})
        self._ping()

    @rule(name=utterances, delta=texts, flush=st.booleans(), final=st.booleans(), phase=phases)
    def more_text(self, name: str, delta: str, flush: bool, final: bool, phase: int | None) -> None:
        self._ask({"type": "text", "id": name, "delta": delta, "flush": flush, "final": final, "phase": phase}, "accepted", name)

    @rule(name=utterances)
    def end_recording(self, name: str) -> None:
        self._ask({"type": "audio_end", "id": name}, "accepted", name)

    @rule(name=st.one_of(st.none(), utterances))
    def interrupt(self, name: str | None) -> None:
        self._send({"type": "interrupt", **({"id": name} if name else {})})
        self._answer(lambda said: said["type"] in ("interrupted", "nothing_to_interrupt") and (name is None or said["id"] == name))

    @rule(name=consumes(utterances))
    def say_an_id_again(self, name: str) -> None:
        """An id can be used once in a session; another session does not know it."""
        used = name in self.judge.ids.values()
        self._send({"type": "speak", "id": name, "text": "Again."})
        refused = ("conflict", "queue_full")  # other errors of it are about what it was used for before
        said = self._answer(lambda said: said.get("id") == name and (said["type"] == "queued" or said.get("code") in refused))
        if used and said["type"] == "queued":
            raise Wrong(f"{name} was used before: {said}")

    @rule(data=st.binary(max_size=64))
    def binary(self, data: bytes) -> None:
        """It is refused, or it is a piece of the recording that is open, which is not answered."""
        self._raw(data)
        self._ping()

    @rule(state=st.sampled_from(["listening", "thinking"]))
    def tell_state(self, state: str) -> None:
        self._ask({"type": "state", "state": state}, "accepted")

    @rule(dry=st.integers(0, 5), first=st.lists(st.floats(0, 1e6), max_size=3))
    def tell_stats(self, dry: int, first: list[float]) -> None:
        self._ask({"type": "stats", "dry_outs": dry, "first_frame_ms": first}, "accepted")

    @rule(past=st.integers(0, 3))
    def acknowledge(self, past: int) -> None:
        self._send({"type": "ack", "seq": max(0, self.judge.seq - past)})

    @rule()
    def acknowledge_what_never_came(self) -> None:
        self._ask({"type": "ack", "seq": self.judge.seq + 10**6}, "error")

    @rule(
        kind=kinds,
        fields=st.dictionaries(st.sampled_from(["id", "text", "seq", "delta", "state", "speed", "phase", "audio", "x"]), values, max_size=3),
    )
    def nonsense(self, kind: str, fields: dict[str, Any]) -> None:
        """It is refused; or it happens to be right, and is answered as what it is. `ack` is the one that is not answered."""
        self._send({"type": kind, **fields})
        self._ping()

    @rule(text=st.text(max_size=30))
    def no_json(self, text: str) -> None:
        self._raw("{" + text)
        self._answer(lambda said: said["type"] == "error")

    @rule()
    def listen(self) -> None:
        """Until something was spoken, or there is nothing."""
        end = time.monotonic() + 0.5
        while time.monotonic() < end and self._receive(max(0.0, end - time.monotonic())):
            pass

    @rule()
    def lose_the_connection(self) -> None:
        """And resume the session, behind what was read."""
        assert self.socket is not None
        self.socket.socket.close()
        self._connect({"session": self.ready["session"], "token": self.ready["token"], "seq": self.judge.seq})
        ready = self._answer(lambda said: said["type"] == "ready")
        if not ready["resumed"]:
            raise Wrong("resumed says that it is a new session")

    @rule()
    def take_over(self) -> None:
        """Begin anew and go on behind what came of a whole text, as a player does whose replica was killed."""
        before, known = self.judge, [n for n, part in self.judge.parts.items() if part.get("chars") == [0, len("Tell me about it. Then go on.")]]
        self._end()
        self.judge = Judge()
        self._connect({"avatar": self.ready["avatar"], "captions": "false"})
        self.ready = self._answer(lambda said: said["type"] == "ready")
        if known and (frames := before.frames.get(known[-1], 0) // SEGMENT_FRAMES * SEGMENT_FRAMES):
            received = {"frames": frames, "part": before.parts[known[-1]]}
            name = self._new("over")
            self._announce({"type": "speak", "id": name, "text": "Tell me about it. Then go on.", "received": received})

    def teardown(self) -> None:
        with self._connections:
            if self.socket is not None:
                self._end()

    def _end(self) -> None:
        assert self.socket is not None
        try:
            self._send({"type": "end"})
            end = time.monotonic() + ANSWER_S
            while self._receive(max(0.0, end - time.monotonic())):
                pass
            raise Wrong("the session did not end")
        except ConnectionClosed:
            if self.socket.close_code != CloseCode.NORMAL:
                raise Wrong(f"closed with {self.socket.close_code} {self.socket.close_reason}") from None

    def _new(self, id: str) -> str:
        self._number += 1
        return f"{id}{self._number}"

    def _announce(self, message: dict[str, Any]) -> Any:
        said = self._ask(message, "queued", message["id"])
        return message["id"] if said["type"] == "queued" else multiple()

    def _ask(self, message: dict[str, Any], kind: str, name: str | None = None) -> dict[str, Any]:
        self._send(message)
        # What is wrong in its form is refused before anybody knows whose it is.
        return self._answer(lambda said: (said["type"] == kind and name in (None, said.get("id"))) or _refuses(said, name))

    def _ping(self) -> None:
        self._number += 1
        self._send({"type": "ping", "t": self._number})
        self._answer(lambda said: said["type"] == "pong" and said.get("t") == self._number)

    def _connect(self, query: dict[str, Any]) -> None:
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else None
        address = f"{self.url.replace('http', 'ws', 1)}/v1/sessions" + (f"?{asked}" if asked else "")
        self._connections.close()
        self.socket = self._connections.enter_context(
            connect(address, max_size=None, compression=None, close_timeout=2, additional_headers=headers, open_timeout=ANSWER_S)
        )

    def _send(self, message: dict[str, Any]) -> None:
        self._raw(json.dumps(message))

    def _raw(self, data: str | bytes) -> None:
        assert self.socket is not None
        self.socket.send(data)

    def _receive(self, seconds: float) -> bool:
        """Judge one message; False when none comes. Raises ConnectionClosed."""
        assert self.socket is not None
        try:
            self.judge.take(self.socket.recv(seconds))
        except TimeoutError:
            return False
        return True

    def _answer(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message from now on that is wanted."""
        read, end = len(self.judge.said), time.monotonic() + ANSWER_S
        try:
            while time.monotonic() < end and self._receive(max(0.0, end - time.monotonic())):
                for said in self.judge.said[read:]:
                    if wanted(said):
                        return said
                read = len(self.judge.said)
        except ConnectionClosed:
            assert self.socket is not None
            raise Wrong(f"closed with {self.socket.close_code} {self.socket.close_reason}; {self.judge.said[-3:]}") from None
        raise Wrong(f"not answered in {ANSWER_S:g} s; last: {json.dumps(self.judge.said[-4:])[:1_000]}")


def run(url: str, traces: int, seed: int, key: str = "", steps: int = 12) -> None:
    """Raises AssertionError at the first trace that is wrong, with its steps in the notes."""
    machine = type("Traced", (SessionMachine,), {"url": url, "key": key})
    settings = hypothesis.settings(
        max_examples=traces,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
    )
    run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=settings)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", default="")
    parser.add_argument("--traces", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began, done, wrong, batch = time.monotonic(), 0, 0, 50
    while done < args.traces and time.monotonic() - began < args.seconds:
        try:
            run(args.url.rstrip("/"), batch, args.seed, args.key)
        except Exception:
            wrong += 1
            print(f"seed {args.seed}:\n{traceback.format_exc(limit=-3)}", flush=True)
        done, args.seed = done + batch, args.seed + 1
        print(f"{done} traces in {time.monotonic() - began:.0f} s; {wrong} batches with a fault", file=sys.stderr, flush=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
