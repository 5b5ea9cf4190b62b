"""A face over WebRTC: WHEP in front of museserve, in which no picture is decoded or encoded again."""

from museserve_whep.face import Face, Speech
from museserve_whep.gateway import Gateway

__all__ = ["Face", "Gateway", "Speech"]
