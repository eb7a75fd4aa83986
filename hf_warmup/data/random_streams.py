"""Seeds of separate streams of random numbers: one function, so that no two uses of a run's seed share a stream."""

import hashlib


def stream_seed(seed: int, purpose: str, rank: int = 0) -> int:
    """The seed of one stream, below 2^32 (NumPy's limit).

    A hash, not a sum: with sums the stream of rank r and seed s would be that of rank r - 1 and seed s + 1.

    Args:
        seed: of the run, >= 0.
        purpose: what the numbers are for, such as "initialization".
        rank: of the process, for streams that differ between processes.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{rank}".encode()).digest()
    return int.from_bytes(digest[:4], "little")
