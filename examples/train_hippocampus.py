"""Train the reference SegMaFormer on the Medical Segmentation Decathlon's hippocampus task.

    python examples/train_hippocampus.py DATA --out RUN --minutes 100

DATA holds ``imagesTr`` and ``labelsTr`` (Task04, 1 mm T1 crops around one
hippocampus). Every fifth case in name order is held out: it is never trained on
and only used to report Dice. The result is a checkpoint in nnU-Net v2 form,
float16 weights averaged over the run, with its plans inside.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch.nn import functional as F

from segmaformer.checkpoint import TrainingRecord
from segmaformer.models import create_model

PATCH = (40, 56, 40)  # depth, height, width; 1 mm voxels
LABELS = {"background": 0, "anterior": 1, "posterior": 2}
CONFIG: dict[str, Any] = {
    "in_channels": 1,
    "num_classes": 3,
    "embed_dims": [32, 64, 96, 160],
    "depths": [2, 2, 2, 1],
    "num_heads": [1, 2, 4, 5],
    "d_state": [8, 8, 4, 4],
    "expand": [2, 2, 1, 1],
    "patch_kernel_size": [3, 3, 3, 3],
    "patch_stride": [2, 2, 2, 2],
    "patch_padding": [1, 1, 1, 1],
    "decoder_head_embedding_dim": 128,
}
RECORD = TrainingRecord(
    network="segmaformer",
    configuration=CONFIG,
    patch_size=PATCH,
    spacing_mm=(1.0, 1.0, 1.0),
    channels=["MRI"],
    labels=LABELS,
    normalizations=["ZScoreNormalization"],
    reader="NibabelIOWithReorient",
    mirror_axes=(2,),
    dataset="Dataset004_Hippocampus",
    licence="CC BY-SA 4.0",
    trainer="SegMaFormerTrainer_Custom_Stage1Mamba_Stage23Hybrid_Stage4Attention",
)


def load_case(image: Path, label: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Crop to nonzero and z-score, with axes (depth, height, width); labels likewise."""
    voxels = nib.as_closest_canonical(nib.load(image)).get_fdata(dtype=np.float32).transpose()
    truth = nib.as_closest_canonical(nib.load(label)).get_fdata(dtype=np.float32).transpose()
    box = tuple(slice(index.min(), index.max() + 1) for index in np.nonzero(voxels))
    voxels = voxels[box]
    voxels = (voxels - voxels.mean()) / max(float(voxels.std()), 1e-8)
    return torch.from_numpy(voxels.copy()), torch.from_numpy(truth[box].astype(np.int64))


