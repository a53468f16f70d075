"""Combinations of versions, machines and variables that are known to go wrong, and are hard to tell from a message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from packaging.utils import canonicalize_name

from langadapt.doctor.checking import check
from langadapt.doctor.facts import Facts
from langadapt.doctor.installed import requirements

BF16_IN_HARDWARE = (8, 0)  # NVIDIA's compute capability from which on bfloat16 products are not emulated
SHARED = 2**30  # bytes of shared memory that NVIDIA's containers are to be started with, at least
BUSY = 0.1  # of a GPU's memory; a desktop takes less
FOLDERS_OF_WINDOWS = ("9p", "drvfs", "v9fs")  # as WSL mounts them
# Variables by which a launcher tells a process that it is one of several, and the value that means it is not.
WORLD: Mapping[str, str] = {
    "LOCAL_RANK": "-1",
    "WORLD_SIZE": "1",
    "PMI_SIZE": "1",
    "OMPI_COMM_WORLD_SIZE": "1",
    "MV2_COMM_WORLD_SIZE": "1",
}

# Messages of libraries that a check below knows the reason of: library, or "" for any, and what its message says.
_TORCHVISION = ("", re.compile(r"operator torch(vision|audio)::\w+ does not exist|Couldn't load custom C\+\+ ops"))
_BUILT = ("", re.compile(r"undefined symbol: _Z|DLL load failed while importing flash"))
_LINKED = (
    "",
    re.compile(
        r"undefined symbol: __nvJitLink|symbol .*nvJitLink|version `?libcu\w+\.so|libcudnn\w*\.so[.\d]*: undefined"
    ),
)
_NUMPY = ("", re.compile(r"numpy\.(core|dtype)|compiled using NumPy 1\.x|_ARRAY_API"))
_TORCHAO = ("peft", re.compile("incompatible version of torchao|from 'torchao"))
_NVCC = ("", re.compile("CUDA_HOME does not exist"))
_KNOWN = (_TORCHVISION, _BUILT, _LINKED, _NUMPY, _TORCHAO, _NVCC)


def explained(library: str, error: str) -> bool:
    """Whether one of the checks below says why a library fails."""
    return any(name in ("", library) and message.search(error) for name, message in _KNOWN)


def _failing(facts: Facts, known: tuple[str, re.Pattern[str]]) -> Iterator[str]:
    name, message = known
    for library, tried in facts.libraries.items():
        if name in ("", library) and message.search(tried.error):
            yield f"{library}: {' '.join(tried.error.split())}"


# --- versions ---------------------------------------------------------------------------------------------------------


@check(
    happens='transformers imports it when it is there, and fails: "operator torchvision::nms does not exist"',
    do="pip install the one that belongs to this torch, or pip uninstall it; langadapt needs neither",
    source="https://github.com/pytorch/vision/issues/8985",
)
def torchvision_for_another_torch(facts: Facts) -> Iterator[str]:
    """torchvision, torchaudio or another package was built for another torch."""
    torch = facts.packages.get("torch")
    for package in facts.packages.values():
        for requirement in requirements(package):
            pins = canonicalize_name(requirement.name) == "torch" and "==" in str(requirement.specifier)
            if torch and pins and not requirement.specifier.contains(torch.version, prereleases=True):
                wanted = f"torch{requirement.specifier}"
                yield f"{package.name} {package.version} is built for {wanted}, and {torch.version} is installed"
    yield from _failing(facts, _TORCHVISION)


@check(
    happens="whatever imports it fails, transformers among others",
    do="pip uninstall it, or build it for this torch: pip install --no-build-isolation --no-binary flash-attn flash-attn",
    source="https://github.com/Dao-AILab/flash-attention/issues/1832",
)
def extension_for_another_torch(facts: Facts) -> Iterator[str]:
    """A compiled extension, such as flash-attn, was built for another torch."""
    yield from _failing(facts, _BUILT)


@check(
    happens="libraries of another CUDA are found before those that came with torch, and torch cannot be imported",
    do="unset LD_LIBRARY_PATH, or take the folders of CUDA out of it",
    source="https://github.com/pytorch/pytorch/issues/131312",
)
def another_cuda_before_torchs(facts: Facts) -> Iterator[str]:
    """torch is linked with libraries of another CUDA than its own."""
    path = facts.environment.get("LD_LIBRARY_PATH", "")
    for said in _failing(facts, _LINKED):
        yield f"{said}{f' (LD_LIBRARY_PATH is {path})' if path else ''}"


@check(
    happens="it fails on import, or crashes later",
    do="upgrade it, or pip install 'numpy<2' where there is no newer one",
    source="https://numpy.org/doc/stable/user/troubleshooting-importerror.html",
)
def built_for_another_numpy(facts: Facts) -> Iterator[str]:
    """A library was compiled for another numpy."""
    yield from _failing(facts, _NUMPY)


@check(
    happens="every LoRA on weights that are not in four bits fails, also without torchao's quantisation",
    do="pip install --upgrade torchao peft, or pip uninstall torchao; langadapt does not need it",
    source="https://github.com/oumi-ai/oumi/pull/2408",
)
def torchao_that_peft_refuses(facts: Facts) -> Iterator[str]:
    """torchao is there in a version that PEFT does not take."""
    yield from _failing(facts, _TORCHAO)


@check(
    happens="deepspeed looks for CUDA's compiler on import, and accelerate imports deepspeed when it is there",
    do="install the CUDA toolkit and set CUDA_HOME, or pip uninstall deepspeed where compute.backend is another",
    source="https://github.com/deepspeedai/DeepSpeed/issues/2772",
)
def deepspeed_without_compiler(facts: Facts) -> Iterator[str]:
    """deepspeed is installed and CUDA's compiler is not."""
    yield from _failing(facts, _NVCC)


