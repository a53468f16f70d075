"""`langadapt doctor`: each fault that is planted is named, a sound installation is not blamed, and no token is shown."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import ROOT
from rich.console import Console

from langadapt.commands import doctor as command
from langadapt.doctor import facts as gathering
from langadapt.doctor import libraries, places, sections
from langadapt.doctor.checking import findings
from langadapt.doctor.facts import Facts, Gpu, Library, read_gpu, shown
from langadapt.doctor.installed import TRIED, Package, installed, needed, unmet
from langadapt.doctor.places import Place, mount
from langadapt.machine import Machine, cores_of_quota, memory_of_limit
from langadapt.models import hub_cache
from langadapt.plugins import Plugin

A100 = Gpu(name="NVIDIA A100", memory=40 * 2**30, used=2**30, capability=(8, 0), driver="570.1")
ONE_GPU = Machine(cores=8, memory=64 * 2**30, gpus=(("NVIDIA A100", 40 * 2**30),), bf16=True)


def package(name: str, version: str, *requires: str, **more: Any) -> Package:
    return Package(name=name, version=version, requires=requires, **more)


SOUND = Facts(
    packages={
        "langadapt": package(
            "langadapt", "0.1.0", "torch>=2.8", "transformers>=5", 'old; python_version < "3"', "x; extra == 'y'"
        ),
        "torch": package("torch", "2.13.0+cu128"),
        "transformers": package("transformers", "5.23.0", "tokenizers<0.24,>=0.23"),
        "tokenizers": package("tokenizers", "0.23.3"),
        "torchvision": package("torchvision", "0.28.0", "torch==2.13.0"),
        "sentencepiece": package("sentencepiece", "0.2.3"),
        "langadapt-italian": package("langadapt-italian", "0.1.0", "langadapt>=0.1"),
    },
    environment={
        "HF_HUB_OFFLINE": "0",
        "LOCAL_RANK": "-1",
        "CUDA_LAUNCH_BLOCKING": "0",
        "NCCL_SOCKET_IFNAME": "^docker,lo",
    },
    machine=ONE_GPU,
    gpus=(A100,),
    shared_memory=64 * 2**20,
    interfaces=("lo", "eth0"),
    kernel="Linux 6.1",
    places=(
        Place(use="runs", path=Path("/data/runs"), free=10**11, filesystem="ext4", options=("rw", "noatime")),
        Place(
            use="the hub's cache",
            path=Path("/nfs/hub"),
            free=10**11,
            filesystem="nfs4",
            options=("rw", "local_lock=none"),
        ),
    ),
    plugins=(Plugin(name="italian", distribution="langadapt-italian", version="0.1.0", offers={"language": ("it",)}),),
    tokens=("HF_TOKEN",),
    libraries={
        "torch": Library(version="2.13.0+cu128", found={"built for": "CUDA 12.8", "threads": 8}),
        "cuda": Library(version="2.13.0+cu128", found={"devices": 1}),
        "bitsandbytes": Library(
            version="0.50.2", found={"library": "libbitsandbytes_cuda128.so", "device": "cuda", "off": 0.03}
        ),
    },
)


def packages(**changed: Package | None) -> Callable[[Facts], Facts]:
    """Facts with other packages; None takes one away."""

    def change(facts: Facts) -> Facts:
        names = {name.replace("_", "-"): package for name, package in changed.items()}
        return replace(facts, packages={name: p for name, p in (dict(facts.packages) | names).items() if p is not None})

    return change


def variables(**set_: str) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, environment={**facts.environment, **set_})


def tried(name: str, error: str = "", **found: Any) -> Callable[[Facts], Facts]:
    def change(facts: Facts) -> Facts:
        was = facts.libraries.get(name, Library(version=""))
        return replace(
            facts, libraries={**facts.libraries, name: replace(was, error=error, found={**was.found, **found})}
        )

    return change


def a_place(**changed: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, places=(facts.places[0], replace(facts.places[1], **changed)))


def a_plugin(**changed: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, plugins=(replace(facts.plugins[0], **changed),))


def with_(**changed: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, **changed)


def processor_alone(facts: Facts) -> Facts:
    without = {name: library for name, library in facts.libraries.items() if name != "cuda"}
    return replace(facts, machine=replace(ONE_GPU, gpus=()), gpus=(), libraries=without)


CLASH = 'the corpus "a" is offered by other too'

# By the check that has to find it: what is planted, and words that have to be said.
FAULTS: Mapping[str, list[tuple[Callable[[Facts], Facts], str]]] = {
    "package-missing": [
        (packages(tokenizers=None), 'transformers 5.23.0 requires "tokenizers<0.24,>=0.23", which is not')
    ],
    "version-unmet": [
        (
            packages(transformers=package("transformers", "4.57.0")),
            'langadapt 0.1.0 requires "transformers>=5", and transformers 4.57.0 is installed',
        ),
        (packages(tokenizers=package("tokenizers", "0.22.0")), "and tokenizers 0.22.0 is installed"),
    ],
    "two-versions": [
        (packages(torch=package("torch", "2.13.0", others=("2.9.0",))), "torch is there as 2.13.0 and as 2.9.0")
    ],
    "another-imported": [
        (with_(libraries={"torch": Library(version="2.9.0")}), "torch 2.13.0 is installed, and 2.9.0 is imported"),
    ],
    "users-own-packages": [
        (packages(torch=package("torch", "2.13.0", of_user=True)), "in the user's own folder: torch")
    ],
    "newer-than-tried": [
        (packages(peft=package("peft", "0.99.0"), langadapt=package("langadapt", "0.1.0", "peft")), "0.21.2 was")
    ],
    "library-broken": [
        (tried("datasets", "ImportError: cannot import name 'x'"), "datasets: ImportError: cannot import name 'x'"),
        (tried("numpy", "it ends the process that imports it (signal SIGILL)"), "numpy: it ends the process"),
    ],
    "gpu-hidden": [
        (
            lambda f: variables(CUDA_VISIBLE_DEVICES="")(replace(processor_alone(f), gpus=(A100,))),
            "the driver lists NVIDIA A100, and this process sees no GPU (CUDA_VISIBLE_DEVICES is ",
        ),
    ],
    "gpu-unusable": [
        (
            tried("cuda", "RuntimeError: no kernel image is available"),
            "torch, built for CUDA 12.8, cannot use NVIDIA A100",
        ),
    ],
    "no-four-bits": [
        (tried("bitsandbytes", library=""), "has found no library of its own for the cuda"),
        (tried("bitsandbytes", off=0.9), "0.9 off"),
        (tried("bitsandbytes", off=float("nan")), "nan off"),
    ],
    "not-writable": [(a_place(fails={"write": "Read-only file system"}), "/nfs/hub: Read-only file system")],
    "disk-full": [(a_place(free=5 * 10**8), "500 MB are free")],
    "no-locks": [(a_place(fails={"lock": "Function not implemented"}), "(nfs4): Function not implemented")],
    "no-links": [(a_place(fails={"link": "Operation not permitted"}), "Operation not permitted")],
    "core-broken": [(with_(broken="ImportError: no pydantic", plugins=()), "ImportError: no pydantic")],
    "plugin-broken": [(a_plugin(error="ValueError: no"), "italian (langadapt-italian 0.1.0): ValueError: no")],
    "plugins-clash": [
        (lambda f: replace(a_plugin(warnings=(CLASH,))(f), clashes={"italian": (CLASH,)}), CLASH),
    ],
    "plugin-ill-mannered": [(a_plugin(warnings=("it imports torch when it is loaded",)), "it imports torch")],
    "no-language": [(a_plugin(offers={"filter": ("f",)}), "no plugin offers a language")],
    "torchvision-for-another-torch": [
        (
            packages(torchvision=package("torchvision", "0.27.0", "torch==2.12.0")),
            "torchvision 0.27.0 is built for torch==2.12.0",
        ),
        (
            tried("transformers", "RuntimeError: operator torchvision::nms does not exist"),
            "transformers: RuntimeError: operator",
        ),
    ],
    "extension-for-another-torch": [
        (
            tried("flash_attn", "ImportError: flash_attn_2_cuda.so: undefined symbol: _ZN3c104cuda9SetDeviceEi"),
            "flash_attn: Im",
        ),
    ],
    "another-cuda-before-torchs": [
        (
            lambda f: variables(LD_LIBRARY_PATH="/usr/local/cuda-12.1/lib64")(
                tried(
                    "torch",
                    "ImportError: libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink",
                )(f)
            ),
            "(LD_LIBRARY_PATH is /usr/local/cuda-12.1/lib64)",
        ),
    ],
    "built-for-another-numpy": [
        (
            tried("datasets", "ValueError: numpy.dtype size changed, may indicate binary incompatibility"),
            "datasets: ValueError",
        ),
    ],
    "torchao-that-peft-refuses": [
        (
            tried("peft", "ImportError: Found an incompatible version of torchao. Found version 0.10.0"),
            "Found version 0.10.0",
        ),
    ],
    "deepspeed-without-compiler": [
        (tried("deepspeed", "MissingCUDAException: CUDA_HOME does not exist"), "deepspeed: Missing")
    ],
    "bitsandbytes-for-another-cuda": [(variables(BNB_CUDA_VERSION="121"), "is 121, and torch is built for CUDA 12.8")],
    "no-sentencepiece": [(packages(sentencepiece=None), "sentencepiece is not installed")],
    "gpu-without-bf16": [
        (with_(gpus=(replace(A100, name="Tesla T4", capability=(7, 5)),)), "Tesla T4 has compute capability 7.5")
    ],
    "gpu-in-use": [(with_(gpus=(replace(A100, used=30 * 2**30),)), "30.0 of 40 GiB are in use")],
    "more-threads-than-cores": [(tried("torch", threads=64), "64 threads, and this process may use 8 cores")],
    "fewer-threads-than-cores": [
        (
            lambda f: variables(OMP_NUM_THREADS="1")(tried("torch", threads=1)(processor_alone(f))),
            "OMP_NUM_THREADS is 1: torch",
        ),
    ],
    "little-shared-memory": [
        (with_(machine=replace(ONE_GPU, gpus=ONE_GPU.gpus * 2)), "/dev/shm has 64 MiB, for 2 GPUs")
    ],
    "locks-of-one-machine": [(a_place(options=("rw", "nolock")), "is on nfs4, mounted with nolock")],
    "folder-of-windows": [
        (
            lambda f: replace(a_place(filesystem="9p")(f), kernel="Linux 5.15-microsoft-standard-WSL2"),
            "is a folder of Windows",
        ),
    ],
    "transformers-cache": [(variables(TRANSFORMERS_CACHE="/models"), "TRANSFORMERS_CACHE is set")],
    "hf-transfer": [(variables(HF_HUB_ENABLE_HF_TRANSFER="1"), "HF_HUB_ENABLE_HF_TRANSFER is set")],
    "hub-offline": [(variables(TRANSFORMERS_OFFLINE="yes"), "TRANSFORMERS_OFFLINE is yes")],
    "two-tokens": [(with_(tokens=("HF_TOKEN", "/home/me/token")), "a token in HF_TOKEN and in /home/me/token")],
    "endpoint-without-scheme": [(variables(HF_ENDPOINT="hub.example.org"), 'HF_ENDPOINT is "hub.example.org"')],
    "left-over-from-a-launcher": [
        (variables(LOCAL_RANK="0", WORLD_SIZE="4"), "LOCAL_RANK=0 WORLD_SIZE=4 are set"),
        (variables(OMPI_COMM_WORLD_SIZE="2"), "OMPI_COMM_WORLD_SIZE=2 is set"),
    ],
    "accelerate-switch": [
        (variables(ACCELERATE_USE_FSDP="true"), "ACCELERATE_USE_FSDP is true"),
        (variables(ACCELERATE_MIXED_PRECISION="bf16"), "ACCELERATE_MIXED_PRECISION is bf16"),
    ],
    "no-such-interface": [(variables(NCCL_SOCKET_IFNAME="ib0"), "is ib0, and this machine has lo, eth0")],
    "left-over-from-debugging": [(variables(CUDA_LAUNCH_BLOCKING="1"), "CUDA_LAUNCH_BLOCKING is 1")],
    "one-thread-for-tokens": [(variables(TOKENIZERS_PARALLELISM="false"), "TOKENIZERS_PARALLELISM is false")],
}


def test_nothing_is_found_in_a_sound_installation() -> None:
    assert findings(SOUND, sections.ALL) == []
    assert findings(processor_alone(SOUND), sections.ALL) == []


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert list(FAULTS) == [check.name for check in sections.ALL]


@pytest.mark.parametrize(("name", "plant", "words"), [(n, *fault) for n, faults in FAULTS.items() for fault in faults])
def test_a_planted_fault_is_named_and_nothing_else(name: str, plant: Callable[[Facts], Facts], words: str) -> None:
    found = findings(plant(SOUND), sections.ALL)
    assert [finding.check for finding in found] == [name]
    assert words in found[0].what


@pytest.mark.parametrize(
    "healthy",
    [
        variables(NCCL_SOCKET_IFNAME="eth"),  # a beginning is enough
        variables(NCCL_SOCKET_IFNAME="=eth0,=eth1"),
        variables(WORLD_SIZE="1", LOCAL_RANK="-1"),
        variables(ACCELERATE_USE_FSDP="false", ACCELERATE_MIXED_PRECISION="no"),
        variables(BNB_CUDA_VERSION="128"),
        variables(OMP_NUM_THREADS="1"),  # the GPU computes
        with_(shared_memory=None, machine=replace(ONE_GPU, gpus=ONE_GPU.gpus * 2)),
        packages(torch=package("torch", "2.13.0+cpu")),
        packages(stranger=package("stranger", "1.0", "numpy<1")),  # nothing of ours needs it
    ],
)
def test_what_is_in_order_is_not_blamed(healthy: Callable[[Facts], Facts]) -> None:
    assert findings(healthy(SOUND), sections.ALL) == []


# --- how facts are found ----------------------------------------------------------------------------------------------


def distribution(site: Path, name: str, version: str, *requires: str) -> None:
    """Leaves a distribution in a folder as pip would."""
    about = site / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")


def test_requirements_are_read_from_the_metadata_of_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "Planted.One", "1.0", "planted-two>=2", "planted-three", "planted-four; extra == 'never'")
    distribution(tmp_path, "planted-two", "1.5")
    distribution(tmp_path, "planted-two", "1.4")
    monkeypatch.syspath_prepend(tmp_path)
    found = installed()
    assert {found["planted-two"].version, *found["planted-two"].others} == {"1.4", "1.5"}
    lacking = {str(one.requirement): one.installed for one in unmet(found, found["planted-one"])}
    assert lacking == {"planted-two>=2": found["planted-two"].version, "planted-three": ""}
    assert {p.name for p in needed(found, ["planted.one"])} == {"Planted.One", "planted-two"}


def test_this_environment_has_torch_and_what_langadapt_requires() -> None:
    found = installed()
    assert not found["torch"].others and {"torch", "peft", "pluggy"} <= {p.name for p in needed(found, ["langadapt"])}


def test_versions_that_were_tried_are_those_that_tests_are_pinned_to() -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert {name: pinned[name] for name in TRIED} == TRIED


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    (look,) = [p for p in places.places(tmp_path / "not" / "there") if p.use == "runs"]
    assert look.fails == {} and look.path == tmp_path / "not" / "there" and look.free > 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_filesystem_cannot_do_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", refuse)
        patch.setattr("os.symlink", refuse)
        assert set(dict(places._failures(tmp_path))) == {"lock", "link"}
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", lambda *arguments: None)  # as some network filesystems do: all may have it
        assert dict(places._failures(tmp_path)) == {"lock": "a lock keeps nobody out"}
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkdtemp", lambda *a, **k: refuse())
        assert dict(places._failures(tmp_path)) == {"write": "Function not implemented"}


def test_a_folder_is_on_the_filesystem_that_is_mounted_nearest_above_it(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda1 / ext4 rw 0 0\nserver:/a /data nfs4 rw,nolock 0 0\n"
        "C: /mnt/c\\040drive 9p rw 0 0\ntmpfs /database tmpfs rw 0 0\n"
    )
    assert mount(Path("/data/runs"), mounts) == ("nfs4", ("rw", "nolock"))
    assert mount(Path("/mnt/c drive/x"), mounts)[0] == "9p"
    assert mount(Path("/home"), mounts) == ("ext4", ("rw",))
    assert mount(Path("/home"), tmp_path / "none") == ("", ())


def test_a_line_of_the_drivers_list_is_a_gpu() -> None:
    gpu = read_gpu("NVIDIA H100 80GB HBM3, 81559, 4123, 9.0, 570.124.06")
    assert gpu == Gpu(
        name="NVIDIA H100 80GB HBM3", memory=81559 * 2**20, used=4123 * 2**20, capability=(9, 0), driver="570.124.06"
    )
    with pytest.raises(ValueError):
        read_gpu("No devices were found")


def test_a_token_is_found_where_the_hub_library_looks_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_abcdefghijkl")
    both = {"HF_TOKEN": "hf_abcdefghijkl"}
    assert list(gathering._tokens(both, tmp_path)) == ["HF_TOKEN", str(tmp_path / "token")]
    assert list(gathering._tokens({"HF_TOKEN": "", "HF_TOKEN_PATH": str(tmp_path / "none")}, tmp_path)) == []


def test_limits_of_a_container_count(tmp_path: Path) -> None:
    limit = tmp_path / "limit"
    for text, size in (("max\n", 0), ("1073741824\n", 2**30)):
        limit.write_text(text)
        assert memory_of_limit(limit) == size
    assert memory_of_limit(tmp_path / "none") == 0 == cores_of_quota(tmp_path / "none")


def test_the_hubs_cache_is_found_by_each_of_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert hub_cache() == Path("~/.cache/huggingface/hub").expanduser()
    for name, value, expected in (
        ("XDG_CACHE_HOME", "/x", "/x/huggingface/hub"),
        ("HF_HOME", "/h", "/h/hub"),
        ("HUGGINGFACE_HUB_CACHE", "/old", "/old"),
        ("HF_HUB_CACHE", "/new", "/new"),
    ):
        monkeypatch.setenv(name, value)
        assert hub_cache() == Path(expected)


# --- libraries that are tried -----------------------------------------------------------------------------------------

MODULES = {
    "good": "__version__ = '1.2'\nprint('noise on standard output')\n",
    "raises": "raise OSError('libcudart.so.12: cannot open shared object file')\n",
    "crashes": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
    "leaves": "import os, sys\nprint('Illegal instruction of its own', file=sys.stderr)\nos._exit(3)\n",
    "hangs": "import time\ntime.sleep(600)\n",
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, source in MODULES.items():
        (tmp_path / f"planted_{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    yield


def test_a_library_that_raises_or_dies_is_told_about_and_the_next_ones_are_tried(modules: None) -> None:
    found = libraries.tried([f"planted_{name}" for name in ("raises", "crashes", "good", "leaves")])
    assert found["planted_good"] == Library(version="1.2")
    assert found["planted_raises"].error == "OSError: libcudart.so.12: cannot open shared object file"
    assert found["planted_crashes"].error == "it ends the process that imports it (signal SIGSEGV)"
    assert found["planted_leaves"].error == (
        "it ends the process that imports it (exit code 3): Illegal instruction of its own"
    )


def test_a_library_that_hangs_is_given_up(modules: None) -> None:
    assert (
        libraries.tried(["planted_hangs"], patience=2)["planted_hangs"].error == "it had not answered after 2 seconds"
    )


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """The command with given facts, without trying libraries."""

    def run(facts: Facts, *arguments: str) -> Any:
        monkeypatch.setattr(gathering, "collect", lambda out: facts)
        monkeypatch.setattr(libraries, "try_all", lambda facts: facts.libraries)
        return CliRunner().invoke(command.doctor, ["--out", str(tmp_path), *arguments])

    return run


@pytest.mark.parametrize(
    ("plant", "code", "counts"),
    [
        (lambda facts: facts, 0, "findings: none"),
        (variables(TRANSFORMERS_OFFLINE="1"), 0, "findings: 0 wrong, 1 to know"),
        (variables(TRANSFORMERS_CACHE="/x", TRANSFORMERS_OFFLINE="1"), 1, "findings: 1 wrong, 1 to know"),
    ],
)
def test_the_exit_code_says_whether_something_is_wrong(
    plant: Callable[[Facts], Facts], code: int, counts: str, doctor: Callable[..., Any]
) -> None:
    done = doctor(plant(SOUND))
    assert done.exit_code == code and counts in done.stdout
    told = json.loads(doctor(plant(SOUND), "--json").stdout)
    assert any(finding["weight"] == "wrong" for finding in told["findings"]) == bool(code)


def test_a_finding_says_what_is_so_what_comes_of_it_what_to_do_and_who_says_so(doctor: Callable[..., Any]) -> None:
    done = doctor(variables(TRANSFORMERS_CACHE="/x")(SOUND), "--json")
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["check"] == "transformers-cache" and finding["what"] == "TRANSFORMERS_CACHE is set"
    assert (
        "does not read it" in finding["happens"]
        and "HF_HOME" in finding["do"]
        and finding["source"].startswith("https://")
    )


SECRETS = {
    "HF_TOKEN": "hf_AbCdEfGhIjKlMnOp",
    "HUGGING_FACE_HUB_TOKEN": "plain-old-secret",
    "HF_HUB_USER_AGENT_ORIGIN": "hf_QrStUvWxYz012345",  # a token in a place that is none for it
    "HTTPS_PROXY": "http://me:p4ssw0rd@proxy.example:3128",
    "HF_ENDPOINT": "https://user:s3cret@hub.example.org",
    "NCCL_SECRET_KEY": "c0ffee",
}


def test_no_token_and_no_password_is_ever_shown(doctor: Callable[..., Any]) -> None:
    facts = replace(variables(**SECRETS)(SOUND), tokens=("HF_TOKEN",))
    for arguments in ((), ("--json",)):
        said = doctor(facts, *arguments).stdout
        for secret in ("AbCdEfGhIjKl", "plain-old", "QrStUvWx", "p4ssw0rd", "s3cret", "c0ffee"):
            assert secret not in said
        assert "proxy.example:3128" in said and "hub.example.org" in said
        assert re.search(r"HF_TOKEN\W+\(set, not shown\)", said)


def test_harmless_values_are_shown_as_they_are() -> None:
    for name, value in (
        ("TOKENIZERS_PARALLELISM", "true"),
        ("HF_HOME", "/data/hf_cache"),
        ("CUDA_VISIBLE_DEVICES", "0,1"),
    ):
        assert shown(name, value) == value


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_cut_off_on_a_narrow_screen(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    long = variables(LD_LIBRARY_PATH=":".join(f"/opt/library-{n}/lib64" for n in range(40)))(SOUND)
    facts = tried("datasets", "ImportError: " + "a very long story " * 20)(long)
    console = Console(width=width, record=True, file=open(os.devnull, "w"), markup=False, highlight=False)  # noqa: SIM115
    command._show(facts, {**sections.EARLY, **sections.LATE}, console)
    command._judge(findings(facts, sections.ALL), console)
    said = console.export_text()
    assert max(map(len, said.splitlines())) <= width and "…" not in said
    assert "".join(f"/opt/library-{n}/lib64:" for n in range(39)) in re.sub(r"\s", "", said)


@pytest.mark.slow
def test_a_torch_that_cannot_be_imported_is_reported_and_crashes_nothing(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "langadapt", "doctor", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200"},
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "library-broken: torch: OSError: libcudart.so.12: cannot open shared object file" in done.stdout
    assert done.stdout.index("\nversions\n") < done.stdout.index("\nlibraries\n") < done.stdout.index("findings:")


@pytest.mark.slow
def test_the_doctor_tries_the_libraries_of_this_machine_and_imports_none_of_them_itself(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom langadapt.cli import cli\n"
        "try:\n    cli(['doctor', '--json', '--out', sys.argv[1]])\n"
        "finally:\n    sys.stderr.write(' '.join({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=600)
    told = json.loads(done.stdout)
    assert set(told["sections"]) == {*sections.EARLY, *sections.LATE}
    tried_here = told["sections"]["libraries"]
    assert set(libraries.NEEDED) <= set(tried_here) and all(said.startswith("works") for said in tried_here.values())
    assert "libbitsandbytes" in tried_here["bitsandbytes"]
    assert {"torch", "transformers", "peft", "trl", "datasets", "bitsandbytes"} & set(done.stderr.split()) == set()
    assert list(tmp_path.iterdir()) == []
