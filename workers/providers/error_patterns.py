"""Patterns of the words and codes in services' errors.

    CREDIT.search("429 insufficient_quota")  ->  a match: the account has no credit

If two of them match, `openai_errors` decides which one counts.
"""

import re

CREDIT = re.compile(
    r"insufficient[_ ](?:account[_ ])?(?:quota|balance|funds|credit)|exceeded_current_quota|arrear|overdue"
    r"|billing_(?:hard_limit|not_active)|(?:account|access)_(?:deactivated|terminated)|not ?purchased"
    r"|free[ _]?(?:allocated[ _]|trial[ _])?quota|FreeTierOnly|free tier (?:is|has|was|of)"
    r"|out of credits?|no credits?\b|余额不足|欠费|免费额度",
    re.IGNORECASE,
)
# Words that messages about limits per minute contain too, as advice on how to raise them.
MONEY = re.compile(r"billing|\bquota|\bplan\b|payment|credits?\b|free[ _]?tier", re.IGNORECASE)
DAILY = re.compile(r"per[ _-]?day|daily|\b[RT]PD\b|每日|每天|当日|今日", re.IGNORECASE)
RATE = re.compile(
    r"per[ _-]?(?:minute|min|second|sec|hour)\b|PerMinute|PerSecond|PerHour"
    r"|\b(?:a|every|each) minute|\b[RTQI]PM\b|\bQPS\b"
    r"|rate[ _-]?limit|limit_(?:requests|burst_rate)|RESOURCE_EXHAUSTED"
    r"|Throttling|RateQuota|too[ _]many[ _]requests|slow down"
    r"|concurren|\brequests\b|\btokens\b|requests? limit|频率|速率|并发|限流|每分钟|每秒|请求过(?:多|快|于)",
    re.IGNORECASE,
)
LIMITED = re.compile(r"rate_?limit_?exceeded|RESOURCE_EXHAUSTED|too_many_requests|Throttling", re.IGNORECASE)
FILTERED = re.compile(
    r"content[_ ](?:filter|policy)|data_?inspection|inappropriate content|content exists risk"
    r"|content_?violation"
    r"|ResponsibleAIPolicy|moderation|\bflagged\b|safety (?:system|policy)"
    r"|sensitive (?:content|words?)|敏感|违规|不合规",
    re.IGNORECASE,
)
NO_MODEL = re.compile(
    r"model_not_(?:found|exist)|invalid_model|ModelNotOpen|no_such_model"
    r"|model\b.{0,80}\bnot (?:exist|found|available|supported|valid|open)"
    r"|(?:unknown|invalid|no such|unsupported) model|is not a valid model"
    r"|does not exist|模型.{0,40}(?:不存在|未开通|无效)",
    re.IGNORECASE,
)
KEY = re.compile(
    r"API_KEY_\w+|api[ _-]?key\b.{0,40}\b(?:not valid|not found|not exist|invalid|incorrect|expired"
    r"|missing|required|wrong|malformed|revoked|disabled|blocked|leaked|suspended)"
    r"|(?:invalid|incorrect|missing|wrong|expired|no|bad|valid|provide)[ _].{0,16}api[ _-]?key"
    r"|invalid_?api_?key|(?:the|your) key is (?:not valid|invalid)"
    r"|unauthenticated|unauthori[sz]ed|authenticat(?:e|ion)\b|invalid_authentication"
    r"|(?:invalid|expired|missing|bad)[ _](?:access[ _]|auth\w*[ _]|bearer[ _])?"
    r"(?:token|credentials?|signature)\b"
    r"|permission_denied|access_?denied|CONSUMER_(?:SUSPENDED|INVALID)"
    r"|鉴权|身份验证|认证失败|未授权|(?:令牌|密钥).{0,12}(?:无效|过期|错误|不可用|不正确|不存在)"
    r"|无效的(?:令牌|密钥)",
    re.IGNORECASE,
)
NOT_HERE = re.compile(
    r"(?:location|region|country|territory)\b.{0,60}not (?:supported|available)"
    r"|unsupported_country|FAILED_PRECONDITION",
    re.IGNORECASE,
)
OVERLOADED = re.compile(r"overloaded|unavailable|internal|server_error|busy|繁忙|过载", re.IGNORECASE)
# At DashScope, the words for "no credit" elsewhere mean "too many tokens this minute".
MINUTE_QUOTA_HOSTS = "aliyuncs.com"
MINUTE_QUOTA = re.compile(r"Throttling|insufficient_quota")
