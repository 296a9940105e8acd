"""What is kept of an attempt: the request as it was sent, secrets masked, and the answer, each as JSON.

Most of a request's JSON is the same for all of its frame, and made once.
"""

from typing import Any

import orjson

from ringback.jobs.masking import is_secret, masked, masked_url
from ringback.jobs.outcomes import Answer
from ringback.jobs.requests import Frame, Headers, OutgoingRequest


def kept_request(request: OutgoingRequest, sent: Headers) -> str:
    """A request, and the headers that went out with it: {method, url, headers: [[name, value]], body}."""
    frame, _, body = request
    text = None if body is None else body.decode("utf-8", "replace")
    common = len(frame.before)
    own = sent[common:]
    if not own or sent[:common] != frame.before:  # not what a sender makes of it
        return _json({**_address(frame), "headers": masked(sent), "body": text})
    if frame.kept is None:
        frame.kept = _before(frame)
    before, secret = frame.kept
    return f'{before}{_json(masked(own) if secret else own)[1:]},"body":{_json(text)}}}'


def kept_response(answer: Answer) -> str:
    """An answer: {headers: [[name, value]], body, body_truncated}. No text in Postgres holds U+0000."""
    _, headers, body, truncated = answer
    text = body.decode("utf-8", "replace").replace("\x00", "\ufffd")
    return _json({"headers": headers, "body": text, "body_truncated": truncated})


def _before(frame: Frame) -> tuple[str, bool]:
    """The JSON before a request's own headers, and whether there are secrets among those."""
    text = _json({**_address(frame), "headers": masked(frame.before)}).removesuffix("]}")
    return text + "," if frame.before else text, any(map(is_secret, frame.names))


def _address(frame: Frame) -> dict[str, Any]:
    return {"method": frame.method, "url": masked_url(str(frame.url))}


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
