import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_blas_thread():
    """Use one BLAS thread, because matrices are small and threads would wait for each other."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
