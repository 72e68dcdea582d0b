"""The example receiver, as a process of its own, told by a real front door; and the verification that the docs show."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network

import httpx
import pytest
from pydantic import SecretStr

from fleet.settings import Settings
from tests.support.clone import ROOT
from tests.support.front_door import Door, card, front_door
from tests.support.receiver import Received, receiver
from tests.support.waiting import eventually


@pytest.fixture
def door(settings: Settings) -> Iterator[Door]:
    secrets = SecretStr(f"whsec_{'b' * 48},whsec_{'a' * 48}")
    with front_door(settings, webhook_secrets=secrets, outward_allow_networks=[ip_network("127.0.0.0/8")]) as opened:
        opened.announce(card())
        yield opened


def secrets(door: Door) -> list[str]:
    return list(door.http.get("/api/v1/webhooks/secret").json()["secrets"])


def standing(door: Door) -> list[tuple[int, str]]:
    """Tries and state of every delivery."""
    deliveries = door.http.get("/api/v1/webhooks/deliveries").json()["deliveries"]
    return [(entry["tries"], entry["state"]) for entry in deliveries]


@contextmanager
def example(secret: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """-> (its URL, the process)."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "examples" / "webhook_receiver.py", "0"],
        env={**os.environ, "WEBHOOK_SECRET": secret},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1], process
    finally:
        process.kill()
        process.communicate()


def test_the_example_prints_each_event_once_and_believes_nobody_else(door: Door) -> None:
    # The secret of before the change still verifies.
    with example(secrets(door)[1]) as (url, process):
        job = door.accepted(callback={"url": url})["id"]
        door.run(job)
        assert process.stdout is not None
        assert process.stdout.readline() == f"job.succeeded {job} /api/v1/jobs/{job}/result\n"
        eventually(lambda: standing(door) == [(1, "delivered")])
        (delivery,) = door.http.get("/api/v1/webhooks/deliveries").json()["deliveries"]
        door.http.post(f"/api/v1/webhooks/deliveries/{delivery['id']}/replay")
        eventually(lambda: standing(door) == [(2, "delivered")])
        forged = {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
        for headers in ({}, forged, {**forged, "webhook-timestamp": "soon"}):
            assert httpx.post(url, content=b"{}", headers=headers).status_code == 401
        door.run(door.accepted(callback={"url": url})["id"])
        # The repetition and the forgeries printed nothing in between.
        assert process.stdout.readline().startswith("job.succeeded ")


def test_the_verification_in_the_how_to_is_right(door: Door) -> None:
    page = (ROOT / "docs" / "how-to" / "webhooks.md").read_text("utf-8")
    (by_hand,) = re.findall(r"```python\n(import base64.*?)```", page, re.DOTALL)
    with receiver() as server:
        door.run(door.accepted(callback={"url": server.url()})["id"])
        (told,) = server.wait_for(1)
    assert genuine(by_hand, secrets(door)[0], told, told.body)
    assert not genuine(by_hand, secrets(door)[0], told, told.body + b" ")
    assert not genuine(by_hand, "whsec_" + "c" * 48, told, told.body)


def genuine(code: str, secret: str, told: Received, body: bytes) -> bool:
    names = {"secret": secret, "headers": told.headers, "body": body}
    exec(code, names)
    return bool(names["genuine"])
