"""Events of a profiler, made by hand: spans, the double recording under a dispatch mode, kernels on streams."""

from __future__ import annotations

from mpaudit.runtime.child.probes.spans import Event, Inside, device_time, inside_spans


def host(name: str, start: int, end: int, number: int, thread: int = 1) -> Event:
    return Event(name, start, end, thread, False, number, 0)


def kernel(name: str, start: int, end: int, linked: int, stream: int = 7) -> Event:
    return Event(name, start, end, stream, True, 0, linked)


def test_an_op_that_was_recorded_twice_counts_once() -> None:
    found = inside_spans(
        [
            host("aten::matmul", 0, 1000, 1),
            host("aten::mm", 10, 990, 2),  # around the mode
            host("PythonDispatchMode", 20, 980, 3),
            host("mpaudit 0", 100, 900, 4),
            host("aten::mm", 150, 850, 5),  # inside of it
            host("aten::resolve_conj", 200, 300, 6),
        ]
    )
    assert found == {0: Inside(700, ())}


def test_several_ops_in_a_span_add_up_and_what_is_in_them_does_not() -> None:
    found = inside_spans(
        [
            host("mpaudit 0", 0, 100, 1),
            host("aten::empty", 10, 20, 2),
            host("aten::copy_", 20, 60, 3),
            host("aten::fill_", 30, 40, 4),
        ]
    )
    assert found[0].host_ns == 50


def test_a_span_without_ops_counts_itself() -> None:
    assert inside_spans([host("mpaudit 3", 5, 30, 1)]) == {3: Inside(25, ())}


def test_threads_do_not_mix() -> None:
    found = inside_spans(
        [
            host("mpaudit 0", 0, 100, 1, thread=1),
            host("aten::mm", 10, 90, 2, thread=1),
            host("mpaudit 1", 20, 60, 3, thread=2),
            host("aten::bmm", 30, 50, 4, thread=2),
        ]
    )
    assert (found[0].host_ns, found[1].host_ns) == (80, 20)


def test_kernels_of_a_synthetic_cuda_trace_go_to_the_span_that_launched_them() -> None:
    found = inside_spans(
        [
            host("mpaudit 0", 0, 50, 1),
            host("aten::addmm", 5, 45, 2),
            host("cudaLaunchKernel", 20, 30, 3),
            host("mpaudit 1", 60, 100, 4),
            host("aten::copy_", 65, 95, 5),
            # they run later than their launch, on two streams, one started inside of another span's time
            kernel("nvjet_tst_128x24", 70, 170, linked=2),
            kernel("splitKreduce_kernel", 170, 180, linked=2),
            kernel("elementwise_kernel", 75, 90, linked=5, stream=13),
            kernel("ncclKernel", 0, 40, linked=99),
        ]
    )
    assert found[0].kernels == (("nvjet_tst_128x24", 100), ("splitKreduce_kernel", 10))
    assert found[1].kernels == (("elementwise_kernel", 15),)


def test_what_no_span_launched_is_not_lost() -> None:
    assert device_time([kernel("ncclKernel", 0, 40, linked=99), host("mpaudit 0", 0, 9, 1)]) == 40
