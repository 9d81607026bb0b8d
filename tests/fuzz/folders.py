"""Describe a dataset folder: where its frames and masks are, and what it has lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tests.fuzz import pictures
from tests.fuzz.draw import Draw


@dataclass
class Folder:
    """A dataset: where its frames and masks are, and its videos by split.

    unsound: by video, why it cannot be used; unscorable: by video, why its annotations cannot be
    scored by; unlisted: by split, why its list cannot be followed; changed: videos that were
    changed already, which a second change could make whole again; renumbered: videos with other
    names of frames; benign: every change so far leaves the folder as good as it was.
    """

    layout: str
    root: Path
    frames: Path
    masks: Path
    splits: Mapping[str, tuple[str, ...]]
    unsound: dict[str, str] = field(default_factory=dict)
    unscorable: dict[str, str] = field(default_factory=dict)
    unlisted: dict[str, str] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    renumbered: set[str] = field(default_factory=set)
    benign: bool = True

    @property
    def videos(self) -> list[str]:
        """The names of all videos of the splits."""
        return sorted({name for names in self.splits.values() for name in names})

    def pictures(self, video: str) -> list[Path]:
        """List a video's frames in the order of their names; hidden files are none."""
        folder = self.frames / video
        if not folder.is_dir():
            return []
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in pictures.PICTURES and path.name[:1] != "."
        )

    def stems(self, video: str) -> set[str]:
        """Return the stems of a video's frames: the answers that are asked for."""
        return {path.stem for path in self.pictures(video)}

    def take(self, draw: Draw) -> str | None:
        """Draw a video that was not changed yet, to be changed now."""
        left = [video for video in self.videos if video not in self.changed]
        if not left:
            return None
        video = draw.one(left)
        self.changed.add(video)
        self.benign = False
        return video

    def labels(self, video: str) -> list[Path]:
        """List a video's masks."""
        return sorted((self.masks / video).glob("[!.]*.png"))


Change = Callable[[Draw, Folder], list[str]]


def still_images(root: Path) -> Folder:
    """Write five still images with masks."""
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    draw = Draw("still images", 0)
    for number in range(5):
        mask = pictures.ids(48, 64, number)
        Image.fromarray(pictures.frame(draw, mask)).save(root / "images" / f"{number}.jpg")
        pictures.SAVED["0 and 255"](root / "masks" / f"{number}.png", mask)
    return Folder("still images", root, root / "images", root / "masks", {"": ("",)})
