"""Where models come from, against look-alikes of the hub, of GitHub and of an index of wheels."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from fleet.addresses import Reach
from fleet.download import Downloads, Watch
from fleet.errors import CorruptInput, FleetError, InputTooLarge, IntegrityError, ModelError, UnsupportedMedia
from fleet.model_settings import ModelSettings
from fleet.model_source import AtUrl, InWheel, ModelSource, OnGitHub, OnHub, Trained
from fleet.outward import Outward
from fleet.settings import CPU_PROVIDER, Settings
from tests.support.file_server import COMMIT, Site, github, hub
from tests.support.graphs import scale_graph, with_external_data
from worker.engine.manifest import WeightFile
from worker.engine.repository import Repository
from worker.engine.session import Session, SessionSetup
from worker.house.disk import Disk
from worker.house.scan import references
from worker.house.sources import Desk, Fetched, fetch
from worker.house.weights import Weights, fetch_missing, fetch_weight
from worker.tasks import find_tasks

LOOPBACK = Reach([ip_network("127.0.0.0/8")])
GRAPH = scale_graph()


@pytest.fixture
def server() -> Iterator[Site]:
    running = Site()
    yield running
    running.close()


@pytest.fixture
def desk(server: Site, tmp_path: Path) -> Desk:
    settings = ModelSettings(
        hf_endpoint=server.url, github_endpoint=server.url, wheel_index=f"{server.url}/simple", onnx_providers=[]
    )
    downloads = Downloads(Outward(LOOPBACK), Outward(LOOPBACK, allow_http=True), max_bytes=1 << 24, pause_s=0.01)
    folder, incoming = tmp_path / "came", tmp_path / "incoming"
    folder.mkdir()
    incoming.mkdir()
    return Desk(downloads, None, settings, folder, incoming, Watch(), references)


def came(source: ModelSource, desk: Desk) -> tuple[Fetched, dict[str, bytes]]:
    fetched = fetch(source, desk)
    assert not list(desk.incoming.iterdir())
    files = [path for path in desk.folder.rglob("*") if path.is_file()]
    return fetched, {path.relative_to(desk.folder).as_posix(): path.read_bytes() for path in files}


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_of_a_hub_come_the_graph_its_data_and_text_but_no_checkpoint(server: Site, desk: Desk, tmp_path: Path) -> None:
    made = with_external_data(tmp_path, data="model.onnx_data")
    files = {
        "onnx/model.onnx": made.read_bytes(),
        "onnx/model.onnx_data": (tmp_path / "model.onnx_data").read_bytes(),
        "tokenizer.json": b"{}",
        "pytorch_model.bin": b"\x80\x02}",
        "model.pt": b"PK",
        "convert.py": b"import os",
        "runs/log.json": b"{}",
        "README.md": b"# it",
    }
    hub(server, "org/it", files, lfs=("onnx/model.onnx_data",))
    fetched, found = came(OnHub(repository="org/it"), desk)
    assert found.keys() == {"onnx/model.onnx", "onnx/model.onnx_data", "tokenizer.json", "README.md"}
    assert fetched.graphs == ["onnx/model.onnx"]
    assert fetched.note == f"hub:org/it@{COMMIT}"


def test_several_graphs_of_a_hub_are_named_until_one_is_chosen(server: Site, desk: Desk) -> None:
    hub(server, "org/it", {"onnx/model.onnx": GRAPH, "onnx/model_fp16.onnx": scale_graph(3)})
    with pytest.raises(ModelError, match=r"onnx/model\.onnx, onnx/model_fp16\.onnx") as caught:
        came(OnHub(repository="org/it"), desk)
    assert caught.value.code == "graph-ambiguous"
    _, found = came(OnHub(repository="org/it", onnx="onnx/model_fp16.onnx"), desk)
    assert found == {"onnx/model_fp16.onnx": scale_graph(3)}


def test_several_graphs_of_a_hub_come_with_all_their_data(server: Site, desk: Desk, tmp_path: Path) -> None:
    files = {
        "onnx/encoder.onnx": with_external_data(tmp_path, data="shared.data").read_bytes(),
        "onnx/decoder.onnx": with_external_data(tmp_path, data="shared.data").read_bytes(),
        "onnx/past.onnx": with_external_data(tmp_path, data="past.data").read_bytes(),
        "onnx/shared.data": (tmp_path / "shared.data").read_bytes(),
        "onnx/past.data": (tmp_path / "past.data").read_bytes(),
        "onnx/quantized.onnx": GRAPH,
        "tokenizer.json": b"{}",
    }
    hub(server, "org/it", files)
    asked = ["onnx/encoder.onnx", "onnx/decoder.onnx", "onnx/past.onnx"]
    fetched, found = came(OnHub(repository="org/it", graphs=asked), desk)
    assert found == {name: content for name, content in files.items() if name != "onnx/quantized.onnx"}
    assert fetched.graphs == asked
    assert len(server.asked(f"/org/it/resolve/{COMMIT}/onnx/shared.data")) == 1
    with pytest.raises(ModelError, match=r"has no onnx/other\.onnx; its graphs: onnx/decoder\.onnx") as caught:
        came(OnHub(repository="org/it", graphs=[*asked, "onnx/other.onnx"]), desk)
    assert caught.value.code == "graph-missing"


def test_a_file_of_the_hub_that_is_not_what_it_lists_is_refused(server: Site, desk: Desk) -> None:
    hub(server, "org/it", {"model.onnx": GRAPH}, lfs=("model.onnx",))
    server.files[f"/org/it/resolve/{COMMIT}/model.onnx"] = scale_graph(9)
    with pytest.raises(IntegrityError):
        came(OnHub(repository="org/it"), desk)


def test_a_private_repository_of_the_hub_needs_the_token(server: Site, desk: Desk) -> None:
    hub(server, "org/it", {"model.onnx": GRAPH})
    server.token = "hf_secret"
    with pytest.raises(ModelError) as caught:
        came(OnHub(repository="org/it"), desk)
    assert caught.value.code == "source-unauthorized"
    settings = desk.settings.model_copy(update={"hf_token": SecretStr("hf_secret")})
    assert came(OnHub(repository="org/it"), replace(desk, settings=settings))[1] == {"model.onnx": GRAPH}


def test_a_folder_of_github_comes_without_its_programs(server: Site, desk: Desk) -> None:
    files = {"m/config.pbtxt": b"name: 'm'", "m/1/model.onnx": GRAPH, "m/train.py": b"import os", "other": b""}
    github(server, "org/it", files)
    fetched, found = came(OnGitHub(repository="org/it", path="m"), desk)
    assert found == {"config.pbtxt": b"name: 'm'", "1/model.onnx": GRAPH}
    assert fetched.note == f"github:org/it@{COMMIT}/m"


def test_a_file_of_github_that_lfs_keeps_comes_from_where_the_api_says(server: Site, desk: Desk) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(GRAPH).hexdigest()}\n"
    github(server, "org/it", {"m/model.onnx": f"{pointer}size {len(GRAPH)}\n".encode()})
    with pytest.raises(ModelError):
        came(OnGitHub(repository="org/it", path="m", ref="v1"), desk)
    server.files["/lfs/m/model.onnx"] = GRAPH
    assert came(OnGitHub(repository="org/it", path="m", ref="v1"), desk)[1] == {"model.onnx": GRAPH}


def test_an_asset_of_a_release_is_unpacked(server: Site, desk: Desk) -> None:
    packed = zipped({"it/1/model.onnx": GRAPH})
    asset = {"name": "it.zip", "id": 7, "digest": f"sha256:{hashlib.sha256(packed).hexdigest()}"}
    server.say("/repos/org/it/releases/latest", {"tag_name": "v2", "assets": [asset]})
    server.files["/repos/org/it/releases/assets/7"] = packed
    assert came(OnGitHub(repository="org/it", asset="it.zip"), desk)[1] == {"it/1/model.onnx": GRAPH}
    with pytest.raises(ModelError, match=r"it\.zip"):
        came(OnGitHub(repository="org/it", asset="other.zip"), desk)


@pytest.mark.parametrize("form", ["json", "html"])
def test_members_of_a_wheel_come_from_the_index_as_data(server: Site, desk: Desk, form: str) -> None:
    wheel = zipped({"it/model.onnx": GRAPH, "it/__init__.py": b"raise SystemExit"})
    name, digest = "it_it-1.2-py3-none-any.whl", hashlib.sha256(wheel).hexdigest()
    server.files[f"/files/{name}"] = wheel
    if form == "json":
        told = {"files": [{"filename": name, "url": f"../../files/{name}", "hashes": {"sha256": digest}}]}
        server.say("/simple/it-it/", told)
    else:
        page = f'<a href="../../files/{name}#sha256={digest}">{name}</a>'.encode()
        server.answers["/simple/it-it/"] = (200, {"Content-Type": "text/html"}, page)
    source = InWheel(package="It.It==1.2", members={"it/model.onnx": "model.onnx"})
    assert came(source, desk)[1] == {"model.onnx": GRAPH}
    with pytest.raises(FleetError, match=r"it/model\.onnx") as caught:
        came(source.model_copy(update={"members": {"it/other.onnx": "model.onnx"}}), desk)
    assert caught.value.code == "member-missing"
    with pytest.raises(ModelError, match=r"1\.2"):
        came(source.model_copy(update={"package": "it-it==2.0"}), desk)


def test_a_checkpoint_comes_with_the_meaning_of_its_classes(server: Site, desk: Desk) -> None:
    server.files["/run/7/best.onnx"] = GRAPH
    fetched, found = came(Trained(checkpoint_url=f"{server.url}/run/7/best.onnx", class_mapping={0: "cat"}), desk)
    assert found == {"model.onnx": GRAPH}
    assert fetched.labels == {0: "cat"}


def test_an_archive_at_a_url_is_unpacked(server: Site, desk: Desk) -> None:
    server.files["/it.tar.gz"] = tarred((tarfile.TarInfo("./it/model.onnx"), GRAPH))
    fetched, found = came(AtUrl(url=f"{server.url}/it.tar.gz?signature=only-for-us"), desk)
    assert found == {"it/model.onnx": GRAPH}
    assert "only-for-us" not in fetched.note


def linked(kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo("model.onnx")
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    ("packed", "error"),
    [
        (zipped({"../model.onnx": GRAPH}), UnsupportedMedia),
        (zipped({"/model.onnx": GRAPH}), UnsupportedMedia),
        (zipped({"a/model.onnx": GRAPH, "A/model.onnx": GRAPH}), UnsupportedMedia),
        (tarred((tarfile.TarInfo("../model.onnx"), GRAPH)), UnsupportedMedia),
        (tarred((linked(tarfile.SYMTYPE), b"")), UnsupportedMedia),
        (tarred((linked(tarfile.LNKTYPE), b"")), UnsupportedMedia),
        (zipped({f"{n}": b"" for n in range(2001)}), InputTooLarge),
        (zipped({"model.onnx": bytes(1 << 24) + b"x"}), InputTooLarge),
        (zipped({"model.onnx": GRAPH})[:60] + zipped({"model.onnx": GRAPH})[90:], CorruptInput),
    ],
    ids=["up", "absolute", "twice", "tar-up", "symlink", "hardlink", "many", "bomb", "damaged"],
)
def test_a_hostile_archive_is_refused(server: Site, desk: Desk, packed: bytes, error: type[FleetError]) -> None:
    server.files["/it.zip"] = packed
    with pytest.raises(error):
        fetch(AtUrl(url=f"{server.url}/it.zip"), desk)
    assert not (desk.folder.parent / "model.onnx").exists()


def test_weights_come_from_the_first_mirror_that_has_the_right_bytes(server: Site, desk: Desk, tmp_path: Path) -> None:
    content = b"weights" * 100
    server.files |= {"/broken": b"other", "/org/it/resolve/main/model.safetensors": content}
    mirrors = [f"{server.url}/missing", f"{server.url}/broken", "hub:org/it@main/model.safetensors"]
    file = WeightFile(
        path="model.safetensors", sha256=hashlib.sha256(content).hexdigest(), size=len(content), mirrors=mirrors
    )
    path = fetch_weight(file, tmp_path / "folder", desk.downloads, desk.settings, Watch())
    assert path.read_bytes() == content
    assert [entry.name for entry in path.parent.iterdir()] == ["model.safetensors"]
    nowhere = file.model_copy(update={"mirrors": mirrors[:2], "path": "other"})
    with pytest.raises(ModelError, match="missing") as caught:
        fetch_weight(nowhere, tmp_path / "folder", desk.downloads, desk.settings, Watch())
    assert caught.value.code == "weights-unavailable"


def test_a_folder_without_its_weights_is_completed_in_the_disk_cache_once(
    server: Site, desk: Desk, tmp_path: Path
) -> None:
    made = with_external_data(tmp_path, data="weights.bin")
    content = (tmp_path / "weights.bin").read_bytes()
    server.files["/weights.bin"] = content
    graph = tmp_path / "models" / "triple" / "1" / "model.onnx"
    graph.parent.mkdir(parents=True)
    graph.write_bytes(made.read_bytes())
    weights = {
        "path": "weights.bin",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "mirrors": [f"{server.url}/weights.bin"],
    }
    manifest = {"task": "tensors", "source": {"files": [weights]}}
    (graph.parent.parent / "model.yaml").write_text(yaml.safe_dump(manifest))
    disk = Disk(tmp_path / "cache", 1 << 24)
    repository = Repository(tmp_path / "models", find_tasks(), weights=Weights(disk, desk.downloads, desk.settings))
    version = repository.get("triple", 1)
    assert (version.folder / "weights.bin").read_bytes() == content
    assert Session(version.graph, SessionSetup([CPU_PROVIDER])).inputs[0].shape == (4096,)
    assert repository.get("triple", 1).folder == version.folder
    assert len(server.seen) == 1
    assert not (graph.parent / "weights.bin").exists()
    disk.close()


def test_a_person_gets_missing_weights_into_the_folder_itself(server: Site, tmp_path: Path) -> None:
    made = with_external_data(tmp_path, data="weights.bin")
    content = (tmp_path / "weights.bin").read_bytes()
    server.files["/weights.bin"] = content
    folder = tmp_path / "models" / "triple"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(made.read_bytes())
    weights = {"path": "weights.bin", "size": len(content), "mirrors": [f"{server.url}/weights.bin"]}
    weights["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "model.yaml").write_text(yaml.safe_dump({"task": "tensors", "source": {"files": [weights]}}))
    settings = Settings(_env_file=None, outward_allow_networks=[ip_network("127.0.0.0/8")])
    told: list[tuple[str, int, int]] = []
    assert fetch_missing(folder, settings, lambda *at: told.append(at)) == [folder / "1" / "weights.bin"]
    assert told[-1] == ("weights.bin", len(content), len(content))
    assert fetch_missing(folder, settings) == []
