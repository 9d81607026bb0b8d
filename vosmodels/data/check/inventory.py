"""List a dataset folder with its set's reader: name, licence, splits and items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vosmodels.data import davis, held_out
from vosmodels.data.check.inspection import DavisVideo, Item, StillImage, YouTubeVosVideo
from vosmodels.data.davis import DavisDataset
from vosmodels.data.listing import folders_in, listing
from vosmodels.data.static_images import LAYOUTS, StaticImages
from vosmodels.data.youtubevos import YouTubeVosDataset
from vosmodels.data.youtubevos_meta import META
from vosmodels.errors import InputError

BL30K_FRAMES = 160  # frames of every video

UNKNOWN_LICENCE = "not told by the files: see the set's own page"
# As the sets' own pages state them; other data in the same layout has its own terms.
LICENCES = {
    "DAVIS": "CC BY-NC 4.0, if these are DAVIS's videos (davischallenge.org)",
    "YouTube-VOS": "non-commercial research; its terms: youtube-vos.org/dataset/term",
    "BL30K": "its page states none (github.com/hkchengrex/MiVOS); rendered from ShapeNet's models, "
    "which have terms of their own, and from pictures found on the web",
    "BIG": "not for commercial purposes (github.com/hkchengrex/CascadePSP); its makers do not hold "
    "the licence of the pictures, which are from Flickr",
    "DUTS": f"{UNKNOWN_LICENCE}, saliencydetection.net/duts; pictures from ImageNet and SUN",
    "ECSSD": f"{UNKNOWN_LICENCE}, www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html",
    "FSS-1000": "its page states none (github.com/HKUSTCV/FSS-1000)",
    "HRSOD": "its page states none (github.com/yi94code/HRSOD)",
}
STILLS = "still images"  # name of a folder of no published set, or of several sets


@dataclass(frozen=True)
class Folder:
    """The listing of a dataset folder: items by split, and problems of the lists.

    merged: splits whose ids are all one object; sets: for still images, the folder of each set by
    name, where each set is a split.
    """

    name: str
    splits: Mapping[str, tuple[Item, ...]]
    problems: tuple[str, ...] = ()
    merged: frozenset[str] = frozenset()
    sets: Mapping[str, StaticImages] = field(default_factory=dict)

    def licence(self, split: str | None = None) -> str:
        """Return the licence of the set, or of `split`, one set of still images."""
        name = self.sets[split].published if split else self.name
        return LICENCES.get(name or "", UNKNOWN_LICENCE)


def open_folder(root: Path) -> Folder:
    """List a dataset folder. Raises InputError if no reader knows the layout."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the root of a dataset")
    if YouTubeVosDataset.recognises(root):
        return _youtubevos(root)
    if (root / "JPEGImages").is_dir():
        return _davis(root)
    if sets := StaticImages.sets_in(root):
        return _still_images({folder.name: folder for folder in sets})
    if StaticImages.recognises(root):
        return _still_images({root.resolve().name: root})
    raise InputError(
        f"{root}: no dataset known here; looked for JPEGImages and Annotations (DAVIS, BL30K), "
        f"SPLIT/{META} (YouTube-VOS), {LAYOUTS}; found {listing(root)}"
    )


def _davis(root: Path) -> Folder:
    lists = root / "ImageSets"
    years: list[davis.Year] = []
    if any((lists / name).is_dir() for name in ("2016", "480p")):
        years.append(2016)
    if (lists / "2017").is_dir() or not years:
        years.append(2017)
    splits: dict[str, tuple[Item, ...]] = {}
    problems: list[str] = []
    listed: set[str] = set()
    bl30k = "bl30k" in root.resolve().name.lower()
    for year in years:
        dataset = DavisDataset(root, year)
        for split in dataset.splits():
            try:
                names = dataset.names(split)
            except InputError as error:
                problems.append(str(error))
                continue
            listed |= set(names)
            splits[f"{year} {split}" if len(years) > 1 else split] = tuple(
                DavisVideo(*dataset.folders(name), BL30K_FRAMES if bl30k else None)
                for name in names
            )
    problems += _unlisted(dataset.folders(""), listed, "in no list of ImageSets")
    merged = frozenset(s for s in splits if years == [2016] or s.startswith("2016 "))
    name = "DAVIS" if lists.is_dir() else "BL30K" if bl30k else "videos without ImageSets"
    return Folder(name, splits, tuple(problems), merged)


def _youtubevos(root: Path) -> Folder:
    dataset = YouTubeVosDataset(root)
    splits: dict[str, tuple[Item, ...]] = {}
    problems: list[str] = []
    parts = (held_out.TRAIN, held_out.VAL)
    for split in dataset.splits():
        where = dataset.where(split)
        try:
            videos = dataset.videos(split)
        except InputError as error:
            if split not in parts:  # the parts need categories, which meta.json may lack
                problems.append(str(error))
            continue
        splits[split] = tuple(
            YouTubeVosVideo(*where.folders(name), meta) for name, meta in videos.items()
        )
        if split not in parts:
            problems += _unlisted(where.folders(""), videos, f"not named in {where.meta}")
    return Folder("YouTube-VOS", splits, tuple(problems))


def _still_images(roots: Mapping[str, Path]) -> Folder:
    sets = {n: StaticImages(root) for n, root in roots.items() if StaticImages.recognises(root)}
    problems = [
        f"{root}: no still images with masks here; check this folder by itself"
        for name, root in roots.items()
        if name not in sets
    ]
    for images in sets.values():
        problems += [*images.empty_folders(), *images.doubles()]
        problems += (f"{mask}: mask without image" for mask in images.lone_masks())
    published = next(iter(sets.values())).published if len(roots) == 1 else None
    splits = {name: tuple(map(StillImage, images.pairs())) for name, images in sets.items()}
    return Folder(published or STILLS, splits, tuple(problems), sets=sets)


def _unlisted(folders: Iterable[Path], listed: Iterable[str], what: str) -> Iterator[str]:
    names = set(listed)
    for folder in folders:
        yield from (f"{folder / name}: {what}" for name in folders_in(folder) if name not in names)