@check(
    happens="bitsandbytes loads the library of that CUDA, whatever torch was built for, and may fail",
    do="unset BNB_CUDA_VERSION",
    source="https://huggingface.co/docs/bitsandbytes/main/en/installation",
)
def bitsandbytes_for_another_cuda(facts: Facts) -> Iterator[str]:
    """BNB_CUDA_VERSION names another CUDA than torch was built for."""
    chosen, torch = facts.environment.get("BNB_CUDA_VERSION"), facts.libraries.get("torch")
    built = str(torch.found.get("built for", "")) if torch else ""
    if chosen and built.startswith("CUDA") and chosen != built.removeprefix("CUDA ").replace(".", ""):
        yield f"BNB_CUDA_VERSION is {chosen}, and torch is built for {built}"


@check(
    weight="note",
    happens="a model with a tokenizer.model and no tokenizer.json cannot be loaded, nor can an engine of CTranslate2",
    do="pip install sentencepiece",
    source="https://huggingface.co/docs/transformers/main/en/fast_tokenizers",
)
def no_sentencepiece(facts: Facts) -> Iterator[str]:
    """sentencepiece is not installed."""
    if "sentencepiece" not in facts.packages:
        yield "sentencepiece is not installed"


# --- GPUs, processor, memory ------------------------------------------------------------------------------------------


@check(
    weight="note",
    happens="bfloat16, which langadapt uses on every GPU, is emulated there: torch calls it supported, and it is slow",
    do="in [stage.training] of the stages that train: bf16 = false, fp16 = true",
    source="https://github.com/pytorch/pytorch/pull/148322",
)
def gpu_without_bf16(facts: Facts) -> Iterator[str]:
    """A GPU has no bfloat16 in hardware."""
    for gpu in facts.gpus if facts.machine.cuda else ():
        if gpu.capability < BF16_IN_HARDWARE:
            capability = ".".join(map(str, gpu.capability))
            yield f"{gpu.name} has compute capability {capability}, and 8.0 is the first with bf16"


@check(
    weight="note",
    happens="a plan counts on the whole memory of a GPU, and the run is out of memory",
    do="wait for the other process, or choose another GPU: CUDA_VISIBLE_DEVICES; nvidia-smi says whose it is",
    source="docs/reference.md#how-a-plan-estimates",
)
def gpu_in_use(facts: Facts) -> Iterator[str]:
    """Another process holds a part of a GPU's memory."""
    for number, gpu in enumerate(facts.gpus):
        if gpu.used > BUSY * gpu.memory:
            yield f"GPU {number}, {gpu.name}: {gpu.used / 2**30:.1f} of {gpu.memory / 2**30:.0f} GiB are in use"


@check(
    happens="threads wait for each other and for their turn: training on a processor is many times slower",
    do="set OMP_NUM_THREADS to the number of cores",
    source="https://github.com/llvm/llvm-project/issues/225493",
)
def more_threads_than_cores(facts: Facts) -> Iterator[str]:
    """torch computes with more threads than this process has cores, as in a container with a limit."""
    threads = _threads(facts)
    if threads > facts.machine.cores:
        yield f"torch computes with {threads} threads, and this process may use {facts.machine.cores} cores"


