"""Name the student that ships with the package: `demo`, wherever a checkpoint is named."""

from __future__ import annotations

from pathlib import Path

from vosmodels.support.paths import expanded

DEMO = "demo"
WORDS = f"{DEMO} (the student that ships)"  # how a message lists it among what may be given
FILE_OR_DEMO = f"a checkpoint (.safetensors) or {WORDS}"
LICENCES = (  # of the data and weights that the student was made from, as its card says
    "DAVIS-2016: CC BY-NC 4.0",
    "ECSSD: for research",
    "ImageNet weights of MobileNetV2: Apache-2.0",
)
_STUDENT = Path(__file__).with_name("student.safetensors")


def student_file() -> Path:
    """Return the path of the student that ships with the package."""
    return _STUDENT


def file_of(reference: Path | str) -> Path:
    """Return the checkpoint file that a user names: `demo`, or a path with `~` expanded.

    A file of one's own that is called demo is `./demo`. Raises UsageError as `expanded`.
    """
    return student_file() if str(reference) == DEMO else expanded(reference)
