"""Bytes on their way to the server: the ticket, then one PUT or several, then the end."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from fleet_client.errors import TransferFailed
from fleet_client.problems import read
from fleet_client.records import Ticket, TicketPart, Transfer, Upload
from fleet_client.sources import Source
from fleet_client.transport import Body, Wires

OnTransfer: TypeAlias = Callable[[Transfer], None]


def send(wires: Wires, source: Source, on_transfer: OnTransfer | None = None) -> Upload:
    """Uploads a source and returns its reference. Raises APIError, TransferFailed, ConnectionFailed, Timeout."""
    answer = wires.api.request(
        "POST",
        "uploads",
        json={
            "name": source.name,
            "size": source.size,
            "sha256": source.sha256,
            "media_type": source.media_type,
        },
    )
    ticket = read(Ticket, answer)
    content = f"uploads/{ticket.id}/content"
    if ticket.parts is not None:
        _send_parts(wires, source, ticket, on_transfer)
    elif ticket.url is None:
        raise TransferFailed(f"the server's ticket for {source.name} names no place to send it to")
    elif wires.api.is_own(ticket.url, content):
        headers = {"content-type": source.media_type, **ticket.headers}
        wires.api.put(content, _slice(source, 0, source.size, on_transfer), source.size, headers)
    else:
        wires.store.put(ticket.url, _slice(source, 0, source.size, on_transfer), source.size, ticket.headers)
    return Upload(id=ticket.id, name=source.name, size=source.size, sha256=source.sha256)


def _send_parts(wires: Wires, source: Source, ticket: Ticket, on_transfer: OnTransfer | None) -> None:
    parts = sorted(ticket.parts or [], key=lambda part: part.number)
    etags = [{"number": part.number, "etag": _send_part(wires, source, ticket, part, on_transfer)} for part in parts]
    wires.api.request("POST", f"uploads/{ticket.id}/complete", json={"parts": etags})


def _send_part(
    wires: Wires,
    source: Source,
    ticket: Ticket,
    part: TicketPart,
    on_transfer: OnTransfer | None,
) -> str:
    """PUTs one slice and returns its ETag. URLs that expired during a long upload are signed anew, once."""
    body = _slice(source, part.offset, part.size, on_transfer)
    try:
        answer = wires.store.put(part.url, body, part.size, ticket.headers)
    except TransferFailed as error:
        if error.status != 403:
            raise
        fresh = read(Ticket, wires.api.request("GET", f"uploads/{ticket.id}"))
        signed = {part.number: part.url for part in fresh.parts or []}
        if part.number not in signed:
            raise
        answer = wires.store.put(signed[part.number], body, part.size, ticket.headers)
    etag = answer.headers.get("etag")
    if not etag:
        raise TransferFailed(f"the object store gave no ETag for part {part.number} of {source.name}")
    return str(etag)


def _slice(source: Source, offset: int, size: int, on_transfer: OnTransfer | None) -> Body:
    """The slice as often as it is asked for, telling how far the whole file is."""

    def body() -> Iterator[bytes]:
        done = offset
        for chunk in source.chunks(offset, size):
            yield chunk
            done += len(chunk)
            if on_transfer is not None:
                on_transfer(Transfer(source.name, done, source.size))

    return body
