"""Mixed samples whose partners, ratios and rectangles repeat."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_kd.data import CutMixed, MixedUp, Replayed, check_replay

CLASSES = 4


def samples(views=3, seed=0):
    images = torch.arange(10.0).view(10, 1, 1, 1).expand(10, 2, 6, 8).clone()
    return Replayed(TensorDataset(images, torch.arange(10) % CLASSES), lambda x: x + torch.rand(()), seed, views)


@pytest.mark.parametrize("kind", [MixedUp, CutMixed])
def test_draws_repeat(kind):
    data, again = kind(samples(), CLASSES), kind(samples(), CLASSES)
    drawn = {(index, view): data.draw(index, view) for view in range(3) for index in range(10)}
    for key in reversed(drawn):
        image, label = again.draw(*key)
        assert torch.equal(image, drawn[key][0])
        assert torch.equal(label, drawn[key][1])
        assert label.sum().item() == pytest.approx(1)
    assert len({data.partner(0, view) for view in range(3)}) == 3
    assert len({data.partner(index, 0)[0] for index in range(10)}) > 3
    check_replay(data)


def test_mixup_is_the_weighted_mean():
    data = MixedUp(samples())
    for index in range(10):
        other, ratio = data.partner(index, 1)
        image, label, other_label, share = data.draw(index, 1)
        expected = ratio * data.dataset.draw(index, 1)[0] + (1 - ratio) * data.dataset.draw(other, 1)[0]
        assert torch.equal(image, expected)
        assert (label, other_label, share) == (index % CLASSES, other % CLASSES, ratio)


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels():
    data = CutMixed(samples())
    shares = []
    for index in range(10):
        other, _ = data.partner(index, 2)
        if other == index:
            continue
        image, _, _, share = data.draw(index, 2)
        own, pasted = data.dataset.draw(index, 2)[0], data.dataset.draw(other, 2)[0]
        kept = image == own
        assert (image[~kept] == pasted[~kept]).all()
        assert kept.float().mean().item() == pytest.approx(share)
        shares.append(share)
    assert len(set(shares)) > 3


def test_soft_labels_and_probability():
    never = MixedUp(samples(), CLASSES, probability=0.0)
    image, label = never.draw(5, 0)
    assert torch.equal(image, samples().draw(5, 0)[0])
    assert label.tolist() == [0, 1, 0, 0]
    twice = CutMixed(MixedUp(samples(), CLASSES), CLASSES)
    image, label = twice.draw(3, 0)
    assert label.sum().item() == pytest.approx(1)
    inner = twice.dataset
    assert [inner.partner(index, 0) for index in range(10)] != [twice.partner(index, 0) for index in range(10)]


def test_workers_and_epochs():
    data = MixedUp(samples(), CLASSES)
    for epoch in (0, 4):
        data.set_epoch(epoch)
        (batch,) = DataLoader(data, batch_size=10, num_workers=2)
        assert torch.equal(batch.sample[0], torch.stack([data.draw(index, epoch % 3)[0] for index in range(10)]))
        assert list(batch.key) == [f"{epoch % 3}.{index}" for index in range(10)]


def test_fingerprints():
    prints = [
        MixedUp(samples()).fingerprint,
        CutMixed(samples()).fingerprint,
        MixedUp(samples(), CLASSES).fingerprint,
        MixedUp(samples(), alpha=0.2).fingerprint,
        MixedUp(samples(), probability=0.5).fingerprint,
        MixedUp(samples(seed=1)).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert MixedUp(samples()).fingerprint == prints[0]


def test_refusals():
    with pytest.raises(TypeError, match="wrap the data set first"):
        MixedUp(TensorDataset(torch.zeros(3)))
    with pytest.raises(ValueError, match="alpha must be positive"):
        CutMixed(samples(), alpha=0.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        CutMixed(samples(), probability=1.5)
    with pytest.raises(TypeError, match="a tuple of str, int"):
        MixedUp(Replayed([("image", 1)])).draw(0, 0)