def pad_to_patch(volume: torch.Tensor) -> torch.Tensor:
    """Zero-pad the last three axes symmetrically to at least the patch."""
    padding: list[int] = []
    for extent, patch in zip(reversed(volume.shape), reversed(PATCH), strict=True):
        missing = max(0, patch - extent)
        padding += [missing // 2, missing - missing // 2]
    return F.pad(volume, padding)


def random_affine(generator: torch.Generator) -> torch.Tensor:
    """Rotate by up to 20 degrees about each axis, scale by 0.8 to 1.25, shift by a few voxels."""
    angles = (torch.rand(3, generator=generator) * 2 - 1) * math.radians(20)
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = torch.eye(3)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    scale = math.exp((torch.rand(1, generator=generator).item() * 2 - 1) * math.log(1.25))
    shift = (torch.rand(3, 1, generator=generator) * 2 - 1) * 0.12
    return torch.cat((matrix * scale, shift), dim=1)


def augment(
    image: torch.Tensor, label: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a random crop, affine, left-right mirroring, gamma, contrast, brightness and noise."""
    image, label = pad_to_patch(image), pad_to_patch(label)
    start = [
        int(torch.randint(extent - patch + 1, (1,), generator=generator))
        for extent, patch in zip(image.shape, PATCH, strict=True)
    ]
    box = tuple(slice(s, s + patch) for s, patch in zip(start, PATCH, strict=True))
    volume = torch.cat((image[box][None], F.one_hot(label[box], 3).movedim(-1, 0).float()))
    if torch.rand(1, generator=generator) < 0.5:
        grid = F.affine_grid(random_affine(generator)[None], [1, 4, *PATCH], align_corners=False)
        volume = F.grid_sample(volume[None], grid, align_corners=False)[0]
        volume[1] += 1 - volume[1:].sum(0)
    if torch.rand(1, generator=generator) < 0.5:
        volume = volume.flip(-1)
    image, label = volume[:1], volume[1:].argmax(0)
    random = torch.rand(5, generator=generator)
    if random[0] < 0.3:
        low, high = image.min(), image.max()
        unit = (image - low) / (high - low).clamp(min=1e-6)
        image = unit ** (0.7 + 0.8 * random[1]) * (high - low) + low
    image = image * (0.8 + 0.4 * random[2]) + 0.4 * (random[3] - 0.5)
    noise = torch.randn(image.shape, generator=generator)
    return image + 0.15 * random[4] * noise, label


def loss_function(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Add cross-entropy and one minus the mean foreground soft Dice of the batch."""
    probability = logits.softmax(1)[:, 1:]
    truth = F.one_hot(label, 3).movedim(-1, 1)[:, 1:].float()
    axes = (0, 2, 3, 4)
    overlap = 2 * (probability * truth).sum(axes) + 1
    dice = overlap / (probability.sum(axes) + truth.sum(axes) + 1)
    return F.cross_entropy(logits, label) + 1 - dice.mean()


@torch.no_grad()
def predict(model: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Predict labels of one case: the mean of two extreme tiles where it exceeds the patch."""
    padded = pad_to_patch(image)
    logits = torch.zeros(3, *padded.shape)
    count = torch.zeros(padded.shape)
    starts = [sorted({0, e - p}) for e, p in zip(padded.shape, PATCH, strict=True)]
    for corner in torch.cartesian_prod(*map(torch.tensor, starts)).tolist():
        box = tuple(slice(c, c + p) for c, p in zip(corner, PATCH, strict=True))
        logits[(slice(None), *box)] += model(padded[box][None, None])[0]
        count[box] += 1
    before = [(e - i) // 2 for e, i in zip(padded.shape, image.shape, strict=True)]
    box = tuple(slice(b, b + i) for b, i in zip(before, image.shape, strict=True))
    return (logits / count).argmax(0)[box]


def evaluate(
    model: torch.nn.Module, cases: list[tuple[torch.Tensor, torch.Tensor]]
) -> dict[str, float]:
    """Average the Dice of each foreground label over `cases`."""
    scores = np.zeros((len(cases), 2))
    for row, (image, truth) in zip(scores, cases, strict=True):
        labels = predict(model, image)
        for index in (1, 2):
            both = int(((labels == index) & (truth == index)).sum())
            row[index - 1] = 2 * both / int((labels == index).sum() + (truth == index).sum())
    return dict(zip(("anterior", "posterior"), scores.mean(0).tolist(), strict=True))


def save(path: Path, model: torch.nn.Module) -> None:
    """Write float16 weights as a checkpoint for `sgmf export`."""
    RECORD.save({key: value.half() for key, value in model.state_dict().items()}, path)


def main() -> None:
    """Train for a stated time, reporting held-out Dice on the way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)

    images = sorted((options.data / "imagesTr").glob("*.nii.gz"))
    cases = [load_case(image, options.data / "labelsTr" / image.name) for image in images]
    held_out = cases[::5]
    training = [case for index, case in enumerate(cases) if index % 5]

    model = create_model("segmaformer", **CONFIG)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    start, step, losses = time.monotonic(), 0, []
    while (progress := (time.monotonic() - start) / (60 * options.minutes)) < 1:
        rate = 1e-3 * min(1, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimiser.param_groups:
            group["lr"] = rate
        chosen = torch.randint(len(training), (options.batch,), generator=generator)
        pairs = [augment(*training[index], generator) for index in map(int, chosen)]
        batch = torch.stack([image for image, _ in pairs])
        loss = loss_function(model(batch), torch.stack([label for _, label in pairs]))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 12)
        optimiser.step()
        average.update_parameters(model)
        losses.append(loss.item())
        step += 1
        if step % 500 == 0:
            report(average.module, held_out, step, options.out, losses, start)
    report(average.module, held_out, step, options.out, losses, start)


def report(
    model: torch.nn.Module,
    held_out: list[tuple[torch.Tensor, torch.Tensor]],
    step: int,
    out: Path,
    losses: list[float],
    start: float,
) -> None:
    """Save the averaged weights and append held-out Dice to ``log.jsonl``."""
    dice = evaluate(model, held_out)
    save(out / "checkpoint_final.pth", model)
    recent = float(np.mean(losses[-200:]))
    row = {"step": step, "minutes": (time.monotonic() - start) / 60, "loss": recent, **dice}
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
