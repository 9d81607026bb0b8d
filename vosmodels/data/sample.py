"""Write a generated clip with its first mask, for those who have no video at hand."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from vosmodels.data.generated import GeneratedSequence
from vosmodels.data.masks import write_palette
from vosmodels.errors import InputError

SIZE = (240, 320)  # px, height and width
FRAMES = 48  # two seconds
SCENE = (0, "sample", 6)  # of two objects that cross; in no split of the generated data


def write_sample(folder: Path) -> tuple[Path, Path, int]:
    """Write `frames/00000.png` and so on, and `first.png`, the ids of the first frame.

    Returns the folder of the frames, the mask, and the number of objects. Raises InputError where
    the folder cannot be written.
    """
    video = GeneratedSequence("sample", SCENE, *SIZE, FRAMES)
    frames, mask = folder / "frames", folder / "first.png"
    try:
        frames.mkdir(parents=True, exist_ok=True)
        for index in range(len(video)):
            Image.fromarray(video.frame(index)).save(frames / f"{index:05d}.png")
        write_palette(mask, video.mask(0))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); give another folder"
        ) from error
    return frames, mask, len(video.ids)
