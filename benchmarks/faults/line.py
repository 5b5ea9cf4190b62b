"""The way to an object store, which can be made slow, cut, silent, failing or full."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Literal

Mode = Literal["whole", "slow", "absent", "silent", "failing", "full"]
SLOW_S = 0.4  # for each piece
PIECE = 256 * 2**10
CODES = {"failing": (500, "InternalError"), "full": (507, "InsufficientStorage")}


class StoreLine:
    """Passes connections on to `port` of this machine. mode: what new data meets; what waits goes on when it is `whole` again."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._mode: Mode = "whole"
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=PIECE)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        self._changed.set()
        self._changed = asyncio.Event()
        if mode == "absent":
            for each in list(self._open):
                each.transport.abort()

    async def close(self) -> None:
        self.mode = "absent"
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "absent":
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to, limit=PIECE)
            try:
                passing = [asyncio.ensure_future(each) for each in (self._requests(reader, writer, back), self._pass(there, writer))]
                await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
                for each in passing:
                    each.cancel()
                await asyncio.gather(*passing, return_exceptions=True)
            finally:
                back.close()
        except OSError:
            pass
        finally:
            self._open.discard(writer)
            with suppress(OSError):
                writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            await self._hold()
            method = data.split(b" ", 1)[0]
            is_request = method in (b"GET", b"PUT", b"POST", b"HEAD", b"DELETE")
            if is_request and (self._mode == "failing" or (self._mode == "full" and method in (b"PUT", b"POST"))):
                status, code = CODES[self._mode]
                body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>'.encode()
                head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
                return
            back.write(data)
            await back.drain()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            await self._hold()
            writer.write(data)
            await writer.drain()

    async def _hold(self) -> None:
        if self._mode == "slow":
            await asyncio.sleep(SLOW_S)
        while self._mode == "silent":
            await self._changed.wait()
