"""Signed manifests of streams: made when the last byte was sent, and kept as captions are."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.exceptions import HTTPException

from museserve.errors import EngineError
from museserve.media.provenance import Origin, SentStream, Signer
from museserve.runtime.blob_store import BlobStore, blob_key

logger = logging.getLogger("ray.serve")

KEPT, KEPT_S = 512, 3_600.0  # of this replica, in memory
ELSEWHERE_S = 5.0  # longest wait for one that another replica has just made
LOOK_S = 0.2


class Manifests:
    """shared: a store that every replica sees; None = manifests are known where their stream was made."""

    def __init__(self, signer: Signer, shared: BlobStore | None) -> None:
        self._signer, self._shared = signer, shared
        self._kept: OrderedDict[tuple[str, str], tuple[float, asyncio.Future[bytes | None]]] = OrderedDict()

    async def signed(self, tenant: str, utterance: str, stream: AsyncGenerator[bytes, None], origin: Origin) -> AsyncGenerator[bytes, None]:
        """The bytes of a stream as they are sent; one that is broken off gets no manifest."""
        known: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._drop_old()
        self._kept[tenant, utterance] = time.monotonic(), known
        sent = SentStream(self._signer)
        try:
            async with aclosing(stream):
                async for data in stream:
                    sent.add(data)
                    yield data
            manifest = await asyncio.to_thread(sent.manifest, origin)
            known.set_result(manifest)
            if self._shared is not None:
                await asyncio.to_thread(self._shared.put, _key(tenant, utterance), manifest, group=tenant)
        except EngineError as error:
            logger.error("a stream was not signed or broke off: %s", error)
            raise
        finally:
            sent.close()
            if not known.done():
                known.set_result(None)

    async def manifest(self, tenant: str, utterance: str) -> bytes:
        """Waits until the stream is over. Those of other tenants are not there. Raises HTTPException 404."""
        self._drop_old()
        if (tenant, utterance) in self._kept:
            found = await self._kept[tenant, utterance][1]
        else:
            found = await self._of_others(tenant, utterance)
        if found is None:
            raise HTTPException(404, f"no manifest is kept for utterance {utterance!r}: it is unknown, over for long, or was broken off")
        return found

    def clear(self, tenant: str) -> None:
        """Of this replica; those in the shared store are cleared with it."""
        for kept in [kept for kept in self._kept if kept[0] == tenant]:
            del self._kept[kept]

    async def _of_others(self, tenant: str, utterance: str) -> bytes | None:
        if self._shared is None:
            return None
        until = time.monotonic() + ELSEWHERE_S
        while True:
            if (found := await asyncio.to_thread(self._shared.get, _key(tenant, utterance), group=tenant)) is not None or time.monotonic() > until:
                return found
            await asyncio.sleep(LOOK_S)

    def _drop_old(self) -> None:
        while self._kept and (len(self._kept) > KEPT or time.monotonic() - next(iter(self._kept.values()))[0] > KEPT_S):
            self._kept.popitem(last=False)


def _key(tenant: str, utterance: str) -> str:
    return blob_key("manifest", tenant, utterance)
