"""Whoever looks at a job sees that another provider ran it than was asked for."""

from tests.support.protocol_server import JOB_ID, ProtocolServer
from tests.unit.cli.conftest import Fleet

WHY = "asked for CUDAExecutionProvider, using CPUExecutionProvider: no NVIDIA driver is here"


def test_show_tells_what_was_asked_for_in_place_of_what_was_used(fleet: Fleet, server: ProtocolServer) -> None:
    ran_on = {"provider": "CPUExecutionProvider", "device": "some cpu"}
    server.states = [server.job("succeeded", ran_on=ran_on | {"fallback": WHY})]
    assert f"fallback {WHY}" in " ".join(fleet("jobs", "show", JOB_ID).out.split())
    server.states = [server.job("succeeded", ran_on=ran_on | {"fallback": ""})]
    assert "fallback" not in fleet("jobs", "show", JOB_ID).out