@check(
    weight="note",
    happens="cores stand idle while a processor trains",
    do="unset OMP_NUM_THREADS (or MKL_NUM_THREADS), or set it to the number of cores",
    source="https://docs.pytorch.org/docs/stable/threading_environment_variables.html",
)
def fewer_threads_than_cores(facts: Facts) -> Iterator[str]:
    """A variable holds torch to fewer threads than there are cores, and there is no GPU."""
    threads = _threads(facts)
    held = [name for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in facts.environment]
    if held and 0 < threads < facts.machine.cores and not facts.machine.cuda:
        said = " and ".join(f"{name} is {facts.environment[name]}" for name in held)
        yield f"{said}: torch computes with {threads} of {facts.machine.cores} cores"


@check(
    happens='GPUs exchange gradients through it, and NCCL fails: "unhandled system error", "No space left on device"',
    do="start the container with --shm-size=1g or --ipc=host; in Kubernetes, mount an emptyDir with medium: Memory there",
    source="https://github.com/NVIDIA/nccl/issues/342",
)
def little_shared_memory(facts: Facts) -> Iterator[str]:
    """There are several GPUs and less than 1 GiB of shared memory."""
    if len(facts.machine.gpus) > 1 and facts.shared_memory is not None and facts.shared_memory < SHARED:
        yield f"/dev/shm has {facts.shared_memory / 2**20:.0f} MiB, for {len(facts.machine.gpus)} GPUs"


# --- filesystems ------------------------------------------------------------------------------------------------------


@check(
    weight="note",
    happens="two machines can work in the same folder and neither knows of the other",
    do="give each its own --out, LANGADAPT_CACHE and HF_HOME, or mount it with locks for all (NFS: lock, Lustre: flock)",
    source="https://man7.org/linux/man-pages/man5/nfs.5.html",
)
def locks_of_one_machine(facts: Facts) -> Iterator[str]:
    """A shared filesystem is mounted with locks that other machines do not see."""
    for place in facts.places:
        alone = {"nolock", "localflock", "local_lock=all", "local_lock=flock"} & set(place.options)
        if alone and (place.filesystem.startswith("nfs") or place.filesystem == "lustre"):
            yield f"{place.use}: {place.path} is on {place.filesystem}, mounted with {', '.join(sorted(alone))}"


@check(
    weight="note",
    happens="every file access goes through Windows, and packed rows, checkpoints and caches are many times slower",
    do="put it into a folder of Linux's own, below the home folder there",
    source="https://learn.microsoft.com/en-us/windows/wsl/filesystems",
)
def folder_of_windows(facts: Facts) -> Iterator[str]:
    """In WSL, a run or a cache is to lie on a disk of Windows."""
    if "microsoft" in facts.kernel.lower():
        for place in facts.places:
            if place.filesystem in FOLDERS_OF_WINDOWS:
                yield f"{place.use}: {place.path} is a folder of Windows"


# --- variables --------------------------------------------------------------------------------------------------------


@check(
    happens="transformers 5 does not read it: models are fetched again, into another folder",
    do="set HF_HOME (for all of the hub's files) or HF_HUB_CACHE in its place",
    source="https://huggingface.co/docs/huggingface_hub/en/package_reference/environment_variables",
)
def transformers_cache(facts: Facts) -> Iterator[str]:
    """A variable is set that once named the cache of transformers."""
    for name in ("TRANSFORMERS_CACHE", "PYTORCH_TRANSFORMERS_CACHE", "PYTORCH_PRETRAINED_BERT_CACHE"):
        if facts.environment.get(name):
            yield f"{name} is set"


@check(
    weight="note",
    happens="the hub library does not read it any more and says so at every command",
    do="unset it; HF_XET_HIGH_PERFORMANCE=1 takes its place",
    source="https://huggingface.co/docs/huggingface_hub/en/package_reference/environment_variables",
)
def hf_transfer(facts: Facts) -> Iterator[str]:
    """HF_HUB_ENABLE_HF_TRANSFER is set."""
    if facts.environment.get("HF_HUB_ENABLE_HF_TRANSFER"):
        yield "HF_HUB_ENABLE_HF_TRANSFER is set"


