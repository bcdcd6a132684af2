"""Random patches of a case."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.zeros(7, 190, 150, dtype=torch.uint8)
    labels[2:5, 60:100, 70:110] = 2
    return labels[None].float() * 0.5, labels


@pytest.mark.parametrize("seed", range(8))
def test_image_and_labels_move_together(case: tuple[torch.Tensor, torch.Tensor], seed: int) -> None:
    from augmentation import Chance, random_patch
    from training_plans import PATCH

    image, labels = random_patch(*case, Chance(torch.Generator().manual_seed(seed)))
    assert image.shape == (1, *PATCH)
    assert labels.shape == PATCH
    assert labels.dtype == torch.int64
    assert set(labels.unique().tolist()) <= {0, 2}
    inside = labels == 2
    if inside.any():
        assert image[0][inside].mean() > image[0][~inside].mean() + 0.3


def test_slices_are_centred_in_the_patch(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    from augmentation import Chance, random_patch

    _, labels = random_patch(*case, Chance(torch.Generator().manual_seed(1)))
    # 7 slices in 12: two are missing below and three above.
    assert labels.flatten(1).any(1).nonzero().flatten().tolist() == [4, 5, 6]


def test_a_seed_repeats_its_patches(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    from augmentation import Chance, random_patch

    first, second = (
        random_patch(*case, Chance(torch.Generator().manual_seed(3)))[0] for _ in range(2)
    )
    assert torch.equal(first, second)
