from contextlib import nullcontext

from threadpoolctl import threadpool_limits


def threads_for(row_shape):
    """Return a context with the threads that suit rows of a shape.

    Products of the size of a small MLP finish sooner on one thread than two threads need to meet;
    images leave torch's number as it is.
    """
    return threadpool_limits(limits=1, user_api="openmp") if len(row_shape) == 1 else nullcontext()