@check(
    weight="note",
    happens="what is not in the cache cannot be fetched, which is as it should be on a machine without network only",
    do="unset it to fetch",
    source="https://huggingface.co/docs/huggingface_hub/en/package_reference/environment_variables#hfhuboffline",
)
def hub_offline(facts: Facts) -> Iterator[str]:
    """A variable keeps the hub library off the network."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if facts.environment.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            yield f"{name} is {facts.environment[name]}"


@check(
    weight="note",
    happens="the first is used; whoever logs in anew with hf auth login finds that nothing has changed",
    do="unset the variable, or take the other token away: hf auth logout",
    source="https://huggingface.co/docs/huggingface_hub/en/package_reference/environment_variables#hftoken",
)
def two_tokens(facts: Facts) -> Iterator[str]:
    """There are two hub tokens."""
    if len(facts.tokens) > 1:
        yield f"there is a token in {' and in '.join(facts.tokens)}"


@check(
    happens="no address of the hub can be made of it, and nothing can be fetched",
    do="write it with its scheme: https://hub.example.org",
    source="https://huggingface.co/docs/huggingface_hub/en/package_reference/environment_variables",
)
def endpoint_without_scheme(facts: Facts) -> Iterator[str]:
    """HF_ENDPOINT is no address."""
    endpoint = facts.environment.get("HF_ENDPOINT", "")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        yield f'HF_ENDPOINT is "{endpoint}"'


@check(
    happens="accelerate takes this process for one of several and waits for the others, for ever",
    do="unset them, or leave the launcher out: langadapt starts the processes of a training itself, by [compute]",
    source="docs/scale.md",
)
def left_over_from_a_launcher(facts: Facts) -> Iterator[str]:
    """Variables of a launcher (torchrun, mpirun) are set in this shell."""
    left = [
        f"{name}={facts.environment[name]}"
        for name, alone in WORLD.items()
        if facts.environment.get(name, alone) != alone
    ]
    if left:
        yield f"{' '.join(left)} {'is' if len(left) == 1 else 'are'} set"


@check(
    happens="every training changes its precision, its device or how weights are shared out, and no recipe says so",
    do="unset them; [compute] and [stage.training] say these things",
    source="https://huggingface.co/docs/accelerate/en/package_reference/cli",
)
def accelerate_switch(facts: Facts) -> Iterator[str]:
    """A variable of accelerate's launcher is set."""
    for name, value in sorted(facts.environment.items()):
        switched = name.startswith("ACCELERATE_USE_") and value.lower() in ("1", "true", "yes", "on", "y", "t")
        if switched or (name == "ACCELERATE_MIXED_PRECISION" and value not in ("", "no")):
            yield f"{name} is {value}"


@check(
    happens="processes on several machines or GPUs find no way to each other, and the training waits or stops",
    do="name an interface of this machine (ip link), or unset it",
    source="https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html#nccl-socket-ifname",
)
def no_such_interface(facts: Facts) -> Iterator[str]:
    """NCCL or Gloo is told of a network interface that this machine does not have."""
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        chosen = facts.environment.get(name, "")
        wanted = [one for one in chosen.lstrip("=").split(",") if one]
        if chosen.startswith("^") or not wanted or not facts.interfaces:
            continue
        if not any(there.startswith(one) for there in facts.interfaces for one in wanted):
            yield f"{name} is {chosen}, and this machine has {', '.join(facts.interfaces)}"


@check(
    weight="note",
    happens="training on a GPU is much slower; the variable is for finding faults",
    do="unset it",
    source="https://docs.pytorch.org/docs/stable/cuda_environment_variables.html",
)
def left_over_from_debugging(facts: Facts) -> Iterator[str]:
    """A variable is set that makes every kernel wait, or memory not be kept."""
    for name in ("CUDA_LAUNCH_BLOCKING", "PYTORCH_NO_CUDA_MEMORY_CACHING"):
        if facts.environment.get(name, "0") not in ("", "0"):
            yield f"{name} is {facts.environment[name]}"


@check(
    weight="note",
    happens="one thread cuts text into tokens, which takes as many times longer as there are cores",
    do="unset it",
    source="docs/corpus.md",
)
def one_thread_for_tokens(facts: Facts) -> Iterator[str]:
    """TOKENIZERS_PARALLELISM is off."""
    if facts.environment.get("TOKENIZERS_PARALLELISM", "").lower() in ("0", "false", "off", "no", "n", "f"):
        yield f"TOKENIZERS_PARALLELISM is {facts.environment['TOKENIZERS_PARALLELISM']}"


def _threads(facts: Facts) -> int:
    torch = facts.libraries.get("torch")
    return int(torch.found.get("threads", 0)) if torch else 0


COMBINATIONS = (
    torchvision_for_another_torch,
    extension_for_another_torch,
    another_cuda_before_torchs,
    built_for_another_numpy,
    torchao_that_peft_refuses,
    deepspeed_without_compiler,
    bitsandbytes_for_another_cuda,
    no_sentencepiece,
    gpu_without_bf16,
    gpu_in_use,
    more_threads_than_cores,
    fewer_threads_than_cores,
    little_shared_memory,
    locks_of_one_machine,
    folder_of_windows,
    transformers_cache,
    hf_transfer,
    hub_offline,
    two_tokens,
    endpoint_without_scheme,
    left_over_from_a_launcher,
    accelerate_switch,
    no_such_interface,
    left_over_from_debugging,
    one_thread_for_tokens,
)
