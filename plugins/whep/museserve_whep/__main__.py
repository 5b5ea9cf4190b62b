"""python -m museserve_whep --url http://127.0.0.1:8001 [--host 127.0.0.1] [--port 8010] [--origin URL ...] [--ice URL ...]"""

from __future__ import annotations

import argparse
import logging
import os

from aiohttp import web
from aiortc import RTCIceServer

from museserve_whep.gateway import VIEWERS, Gateway


def main() -> None:
    parser = argparse.ArgumentParser(prog="museserve-whep", description="WHEP before museserve. The key of the service: MUSESERVE_KEY.")
    parser.add_argument("--url", default=os.getenv("MUSESERVE_URL", "http://127.0.0.1:8001"), help="of museserve")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument("--origin", action="append", default=[], help="of a page that may ask from a browser; * for any")
    parser.add_argument("--name", action="append", default=[], help="by which it is reached, beside addresses and localhost; * for any")
    parser.add_argument("--ice", action="append", default=[], help="stun:… or turn:… ; user and password of TURN: ICE_USERNAME, ICE_CREDENTIAL")
    parser.add_argument("--viewers", type=int, default=VIEWERS, help="at once")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    servers = [RTCIceServer(url, os.getenv("ICE_USERNAME"), os.getenv("ICE_CREDENTIAL")) for url in args.ice]
    gateway = Gateway(args.url, os.getenv("MUSESERVE_KEY"), origins=args.origin, hosts=args.name, ice_servers=servers, viewers=args.viewers)
    web.run_app(gateway.app, host=args.host, port=args.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
