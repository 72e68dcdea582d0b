"""The job store against a model of it: any verb, in any order, from workers that hold old tokens and try them late.

A long run with new examples: `pytest --hypothesis-profile=long tests/integration/fleet/test_job_store_model.py`.
"""

from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fleet.contracts import JobState, Lane, Pool, Priority
from fleet.database import Database
from fleet.settings import Settings
from tests.support.modelled_jobs import LEASE_S, QUEUES, ModelledJobs, frozen_clock

Call = tuple[Any, ...]


def call(verb: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    """A verb of ModelledJobs with its arguments."""
    return st.tuples(st.just(verb), *arguments)


numbers = st.integers(0, 99)
several = st.lists(numbers, min_size=1, max_size=4)
flags = st.booleans()
tenants = st.sampled_from(["a", "a", "a", "a", "b"])
workers = st.sampled_from(["w1", "w2", "w3"])
new_jobs = st.fixed_dictionaries(
    {
        "tenant": tenants,
        "lane": st.just(Lane.BULK),
        "pool": st.just(Pool.CPU),
        "priority": st.sampled_from([Priority.NORMAL, Priority.HIGH]),
        "idempotency_key": st.sampled_from([None, None, "k1", "k2"]),
        "fingerprint": st.sampled_from(["f", "f", "f", "g"]),
        "max_attempts": st.sampled_from([3, 2, 5, 1]),
        "deadline_s": st.sampled_from([1e6, 1e6, 1e6, 100.0]),
        "published": st.sampled_from([True, True, False]),
    }
)
submits = call("submit", new_jobs)
claims = call(
    "claim",
    numbers,
    workers,
    st.sampled_from(["alone", "alone", "beside others", "and the answer was lost", "through an old message"]),
)
words = st.one_of(
    call("renew", several, st.sampled_from([LEASE_S, 0.0])),
    call("watch", several),
    call("note_progress", numbers, st.sampled_from(["fetch", "infer"]), st.sampled_from([0.25, 0.5])),
)
ends = st.one_of(
    call("finish", numbers),
    call("finish", numbers),
    call("fail", numbers, st.sampled_from([True, True, True, True, False])),
    call("fail", numbers, st.just(True)),
    call("hand_back", numbers, st.sampled_from([0.0, 15.0])),
    call("stop", numbers, st.sampled_from([JobState.CANCELLED, JobState.EXPIRED])),
)
retries = call("retry", numbers, tenants, st.sampled_from([None, None, 1e6, 50.0]))
revivals = st.one_of(submits, retries)
wishes = st.one_of(
    *(submits, submits, retries, retries),
    *(call("submit_again", numbers), call("cancel", numbers, tenants), call("delete", numbers, tenants)),
)
losses = st.one_of(call("lapse_leases"), call("lapse_leases"), call("bury", workers, flags), call("expire_queued"))
messages = st.one_of(
    call("take_unpublished", st.sampled_from([1, 2, 100])),
    call("unpublish", several),
    call("publication_failed", numbers, st.sampled_from([1, 1, 2])),
    call("forget_publications"),
    call("forget_overtaken", st.sampled_from(QUEUES), flags),
)


anything = st.one_of(claims, claims, claims, claims, ends, ends, ends, words, wishes, losses, losses, messages)
#: Seconds that pass before it: often none, or more than a lease.
pauses = st.sampled_from([0, 0, 0, 1, 4, 6, 31, 31, 31, 400])


class JobStoreMachine(RuleBasedStateMachine):
    """One rule for nearly all verbs: of several, Hypothesis leaves some out of every example; few jobs would run."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.jobs = ModelledJobs(database)

    @initialize(first=submits, second=submits, third=claims)
    def begin(self, first: Call, second: Call, third: Call) -> None:
        for what in (first, second, third):
            self.step(what, 0)

    @precondition(lambda self: not self.jobs.open_jobs())
    @rule(what=revivals)
    def revive(self, what: Call) -> None:
        self.step(what, 0)

    @precondition(lambda self: self.jobs.open_jobs())
    @rule(what=anything, after_s=pauses)
    def step(self, what: Call, after_s: int) -> None:
        self.jobs.time_passes(after_s)
        verb, *arguments = what
        getattr(self.jobs, verb)(*arguments)

    @invariant()
    def the_record_is_as_the_model_says(self) -> None:
        self.jobs.check()

    def teardown(self) -> None:
        self.jobs.drive_to_the_end()


# Longer than what Hypothesis takes to make a failure small.
@pytest.mark.timeout(900)
def test_the_record_keeps_its_promises_in_any_order_of_verbs(settings: Settings) -> None:
    long = examples.get_current_profile_name() == "long"
    with frozen_clock(settings.database_dsn) as database:
        run_state_machine_as_test(
            partial(JobStoreMachine, database),  # type: ignore[arg-type]
            settings=examples(
                max_examples=3000 if long else 80,
                stateful_step_count=120,
                derandomize=not long,
                database=None,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
