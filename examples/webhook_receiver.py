"""Receive Fleet's webhooks with nothing but Python's standard library: verify, tell repetitions apart, answer at once.

    WEBHOOK_SECRET=$(fleet webhooks secret) python examples/webhook_receiver.py [PORT]

Then, where the servers may send to this machine (docs/how-to/webhooks.md):

    fleet submit segmentation -m brain-extraction scan.nii.gz --no-wait --callback http://127.0.0.1:8800/
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300
MAX_BYTES = 65536


def is_genuine(secrets: Sequence[str], headers: Mapping[str, str], body: bytes) -> bool:
    """Whether one of the secrets signed exactly these bytes, within the last minutes."""
    try:
        message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
        if abs(time.time() - int(timestamp)) > TOLERANCE_S:
            return False
        given = [entry.removeprefix("v1,") for entry in headers["webhook-signature"].split()]
    except (KeyError, ValueError):
        return False
    signed = f"{message_id}.{timestamp}.".encode() + body
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        right = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
        if any(hmac.compare_digest(right, entry.encode()) for entry in given):
            return True
    return False


class Receiver(BaseHTTPRequestHandler):
    secrets: Sequence[str] = ()
    #: A receiver of yours keeps these in its database, together with what it does about them.
    seen: set[str] = set()  # noqa: RUF012
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", "0"))
        if length > MAX_BYTES:
            self.answer(413)
            return
        # The bytes as they came: what was parsed and written again has another signature.
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not is_genuine(self.secrets, headers, body):
            self.answer(401)
            return
        # Answer first, work later: after 20 s the sender gives up and tries again.
        self.answer(204)
        if headers["webhook-id"] not in self.seen:
            self.seen.add(headers["webhook-id"])
            event = json.loads(body)
            print(event["type"], event["subject"], event["data"]["links"].get("result", ""), flush=True)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main(port: str = "8800") -> None:
    Receiver.secrets = os.environ.get("WEBHOOK_SECRET", "").split()
    if not Receiver.secrets:
        sys.exit("set WEBHOOK_SECRET to what `fleet webhooks secret` prints")
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:2])
