"""Triton's statistics from what the workers have added up: cumulative, every key there, zero where nothing was."""

from collections.abc import Sequence
from typing import Any

from api.kserve.serving import Serving
from fleet.card import Card
from fleet.usage import Usage


def model_stats(serving: Serving, cards: Sequence[Card]) -> dict[str, Any]:
    usage = serving.usage(cards[0].name if len({card.name for card in cards}) == 1 else None)
    nothing = Usage
    return {
        "model_stats": [
            _stats(usage.get((card.name, card.version)) or nothing(card.name, card.version), serving.loaded_bytes(card))
            for card in cards
        ]
    }


def _stats(usage: Usage, loaded_bytes: int) -> dict[str, Any]:
    succeeded = usage.success
    return {
        "name": usage.name,
        "version": str(usage.version),
        "last_inference": int(usage.last_at.timestamp() * 1000) if usage.last_at else 0,
        "inference_count": usage.items,
        "execution_count": usage.runs,
        "inference_stats": {
            "success": _spent(succeeded, usage.success_ns),
            "fail": _spent(usage.failure, usage.failure_ns),
            "queue": _spent(succeeded, usage.queue_ns),
            "compute_input": _spent(succeeded, usage.input_ns),
            "compute_infer": _spent(succeeded, usage.infer_ns),
            "compute_output": _spent(succeeded, usage.output_ns),
            "cache_hit": _spent(0, 0),
            "cache_miss": _spent(0, 0),
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": size,
                # Only runs are told apart by the size of their batch.
                "compute_input": _spent(batch.runs, 0),
                "compute_infer": _spent(batch.runs, batch.ns),
                "compute_output": _spent(batch.runs, 0),
            }
            for size, batch in sorted(usage.batches.items())
        ],
        "memory_usage": [{"type": "MODEL", "id": 0, "byte_size": loaded_bytes}] if loaded_bytes else [],
    }


def _spent(count: int, nanoseconds: int) -> dict[str, int]:
    return {"count": count, "ns": nanoseconds}
