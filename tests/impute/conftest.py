import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_blas_thread():
    """Small matrices: threads of BLAS would only wait for each other."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
