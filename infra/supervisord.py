"""supervisord that survives a full disk: it drops log lines that it cannot write.

    python -m infra.supervisord -c var/supervisor/supervisord.conf

Plain supervisord reports the write error to standard error on the same disk, and dies of that second failure
together with its workers.
"""

from supervisor import loggers, supervisord


def _ignore(_: loggers.Handler) -> None:
    pass


def main() -> None:
    """Run supervisord with its own options."""
    loggers.Handler.handleError = _ignore
    supervisord.main()


if __name__ == "__main__":
    main()
