"""Parts that the docstrings of the imputer and of the classifier have in common."""

from ..utils._shared_docs import INPUT_FACTS, with_shared_docs

with_common_docs = with_shared_docs(
    {
        "gamma": """
    gamma : float or "scale", default="scale"
        Coefficient of squared distances in the kernel, every feature in units of its range.
        "scale" is one over the number of columns times their mean variance.
""",
        "perturbation": """
    perturbation : float, default=0.0
        Radius of the worst-case perturbation of the kernel that the machine is trained against,
        per row and share of missing entries. The paper has 0.2.
""",
        "shrinkage": """
    shrinkage : float in [0, 1) or "auto", default="auto"
        Share by which covariances of the Gaussian model are shrunk: 0 is maximum likelihood, near
        1 imputes column means. "auto" chooses by predicting observed entries that are hidden from
        the fit.
""",
        "categorical": """
    categorical_features : array-like of bool, int or str, default=None
        Features whose values, coded as numbers, are names: a mask, indices or feature names.
""",
        "computing": """
    engine : {"auto", "numba", "torch"}, default="auto"
        What does the arithmetic of the Gaussian model and of its kernels. "auto"
        is numba on the CPU, else torch.

    device : str, torch.device or None, default=None
        Where the torch engine works: "cpu", "cuda", or "auto" for the best there is. None is the
        CPU. The arithmetic is in float64, which "mps" lacks.

    n_jobs : int or None, default=None
        Threads of the numba engine. Results do not depend on it.
""",
        "chosen_gamma": """
    gamma_ : float
        Coefficient of squared distances in the kernel.
""",
        "chosen_shrinkage": """
    shrinkage_ : float
        Share by which covariances are shrunk.
""",
        "facts": INPUT_FACTS,
        "paper": """
    .. [1] R. Yang, F. He, M. He, K. Wang, X. Huang, "Data Imputation by Pursuing Better
       Classification: A Supervised Kernel-Based Method", arXiv:2405.07800, 2024.
""",
    }
)
