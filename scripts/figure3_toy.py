"""The toy example of Figure 3 of arXiv 1801.07698: eight identities, embeddings in the plane, under several losses.

python scripts/figure3_toy.py docs/images/figure3_toy.png

Eight synthetic faces with 60 photos each, reduced to 16 x 16 pixels, go through two linear layers into the plane. The
larger the margin, the larger the gap between the arcs of neighbouring identities. It takes a minute on one core.
"""

import argparse
import copy
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from facerec.heads.combined import MarginHead
from facerec.heads.head import Head
from facerec.heads.softmax import SoftmaxHead
from facerec.losses.centre_loss import CentreLoss
from facerec.losses.objective import Objective
from facerec.plots.plane import Panel, plane_figure
from facerec.synthetic.source import SyntheticFaces

NUM_IDENTITIES, NUM_SAMPLES, SIDE_PX = 8, 60, 16
NUM_STEPS, BATCH_SIZE, LR, SEEDS = 500, 64, 3e-3, (1, 2, 3)
SIZES = {"num_classes": NUM_IDENTITIES, "embedding_dim": 2}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A loss: a softmax, or ArcFace if `margin_rad` is set; with a weight, the centre loss is added."""

    margin_rad: float | None = None
    centre_weight: float = 0.0


CASES = {
    "softmax": Case(),
    "norm-softmax": Case(margin_rad=0.0),
    "ArcFace 0.2": Case(margin_rad=0.2),
    "ArcFace 0.3": Case(margin_rad=0.3),
    "ArcFace 0.4": Case(margin_rad=0.4),
    "softmax + centre 0.01": Case(centre_weight=0.01),
    "softmax + centre 0.1": Case(centre_weight=0.1),
    "softmax + centre 1": Case(centre_weight=1.0),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The embeddings of the training samples.

    Attributes:
        emb_ND: float32 (N, 2), not normalised.
        labels_N: int64 (N,).
        smallest_gap_deg: gap between the arcs of two neighbouring identities; an arc is the middle 90 % of the angles.
    """

    emb_ND: np.ndarray
    labels_N: np.ndarray
    smallest_gap_deg: float


def toy_faces() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns float32 (N, 256), each pixel with mean 0 and deviation 1, and int64 (N,)."""
    faces = SyntheticFaces(seed=0)
    labels = np.repeat(np.arange(NUM_IDENTITIES), NUM_SAMPLES)
    crops = [faces.crop(int(label), sample % NUM_SAMPLES) for sample, label in enumerate(labels)]
    small = [
        cv2.resize(cv2.cvtColor(c, cv2.COLOR_RGB2GRAY), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) for c in crops
    ]
    pixels = np.stack(small).reshape(len(labels), -1).astype(np.float32)
    pixels = (pixels - pixels.mean(axis=0)) / pixels.std(axis=0)
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def start_of_training(pixels_NP: torch.Tensor, labels_N: torch.Tensor, *, seed: int) -> tuple[nn.Module, Head]:
    """Trains a small network and its centres with a softmax: the start of all cases."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(pixels_NP.shape[1], 128), nn.PReLU(), nn.Linear(128, 2))
    head = SoftmaxHead(**SIZES)
    with torch.no_grad():  # evenly around the circle, because centres in the plane cannot pass one another
        turn = torch.arange(NUM_IDENTITIES) * (2 * math.pi / NUM_IDENTITIES)
        head.centres.weight.copy_(torch.stack([turn.cos(), turn.sin()], dim=1))
    _optimise(network, Objective(head=head), pixels_NP, labels_N)
    return network, head


def train_case(
    start: tuple[nn.Module, Head], pixels_NP: torch.Tensor, labels_N: torch.Tensor, case: Case, *, seed: int
) -> Outcome:
    """Trains a copy of `start` with the losses of the case."""
    torch.manual_seed(seed)
    network, head = copy.deepcopy(start)
    if case.margin_rad is not None:
        centres_CD = head.centres.weight.data
        head = MarginHead(**SIZES, m2=case.margin_rad, scale=32.0)
        head.centres.weight.data.copy_(centres_CD)
    terms = {"centre": CentreLoss(**SIZES, weight=case.centre_weight, alpha=0.5)} if case.centre_weight else {}
    _optimise(network, Objective(head=head, terms=terms), pixels_NP, labels_N)
    network.eval()
    with torch.no_grad():
        emb_ND = network(pixels_NP).numpy()
    labels = labels_N.numpy()
    return Outcome(emb_ND=emb_ND, labels_N=labels, smallest_gap_deg=smallest_gap_deg(emb_ND, labels))


def _optimise(network: nn.Module, objective: Objective, pixels_NP: torch.Tensor, labels_N: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW([*network.parameters(), *objective.parameters()], lr=LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=NUM_STEPS)
    no_images = torch.empty(0)
    for step in range(NUM_STEPS):
        drawn = torch.randint(len(labels_N), (BATCH_SIZE,))
        noisy = pixels_NP[drawn] + 0.2 * torch.randn(BATCH_SIZE, pixels_NP.shape[1])
        objective.start_step(step, margin_fraction=min(1.0, 2 * step / NUM_STEPS), labels_of_step=labels_N[drawn])
        objective(network(noisy), labels_N[drawn], no_images).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.end_step()
        schedule.step()


def smallest_gap_deg(emb_ND: np.ndarray, labels_N: np.ndarray) -> float:
    """Returns the smallest gap in degrees between the arcs of two neighbouring classes; negative if they overlap."""
    angles = np.degrees(np.arctan2(emb_ND[:, 1], emb_ND[:, 0]))
    arcs = []
    for label in np.unique(labels_N):
        own = np.radians(angles[labels_N == label])
        middle = np.degrees(np.arctan2(np.sin(own).mean(), np.cos(own).mean()))
        low, high = np.percentile((angles[labels_N == label] - middle + 180) % 360 - 180, [5, 95])
        arcs.append((middle, low, high))
    arcs.sort()
    gaps = []
    for (middle, _, high), (next_middle, low, _) in zip(arcs, arcs[1:] + arcs[:1], strict=True):
        gaps.append((next_middle - middle) % 360 + low - high)
    return float(min(gaps))


def main(path: Path) -> None:
    """Trains every case with every seed, prints the smallest gaps, and plots those of the first seed."""
    torch.set_num_threads(1)
    pixels_NP, labels_N = toy_faces()
    outcomes: dict[str, list[Outcome]] = {name: [] for name in CASES}
    for seed in SEEDS:
        start = start_of_training(pixels_NP, labels_N, seed=seed)
        for name, case in CASES.items():
            outcomes[name].append(train_case(start, pixels_NP, labels_N, case, seed=seed))
    panels = []
    for name, of_seeds in outcomes.items():
        gaps = [outcome.smallest_gap_deg for outcome in of_seeds]
        print(f"{name:22} smallest gap {np.mean(gaps):5.1f} deg   ({', '.join(f'{gap:.0f}' for gap in gaps)})")
        title = f"{name}: gap {gaps[0]:.0f}°"
        panels.append(Panel(title=title, points_ND=of_seeds[0].emb_ND, labels_N=of_seeds[0].labels_N))
    plane_figure(panels, path, columns=4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the PNG to write")
    main(parser.parse_args().path)
