"""The embedded data set: its content, that it always has the same bytes, and how much drawings vary."""

import builtins
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from firstorder.data import glyphs, packs, thinning
from firstorder.errors import UserError

SOME = [0x41, 0x3B1, 0x416, 0x5D0, 0x148B]  # Latin A, Greek alpha, Cyrillic Zhe, Hebrew alef, Canadian ci


@pytest.fixture(scope="module")
def pack():
    return glyphs.make_pack()


@pytest.fixture(scope="module")
def some():
    return glyphs.draw(SOME)


def squares(*cells: str) -> np.ndarray:
    """Read a picture from lines of '#' and '.'."""
    return np.array([[cell == "#" for cell in line] for line in cells])[None]


def parts(picture: np.ndarray) -> int:
    """Count the connected parts (neighbours by side or corner) of a small picture."""
    left = {(int(row), int(column)) for row, column in zip(*np.nonzero(picture), strict=True)}
    count = 0
    while left:
        count += 1
        reached = [left.pop()]
        while reached:
            row, column = reached.pop()
            around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= around
            reached.extend(around)
    return count


def test_pack_has_the_declared_count_and_omniglots_form(pack):
    assert glyphs.CHARACTERS >= 1000
    assert pack.images.shape == (glyphs.CHARACTERS, 20, 1, 28, 28)
    assert pack.images.dtype == np.uint8
    assert pack.scale == 1
    assert set(np.unique(pack.images)) == {0, 1}


def test_pack_is_the_one_that_results_were_measured_on(pack):
    """If this changes, results on glyphs change, so raise NUMERICS_VERSION as well."""
    assert pack.digest() == "8e0c4208ce96fd366d1fb2b96780c4dd191a832eca2bfee47d82fb9d65d94827"


def test_paper_is_one_and_covers_most_pixels_as_in_omniglot(pack):
    assert 0.90 < pack.images.mean() < 0.94


def test_no_drawing_is_nearly_empty_or_nearly_full(pack):
    ink = (pack.images == 0).sum(axis=(2, 3, 4))
    assert ink.min() >= 5
    assert ink.max() < 28 * 28 / 3


def test_class_names_are_sorted_distinct_and_name_script_and_code_point(pack):
    assert len(pack.class_names) == glyphs.CHARACTERS
    assert list(pack.class_names) == sorted(set(pack.class_names))
    assert "Greek/03B1" in pack.class_names
    for name in pack.class_names:
        assert glyphs.class_name(int(name.split("/")[1], 16)) == name


def test_every_script_has_some_characters(pack):
    counts = Counter(name.split("/")[0] for name in pack.class_names)
    assert set(counts) == set(glyphs.SCRIPTS.values())
    assert min(counts.values()) >= 5
    assert max(counts.values()) < glyphs.CHARACTERS / 2


def test_look_alikes_are_one_class(pack):
    """Greek Alpha and Cyrillic A look like Latin A, small c like large C, and p, q like d, b rotated by half a turn."""
    assert {"Latin/0041", "Latin/0043", "Latin/0062", "Latin/0064"} <= set(pack.class_names)
    assert not {"Greek/0391", "Cyrillic/0410"} & set(pack.class_names)
    assert not {"Latin/0063", "Latin/0070", "Latin/0071"} & set(pack.class_names)


def test_no_two_drawings_are_the_same_picture_across_classes(pack):
    owner = {}
    for index, drawings in enumerate(pack.images):
        for drawing in drawings:
            assert owner.setdefault(drawing.tobytes(), index) == index


def test_average_drawings_of_any_two_classes_differ(pack):
    means = pack.images.mean(axis=1).reshape(len(pack.images), -1).astype(np.float32)
    squared = (means**2).sum(axis=1)
    apart = squared[:, None] + squared - 2 * means @ means.T
    np.fill_diagonal(apart, np.inf)
    assert apart.min() > 0.1


def test_drawings_of_a_class_all_differ(pack):
    for drawings in pack.images:
        assert len({drawing.tobytes() for drawing in drawings}) == 20


def test_nearest_neighbours_in_pixels_are_about_as_accurate_as_on_omniglot(pack):
    """5-way 1-shot in raw pixels: Omniglot 38 %, chance 20 %. If drawings were too similar, it would be near 100 %."""
    random = np.random.default_rng(0)
    right = 0
    for _ in range(600):
        images = pack.images[random.choice(len(pack.images), 5, replace=False)].reshape(5, 20, -1).astype(np.int64)
        support, query = images[:, 0], images[:, 1 + random.integers(19)]
        right += ((query[:, None] != support).sum(axis=-1).argmin(axis=1) == np.arange(5)).sum()
    assert 0.30 < right / 3000 < 0.50


def test_drawing_again_gives_the_same_bytes(some):
    np.testing.assert_array_equal(glyphs.draw(SOME), some)


def test_a_character_does_not_depend_on_the_others(pack, some):
    np.testing.assert_array_equal(glyphs.draw(SOME[2:3]), some[2:3])
    np.testing.assert_array_equal(glyphs.draw(SOME[::-1]), some[::-1])
    in_pack = [pack.class_names.index(glyphs.class_name(code_point)) for code_point in SOME]
    np.testing.assert_array_equal(pack.images[in_pack], some)


