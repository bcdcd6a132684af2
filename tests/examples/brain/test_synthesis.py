"""Synthetic scans: deformation, contrast, resolution, masks, patches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

SEEDS = range(4)


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def centre(weights: torch.Tensor) -> torch.Tensor:
    """Return the centre of mass in voxels."""
    places = torch.stack(torch.meshgrid(*map(torch.arange, weights.shape), indexing="ij"))
    return (places * weights).flatten(1).sum(1) / weights.sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_field_of_view_holds_the_brain(head: Any, seed: int) -> None:
    from deformation import random_field

    start, stop = random_field(head, seeded(seed))
    assert (start <= head.brain[0] - 4).all()
    assert (stop >= head.brain[1] + 4).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_deformed_head_keeps_its_structures(head: Any, seed: int) -> None:
    from deformation import deform

    moved = deform(head, seeded(seed))
    assert all(extent % 2 == 0 for extent in moved.shape)
    assert moved.dtype == torch.uint8
    assert set(moved.unique().tolist()) == set(head.structures.unique().tolist())
    assert not torch.equal(moved, deform(head, seeded(seed + 100)))


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.6, 1.6, 1.6), (1.0, 4.0, 1.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_labels_are_moved_exactly_as_the_image_is(
    head: Any, seed: int, spacing_mm: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image's centre of mass is that of the labels where white matter alone shines."""
    import synthesis
    from classes import STRUCTURES, WHITE_MATTER
    from contrast import Contrast

    shining = np.array([float(structure.label == WHITE_MATTER) for structure in STRUCTURES])
    contrast = Contrast(shining, np.zeros(len(STRUCTURES)))
    monkeypatch.setattr(synthesis, "random_contrast", lambda *_, **__: contrast)
    monkeypatch.setattr(synthesis, "random_spacing", lambda _: spacing_mm)
    monkeypatch.setattr(synthesis, "add_noise", lambda image, _: image)
    monkeypatch.setattr("contrast.LARGEST_BIAS", 0.0)
    made = synthesis.synthesize(head, seeded(seed))
    labels = (made.labels == WHITE_MATTER).float()
    image = made.image[0] - made.image.min()
    assert image.shape == labels.shape
    torch.testing.assert_close(centre(image), centre(labels), rtol=0, atol=0.1)
    assert image[labels == 1].mean() > 5 * image[labels == 0].mean()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_t1_keeps_its_order(seed: int, example: Any) -> None:
    from classes import AIR, STRUCTURES
    from contrast import random_contrast

    means = random_contrast(seeded(seed), t1=True, masked=True).means
    by_name = dict(zip((structure.name for structure in STRUCTURES), means, strict=True))
    assert means[AIR] == 0
    assert (
        by_name["lateral ventricle"]
        < by_name["cerebral cortex"]
        < by_name["thalamus"]
        < by_name["cerebral white matter"]
    )


def test_other_contrasts_have_any_order(example: Any) -> None:
    from contrast import random_contrast

    drawn = [random_contrast(seeded(seed), t1=False, masked=False).means for seed in range(20)]
    assert len({bool(means[2] < means[3]) for means in drawn}) == 2


def test_larger_voxels_hold_parts_of_structures(example: Any) -> None:
    from acquisition import average

    image = torch.zeros(40, 8, 8)
    image[::2] = 1
    averaged, spacing_mm = average(image, (4.0, 1.0, 1.0))
    assert averaged.shape == (10, 8, 8)
    assert spacing_mm == (4, 1, 1)
    torch.testing.assert_close(averaged, torch.full((10, 8, 8), 0.5))
    _, spacing_mm = average(image, (3.0, 3.0, 3.0))
    assert spacing_mm == (40 / 13, 8 / 3, 8 / 3)


def test_noise_leaves_zeros(example: Any) -> None:
    from acquisition import add_noise

    image = torch.zeros(10, 10, 10)
    image[5:] = 3
    noisy = add_noise(image, seeded(0))
    assert not noisy[:5].any()
    assert 0 < noisy[5:].std() < 0.2
    assert noisy.max() == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_stripping_removes_the_skull_and_keeps_the_brain(head: Any, seed: int) -> None:
    from classes import AIR, FLUID
    from label_maps import classes_of
    from synthesis import strip_skull

    stripped = strip_skull(head.structures, seeded(seed))
    tissue = classes_of(head.structures) > FLUID
    assert (stripped == head.structures)[tissue].float().mean() > 0.9
    outside = (head.structures != AIR) & ~tissue & (classes_of(head.structures) != FLUID)
    assert (stripped == AIR)[outside].float().mean() > 0.5
    assert (stripped[stripped != AIR] == head.structures[stripped != AIR]).all()


def test_the_most_frequent_class_wins(example: Any) -> None:
    from synthesis import majority

    classes = torch.zeros(4, 2, 2, dtype=torch.uint8)
    classes[0] = 9
    classes[1, 0, 0] = 9
    classes[2:, 0] = 4  # a tie with the background
    assert majority(classes).flatten().tolist() == [9, 0]


@pytest.mark.parametrize("stripped", [False, True])
def test_a_seed_repeats_its_scan(head: Any, stripped: bool) -> None:
    from synthesis import synthesize

    first, second, other = (synthesize(head, seeded(seed), stripped=stripped) for seed in (5, 5, 6))
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.labels, second.labels)
    assert first.image.shape[1:] == first.labels.shape
    assert abs(float(first.image.mean())) < 0.1
    assert 0.7 < float(first.image.std()) < 1.2
    assert other.image.shape != first.image.shape or not torch.equal(other.image, first.image)


@pytest.mark.parametrize("seed", SEEDS)
def test_patches_cover_or_pad(head: Any, seed: int) -> None:
    from brain_plans import PATCH
    from synthesis import random_patch, synthesize

    image, labels = random_patch(synthesize(head, seeded(seed)), seeded(seed))
    assert image.shape == (1, *PATCH)
    assert labels.shape == PATCH
    assert labels.dtype == torch.int64
    assert (labels > 0).any()
