"""Fetch ONNX Runtime Web, which the page runs the graphs by, and hold it to its checksums."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from vosmodels.errors import InputError
from vosmodels.support.atomic_files import write_whole
from vosmodels.support.digests import sha256_of

PACKAGE, VERSION, LICENCE = "onnxruntime-web", "1.30.0", "MIT"
SHA512 = (  # of the package's archive
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
MEMBERS = {  # what the page needs of it: our name, the archive's, its sha256
    "ort.js": (
        "package/dist/ort.wasm.bundle.min.mjs",
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    ),
    "ort.wasm": (
        "package/dist/ort-wasm-simd-threaded.wasm",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
    "ort-gpu.js": (
        "package/dist/ort.webgpu.bundle.min.mjs",
        "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
    ),
    "ort-gpu.wasm": (
        "package/dist/ort-wasm-simd-threaded.asyncify.wasm",
        "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
    ),
}
WASM, WEBGPU = ("ort.js", "ort.wasm"), ("ort-gpu.js", "ort-gpu.wasm")  # a browser loads one pair
FOLDER = Path(__file__).parent / "web" / "runtime"
INSTALL = "make install-web"
WAIT_S = 600


def check_runtime(folder: Path = FOLDER) -> None:
    """Raise InputError unless the runtime lies in `folder` as it was released."""
    for name, (_, digest) in MEMBERS.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: no such file; get {PACKAGE} {VERSION} by: {INSTALL}")
        if sha256_of(path) != digest:
            raise InputError(f"{path}: not that of {PACKAGE} {VERSION}; get it again by: {INSTALL}")


def fetch_runtime(folder: Path = FOLDER) -> None:
    """Bring the runtime into `folder` by npm. Raises InputError where that fails."""
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(f"npm is not installed, and {PACKAGE} {VERSION} comes by it; install npm")
    with tempfile.TemporaryDirectory() as scratch:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", scratch]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=WAIT_S)
        except subprocess.TimeoutExpired as error:
            raise InputError(f"npm pack {PACKAGE}: no answer in {WAIT_S} s; try again") from error
        except subprocess.CalledProcessError as error:
            said = " ".join(error.stderr.split()) or f"exit code {error.returncode}"
            raise InputError(f"npm pack {PACKAGE}@{VERSION}: {said[:300]}") from error
        unpack_runtime(next(Path(scratch).glob("*.tgz")), folder)


def unpack_runtime(archive: Path, folder: Path) -> None:
    """Copy the page's files out of the package's archive. Raises InputError on another one."""
    digest = hashlib.sha512(archive.read_bytes()).hexdigest()
    if digest != SHA512:
        raise InputError(
            f"{archive.name}: its sha512 {digest[:12]}... is not that of {PACKAGE} {VERSION}, "
            f"{SHA512[:12]}...; nothing was installed"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as package:
            for name, (member, _) in MEMBERS.items():
                source = package.extractfile(member)
                assert source is not None
                write_whole(folder / name, source.read())
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from error
