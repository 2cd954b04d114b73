import itertools

import pytest
import torch

from lightning_kd.methods.features import FSP, fsp_loss


def slow(student, teacher):
    def matrices(features):
        result = []
        for low, high in itertools.pairwise(features):
            if low.shape[2] > high.shape[2]:
                low = torch.nn.functional.avg_pool2d(low, low.shape[2] // high.shape[2])
            low, high = low.flatten(2), high.flatten(2)
            positions = range(low.shape[2])
            result.append(sum(low[:, :, None, i] * high[:, None, :, i] for i in positions) / len(positions))
        return result

    return sum(((a - b) ** 2).mean() for a, b in zip(matrices(student), matrices(teacher), strict=True))


def test_matches_a_loop_over_positions(maps, agree):
    shapes = ((3, 4, 8, 8), (3, 6, 4, 4), (3, 5, 4, 4))
    student, teacher = maps(*shapes, grad=True), maps(*shapes)
    agree(fsp_loss(student, teacher), slow(student, teacher), student)


def test_student_and_teacher_may_differ_in_size(maps):
    student, teacher = maps((2, 4, 8, 8), (2, 5, 4, 4)), maps((2, 4, 16, 16), (2, 5, 8, 8))
    assert fsp_loss(student, teacher).isfinite()


def test_equal_widths_have_no_connector_and_others_have_one(maps, build):
    method = build(FSP(), maps((2, 4, 8, 8), (2, 5, 4, 4)), maps((2, 4, 8, 8), (2, 6, 4, 4)))
    assert [len(list(connector.parameters())) for connector in method.connectors] == [0, 2]


def test_refusals(maps):
    with pytest.raises(ValueError, match="at least two"):
        fsp_loss(maps((2, 4, 8, 8)), maps((2, 4, 8, 8)))
    with pytest.raises(ValueError, match="equally many channels"):
        fsp_loss(maps((2, 4, 8, 8), (2, 4, 8, 8)), maps((2, 4, 8, 8), (2, 5, 8, 8)))
