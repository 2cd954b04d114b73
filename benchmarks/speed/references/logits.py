"""Losses on logits ``(B, C)``, online and self-distillation included."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def kd_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Tempered divergence."""
    log_student = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(log_student, F.softmax(teacher / temperature, dim=1), reduction="batchmean") * temperature**2


def learned_temperature_kd_loss(student: Tensor, teacher: Tensor, temperature: Tensor) -> Tensor:
    """Tempered divergence with a gradient into the temperature."""
    log_student = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(log_student, F.softmax(teacher / temperature, dim=1), reduction="batchmean") * temperature**2


def logit_standardized_kd_loss(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """Tempered divergence of standardised logits."""
    student, teacher = ((z - z.mean(1, keepdim=True)) / (z.std(1, keepdim=True) + 1e-7) for z in (student, teacher))
    return kd_loss(student, teacher, temperature)


def mutual_learning_loss(student: Tensor, peers: Sequence[Tensor], temperature: float = 1.0) -> Tensor:
    """Mean divergence from the peers."""
    return torch.stack([kd_loss(student, peer, temperature) for peer in peers]).mean()


def dkd_loss(
    student: Tensor, teacher: Tensor, target: Tensor, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0
) -> Tensor:
    """Target mass and the other classes, apart."""
    label = F.one_hot(target, student.shape[1]).bool()
    student, teacher = student / temperature, teacher / temperature
    target_student, target_teacher = (F.softmax(z, dim=1)[label] for z in (student, teacher))
    mass_student = torch.stack([target_student, 1 - target_student], dim=1)
    mass_teacher = torch.stack([target_teacher, 1 - target_teacher], dim=1)
    target_term = F.kl_div(mass_student.log(), mass_teacher, reduction="batchmean")
    others_student, others_teacher = (z[~label].view(len(z), -1) for z in (student, teacher))
    others_term = F.kl_div(
        F.log_softmax(others_student, dim=1), F.softmax(others_teacher, dim=1), reduction="batchmean"
    )
    return (alpha * target_term + beta * others_term) * temperature**2


def topk_tail_kl_loss(student: Tensor, indices: Tensor, log_probabilities: Tensor, tail_log_mass: Tensor) -> Tensor:
    """The top classes, and the others as one."""
    student = F.softmax(student, dim=1).gather(1, indices)
    student = torch.cat([student, 1 - student.sum(1, keepdim=True)], dim=1)
    teacher = torch.cat([log_probabilities, tail_log_mass.unsqueeze(1)], dim=1)
    return F.kl_div(student.log(), teacher.exp(), reduction="batchmean")


def nkd_loss(student: Tensor, teacher: Tensor, target: Tensor, gamma: float = 1.5, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of the label, weighted by the teacher, and of the other classes."""
    label = F.one_hot(target, student.shape[1]).bool()
    target_term = -F.softmax(teacher, dim=1)[label] * F.log_softmax(student, dim=1)[label]
    others_student, others_teacher = (z[~label].view(len(z), -1) / temperature for z in (student, teacher))
    others_term = -(F.softmax(others_teacher, dim=1) * F.log_softmax(others_student, dim=1)).sum(1)
    return (target_term + gamma * temperature**2 * others_term).mean()


def uskd_loss(
    student: Tensor, weak: Tensor, target: Tensor, alpha: float = 1.0, beta: float = 0.1, mu: float = 0.005
) -> Tensor:
    """Smoothed label, Zipf's law for the other classes, and the weak head's cross-entropy."""
    label = F.one_hot(target, student.shape[1]).bool()
    log_probability = F.log_softmax(student, dim=1)
    log_label = log_probability[label]
    squared = log_label.detach().exp().square()
    target_term = -((squared + 1 - squared.mean()) * log_label).mean()

    scores = torch.zeros_like(student)
    for prediction in (F.softmax(weak.detach(), dim=1), log_probability.detach()):
        scores = scores + prediction / (1 - prediction[label] + 1e-6).unsqueeze(1)
    rank = scores.argsort(dim=1, descending=True).argsort(dim=1)
    zipf = (1 / (rank + 1).to(student.dtype))[~label].view(len(student), -1)
    zipf = zipf / zipf.sum(1, keepdim=True)
    others_term = -(zipf * F.log_softmax(student[~label].view(len(student), -1), dim=1)).sum(1).mean()
    return alpha * target_term + beta * others_term + mu * F.cross_entropy(weak, target, label_smoothing=0.1)


def wsld_loss(student: Tensor, teacher: Tensor, target: Tensor, temperature: float = 2.0) -> Tensor:
    """Divergence weighted by how far the student is behind the teacher."""
    log_student = F.log_softmax(student / temperature, dim=1)
    divergence = F.kl_div(log_student, F.softmax(teacher / temperature, dim=1), reduction="none").sum(1)
    student_error = F.cross_entropy(student.detach(), target, reduction="none")
    teacher_error = F.cross_entropy(teacher, target, reduction="none")
    return ((1 - torch.exp(-student_error / (teacher_error + 1e-7))) * divergence).mean() * temperature**2


def ttm_loss(student: Tensor, teacher: Tensor, temperature: float = 10.0) -> Tensor:
    """Divergence from the tempered teacher, weighted by its power sum."""
    log_student = F.log_softmax(student, dim=1)
    divergence = F.kl_div(log_student, F.softmax(teacher / temperature, dim=1), reduction="none").sum(1)
    return (F.softmax(teacher, dim=1).pow(1 / temperature).sum(1) * divergence).mean()


def dist_loss(
    student: Tensor, teacher: Tensor, beta: float = 1.0, gamma: float = 1.0, temperature: float = 4.0
) -> Tensor:
    """Correlation of rows and of columns."""
    student, teacher = F.softmax(student / temperature, dim=1), F.softmax(teacher / temperature, dim=1)
    inter, intra = (1 - _pearson(student, teacher, dim).mean() for dim in (1, 0))
    return (beta * inter + gamma * intra) * temperature**2


def feature_relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Correlation over the channels and, of the summed maps, over the batch."""
    channel = 1 - _pearson(student, teacher, 1).mean()
    return channel + 1 - _pearson(student.sum(1), teacher.sum(1), 0).mean()


def _pearson(x: Tensor, y: Tensor, dim: int) -> Tensor:
    x, y = x - x.mean(dim, keepdim=True), y - y.mean(dim, keepdim=True)
    correlation: Tensor = (x * y).sum(dim) / (x.norm(dim=dim) * y.norm(dim=dim) + 1e-8)
    return correlation


def class_correlation_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Correlations of the classes."""
    student, teacher = F.softmax(student / temperature, dim=1), F.softmax(teacher / temperature, dim=1)
    return (teacher.T @ teacher - student.T @ student).pow(2).sum() / student.shape[1]


def batch_correlation_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Correlations of the samples."""
    student, teacher = F.softmax(student / temperature, dim=1), F.softmax(teacher / temperature, dim=1)
    return (teacher @ teacher.T - student @ student.T).pow(2).sum() / student.shape[0]


def mlkd_loss(student: Tensor, teacher: Tensor, temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0)) -> Tensor:
    """Instances, samples and classes at several temperatures, the less confident half of each."""
    confidence = F.softmax(teacher, dim=1)
    samples, classes = confidence.amax(1), confidence.sum(0)
    samples, classes = samples <= samples.quantile(0.5), classes <= classes.quantile(0.5)
    loss = torch.zeros((), dtype=student.dtype)
    for temperature in temperatures:
        log_p, q = F.log_softmax(student / temperature, dim=1), F.softmax(teacher / temperature, dim=1)
        p = log_p.exp()
        loss = loss + (F.kl_div(log_p, q, reduction="none").sum(1) * samples).mean() * temperature**2
        loss = loss + ((q @ q.T - p @ p.T).pow(2).sum(1) * samples).mean()
        loss = loss + ((q.T @ q - p.T @ p).pow(2).sum(1) * classes).mean()
    return loss


def class_attention_transfer_loss(student: Tensor, teacher: Tensor, resolution: int = 2) -> Tensor:
    """Pooled class activation maps ``(B, C, H, W)``."""
    return F.mse_loss(F.adaptive_avg_pool2d(student, resolution), F.adaptive_avg_pool2d(teacher, resolution))


def label_smoothing_loss(student: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy with a smoothed label."""
    return F.cross_entropy(student, target, label_smoothing=smoothing)


def virtual_teacher_loss(student: Tensor, target: Tensor, correct: float = 0.99, temperature: float = 20.0) -> Tensor:
    """Divergence from a teacher by design."""
    designed = torch.full_like(student, (1 - correct) / (student.shape[1] - 1))
    designed[torch.arange(len(student)), target] = correct
    return F.kl_div(
        F.log_softmax(student, dim=1), F.softmax(designed.detach() / temperature, dim=1), reduction="batchmean"
    )


def ofa_loss(student: Tensor, teacher: Tensor, target: Tensor, eps: float = 1.0, temperature: float = 1.0) -> Tensor:
    """Cross-entropy with an enhanced target."""
    label = F.one_hot(target, student.shape[1])
    soft = (F.softmax(teacher / temperature, dim=1) + label).pow(eps) - label
    return -(soft * F.log_softmax(student / temperature, dim=1)).sum(1).mean()


def pld_loss(student: Tensor, teacher: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Choices along the teacher's ranking, the label first."""
    order = teacher.scatter(1, target.unsqueeze(1), torch.inf).argsort(dim=1, descending=True)
    ranked = student.gather(1, order)
    weights = F.softmax(teacher / temperature, dim=1).gather(1, order)
    return (weights * (ranked.flip(1).logcumsumexp(1).flip(1) - ranked)).sum(1).mean()


def generalized_jsd_loss(student: Tensor, teacher: Tensor, beta: float = 0.5) -> Tensor:
    """Divergences from the mixture."""
    p, q = F.softmax(student, dim=1), F.softmax(teacher, dim=1)
    log_mixture = (beta * q + (1 - beta) * p).log()
    forward = F.kl_div(log_mixture, q, reduction="batchmean")
    return beta * forward + (1 - beta) * F.kl_div(log_mixture, p, reduction="batchmean")


def balanced_divergence_loss(student: Tensor, teacher: Tensor, delta: float = 2.0, temperature: float = 1.0) -> Tensor:
    """Both directions, balanced by the entropies."""
    log_p, log_q = F.log_softmax(student / temperature, dim=1), F.log_softmax(teacher / temperature, dim=1)
    forward = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(1)
    reverse = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    student_entropy, teacher_entropy = (
        -(F.softmax(z, dim=1) * F.log_softmax(z, dim=1)).sum(1) for z in (student.detach(), teacher)
    )
    forward = torch.where(teacher_entropy > student_entropy, delta * forward, forward)
    reverse = torch.where(teacher_entropy < student_entropy, delta * reverse, reverse)
    return (forward + reverse).mean() * temperature**2


def guided_self_distillation_loss(student: Tensor, teacher: Tensor, target: Tensor, alpha: float) -> Tensor:
    """Cross-entropies with the label and with the past generation."""
    soft = F.cross_entropy(student, F.softmax(teacher, dim=1))
    return alpha * F.cross_entropy(student, target) + (1 - alpha) * soft


def progressive_self_distillation_loss(student: Tensor, past: Tensor, target: Tensor, alpha: float) -> Tensor:
    """Cross-entropy with a label that is partly the past prediction."""
    label = F.one_hot(target, student.shape[1])
    return F.cross_entropy(student, (1 - alpha) * label + alpha * F.softmax(past, dim=1))


def softmax_regression_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error of logits."""
    return F.mse_loss(student, teacher)
