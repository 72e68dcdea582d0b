"""The statements of `fleet/jobs.py` that come in several forms, put together once: what a job does not need costs it
nothing.
"""

from itertools import product

from fleet.sql import statements

_SQL = statements("jobs")
_ALLOWED = {False: "true", True: _SQL["submit_allowed"]}
_COUNTED = {"counted": _SQL["submit_counted"], "room": _SQL["submit_room"], "published": _SQL["submit_published"]}
_UNCOUNTED = {"counted": "", "room": "true", "published": "NULL::bigint"}


def _submit(conditional: bool, counted: bool, kept: bool) -> str:
    """Whether it has conditions, whether the jobs of its tenant are counted, whether it has inputs beside its row."""
    allowed = _ALLOWED[conditional]
    return _SQL["submit_job"].format(
        conditions=_SQL["submit_conditions"] if conditional else "",
        contents=_SQL["submit_contents"].format(allowed=allowed) if kept else "",
        allowed=allowed,
        **(_COUNTED if counted else _UNCOUNTED),
    )


#: By the three.
SUBMIT = {kind: _submit(*kind) for kind in product((False, True), repeat=3)}
#: By whether the job has inputs beside its row.
FINISH = {False: _SQL["finish_job"], True: _SQL["finish_kept"].format(finish=_SQL["finish_job"])}
