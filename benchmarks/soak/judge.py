"""The verdict over a soak: what the callers were told against what the record, the witness and the objects say."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np

from fleet.contracts import Artifact
from fleet.errors import FleetError
from fleet.objects import ObjectStore
from fleet.settings import Settings
from soak import record
from soak.inputs import values, volume
from soak.ledger import Ledger
from soak.plan import JobKind, PlannedJob
from tests.support.threshold_model import mask_in
from tests.support.witness import FINAL, Change, changed_after_end, endings


@dataclass
class Verdict:
    accepted: int = 0
    states: Counter[str] = field(default_factory=Counter)
    failed_by_code: Counter[str] = field(default_factory=Counter)
    #: Each of these is a broken promise, in words.
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    #: Jobs that should have succeeded and ended otherwise, in words: no promise broken, worth a look.
    unlucky: list[str] = field(default_factory=list)
    touched_after_end: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)

    @property
    def kept(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)


def judge(settings: Settings, ledger: Ledger, changes: Sequence[Change]) -> Verdict:
    verdict = Verdict(accepted=len(ledger.accepted))
    rows = {row["id"]: row for row in record.rows(settings.database_dsn)}
    objects = ObjectStore(settings)
    _judge_keys(rows, verdict)
    _judge_changes(changes, verdict)
    verdict.wrong += ledger.contradictions
    verdict.wrong += [f"soak-{number} was refused: {why}" for number, why in ledger.refused.items()]
    for number, job_id in ledger.accepted.items():
        plan, row = ledger.plans[number], rows.get(UUID(job_id))
        if row is None or row["state"] in ("queued", "running"):
            verdict.lost.append(f"{plan.key} {job_id}: {row['state'] if row else 'unknown to the record'}")
            continue
        verdict.states[row["state"]] += 1
        verdict.attempts[row["attempt"]] += 1
        if row["state"] == "failed":
            verdict.failed_by_code[row["error"]["code"]] += 1
        _judge_state(plan, row, number in ledger.cancelled, verdict)
        if row["state"] == "succeeded":
            verdict.wrong += [f"{plan.key} {job_id}: {fault}" for fault in _result_faults(plan, row, objects)]
    return verdict


def _judge_keys(rows: dict[UUID, dict[str, Any]], verdict: Verdict) -> None:
    """One Idempotency-Key, one job: each request carries its key as a label, too."""
    times = Counter(row["labels"].get("soak", "no key") for row in rows.values())
    verdict.doubled += [f"{key}: {count} jobs" for key, count in times.items() if count > 1]


def _judge_changes(changes: Sequence[Change], verdict: Verdict) -> None:
    verdict.doubled += changed_after_end(changes)
    verdict.doubled += [f"{job}: ended {count} times" for job, count in endings(changes).items() if count > 1]
    for change in changes:
        if change.became is None:
            verdict.lost.append(f"{change.job}: deleted while it was {change.was}")
        elif change.touched is not None:
            verdict.touched_after_end.update(set(change.touched) - FINAL)
        elif change.ended and change.attempt != change.attempt_was:
            verdict.doubled.append(f"{change.job}: ended by a stale attempt")
        elif change.attempt is not None and not 0 <= change.attempt - change.attempt_was <= 1:
            verdict.doubled.append(f"{change.job}: attempt went from {change.attempt_was} to {change.attempt}")


def _judge_state(plan: PlannedJob, row: dict[str, Any], cancel_confirmed: bool, verdict: Verdict) -> None:
    state, told = row["state"], f"{plan.key} {row['id']} ({plan.kind})"
    code = (row["error"] or {}).get("code")
    if cancel_confirmed and state != "cancelled":
        verdict.wrong.append(f"{told}: its cancel was confirmed and it is {state}")
    if plan.kind is JobKind.BROKEN and state == "succeeded":
        verdict.wrong.append(f"{told}: succeeded with an input that cannot be read")
    if state == "cancelled" and plan.cancel_after_s is None:
        verdict.wrong.append(f"{told}: cancelled without being asked")
    if state == "expired" and plan.deadline_s is None:
        verdict.wrong.append(f"{told}: expired without a deadline")
    if plan.must_succeed and state != "succeeded":
        verdict.unlucky.append(f"{told}: {state} {code} after {row['attempt']} attempts")


def _result_faults(plan: PlannedJob, row: dict[str, Any], objects: ObjectStore) -> list[str]:
    if plan.kind in (JobKind.ECHO, JobKind.LONG_ECHO):
        said = row["result"]["values"]
        return [] if said == values(plan) else [f"the answer is {said} and not {values(plan)}"]
    faults = []
    expected = volume(plan)
    for kept in row["artifacts"]:
        artifact = Artifact.model_validate(kept)
        attempt = artifact.object.key.split("/")[2]
        if attempt != str(row["attempt"]):
            faults.append(f"{artifact.name} is of attempt {attempt}, and {row['attempt']} won")
        try:
            data = b"".join(objects.stream(artifact.object))
        except FleetError as error:
            faults.append(f"{artifact.name} is not in the object store: {error.message}")
            continue
        if hashlib.sha256(data).hexdigest() != artifact.object.sha256:
            faults.append(f"{artifact.name} has not the SHA-256 that the record states")
        elif artifact.name == "mask.nii.gz" and not np.array_equal(mask_in(data, expected), expected):
            faults.append("the mask is wrong")
    if "mask.nii.gz" not in [kept["name"] for kept in row["artifacts"]]:
        faults.append("there is no mask")
    return faults
