"""Test pictures of attention by their pixels."""

import numpy as np
import pytest
from PIL import Image

from vosmodels.evaluation.attention_maps import Look
from vosmodels.evaluation.attention_pictures import (
    CAPTION,
    GROUPS,
    PAINTS,
    POINT,
    STAR,
    bright,
    dimmed,
    panels,
    sheet,
    star,
    write_small,
)

FRAME = np.random.default_rng(0).integers(40, 256, (33, 65, 3), dtype=np.uint8)
POSITIONS = 15  # 3 x 5, 16 px apart


def made(row: dict[int, float], *, offset: tuple[float, float] | None = None) -> Look:
    """Every query looks at the same keys; the object is all the frame."""
    weights = np.zeros((POSITIONS, 1, POSITIONS), dtype=np.float32)
    for key, weight in row.items():
        weights[:, 0, key] = weight
    y, x = np.divmod(np.arange(POSITIONS), 5)
    places = np.stack([x, y], 1).astype(np.float32)[None]
    if offset is not None:
        places = np.concatenate([places, places + np.array(offset, dtype=np.float32)])
    return Look(
        kind="self",
        layer=1,
        frame=4,
        ids=np.ones((33, 65), dtype=np.uint8),
        obj=1,
        size=(3, 5),
        queries=np.ones(POSITIONS, dtype=np.bool_),
        weights=weights,
        held=(4,),
        places=places,
        deformable=offset is not None,
    )


def colours(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.asarray((picture == colour).all(-1))


def test_what_has_more_than_half_of_the_most_keeps_its_colours():
    found = made({2: 0.3, 7: 0.3, 12: 0.3, 0: 0.1})
    picture = bright(FRAME, found)
    # The middle column is 1 and falls to 0 at its neighbours, 16 px away: 0.5 lies 8 px away.
    inside = slice(32 - 6, 32 + 7)
    assert np.array_equal(picture[2:-2, inside], FRAME[2:-2, inside])
    assert np.array_equal(picture[:, 42:], dimmed(FRAME)[:, 42:])
    assert np.array_equal(picture[8:, :22], dimmed(FRAME)[8:, :22])
    assert colours(picture, POINT)[16].nonzero()[0].tolist() == [25, 39]


def test_key_points_are_discs_where_they_lie_of_a_radius_in_proportion():
    picture = panels(made({6: 0.5, 13: 0.43, 9: 0.07}), FRAME, FRAME)["keypoints"][:33]
    drawn = colours(picture, POINT)
    assert drawn[16, 16]
    assert drawn[30, 48]
    assert not drawn[16, 64]
    assert 14 <= drawn[16, :40].sum() <= 17  # twice half a position
    plain = ~drawn & (np.abs(picture.astype(int) - dimmed(FRAME)).sum(-1) == 0)
    assert plain[:6].all()


def test_the_query_is_a_star_and_its_keys_are_discs_by_their_weight():
    found = made({6: 0.6, 3: 0.3, 13: 0.1})
    pictures = panels(found, FRAME, FRAME, query=(0, 2))
    keys = colours(pictures["keys"][:33], POINT)
    assert keys[16, 16]
    assert keys[0, 48]
    widths = [keys[16, 4:29].sum(), 2 * keys[0:8, 48].sum() - 1]
    assert widths[0] == pytest.approx(16, abs=2)
    assert widths[1] == pytest.approx(8, abs=2)
    assert colours(pictures["keys"][:33], STAR)[28:, :5].any()
    assert colours(pictures["mask"][:33], STAR)[28:, :5].any()
    assert not colours(pictures["keypoints"][:33], STAR).any()


def test_sampled_places_are_drawn_for_each_group_of_a_deformable_attention_alone():
    assert "offsets" not in panels(made({6: 1.0}), FRAME, FRAME)
    found = made({6: 1.0}, offset=(1.0, 0.5))
    picture = panels(found, FRAME, FRAME, query=(4, 0))["offsets"][:33]
    assert tuple(picture[16, 16]) == GROUPS[0]  # not moved
    assert tuple(picture[24, 32]) == GROUPS[1]  # 16 px to the right, 8 px down
    # The value of a key lies where it was sampled: half of it at each place.
    np.testing.assert_allclose(found.map[[1, 1, 2], [1, 2, 2]], [1.0, 0.5, 0.5], atol=1e-6)


def test_a_star_points_up_and_hides_only_what_is_around_it():
    frame = np.zeros((800, 600, 3), dtype=np.uint8)
    picture = star(frame, (300, 400))
    rows, columns = (picture != frame).any(-1).nonzero()
    # Its points lie 20 px, a fortieth of the rows, from the middle, at -90, -18, 54, ... degrees.
    assert rows.min() == pytest.approx(400 - 20, abs=1.5)
    assert rows.max() == pytest.approx(400 + 20 * np.sin(np.radians(54)), abs=1.5)
    reach = 20 * np.cos(np.radians(18))
    assert columns.min() == pytest.approx(300 - reach, abs=1.5)
    assert columns.max() == pytest.approx(300 + reach, abs=1.5)
    assert tuple(picture[400, 300]) == STAR


def test_a_sheet_lays_attentions_out_in_rows():
    row = panels(made({6: 1.0}), FRAME, FRAME)
    whole = sheet([row, {"mask": row["mask"]}])
    height = 33 + CAPTION
    assert whole.shape == (2 * height + 4, 4 * 65 + 3 * 4, 3)
    assert np.array_equal(whole[:height, 65 + 4 :][:, :65], row["attention"])
    assert np.array_equal(whole[height + 4 :, :65], row["mask"])
    assert (whole[height + 4 :, 65:] == 255).all()


def test_a_file_is_as_small_as_asked_and_keeps_the_colours_of_points(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    for number, paint in enumerate(PAINTS):
        noise[:20, 20 * number : 20 * number + 20] = paint
    write_small(tmp_path / "a" / "whole.png", noise)
    with Image.open(tmp_path / "a" / "whole.png") as image:
        whole = np.asarray(image.convert("RGB"))
    assert whole.shape == noise.shape
    for number, paint in enumerate(PAINTS):
        assert (whole[:20, 20 * number : 20 * number + 20] == paint).all()
    write_small(tmp_path / "small.png", noise, limit=9000)
    assert 4000 < (tmp_path / "small.png").stat().st_size <= 9000
    with Image.open(tmp_path / "small.png") as image:
        assert image.size[0] / image.size[1] == pytest.approx(200 / 120, abs=0.02)
