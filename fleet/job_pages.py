"""Pages of a tenant's jobs, newest first: how each filter is served by an index, see docs/reference/record.md.

A job is found by its state, which changes, or by a word, which does not (task, model, label, an unusual priority); of
several filters the rarest leads, and the others are looked up on the rows.
"""

from collections.abc import Mapping
from uuid import UUID

from psycopg.types.json import Jsonb

from fleet.contracts import JobState, Priority, ShownState
from fleet.database import Database, Row
from fleet.ids import GREATEST, LEAST, least_id_of
from fleet.job_values import JobFilter
from fleet.sql import statements

_SQL = statements("job_pages")
_BY_STATE = _SQL["list_by_state"].format(fits=_SQL["fits"])
_BY_WORD = _SQL["list_by_word"].format(fits=_SQL["fits"])
_STATES = [state.value for state in JobState]
_CANCELLING: dict[ShownState | None, bool] = {ShownState.CANCELLING: True, ShownState.RUNNING: False}
#: Ids are made by the clock of the api, `created_at` by that of the database: they differ by less.
_CLOCKS_DIFFER_S = 300.0
_WORD_LENGTH = 300


def words_of(task: str | None, model: str | None, priority: Priority | None, labels: Mapping[str, str]) -> list[str]:
    """What a job can be listed by; the same as `job_words` of the database, a test compares them."""
    words = [f"task:{task}"] if task is not None else []
    words += [f"model:{model}"] if model is not None else []
    words += [f"priority:{priority:d}"] if priority not in (None, Priority.NORMAL) else []
    return words + [f"label:{name}:{value}"[:_WORD_LENGTH] for name, value in labels.items()]


def page(database: Database, tenant: str, where: JobFilter, *, limit: int, before: UUID | None = None) -> list[Row]:
    """Rows of jobs, newest first; `before` is the id of the last job of the page before."""
    state = "running" if where.state is ShownState.CANCELLING else where.state.value if where.state else None
    words = words_of(where.task, where.model, where.priority, where.labels or {})
    since = least_id_of(where.created_after, -_CLOCKS_DIFFER_S) if where.created_after else LEAST
    until = least_id_of(where.created_before, _CLOCKS_DIFFER_S) if where.created_before else GREATEST
    parameters = {
        "tenant": tenant,
        "since": since,
        "until": min(until, before) if before else until,
        "state": state,
        "cancelling": _CANCELLING.get(where.state),
        "model": where.model,
        "task": where.task,
        "priority": None if where.priority is None else int(where.priority),
        "labels": Jsonb(dict(where.labels)) if where.labels else None,
        "created_after": where.created_after,
        "created_before": where.created_before,
        "limit": limit,
    }
    word = _leading_word(database, words, parameters)
    if word is not None:
        return database.run(_BY_WORD, parameters | {"word": word})
    return database.run(_BY_STATE, parameters | {"states": [state] if state else _STATES})


def _leading_word(database: Database, words: list[str], parameters: Mapping[str, object]) -> str | None:
    """None when the state leads."""
    if len(words) + (parameters["state"] is not None) <= 1:
        return words[0] if words else None
    rarest = database.one(_SQL["rarest"], {**parameters, "words": words})
    return rarest["word"] if rarest else None
