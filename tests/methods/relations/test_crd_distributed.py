"""CRD's banks stay equal on two ranks, and hold what both ranks saw."""

import copy
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lightning_kd.engine.exchange import Exchange, View
from lightning_kd.methods.relations import CRD
from lightning_kd.testing import Rig


def part(exchange, method, rank):
    """Every second sample of an exchange."""
    keep = slice(rank, None, 2)
    (student_tap, teacher_tap) = method.pairs[0]
    student, teacher = exchange.student, exchange.teacher
    return Exchange(
        inputs=(),
        target=exchange.target[keep],
        student=View(student.logits[keep], {student_tap: student.feature(student_tap)[keep]}),
        teachers=[View(teacher.logits[keep], {teacher_tap: teacher.feature(teacher_tap)[keep]})],
        index=exchange.index[keep],
    )


def make():
    rig = Rig(lambda: CRD(embedding_dim=6, negatives=5))
    exchange = rig.exchange()
    method = copy.deepcopy(rig.method)
    return method, exchange


def work(rank, port, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        method, exchange = make()
        torch.manual_seed(rank)
        method(part(exchange, method, rank))
        results[rank] = {name: value.clone() for name, value in method.state_dict().items()}
    finally:
        dist.destroy_process_group()


def test_banks_are_equal_on_all_ranks():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.start_processes(work, (port, results), nprocs=2, start_method="fork")
        first, second = results[0], results[1]
    assert all(torch.equal(first[name], second[name]) for name in first)
    alone, exchange = make()
    torch.manual_seed(0)
    alone(exchange)
    for name in ("bank.student", "bank.teacher", "bank.labels"):
        torch.testing.assert_close(first[name], alone.state_dict()[name])
