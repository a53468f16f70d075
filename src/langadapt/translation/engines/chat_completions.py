"""Asks an OpenAI-compatible server: one text, one request to `BASE_URL/chat/completions`, several at a time."""

from __future__ import annotations

import http.client
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from langadapt.errors import RunError, UserError

if TYPE_CHECKING:
    from langadapt.translation.engines.openai import Options

_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # statuses that another try may not meet
_PASSING_ERRORS = (TimeoutError, ConnectionResetError, ConnectionAbortedError, http.client.HTTPException)
_LONGEST_WAIT = 60.0  # seconds between two tries, whatever the server asks for
# Error codes that speak of one text and not of the set-up: it is left untranslated and the others go on.
_ABOUT_THE_TEXT = frozenset({"content_filter", "context_length_exceeded", "invalid_prompt"})


def client(options: Options, prompt: str) -> Callable[[Sequence[str]], list[str]]:
    """Texts in, translations out, by `concurrency` requests at a time.

    Raises:
        UserError: (when translating) the server refuses the key, the model or the request, or is not there.
        RunError: (when translating) the server was still failing after all tries.
    """

    def translate(texts: Sequence[str]) -> list[str]:
        stop = threading.Event()
        pool = ThreadPoolExecutor(options.concurrency)
        try:
            return list(pool.map(lambda text: _translate(options, prompt, text, stop), texts))
        finally:
            stop.set()  # after an error, nobody waits for another try
            pool.shutdown(cancel_futures=True)

    return translate


def _translate(options: Options, prompt: str, text: str, stop: threading.Event) -> str:
    if not text.strip():
        return text
    body = {
        "model": options.model,
        "messages": [{"role": "system", "content": prompt}, {"role": "user", "content": text}],
        "temperature": options.temperature,
        "max_tokens": options.max_tokens,
    }
    answer = _ask(options, body, stop)
    return _accepted(answer, text) if answer is not None else ""


def _accepted(answer: Any, text: str) -> str:
    """The translation in an answer, or "" when it cannot be one.

    Raises:
        RunError: the answer is not shaped as the API says.
    """
    try:
        choice = answer["choices"][0]
        content = (choice["message"]["content"] or "").strip()
    except (LookupError, TypeError, AttributeError):
        raise RunError(
            f"the server's answer is no chat completion ({json.dumps(answer)[:200]}); see translator.base_url and its log"
        ) from None
    cut_off = choice.get("finish_reason") not in ("stop", None)
    added_lines = "\n" in content and "\n" not in text.strip()
    return "" if cut_off or added_lines else content


def _ask(options: Options, body: Mapping[str, Any], stop: threading.Event) -> Any:
    """The server's answer, asked for again while it fails in passing; None when it refuses this text alone."""
    failure = asked_for = ""
    for attempt in range(options.max_retries + 1):
        if attempt and stop.wait(_wait(attempt, asked_for)):
            break
        try:
            return _post(options, body)
        except urllib.error.HTTPError as error:
            said, code = _error_of(error)
            if code in _ABOUT_THE_TEXT:
                return None
            if error.code not in _PASSING or code == "insufficient_quota":
                raise UserError(_refusal(options, error.code, said)) from None
            failure, asked_for = f"{error.code} {said}".strip(), error.headers.get("Retry-After", "")
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if not isinstance(reason, _PASSING_ERRORS):
                raise UserError(
                    f"{options.base_url} cannot be reached ({reason}); start the server, or mend translator.base_url"
                ) from None
            failure, asked_for = str(reason) or type(reason).__name__, ""
    raise RunError(
        f"{options.base_url} was still failing after {options.max_retries + 1} tries ({failure}); run again later, what "
        "is translated is kept; or lower translator.concurrency"
    )


def _post(options: Options, body: Mapping[str, Any]) -> Any:
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "langadapt"}
    if options.api_key_env:
        headers["Authorization"] = f"Bearer {_key(options)}"
    url = f"{options.base_url.rstrip('/')}/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with _OPENER.open(request, timeout=options.timeout) as response:
        content = response.read()
    try:
        return json.loads(content)
    except ValueError:
        raise RunError(
            f"{url} answers with something that is no JSON ({content[:80]}); see translator.base_url"
        ) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: the library would take the key along to whatever host it is sent to."""

    def redirect_request(self, *args: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _key(options: Options) -> str:
    return os.environ.get(options.api_key_env, "").strip()


def _wait(attempt: int, asked_for: str) -> float:
    """Seconds before a try: what the server asked for, else 1, 2, 4 and so on."""
    try:
        return min(max(float(asked_for), 0.0), _LONGEST_WAIT)
    except ValueError:  # nothing, or a date
        return min(2.0 ** (attempt - 1), _LONGEST_WAIT)


def _error_of(error: urllib.error.HTTPError) -> tuple[str, str]:
    """Message and code in the body of an error, as far as there are any."""
    try:
        content = json.loads(error.read())
        told = content.get("error", content)
        if isinstance(told, str):
            return told[:200], ""
        return str(told.get("message", ""))[:200], str(told.get("code") or "")
    except (ValueError, AttributeError, OSError):
        return str(error.reason), ""


def _refusal(options: Options, status: int, said: str) -> str:
    if options.api_key_env and (key := _key(options)):
        said = said.replace(key, "…")  # some servers repeat it
    told = f'{options.base_url} answers {status} to "{options.model}"' + (f" ({said})" if said else "")
    if status in (401, 403):
        what = f"the key in {options.api_key_env}" if options.api_key_env else "translator.api_key_env, which is empty"
        return f"{told}; check {what}, and what it may use"
    if status == 404:
        return f"{told}; check translator.base_url, which often ends with /v1, and translator.model"
    return f"{told}; check the options of the translator"
