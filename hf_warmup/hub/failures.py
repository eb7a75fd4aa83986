"""Turns what goes wrong with the Hub into one line that a person can act on, without a token in it."""

import re

from huggingface_hub import constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RevisionNotFoundError

from hf_warmup import errors
from hf_warmup.errors import ConfigError


# Base class of all errors of the HTTP library, which is httpx or httpx2, depending on huggingface_hub's version.
HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
# huggingface_hub raises RuntimeError when a large upload fails, and ValueError for answers that make no sense.
HUB_ERRORS = (HTTP_ERROR, OSError, RuntimeError, ValueError)


def may_pass(error: Exception) -> bool:
    """Whether it is worth looking again. Uploads of large files have been repeated by huggingface_hub already."""
    if isinstance(error, OfflineModeIsEnabled) or not isinstance(error, HTTP_ERROR):
        return False
    # 412: somebody else has made a commit since the repository was looked at.
    return not isinstance(error, HfHubHTTPError) or error.response.status_code in (408, 412, 500, 502, 503, 504)


def is_undecided(error: Exception) -> bool:
    """Whether a commit was sent and the answer is missing, or does not say what became of it."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500 and "/commit/" in error.response.request.url.path
    # Not the public property, which raises where there is none.
    request = getattr(error, "_request", None)
    return request is not None and "/commit/" in request.url.path


def explained(error: Exception, repo_id: str, *, revision: str | None, state: str) -> ConfigError:
    """One line for a person: what happened, what state that leaves, what to do; never a token."""
    if isinstance(error, ConfigError):
        return error
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, HTTP_ERROR):
        cause = cause.__cause__
    if isinstance(error, OfflineModeIsEnabled):
        reason = "HF_HUB_OFFLINE is set; unset it to reach the Hub"
    elif isinstance(cause, HfHubHTTPError):
        reason = _refusal(cause, repo_id, revision)
    elif cause is not None or isinstance(error, ConnectionError):
        reason = f"the connection to {constants.ENDPOINT} failed or broke ({first_line(cause or error)}); try again"
    else:
        reason = f"huggingface_hub could not publish to {repo_id} ({first_line(error)})"
    return ConfigError(scrub(f"{reason}. {state}"))


def _refusal(error: HfHubHTTPError, repo_id: str, revision: str | None) -> str:
    status = error.response.status_code
    said = f"{status}: {error.server_message}" if error.server_message else str(status)
    said = " ".join(said.split())
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id} has no branch {revision or 'main'!r} to commit to ({said})"
    if status == 401:
        return f"the Hub does not accept the token ({said}); log in again with `hf auth login`, or mend HF_TOKEN"
    if status == 403:
        return (
            f"this token has no right to write to {repo_id} ({said}); choose a --repo-id of your own or of an "
            f"organization of yours, or a token with write access to it"
        )
    if status == 404:
        return f"{repo_id} does not exist, or this token may not see it ({said})"
    if status == 412:
        return f"somebody else is changing {repo_id} at the same time ({said}); run the same command again"
    if status >= 500 or status == 429:
        return f"the Hub does not work as it should, or asks to wait ({said}); run the same command again later"
    return f"the Hub refused what was sent ({said}); run the same command again"


def first_line(error: BaseException) -> str:
    """An error in short, without a token."""
    return scrub(errors.first_line(error))


def scrub(text: str) -> str:
    """`text` without the token in use, and without anything that looks like one."""
    token = get_token()
    if token:
        text = text.replace(token, "***")
    return re.sub(r"\bhf_(?:[a-z]+_)?[A-Za-z0-9]{20,}", "***", text)
