"""The record of webhooks: written with the job, handed to one sender at a time, tried on schedule, replayed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from fleet.contracts import Callback, JobState
from fleet.database import Database
from fleet.errors import NotFound, ValidationFailed
from fleet.job_values import Claim, Ending
from fleet.jobs import JobStore
from fleet.outbox import Outbox
from fleet.settings import Settings
from fleet.sql import statements
from fleet.webhook_values import (
    ENDINGS,
    MAX_RETRY_AFTER_S,
    PAUSES_S,
    Delivery,
    DeliveryState,
    JobEvent,
    TryResult,
    verdict,
)
from fleet.webhooks import WebhookStore
from tests.support.fleet_of_one import new_job

NOTHING = Ending({}, None)
URL = "https://receiver.test/hook"
OK, BROKEN, GONE = TryResult(5.0, 204), TryResult(7.0, 500, "answered 500"), TryResult(1.0, 410, "answered 410")


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with Database(settings.database_dsn) as opened:
        yield opened


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


@pytest.fixture
def webhooks(database: Database) -> WebhookStore:
    return WebhookStore(database)


def claimed(jobs: JobStore, *, events: list[str] | None = None, url: str = URL, **changes: Any) -> Claim:
    """A running job whose receiver wants these events, by default the endings."""
    callback = Callback(url=url, events=list(ENDINGS) if events is None else events)
    job = jobs.submit(new_job(callback=callback, **changes)).job
    claim = jobs.claim(job.id, "w1", 30.0)
    assert claim is not None
    return claim


def ended(jobs: JobStore, **changes: Any) -> Claim:
    claim = claimed(jobs, **changes)
    assert jobs.finish(claim.job, result={}, artifacts=[], inputs=[], ending=NOTHING)
    return claim


def take(webhooks: WebhookStore, limit: int = 100, **changes: Any) -> list[Delivery]:
    return webhooks.take_due(limit, **{"lease_s": 30.0, "per_host": 100, "busy": {}, **changes})


def all_due_now(database: Database) -> None:
    """As if the time of every pause and lease had passed."""
    database.run("update webhook_delivery set due_at = clock_timestamp() - interval '1 second'")


def pause_s(database: Database) -> float:
    (row,) = database.run("select extract(epoch from due_at - clock_timestamp())::float8 as s from webhook_delivery")
    return float(row["s"])


def told(webhooks: WebhookStore) -> list[str]:
    return [delivery.type for delivery in reversed(webhooks.page("default", limit=100))]


def test_each_change_of_the_job_that_was_asked_for_is_told_once(jobs: JobStore, webhooks: WebhookStore) -> None:
    claim = claimed(jobs, events=list(JobEvent))
    assert jobs.hand_back(claim.job, "drained")
    again = jobs.claim(claim.job.id, "w2", 30.0)
    assert again is not None
    jobs.note_progress([(again.job.id, again.job.attempt, "infer", 0.5)])
    jobs.renew([(again.job.id, again.job.attempt)], 30.0)
    assert jobs.finish(again.job, result={}, artifacts=[], inputs=[], ending=NOTHING)
    assert told(webhooks) == ["job.started", "job.queued", "job.started", "job.succeeded"]


def test_every_way_to_end_is_told(jobs: JobStore, webhooks: WebhookStore, database: Database) -> None:
    jobs.fail(claimed(jobs).job, ValidationFailed("no", code="bad"), NOTHING)
    jobs.stop(claimed(jobs).job, JobState.CANCELLED, None, NOTHING)
    ended(jobs)
    overdue = jobs.submit(new_job(callback=Callback(url=URL, events=list(ENDINGS)), deadline_s=0.0)).job
    Outbox(database).expire_queued()
    jobs.cancel(jobs.submit(new_job(callback=Callback(url=URL, events=list(ENDINGS)))).job.id, "default")
    lost = claimed(jobs, max_attempts=1)
    database.run("update job set lease_until = clock_timestamp() where state = 'running'")
    Outbox(database).lapse_leases()
    assert told(webhooks) == [
        "job.failed", "job.cancelled", "job.succeeded", "job.expired", "job.cancelled", "job.failed",
    ]  # fmt: skip
    found = webhooks.page("default", limit=10)
    assert (found[0].data["error"]["code"], found[0].job_id) == ("poisoned", lost.job.id)
    assert (found[2].data["state"], found[2].job_id) == ("expired", overdue.id)


def test_a_job_that_asks_for_nothing_and_one_that_was_deleted_tell_nothing(
    jobs: JobStore, webhooks: WebhookStore, database: Database
) -> None:
    silent = jobs.claim(jobs.submit(new_job()).job.id, "w1", 30.0)
    assert silent is not None
    jobs.finish(silent.job, result={}, artifacts=[], inputs=[], ending=NOTHING)
    claimed(jobs, events=["job.failed"])
    deleted = claimed(jobs)
    database.run("update job set deleted_at = clock_timestamp() where id = %(id)s", {"id": deleted.job.id})
    assert jobs.finish(deleted.job, result={}, artifacts=[], inputs=[], ending=NOTHING)
    assert told(webhooks) == []


def test_a_stale_worker_tells_nothing(jobs: JobStore, webhooks: WebhookStore) -> None:
    claim = claimed(jobs)
    assert jobs.hand_back(claim.job, "drained")
    assert jobs.finish(claim.job, result={}, artifacts=[], inputs=[], ending=NOTHING) is None
    assert told(webhooks) == []


def test_a_delivery_is_given_to_one_of_many_senders(jobs: JobStore, webhooks: WebhookStore) -> None:
    for _ in range(20):
        ended(jobs)
    with ThreadPoolExecutor(8) as senders:
        taken = [delivery for batch in senders.map(lambda _: take(webhooks, 7), range(16)) for delivery in batch]
    while more := take(webhooks):
        taken += more
    assert len(taken) == len({delivery.id for delivery in taken}) == 20
    assert {delivery.tries for delivery in taken} == {1}


def test_what_a_lost_sender_took_is_taken_again_under_the_same_id(
    jobs: JobStore, webhooks: WebhookStore, database: Database
) -> None:
    ended(jobs)
    (lost,) = take(webhooks)
    assert take(webhooks) == []
    all_due_now(database)
    (again,) = take(webhooks)
    assert (again.message_id, again.tries) == (lost.message_id, 2)
    # The one that was believed lost wakes up: what it says decides nothing any more, but it is noted.
    assert webhooks.record_try(lost, BROKEN) is None
    assert webhooks.record_try(again, OK) is DeliveryState.DELIVERED
    assert [(entry.number, entry.status) for entry in webhooks.tries(again.id)] == [(1, 500), (2, 204)]


def test_a_try_whose_sender_was_lost_is_listed_without_an_outcome(jobs: JobStore, webhooks: WebhookStore) -> None:
    ended(jobs)
    (taken,) = take(webhooks)
    (entry,) = webhooks.tries(taken.id)
    assert (entry.number, entry.took_ms, entry.status, entry.error) == (1, None, None, None)


def test_tries_follow_the_schedule_with_jitter_and_then_end(
    jobs: JobStore, webhooks: WebhookStore, database: Database
) -> None:
    assert [pause / 3600 for pause in PAUSES_S[3:]] == [2, 5, 10, 14, 20, 24]
    ended(jobs)
    for number, pause in enumerate(PAUSES_S, start=1):
        (taken,) = take(webhooks)
        assert taken.tries == number
        assert webhooks.record_try(taken, BROKEN) is DeliveryState.PENDING
        assert pause * 0.9 - 60 < pause_s(database) <= pause * 1.1
        assert take(webhooks) == []
        all_due_now(database)
    (last,) = take(webhooks)
    assert webhooks.record_try(last, TryResult(20_000.0, None, "timed-out: no answer")) is DeliveryState.FAILED
    all_due_now(database)
    assert take(webhooks) == []
    assert len(webhooks.tries(last.id)) == 10


def test_jitter_spreads_what_failed_together(jobs: JobStore, webhooks: WebhookStore, database: Database) -> None:
    for _ in range(10):
        ended(jobs)
    for taken in take(webhooks):
        webhooks.record_try(taken, TryResult(1.0, 503, retry_after_s=0.0))
    rows = database.run("select due_at - created_at as pause from webhook_delivery order by 1")
    assert all(later["pause"] > earlier["pause"] for earlier, later in pairwise(rows))


@pytest.mark.parametrize(
    ("asked_s", "least_s", "most_s"),
    [(0.0, 3.0, 5.5), (2.0, 3.0, 5.5), (3600.0, 3500.0, 3600.0), (1e9, 86000.0, MAX_RETRY_AFTER_S)],
)
def test_a_receiver_may_ask_for_a_longer_pause_within_bounds(
    jobs: JobStore, webhooks: WebhookStore, database: Database, asked_s: float, least_s: float, most_s: float
) -> None:
    ended(jobs)
    (taken,) = take(webhooks)
    webhooks.record_try(taken, TryResult(1.0, 503, "answered 503", retry_after_s=asked_s))
    assert least_s < pause_s(database) <= most_s


def test_gone_ends_everything_of_the_tenant_for_this_url_and_nothing_else(
    jobs: JobStore, webhooks: WebhookStore
) -> None:
    ended(jobs)
    (first,) = take(webhooks)
    ended(jobs)
    ended(jobs, url=URL + "/other")
    ended(jobs, tenant="lab")
    assert webhooks.record_try(first, GONE) is DeliveryState.GONE
    states = {(delivery.tenant, delivery.url): delivery.state.value for delivery in webhooks.page("default", limit=9)}
    assert states == {("default", URL): "gone", ("default", URL + "/other"): "pending"}
    assert [delivery.state.value for delivery in webhooks.page("lab", limit=9)] == ["pending"]
    assert {delivery.tenant for delivery in take(webhooks)} == {"default", "lab"}


def test_no_host_gets_more_tries_at_once_than_it_may_and_others_go_first(
    jobs: JobStore, webhooks: WebhookStore
) -> None:
    for _ in range(5):
        ended(jobs, url="https://slow.test/")
    for number in range(3):
        ended(jobs, url=f"https://h{number}.test/")
    first = take(webhooks, 16, per_host=2)
    assert sorted(delivery.host for delivery in first) == ["h0.test", "h1.test", "h2.test", "slow.test", "slow.test"]
    assert take(webhooks, 16, per_host=2, busy={("default", "slow.test"): 1, ("lab", "slow.test"): 1}) == []
    (third,) = take(webhooks, 16, per_host=2, busy={("default", "slow.test"): 1, ("default", "h0.test"): 1})
    assert third.host == "slow.test"


def test_places_go_to_the_tenant_that_has_the_fewest(jobs: JobStore, webhooks: WebhookStore) -> None:
    """Or one tenant with a wildcard name would hold all of them with a receiver that hangs."""
    for number in range(6):
        ended(jobs, url=f"https://h{number}.slow.test/")
    for number in range(2):
        ended(jobs, tenant="lab", url=f"https://h{number}.lab.test/")
    assert [delivery.tenant for delivery in take(webhooks, 1, busy={("default", "other.test"): 1})] == ["lab"]
    assert sorted(delivery.tenant for delivery in take(webhooks, 3)) == ["default", "default", "lab"]


def test_the_longest_overdue_goes_first_and_no_more_than_asked_for(
    jobs: JobStore, webhooks: WebhookStore, database: Database
) -> None:
    for name in "cab":
        ended(jobs, url=f"https://{name}.test/")
    database.run("update webhook_delivery set due_at = due_at - interval '1 minute' where host = 'c.test'")
    assert [delivery.host for delivery in take(webhooks, 1)] == ["c.test"]
    assert len(take(webhooks, 1)) == 1


def test_a_replay_has_the_same_id_and_the_whole_schedule(
    jobs: JobStore, webhooks: WebhookStore, database: Database
) -> None:
    ended(jobs)
    (taken,) = take(webhooks)
    webhooks.record_try(taken, OK)
    assert webhooks.replay(taken.id, "default").state is DeliveryState.PENDING
    (again,) = take(webhooks)
    assert (again.message_id, again.tries, again.ended_at) == (taken.message_id, 2, None)
    webhooks.record_try(again, BROKEN)
    assert 3.0 < pause_s(database) <= 5.5
    assert webhooks.replay(taken.id, "default").due_at <= again.due_at
    assert [delivery.tries for delivery in take(webhooks)] == [3]


def test_a_replay_does_not_double_a_try_that_is_under_way(jobs: JobStore, webhooks: WebhookStore) -> None:
    ended(jobs)
    (taken,) = take(webhooks)
    assert webhooks.replay(taken.id, "default").tries == 1
    assert take(webhooks) == []
    assert webhooks.record_try(taken, OK) is DeliveryState.DELIVERED


def test_other_tenants_have_other_webhooks(jobs: JobStore, webhooks: WebhookStore) -> None:
    ended(jobs, tenant="lab")
    (delivery,) = webhooks.page("lab", limit=9)
    assert webhooks.get(delivery.id, "lab") == delivery
    assert webhooks.page("default", limit=9) == webhooks.page("default", limit=9, job_id=delivery.job_id) == []
    with pytest.raises(NotFound) as refused:
        webhooks.get(delivery.id, "default")
    assert refused.value.code == "delivery-not-found"
    with pytest.raises(NotFound):
        webhooks.replay(delivery.id, "default")
    assert len(take(webhooks)) == 1


def test_lists_go_by_job_and_state_page_by_page(jobs: JobStore, webhooks: WebhookStore) -> None:
    claims = [ended(jobs) for _ in range(5)]
    webhooks.record_try(take(webhooks, 1)[0], OK)
    whole = webhooks.page("default", limit=9)
    assert [delivery.job_id for delivery in whole] == [claim.job.id for claim in reversed(claims)]
    second = webhooks.page("default", limit=2, before=whole[1].number)
    assert second == whole[2:4]
    assert [delivery.job_id for delivery in webhooks.page("default", limit=9, state=DeliveryState.DELIVERED)] == [
        claims[0].job.id
    ]
    of_job = webhooks.page("default", limit=9, job_id=claims[3].job.id, state=DeliveryState.PENDING)
    assert of_job == [whole[1]]


def test_old_ended_deliveries_are_forgotten_and_pending_ones_kept(
    jobs: JobStore, webhooks: WebhookStore, database: Database
) -> None:
    for _ in range(3):
        ended(jobs)
    for taken in take(webhooks, 2):
        webhooks.record_try(taken, OK)
    database.run(
        "update webhook_delivery set created_at = created_at - interval '9 days', "
        "ended_at = ended_at - interval '9 days'"
    )
    assert webhooks.backlog().pending == 1
    assert webhooks.backlog().oldest_s > 700_000
    assert [webhooks.forget(86400.0, 1) for _ in range(3)] == [1, 1, 0]
    assert [delivery.state.value for delivery in webhooks.page("default", limit=9)] == ["pending"]


def test_what_a_status_means() -> None:
    assert verdict(1, 200) == verdict(9, 299) == (DeliveryState.DELIVERED, 0.0)
    assert verdict(1, 410) == (DeliveryState.GONE, 0.0)
    for status in (None, 100, 199, 301, 307, 400, 404, 409, 429, 500, 503):
        assert verdict(1, status) == (DeliveryState.PENDING, 5.0)
        assert verdict(10, status)[0] is DeliveryState.FAILED


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def test_a_poll_reads_little_however_much_waits(database: Database) -> None:
    backlog = """
        insert into webhook_delivery (tenant, job_id, url, type, data, due_at)
        select 't', gen_random_uuid(), 'https://' || host || '.test/', 'job.failed', '{}', clock_timestamp() + due_in
          from (select 'dead' as host, -interval '1 hour' as due_in from generate_series(1, 10000)
                union all select 'later', interval '1 hour' from generate_series(1, 10000)
                union all select 'live', -interval '1 second') as due"""
    database.run(backlog)
    database.run("analyze webhook_delivery")
    values = {"limit": 16, "lease_s": 30.0, "per_host": 2, "busy_tenants": ["t"], "busy_hosts": ["dead.test"]}
    (row,) = database.run(
        f"explain (analyze, format json) {statements('webhooks')['take_due_deliveries']}", values | {"busy_counts": [2]}
    )
    plan = row["QUERY PLAN"][0]["Plan"]
    assert plan["Actual Rows"] == 1
    reads = [node for node in nodes(plan) if "Scan" in node["Node Type"] and "webhook" in node.get("Relation Name", "")]
    assert reads
    touched = [(node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in reads]
    assert sum(touched) <= 32
