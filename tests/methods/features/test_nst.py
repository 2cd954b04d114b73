import pytest
import torch

from lightning_kd.methods.features import nst_loss


def slow(student, teacher):
    """The definition: the kernel of every pair of channels, one by one."""

    def kernel(left, right):
        values = [(a @ b) ** 2 for a in left for b in right]
        return sum(values) / len(values)

    def unit(x):
        return [row / row.pow(2).sum().sqrt() for row in x.flatten(1)]

    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        samples = [(unit(a), unit(b)) for a, b in zip(s, t, strict=True)]
        values = [kernel(b, b) + kernel(a, a) - 2 * kernel(a, b) for a, b in samples]
        total = total + sum(values) / len(values)
    return total


@pytest.mark.parametrize(
    ("student_shape", "teacher_shape"),
    [((2, 3, 2, 2), (2, 6, 2, 2)), ((2, 3, 4, 4), (2, 4, 4, 4)), ((2, 4, 1, 1), (2, 3, 1, 1))],
    ids=["fewer positions", "fewer channels", "one position"],
)
def test_both_gram_forms_match_the_definition(maps, agree, student_shape, teacher_shape):
    student, teacher = maps(student_shape, (2, 3, 2, 2), grad=True), maps(teacher_shape, (2, 3, 2, 2))
    agree(nst_loss(student, teacher), slow(student, teacher), student[1:])
    student_gradient = torch.autograd.grad(nst_loss(student, teacher), student[0])[0]
    expected = torch.autograd.grad(slow(student, teacher), student[0])[0]
    torch.testing.assert_close(student_gradient, expected, rtol=1e-8, atol=1e-12)


def test_the_larger_map_is_pooled(maps):
    [student], [teacher] = maps((2, 4, 8, 8)), maps((2, 5, 4, 4))
    pooled = torch.nn.functional.avg_pool2d(student, 2)
    torch.testing.assert_close(nst_loss([student], [teacher]), nst_loss([pooled], [teacher]))


def test_permuting_channels_changes_nothing(maps):
    [student], [teacher] = maps((2, 6, 4, 4)), maps((2, 6, 4, 4))
    shuffled = student[:, torch.randperm(6)]
    torch.testing.assert_close(nst_loss([student], [teacher]), nst_loss([shuffled], [teacher]))
    assert nst_loss([shuffled], [student]).item() < 1e-12


def test_nothing_larger_than_a_gram_matrix_is_made():
    student = torch.randn(1, 64, 8, 8, requires_grad=True)
    sizes = []

    class Spy(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.append(result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    with Spy():
        nst_loss([student], [torch.randn(1, 96, 8, 8)]).backward()
    assert max(sizes) <= 64 * 96
