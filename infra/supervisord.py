"""supervisord that keeps running when the disk is full: it drops log lines that it cannot write.

    python -m infra.supervisord -c var/supervisor/supervisord.conf

By itself it complains on standard error, whose file is on the same disk, and dies of that second failure; the
workers die with it.
"""

from supervisor import loggers, supervisord


def _bear(_: loggers.Handler) -> None:
    pass


def main() -> None:
    """Become supervisord; the options are its own."""
    loggers.Handler.handleError = _bear
    supervisord.main()


if __name__ == "__main__":
    main()
