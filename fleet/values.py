"""What all values of the record and of requests have in common."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value: immutable, and unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Recorded(BaseModel):
    """A value that lies in the record: immutable, and fields of a newer version of Fleet are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())
