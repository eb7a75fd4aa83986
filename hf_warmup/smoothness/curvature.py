"""Local smoothness of a loss: how fast its gradient changes along a step, and its Hessian's largest eigenvalue.

Weights are put back as they were, and `.grad` is never touched. Deliberately absent: what is done with the numbers.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor


# The loss of a fixed batch at the weights as they are, a scalar.
Closure = Callable[[], Tensor]

# Below this number of weights the Hessian is simply written out.
_SMALL = 32


def loss_gradient(closure: Closure, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(loss, gradient), the latter as one vector in float64, (n,)."""
    with torch.enable_grad():
        loss = closure()
        found = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return loss.detach(), _flat(found, parameters)


def largest_gradient_change(
    gradient: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    *,
    before: Tensor,
    start: Tensor,
    end: Tensor,
    points: int = 1,
) -> float:
    """The largest of |g(w) - g(start)| / |w - start| over equally spaced w up to and with `end`.

    Args:
        gradient: at the weights as they are, (n,).
        parameters: the weights; left at `end`.
        before: the gradient at `start`, (n,).
        start, end: where the step led from and to, (n,), not equal.
        points: how many w.

    Source: Liu et al., arXiv 2509.07972, for one point.
    """
    largest = 0.0
    for k in range(1, points + 1):
        share = k / points
        write(parameters, end if k == points else start + share * (end - start))
        change = float((gradient() - before).norm()) / (share * float((end - start).norm()))
        largest = max(largest, change)
    return largest


def top_hessian_eigenvalue(
    closure: Closure,
    parameters: Sequence[Tensor],
    *,
    tolerance: float = 1e-7,
    max_iterations: int = 300,
    seed: int = 0,
) -> float:
    """The Hessian's eigenvalue of largest magnitude, with its sign, by Lanczos iteration on Hessian-vector products.

    An iteration costs about two backward passes.

    Raises:
        scipy.sparse.linalg.ArpackNoConvergence: if `max_iterations` restarts do not reach `tolerance` (relative).
    """
    parameters = list(parameters)
    with torch.enable_grad():
        gradient = torch.autograd.grad(closure(), parameters, create_graph=True, allow_unused=True)
    used = [(g, p) for g, p in zip(gradient, parameters, strict=True) if g is not None and g.requires_grad]
    if not used:  # a loss that is linear in the weights
        return 0.0
    gradients, weights = [g for g, _ in used], [p for _, p in used]
    size = sum(p.numel() for p in weights)

    def product(
        vector: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        whole = torch.from_numpy(np.ascontiguousarray(vector).reshape(-1))
        parts = torch.split(whole, [p.numel() for p in weights])
        direction = [part.view_as(p).to(p) for part, p in zip(parts, weights, strict=True)]
        found = torch.autograd.grad(gradients, weights, direction, retain_graph=True, allow_unused=True)
        return _flat(found, weights).cpu().numpy()

    if size <= _SMALL:
        hessian = np.stack([product(row) for row in np.eye(size)])
        values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    else:
        start = np.random.default_rng(seed).standard_normal(size)
        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
        values = eigsh(
            operator, k=1, which="LM", v0=start, tol=tolerance, maxiter=max_iterations, return_eigenvectors=False
        )
    return float(values[np.argmax(np.abs(values))])


def read(parameters: Sequence[Tensor]) -> Tensor:
    """A copy of the weights as one vector in their own precision."""
    return torch.cat([p.detach().reshape(-1).clone() for p in parameters])


@torch.no_grad()
def write(parameters: Sequence[Tensor], vector: Tensor) -> None:
    """Put weights that `read` gave back, bit for bit."""
    for parameter, part in zip(parameters, torch.split(vector, [p.numel() for p in parameters]), strict=True):
        parameter.copy_(part.view_as(parameter))


def _flat(parts: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    pairs = zip(parts, like, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g.detach()).reshape(-1).double() for g, p in pairs])
