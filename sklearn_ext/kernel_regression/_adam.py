"""Adam, as directions to step along, for NumPy arrays and torch tensors alike."""


class Adam:
    """Moments of a stream of gradients.

    Parameters
    ----------
    betas : tuple of two floats
        Decay of the first and the second moment.
    eps : float
        Added to the root of the second moment.

    Notes
    -----
    Source: D. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", arXiv:1412.6980.
    """

    def __init__(self, betas, eps=1e-8):
        self.betas = betas
        self.eps = eps
        self.n_steps = 0
        self.mean = self.square = None

    def direction(self, gradient):
        r"""Take in a gradient and return :math:`\hat m / (\sqrt{\hat v} + \epsilon)`."""
        if self.n_steps == 0:
            self.mean, self.square = 0.0 * gradient, 0.0 * gradient
        self.n_steps += 1
        b1, b2 = self.betas
        self.mean *= b1
        self.mean += (1.0 - b1) * gradient
        self.square *= b2
        self.square += (1.0 - b2) * gradient**2
        scale = (self.square / (1.0 - b2**self.n_steps)) ** 0.5
        scale += self.eps
        return self.mean / (scale * (1.0 - b1**self.n_steps))

    def extend(self, engine, n_rows):
        """Append moments for new rows: no momentum, and the mean second moment of the others."""
        if self.n_steps == 0:
            return
        mean_square = self.square.mean(0)[None, :]
        blank = engine.repeat_row(mean_square, n_rows)
        self.mean = engine.vstack(self.mean, 0.0 * blank)
        self.square = engine.vstack(self.square, blank)