def test_global_random_state_is_neither_used_nor_changed(some):
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    np.testing.assert_array_equal(glyphs.draw(SOME), some)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_pack_is_read_back_as_written(pack, tmp_path):
    packs.write_pack(tmp_path / "glyphs.npz", pack)
    again, digest = packs.read_pack(tmp_path / "glyphs.npz")
    assert digest == pack.digest()
    assert again.class_names == pack.class_names


def test_random_numbers_depend_on_character_and_drawing():
    uniform, normal = glyphs._random(0x3B1, 3, 10)
    same, same_normal = glyphs._random(0x3B1, 3, 10)
    assert uniform == same
    np.testing.assert_array_equal(normal, same_normal)
    assert len({uniform, glyphs._random(0x3B1, 4, 10)[0], glyphs._random(0x3B2, 3, 10)[0]}) == 3
    assert not set(normal) & set(glyphs._random(0x3B1, 4, 10)[1])


def test_random_numbers_have_the_stated_distributions():
    uniform, normal = zip(*(glyphs._random(65, drawing, 20) for drawing in range(2000)), strict=True)
    assert 0 < min(uniform) < 0.01
    assert 0.99 < max(uniform) < 1
    # 40,000 values: the standard error of their mean is 0.005, of their variance 0.007.
    assert abs(np.mean(normal)) < 0.025
    assert abs(np.var(normal) - 1) < 0.035


def test_thinning_keeps_parts_and_holes_and_makes_lines():
    picture = np.zeros((1, 30, 40), np.bool_)
    picture[0, 3:27, 3:23] = True
    picture[0, 9:21, 9:17] = False  # a thick ring
    picture[0, 10:14, 30:34] = True  # a dot
    picture[0, 18:20, 30:32] = True  # a dot of four pixels
    thinned = thinning.thin(picture)[0]
    assert not (thinned & ~picture[0]).any()
    assert parts(thinned) == 3
    assert thinned[:, 28:].sum() == 2
    assert thinned[15, 9:17].sum() == 0
    assert thinned[15, 3:9].sum() == thinned[15, 17:23].sum() == 1


def test_thinning_shortens_a_thin_line_and_changes_nothing_else():
    line = squares("." * 15, "." + "#" * 13 + ".", "." * 15)
    left = squares("." * 15, "." * (1 + thinning.PRUNED) + "#" * (13 - 2 * thinning.PRUNED) + "." * 4, "." * 15)
    np.testing.assert_array_equal(thinning.thin(line), left)


def test_differing_counts_line_pixels_that_are_far_and_ignores_quarter_turns():
    """A horizontal bar, a vertical bar, and a cross: half of the cross is far from the bar, except its middle."""
    along = np.linspace(-1, 1, 101)
    bar = np.stack([along, 0 * along], axis=1)
    differing = glyphs._differing([bar, bar[:, ::-1], np.concatenate([bar, bar[:, ::-1]])])
    assert differing[0, 1] == 0
    # The bar has 24 pixels; of those across, the 5 within 2 pixels of it do not count.
    assert differing[0, 2] == differing[2, 0] == differing[1, 2]
    assert differing[0, 2] in (19, 20)


def test_stroke_inks_the_pixels_within_the_pen():
    points = np.array([[[5.0, 9.0]], [[5.0, 9.0]], [[27.4, 0.0]]])
    images = glyphs._stroke(points, np.array([0.6, 1.0, 0.7]))
    assert np.argwhere(images[0] == 0).tolist() == [[9, 5]]
    assert np.argwhere(images[1] == 0).tolist() == [[8, 5], [9, 4], [9, 5], [9, 6], [10, 5]]
    assert np.argwhere(images[2] == 0).tolist() == [[0, 27]]


def test_making_the_pack_again_gives_the_same_digest_and_shows_progress(pack):
    counted = []

    class Counting:
        def __call__(self, what, total, unit, done=0):
            counted.append(total)
            return self

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def advance(self, units=1, status=""):
            counted.append(-units)

    assert glyphs.make_pack(Counting()).digest() == pack.digest()
    assert counted[0] == glyphs.CHARACTERS
    assert sum(counted) == 0


def test_missing_matplotlib_is_a_user_error(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"install it: pip install 'firstorder\[report\]'"):
        glyphs.make_pack()
    with pytest.raises(UserError, match="matplotlib"):
        glyphs.draw([0x41])


def test_missing_font_is_a_user_error(monkeypatch):
    monkeypatch.setattr(glyphs, "FONT", "Absent.ttf")
    with pytest.raises(UserError, match=r"Absent\.ttf: no such font"):
        glyphs.make_pack()


def test_another_count_of_characters_is_a_user_error(monkeypatch):
    monkeypatch.setattr(glyphs, "_candidates", lambda: SOME)
    with pytest.raises(UserError, match=f"found 5 characters .* expected {glyphs.CHARACTERS}"):
        glyphs.make_pack()


def test_neither_torch_nor_scipy_nor_pyplot_is_imported():
    """In a fresh interpreter. Importing the module alone does not import matplotlib either."""
    code = (
        "import sys; from firstorder.data import glyphs; assert 'matplotlib' not in sys.modules; glyphs.draw([65]);"
        "print([name for name in ('torch', 'scipy', 'matplotlib.pyplot') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
