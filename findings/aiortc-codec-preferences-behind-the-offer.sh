#!/usr/bin/env bash
# aiortc 1.16.0: who answers and sets `setCodecPreferences` behind `setRemoteDescription`, as one does in a browser, is not heard:
# the answer has all codecs, in the offer's order, and nothing tells.
#
# In the W3C's text preferences count when an offer or an answer is created, and an answerer has a transceiver to set them on only
# once the offer was applied. aiortc settles the codecs while it applies the offer. A source of H.264 packets that were encoded
# elsewhere is then announced as VP8 and packed as VP8, and the other side decodes nothing of it. An answerer has to make its
# transceivers, and set them, before the offer.
#
# Seen: the codecs of the answer for H.264 preferred behind the offer, and before it. Exits 1 when that is no longer so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check aiortc==1.16.0
cat >"$work/try.py" <<'PY'
import asyncio, re
import aiortc
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender

H264 = [codec for codec in RTCRtpSender.getCapabilities("video").codecs if codec.mimeType == "video/H264"]

async def answered(before):
    viewer, source = (RTCPeerConnection(RTCConfiguration([])) for _ in range(2))
    viewer.addTransceiver("video", direction="recvonly")
    await viewer.setLocalDescription(await viewer.createOffer())
    if before:
        source.addTransceiver("video", direction="sendonly").setCodecPreferences(H264)
    await source.setRemoteDescription(viewer.localDescription)
    if not before:
        source.getTransceivers()[0].direction = "sendonly"
        source.getTransceivers()[0].setCodecPreferences(H264)
    await source.setLocalDescription(await source.createAnswer())
    codecs = re.findall(r"a=rtpmap:\d+ (\w+)/", source.localDescription.sdp)
    await viewer.close()
    await source.close()
    return codecs

async def main():
    behind, before = await answered(False), await answered(True)
    print(f"aiortc {aiortc.__version__}, H.264 preferred behind the offer: {behind}; before it: {before}")
    return 0 if behind[0] == "VP8" and set(before) <= {"H264", "rtx"} and before else 1

raise SystemExit(asyncio.run(main()))
PY
"$work/venv/bin/python" "$work/try.py"
