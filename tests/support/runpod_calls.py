"""Every call of RunPod's own client, sync and asyncio, against the address in RUNPOD_ENDPOINT_BASE_URL.

A process of its own: the client reads its address when it is imported. Arguments: the key, the model, and the base64 of
a red and a green picture, or none for a look at its health. What came of it is printed as JSON.
"""

import asyncio
import json
import sys
from typing import Any

import aiohttp
import requests
import runpod  # type: ignore[import-untyped]


def synchronous(model: str, red: str, green: str) -> dict[str, Any]:
    endpoint = runpod.Endpoint(model)
    told: dict[str, Any] = {"health": endpoint.health()}
    job = endpoint.run({"input": {"image": red, "config": {"top_k": 1}}})
    told |= {"output": job.output(timeout=60), "status": job.status(), "bare": endpoint.run({"image": red}).output(60)}
    told["run_sync"] = endpoint.run_sync({"input": {"image_base64": green}}, timeout=60)
    told["default"] = runpod.Endpoint("default").run_sync({"model_id": model, "image": green}, timeout=60)
    many = endpoint.run({"input": {"images": [red, green, "bm90aGluZw=="]}})
    told |= {"stream": list(many.stream()), "many": many.output()["result"]["count"]}
    broken = endpoint.run({"input": {"image": "bm90aGluZw=="}})
    told |= {"broken": broken.output(timeout=60), "broken_status": broken.status()}
    client = endpoint.rp_client
    told["retried"] = client.post(f"{model}/retry/{broken.job_id}", {})
    told["listed"] = [each["id"] for each in client.get(f"{model}/requests")["requests"]].count(broken.job_id)
    told["cancelled"] = _cancelled(endpoint, red)
    told["purged"] = endpoint.purge_queue()
    try:
        endpoint.run({})
    except requests.HTTPError as error:
        told["empty"] = str(error)
    return told


def _cancelled(endpoint: Any, red: str) -> Any:
    """Of a job that waits: it is of a model whose workers are gone."""
    waiting = runpod.Endpoint("nobody-runs-this").run({"input": {"image": red}})
    answer = waiting.cancel()
    return {**answer, "same": answer["id"] == waiting.job_id, "then": waiting.status()}


async def asynchronous(model: str, red: str) -> dict[str, Any]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        endpoint = runpod.AsyncioEndpoint(model, session)
        job = await endpoint.run({"image": red})
        told: dict[str, Any] = {"output": await job.output(timeout=60), "status": await job.status()}
        told["stream"] = [piece async for piece in job.stream()]
        told |= {"health": await endpoint.health(), "purged": await endpoint.purge_queue()}
        waiting = await runpod.AsyncioEndpoint("nobody-runs-this", session).run({"image": red})
        told["cancelled"] = (await waiting.cancel())["status"]
        return told


def main(key: str, model: str, pictures: list[str]) -> Any:
    runpod.api_key = key
    if pictures:
        red, green = pictures
        return {"sync": synchronous(model, red, green), "async": asyncio.run(asynchronous(model, red))}
    try:
        return runpod.Endpoint(model).health()
    except RuntimeError as refused:
        return str(refused)


if __name__ == "__main__":
    json.dump(main(sys.argv[1], sys.argv[2], sys.argv[3:]), sys.stdout)
