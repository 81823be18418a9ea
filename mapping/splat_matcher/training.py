"""The loss of the network that describes splats, and its training.

A predicted descriptor f_a of a Gaussian must be nearer to the descriptor d_a of its keypoint than to those of
other keypoints of the same place, and d_a nearer to f_a than to other predictions (InfoNCE, van den Oord et
al. 2018, both ways):

    L = 1/2 (CE(e^t f_a . d_b over b) + CE(e^t d_a . f_b over b)) + 1/2 (1 - f_a . d_a)
        + 0.3 BCE(s_a, keypoint a)

with the learned temperature t. Keypoints with nearly the descriptor of a's are no negatives of it: they may
show the same point. The descriptors d are the extractor's, which is not trained.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsplatloc.localization.splat_descriptors.network import SplatEncoder
from gsplatloc.mapping.options import MatcherTrainingOptions
from gsplatloc.mapping.splat_matcher.examples import Examples

_NEGATIVES = 3072  # further keypoints of the place
_SAME = 0.9  # cosine of descriptors that may be of the same point
_TEMPERATURE = math.log(20)  # at first
_WARM_UP = 50  # steps
_LAST_RATE = 0.02  # of the first learning rate, reached by half a cosine
_WEIGHT_DECAY = 1e-3
_SCORED = 0.3  # weight of the scores' term


@dataclass(frozen=True)
class Point:
    """One point of the learning curve."""

    step: int
    loss: float  # mean since the point before
    cosine: float | None  # mean cosine of prediction and truth for held-out keypoints, if there are any
    nearest: float | None  # share of them whose nearest of 4,000 keypoints is a right one


def train_encoder(
    encoder: SplatEncoder,
    places: Sequence[Examples],
    options: MatcherTrainingOptions,
    held_out: Examples | None = None,
    report: Callable[[Point], None] | None = None,
) -> list[Point]:
    """Train `encoder` in place, with a place drawn for each step; returns the learning curve.

    The same inputs on the same device give the same network: all draws are by `options.seed`.
    """
    generator = torch.Generator().manual_seed(options.seed)
    device = next(encoder.parameters()).device
    temperature = nn.Parameter(torch.tensor(_TEMPERATURE, device=device))
    optimizer = torch.optim.AdamW(
        [*encoder.parameters(), temperature], lr=options.rate, weight_decay=_WEIGHT_DECAY
    )
    encoder.train().requires_grad_(True)
    steps = options.steps
    losses: list[float] = []
    curve: list[Point] = []
    for step, batch in enumerate(_batches(places, steps, options.batch, generator), 1):
        for group in optimizer.param_groups:
            group["lr"] = options.rate * _schedule(step / steps, step)
        value = loss(encoder, batch, options.batch, temperature)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
        if step % options.report == 0 or step == steps:
            judged = evaluate(encoder, held_out) if held_out else (None, None)
            curve.append(Point(step, sum(losses) / len(losses), *judged))
            losses = []
            if report is not None:
                report(curve[-1])
    encoder.eval().requires_grad_(False)
    return curve


def loss(encoder: SplatEncoder, batch: Examples, count: int, temperature: Tensor) -> Tensor:
    """The loss of the first `count` examples of a batch; the descriptors of the others are negatives."""
    drawn = batch.drawn.to(next(encoder.parameters()).device).float()
    found, scores = encoder(drawn)
    keypoint = batch.keypoint[:count].to(found.device)
    if not bool(keypoint.any()):
        return _SCORED * F.binary_cross_entropy_with_logits(scores, keypoint.float())
    truth = batch.descriptors[batch.keypoint].float().to(found.device)  # of the first examples first
    positive = truth[: int(keypoint.sum())]
    found = found[keypoint]
    alike = positive @ truth.T > _SAME
    alike.fill_diagonal_(False)
    logits = (temperature.exp() * found @ truth.T).masked_fill(alike, -torch.inf)
    target = torch.arange(len(found), device=found.device)
    contrast = F.cross_entropy(logits, target) + F.cross_entropy(logits[:, : len(found)].T, target)
    distance = 1 - (found * positive).sum(1).mean()
    total = 0.5 * contrast + 0.5 * distance
    if bool(keypoint.all()):  # examples of photographs are keypoints only
        return total
    return total + _SCORED * F.binary_cross_entropy_with_logits(scores, keypoint.float())


@torch.no_grad()
def evaluate(encoder: SplatEncoder, examples: Examples, most: int = 4000) -> tuple[float, float]:
    """Mean cosine of predictions and truth, and the share of predictions whose nearest keypoint is right."""
    index = examples.keypoint.nonzero()[:, 0]
    index = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(0))[:most]]
    device = next(encoder.parameters()).device
    encoder.eval()
    drawn, truth = examples.drawn[index], examples.descriptors[index].float().to(device)
    found = torch.cat([encoder(part.float().to(device))[0] for part in drawn.split(500)])
    encoder.train()
    similarity = found @ truth.T
    right = (truth * truth[similarity.argmax(1)]).sum(1) > _SAME
    return similarity.diagonal().mean().item(), right.float().mean().item()


def _batches(
    places: Sequence[Examples], steps: int, count: int, generator: torch.Generator
) -> Iterator[Examples]:
    """For each step examples of one place, drawn in proportion to the root of their number."""
    weights = torch.tensor([float(len(place)) for place in places]).sqrt()
    for number in torch.multinomial(weights, steps, replacement=True, generator=generator).tolist():
        place = places[number]
        index = torch.randint(len(place), (count + _NEGATIVES,), generator=generator)
        yield Examples(place.drawn[index[:count]], place.descriptors[index], place.keypoint[index])


def _schedule(done: float, step: int) -> float:
    """Factor of the learning rate after a share `done` of all steps."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return min(1.0, step / _WARM_UP) * (cosine + (1 - cosine) * _LAST_RATE)
