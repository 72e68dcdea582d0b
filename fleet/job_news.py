"""The end of a job, as its worker tells it to those who wait: the row that it has just committed, so that they need not
read it.

It goes by Redis' publish and subscribe, which writes nothing to a disk. What is not told here, or cannot be understood,
is read from the record.
"""

from pydantic import ValidationError

from fleet.contracts import Job

#: Each front door hears it, and one waits for it: what is larger is worth a look at the record.
MAX_NEWS_BYTES = 16 * 1024
#: Known to whoever waits.
_KNOWN = {"params"}


def news_of(ended: Job) -> bytes:
    """Empty where it would be too large."""
    if any(item.inline is not None for item in ended.inputs):
        return b""
    news = ended.model_dump_json(exclude=_KNOWN).encode()
    return news if len(news) <= MAX_NEWS_BYTES else b""


def as_told(job: Job, news: bytes) -> Job | None:
    """The job as it has ended; None where the news is empty, not of it, older than what is known, or not readable.

    Nor of one that was deleted under its run: the record says that nobody has it.
    """
    if not news:
        return None
    try:
        told = Job.model_validate_json(news)
    except ValidationError:
        return None
    if told.id != job.id or not told.state.ended or told.revision <= job.revision or told.deleted_at is not None:
        return None
    return told.model_copy(update={"params": job.params})
