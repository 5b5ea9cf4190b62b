#!/usr/bin/env bash
# aiortc 1.16.0: `VideoStreamTrack.next_timestamp` counts 30 pictures a second, whatever comes, and a slower source falls
# behind the clock, farther with every picture.
#
# The helper returns a pts and sleeps until it is due, so one expects pts to be the time at which the picture goes out. It
# adds 1/30 s for each call, and only waits where that is ahead of the clock: a source of 25 pictures a second, as PAL video
# and many avatars are, has stamped 5 s of time in 6 s. Sound is stamped by its samples. A receiver that plays both by their
# stamps lets the picture drift off by a second in six. A source that has another rate makes its own timestamps.
#
# Seen: seconds that 50 pictures took, and that their timestamps tell, at 25 and at 30 a second. Exits 1 when that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check aiortc==1.16.0
cat >"$work/try.py" <<'PY'
import asyncio, time
import aiortc

PICTURES = 50

class Source(aiortc.VideoStreamTrack):
    """Has a picture every so many seconds, by the clock."""

    def __init__(self, every_s):
        super().__init__()
        self.every_s, self.due = every_s, time.monotonic()

    async def stamp(self):
        await asyncio.sleep(max(0.0, self.due - time.monotonic()))
        self.due += self.every_s
        pts, base = await self.next_timestamp()
        return float(pts * base)

async def told(rate):
    source = Source(1 / rate)
    began = time.monotonic()
    first, *_, last = [await source.stamp() for _ in range(PICTURES)]
    return time.monotonic() - began, last - first

async def main():
    seen = {rate: await told(rate) for rate in (25, 30)}
    for rate, (took, stamped) in seen.items():
        print(f"aiortc {aiortc.__version__}, {rate} a second: {PICTURES} pictures took {took:.2f} s, their timestamps tell {stamped:.2f} s")
    behind = [took - stamped for took, stamped in seen.values()]
    return 0 if behind[0] > 0.25 and abs(behind[1]) < 0.1 else 1

raise SystemExit(asyncio.run(main()))
PY
"$work/venv/bin/python" "$work/try.py"
