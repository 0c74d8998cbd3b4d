"""Find out which request parameter a model does not support, and say what to do.

    rejected_parameter(complaint, ("model", "messages", "max_tokens", "temperature"))  ->  "temperature"

The model refuses such a request for every question, so the model is stopped, not the question.
"""

import re
from collections.abc import Iterable

from workers.providers.error_details import Complaint

SETTING = "VOTEQUEUE_CHAT_EXTRA"
_THINKING = ("enable_thinking", "thinking", "reasoning_effort", "chat_template_kwargs", "reasoning")
_MODE = ("stream", "streaming")
_TEXT = re.compile(r"^(messages|input|prompt|contents?)\b")
_UNSUPPORTED = re.compile(
    r"unsupported[_ ](?:parameter|value|param|argument|option|field)"
    r"|unknown[_ ](?:parameter|argument|field|name)"
    r"|unrecogni[sz]ed (?:request )?(?:argument|parameter|field|key|option)"
    r"|extra_forbidden|extra inputs are not permitted|extra (?:fields?|parameters?) (?:are |is )?not"
    r"|unexpected (?:keyword |request )?(?:argument|parameter|field|property)|argument not supported"
    r"|(?:parameter|property|argument|option|field)s? .{0,60}"
    r"(?:not (?:supported|allowed|permitted|recogni[sz]ed)|unsupported|unknown)"
    r"|(?:not (?:be )?support|unsupported|only supports?|invalid).{0,30}"
    r"\b(?:parameters?|params?|thinking|stream\w*)\b"
    r"|UnsupportedParams|参数.{0,40}(?:非法|不支持|无效|错误|有误|不合法|超出)|不支持.{0,20}(?:参数|非流式|思考|流式)"
    r"|(?:只|仅)支持.{0,12}流式|必须设置为",
    re.IGNORECASE,
)
# A prompt that is too long is a problem of the question, whichever parameter the message names.
_TOO_LONG = re.compile(
    r"context[_ ](?:length|window|size)|(?:prompt|input|messages?)\b.{0,40}(?:too long|too large|length)"
    r"|input[_ ]tokens|maximum (?:input|prompt)|(?:token|string)s?_?.{0,20}above_max|reduce the length"
    r"|上下文.{0,12}(?:长度|超)|(?:输入|提示).{0,12}(?:过长|超长|长度)",
    re.IGNORECASE,
)
_RENAMED = re.compile(r"\bmax_completion_tokens\b")


def too_long(complaint: Complaint) -> bool:
    """Tell whether the complaint is about the length of the prompt."""
    return complaint.status == 413 or bool(_TOO_LONG.search(complaint.text))


def rejected_parameter(complaint: Complaint, sent: Iterable[str]) -> str | None:
    """Name the rejected parameter: one that was sent, or one about thinking or streaming.

    ``""``: a parameter is rejected without its name.
    """
    names = [name for name in sent if not _TEXT.match(name) and name != "model"]
    candidates = dict.fromkeys((*names, "max_completion_tokens", "top_p", *_THINKING, *_MODE))
    fields = [part.strip("'\"` ") for path in complaint.parameters for part in re.split(r"[.\[\]/]", path)]
    for name in candidates:
        if name in fields:
            return name
    if any(_TEXT.match(name) for name in fields if name) and not _UNSUPPORTED.search(complaint.text):
        return None
    for name in candidates:
        if re.search(_mention(name), complaint.text):
            return name
    if not _UNSUPPORTED.search(complaint.text):
        return None
    text = complaint.text.lower()
    return next((name for name in ("thinking", "stream") if name in text), "")


def _mention(name: str) -> str:
    bare = rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])"
    # Names such as "stream" and "user" are also ordinary words.
    return bare if "_" in name or name == "temperature" else rf"['\"`]{re.escape(name)}['\"`]|{bare}[:=]"


def renamed(complaint: Complaint, sent: Iterable[str]) -> bool:
    """Tell whether the service asks for another name of `max_tokens`."""
    return rejected_parameter(complaint, sent) == "max_tokens" and bool(_RENAMED.search(complaint.text))


def remedy(parameter: str, extra: Iterable[str], provider: str) -> str:
    """Say how a person can fix a rejected parameter."""
    problem = (
        f"the model does not accept {parameter!r} as sent"
        if parameter
        else "the model does not accept a parameter"
    )
    if parameter in extra:
        return f"{problem}: correct it in {SETTING} where the workers run, and restart them"
    if provider != "chat":
        return f"{problem}: choose another --model, or other options"
    if parameter in _THINKING or parameter in _MODE:
        return (
            f"{problem}: replies are not streamed, so switch thinking off where the workers run, such as "
            f"{SETTING}='{{\"enable_thinking\": false}}', and restart them, or choose another --model"
        )
    if parameter:
        return (
            f"{problem}: give it another value, or leave it out, where the workers run, such as "
            f"{SETTING}='{{\"{parameter}\": null}}', and restart them"
        )
    return (
        f"{problem}: change what is sent with {SETTING}, and restart the workers, or choose another --model"
    )
