"""Change the pictures and masks of a dataset folder, and note what is lost by it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping

from PIL import Image

from tests.fuzz import pictures
from tests.fuzz.draw import Draw
from tests.fuzz.folder_lists import changed_meta, changed_split, renumbered
from tests.fuzz.folders import Change, Folder


def changes_of(data: Folder) -> list[Change]:
    """List the changes that can be made to a folder of this layout."""
    anywhere: list[Change] = [
        _hidden,
        _suffix,
        _damaged,
        _odd_frame,
        _odd_mode,
        _mask_mode,
        _bad_mask,
        _damaged_mask,
    ]
    anywhere += [_no_mask, _mask_alone]
    if data.layout == "still images":
        return anywhere
    changes = [*anywhere, _twins, _late_object, _gone, _first_masks, _no_frames]
    if data.layout == "youtube-vos":
        return [*changes, changed_meta, changed_meta]
    if (data.root / "ImageSets").is_dir():
        changes += [changed_split, changed_split]
    return [*changes, renumbered, renumbered, _unfit, _short]


def _hidden(draw: Draw, data: Folder) -> list[str]:
    video = draw.one(data.videos)
    kinds = draw.several(["._", ".DS_Store", "Thumbs.db", "folder", "desktop.ini"], 1, 5)
    for folder in (data.frames / video, data.masks / video, data.frames, data.masks):
        if not folder.is_dir():
            continue
        if "._" in kinds:
            for suffix in (".jpg", ".png"):
                (folder / f"._00001{suffix}").write_bytes(b"\0\5\26\7" + b"\0" * 60)
        if "folder" in kinds:
            (folder / ".ipynb_checkpoints").mkdir(exist_ok=True)
        for name in set(kinds) - {"._", "folder"}:
            (folder / name).write_bytes(b"\0" * 9)
    return [f"hidden {', '.join(kinds)} in {video}"]


def _suffix(draw: Draw, data: Folder) -> list[str]:
    left = [video for video in data.videos if video not in data.changed]
    if not left:
        return []
    video, suffix = draw.one(left), draw.one([".JPG", ".jpeg", ".JPEG", ".png", ".PNG"])
    every = draw.chance(0.5)
    paths = data.pictures(video)
    for path in paths if every else draw.several(paths, 1, 1):
        if path.suffix == suffix:
            continue
        with Image.open(path) as image:
            image.convert("RGB").save(path.with_suffix(suffix))
        path.unlink()
    return [f"{'all' if every else 'one'} {suffix} in {video}"]


def _damaged(draw: Draw, data: Folder) -> list[str]:
    if (video := data.take(draw)) is None:
        return []
    if not (paths := data.pictures(video)):
        return []
    path, what = draw.one(paths), draw.one(sorted(pictures.DAMAGED))
    pictures.DAMAGED[what](path, draw)
    data.unsound.setdefault(video, f"frame {path.name} of {video} is damaged ({what})")
    return [f"frame {path.name} of {video}: {what}"]


def _odd_frame(draw: Draw, data: Folder) -> list[str]:
    if (video := data.take(draw)) is None:
        return []
    if not (paths := [path for path in data.pictures(video) if path.suffix != ".png"]):
        return []
    path, what = draw.one(paths), draw.one(sorted(pictures.ODD))
    pictures.ODD[what](path, draw)
    return [f"frame {path.name} of {video}: {what}"]


def _odd_mode(draw: Draw, data: Folder) -> list[str]:
    if (video := data.take(draw)) is None:
        return []
    if not (paths := data.pictures(video)):
        return []
    path, mode = draw.one(paths), draw.one(["L", "CMYK", "RGBA in PNG", "P in PNG", "PNG bytes"])
    with Image.open(path) as image:
        picture = image.convert("RGB")
    if mode in ("L", "CMYK"):
        picture.convert(mode).save(path, format="JPEG")
    else:
        picture.convert(mode.split(" ")[0] if "in PNG" in mode else "RGB").save(path, format="PNG")
    return [f"frame {path.name} of {video}: {mode}"]


def _mask_mode(draw: Draw, data: Folder) -> list[str]:
    if (video := data.take(draw)) is None:
        return []
    how = draw.one(sorted(pictures.SAVED))
    every = draw.chance(0.5)
    paths = data.labels(video)
    for number, path in enumerate(paths if every else draw.several(paths, 1, 1)):
        pictures.SAVED[how](path, pictures.ids(48, 64, number))
    return [f"{'all masks' if every else 'a mask'} of {video}: {how}"]


def _bad_mask(draw: Draw, data: Folder) -> list[str]:
    return _replaced(draw, data, pictures.REFUSED, range(9))


def _unfit(draw: Draw, data: Folder) -> list[str]:
    return _replaced(draw, data, pictures.UNFIT, range(1))


def _replaced(
    draw: Draw, data: Folder, ways: Mapping[str, Callable[..., None]], places: range
) -> list[str]:
    """Save a mask in a way that cannot be used; the last mask of a video is not scored."""
    if (video := data.take(draw)) is None:
        return []
    how = draw.one(sorted(ways))
    paths = data.labels(video)
    paths = paths[: max(1, len(paths) - 1)][places.start : places.stop]
    if not paths:
        return []
    path = draw.one(paths)
    ways[how](path, pictures.ids(48, 64))
    reason = f"mask {path.name} of {video} is {how}"
    if data.layout == "still images" and ways is pictures.REFUSED:
        return [reason]  # those sets have masks with soft edges, and are cut at the half
    data.unsound.setdefault(video, reason)
    if how != "other size":  # of a first mask, whose answer is not compared
        data.unscorable.setdefault(video, reason)
    return [reason]


def _damaged_mask(draw: Draw, data: Folder) -> list[str]:
    return _replaced(
        draw,
        data,
        {
            what: lambda path, mask, way=way: way(path, draw)
            for what, way in pictures.DAMAGED.items()
        },
        range(9),
    )


def _no_mask(draw: Draw, data: Folder) -> list[str]:
    if (video := data.take(draw)) is None:
        return []
    if not (paths := data.labels(video)):
        return []
    path = draw.one(paths)
    path.unlink()
    return [f"no mask {path.name} of {video}"]


def _mask_alone(draw: Draw, data: Folder) -> list[str]:
    if (video := data.take(draw)) is None:
        return []
    if (data.masks / video).is_dir():
        pictures.SAVED["palette"](data.masks / video / "00099.png", pictures.ids(48, 64))
    return [f"a mask 00099.png of {video} without frame"]


def _twins(draw: Draw, data: Folder) -> list[str]:
    if (video := data.take(draw)) is None:
        return []
    if not (paths := data.pictures(video)):
        return []
    path = draw.one(paths)
    suffix = draw.one([other for other in (".png", ".jpeg", ".JPG") if other != path.suffix])
    shutil.copy(path, path.with_suffix(suffix))
    data.unsound.setdefault(video, f"{video} has two pictures {path.stem}")
    return [f"two pictures {path.stem} in {video}"]


def _late_object(draw: Draw, data: Folder) -> list[str]:
    if (video := data.take(draw)) is None:
        return []
    for path in data.labels(video)[3:]:
        mask = pictures.ids(48, 64)
        mask[:6, -6:] = 3
        pictures.SAVED["palette"](path, mask)
    return [f"object 3 of {video} begins late"]


def _gone(draw: Draw, data: Folder) -> list[str]:
    if (video := data.take(draw)) is None:
        return []
    kind = draw.one(["frames", "masks"])
    folder = {"frames": data.frames, "masks": data.masks}[kind] / video
    if not folder.is_dir():
        return []
    how = draw.one(["absent", "empty", "a file", "a link to nowhere"])
    shutil.rmtree(folder)
    if how == "empty":
        folder.mkdir()
    elif how == "a file":
        folder.write_text("moved\n")
    elif how == "a link to nowhere":
        folder.symlink_to("nowhere")
    if "ImageSets" in {path.name for path in data.root.iterdir()}:
        data.unsound.setdefault(video, f"the folder of the {kind} of {video} is {how}")
    return [f"{kind} of {video}: {how}"]


def _first_masks(draw: Draw, data: Folder) -> list[str]:
    data.benign = False
    for video in sorted(set(data.videos) - data.changed):
        data.changed.add(video)
        for path in data.labels(video)[1:]:
            path.unlink()
    return ["first masks alone"]


def _no_frames(draw: Draw, data: Folder) -> list[str]:
    if (video := data.take(draw)) is None:
        return []
    for path in draw.several(data.pictures(video), 1, 2):
        path.unlink()
    return [f"frames missing in {video}"]


def _short(draw: Draw, data: Folder) -> list[str]:
    if (video := data.take(draw)) is None:
        return []
    length = draw.whole(1, 2)
    for path in [*data.pictures(video)[length:], *data.labels(video)[length:]]:
        path.unlink()
    data.unscorable.setdefault(video, f"{video} has {length} frames, of which none is scored")
    return [f"{video} has {length} frames"]
