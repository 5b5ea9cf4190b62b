"""An avatar's portrait as browsers show it: WebP, as small as asked for. Made at the first call, and kept."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

from PIL import Image

from museserve.errors import RequestError
from museserve.messages import AvatarRef
from musetalk.avatars.format import Avatar

SIZES = (192, 512, 1024)  # pixels: a tile of a list at three pixels a point, the moving picture, a still one
QUALITY = 82
KEPT = 64


class Pictures:
    """Thread-safe."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[AvatarRef, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def webp(self, avatar: Avatar, size: int) -> bytes:
        """The portrait with sides of at most `size` pixels."""
        key = (avatar.ref, size)
        with self._lock:
            if key not in self._made:
                self._made[key] = _webp(avatar.portrait_png, size)
            self._made.move_to_end(key)
            if len(self._made) > KEPT:
                self._made.popitem(last=False)
            return self._made[key]


def parse_size(given: str) -> int:
    """Raises RequestError."""
    if given not in map(str, SIZES):
        raise RequestError(f"size is one of {', '.join(map(str, SIZES))} pixels, got {given[:20]!r}")
    return int(given)


def _webp(png: bytes, size: int) -> bytes:
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "WEBP", quality=QUALITY, method=6)
    return written.getvalue()
