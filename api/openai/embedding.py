"""POST /v1/embeddings and POST /embeddings: from the body to the answer."""

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from api.embedding_calls import EmbeddingCall
from api.guarded import is_json
from api.headers import idempotency_key, trace_context
from api.openai.request import read_request
from api.openai.response import answer
from api.presence import while_there
from api.services import Services
from api.submission import Caller
from fleet.errors import UnsupportedMedia

#: What takes longer to read or to write than to hand to a thread.
_LARGE_BYTES = 64 * 1024


async def embeddings(request: Request, core: Services, tenant: str) -> Response:
    """Raises FleetError; ClientDisconnect when nobody is there any more to have the answer."""
    body = await received(request)
    asked = await run_in_threadpool(read_request, body) if len(body) > _LARGE_BYTES else read_request(body)
    caller = Caller(tenant, idempotency_key(request.headers), trace_context(request.headers))
    call = EmbeddingCall(
        asked.model, asked.texts, asked.params, caller, asked.priority, timeout_s=core.settings.max_wait_s
    )
    embedded = await while_there(request, core.embedding_calls.embed(call))
    if len(embedded.vectors) > _LARGE_BYTES:
        return await run_in_threadpool(answer, asked, embedded)
    return answer(asked, embedded)


async def received(request: Request) -> bytes:
    """The body of a request that is said to be JSON. Raises UnsupportedMedia, InputTooLarge."""
    if not is_json(request.headers):
        raise UnsupportedMedia("the body must be JSON: send `Content-Type: application/json`")
    return await request.body()
