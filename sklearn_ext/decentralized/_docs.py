"""Parts that the docstrings of the regressor and of the classifier have in common."""

from ..utils._shared_docs import INPUT_FACTS, with_shared_docs

with_common_docs = with_shared_docs(
    {
        "parameters": r"""
    n_components : int or array-like of shape (n_nodes,), default=100
        Random features of a node. An odd number of ``"energy_pairs"`` has one cosine without its
        sine.
    gamma : {"median", "scale"} or float, default="median"
        Width of the kernel :math:`\exp(-\gamma\lVert x - x'\rVert^2)`. "median" is
        :math:`1/(2\sigma^2)` with the median distance between a node's rows, averaged over
        nodes; "scale" is 1 / (n_features * X.var()), likewise.
    alpha : float, default=1e-6
        Ridge, times the number of rows of the network and shared out evenly among the nodes.
    consensus_weight : float or "cv", default=0.5
        Weight of the disagreement with neighbours. **Too much of it shrinks every function to
        zero**, because functions of different maps agree only there. "cv" chooses from
        `consensus_weight_grid`.
    consensus_weight_grid : array-like of float, default=(0, 0.05, 0.1, 0.25, 0.5, 1, 2, 4)
        Candidates of "cv".
    cv : int, cross-validation splitter or iterable of (train, test), default=5
        Folds of "cv". All nodes hold out their part of a fold at once, and every row is predicted
        by its own node. Features are chosen once, on all rows.
    n_nodes : int, default=10
        Number of nodes where `node` is None. With `node`, the labels decide.
    graph : str, array-like, sparse matrix, list of pairs or networkx graph, default="circulant"
        Which nodes are joined: "circulant" (a node to four others), "complete", "grid", "path",
        "random", "ring" or "star", see :func:`~sklearn_ext.decentralized.make_graph`, or a graph
        of the nodes' labels, see :func:`~sklearn_ext.decentralized.check_graph`.
    feature_selection : {"energy_pairs", "energy", "leverage", "plain"}, default="energy_pairs"
        How a node chooses its features on its own rows: pairs of cosine and sine whose
        frequencies carry most of the targets' energy; the paper's rule, which scores cosines with
        phases that are then drawn anew; by ridge leverage; or not at all.
    oversampling : float, default=20
        Candidates drawn for every feature kept.
    anchors : {array-like, sparse matrix} of shape (n_anchors, n_features), default=None
        Public inputs at which neighbours compare their functions. Nothing else is then exchanged.
        They must be distributed like the rows: off-distribution anchors are worse than no
        exchange. None compares at the nodes' own rows, which takes an exchange of Gram blocks.
    solver : {"auto", "direct", "cg", "jacobi", "gauss_seidel", "chebyshev"}, default="auto"
        "direct" and "cg" are fast in one process and need all blocks in one place; "auto" takes
        the first up to 6000 features in total. The other three exchange messages between
        neighbours only; over a network, "auto" is "jacobi".
    damping : float, default=0.0
        Weight of a term that holds a node near its last function. Convergence does not need it;
        5 gives the paper's iteration.
    max_iter : int, default=500
        Rounds at most.
    tol : float, default=1e-6
        Estimated error at the training rows, relative to the targets, at which rounds end.
    fit_intercept : bool, default=True
        Whether the network's mean of the targets is subtracted first.
    network : InProcessNetwork, TorchDistributedNetwork or None, default=None
        What carries messages. None computes the network's answer in this process without any.
    on_failure : {"freeze", "drop"}, default="freeze"
        What happens to a neighbour that is gone: its last function stays in place, or its terms
        are taken out.
    aggregate : {"mean", "neighborhood"}, default="mean"
        What `predict` averages: all nodes, unless one is named; or a node and its neighbours.
    engine : {"auto", "numba", "torch"}, default="auto"
        What does the arithmetic; "auto" is numba on the CPU and torch on any other device.
    device : str, torch.device or None, default=None
        Device of the torch engine; None is the CPU.
    n_jobs : int, default=None
        Threads for nodes side by side where `network` is None. The result does not depend on it.
    random_state : int, RandomState instance or None, default=None
        Seed of the features and of the dealing of rows. Every process of a network must get the
        same integer where `graph` is "random".
""",
        "network": """
    nodes_ : ndarray of shape (n_nodes,)
        Labels of the nodes, sorted.
    local_nodes_ : ndarray
        Labels of the nodes whose rows this process held.
    failed_nodes_ : ndarray
        Labels of nodes that fell silent during the fit.
    adjacency_ : ndarray of shape (n_nodes, n_nodes)
        Weights of the edges.
""",
        "features": """
    node_frequencies_ : list of ndarray of shape (n_features, D_j)
        Frequencies of every node.
    node_phases_ : list of ndarray of shape (D_j,)
        Phases: node j's features are ``sqrt(2 / D_j) * cos(x @ node_frequencies_[j] +
        node_phases_[j])``.
    gamma_ : float
        Width of the kernel.
""",
        "course": """
    consensus_weight_ : float
        Weight in use.
    consensus_weight_scores_ : ndarray of shape (n_candidates, n_folds) or None
        With "cv", the squared error on held-out rows over their variance.
    consensus_error_ : float
        Root mean square, over training rows, of the disagreement of a node with its neighbours,
        in units of the targets. Small also where all functions are shrunk: read it beside the
        training score.
    consensus_curve_ : ndarray of shape (n_rounds + 1,)
        The same before every round and at the end.
    objective_curve_ : ndarray of shape (n_rounds + 1,)
        Objective before every round and at the end. A process that holds one node has that
        node's share of it.
    n_floats_sent_ : dict
        Floats that messages take: "setup", "round" and "total" over the network, and
        "setup_by_edge" and "round_by_edge", arrays of shape (n_nodes, n_nodes) from the row's node
        to the column's. A process that holds one node counts what that node sends. Without a
        network, these are the messages that one would carry; "direct" counts as one round.
    n_iter_ : int
        Rounds; 1 for "direct".
""",
        "input_facts": INPUT_FACTS,
    }
)
